"""stats.modality: the dip of Hartigan and Hartigan against published ones, and the modes it finds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hotlap.errors import OptionError
from hotlap.stats.modality import dip, dip_p, modality

# Quality of 63 statistics departments: the example of Hartigan and Hartigan (1985), `statfaculty` in R's diptest.
FACULTY = [
    *(30, 33, 35, 36, 37, 37, 39, 39, 39, 39, 39, 40, 40, 40, 40, 41, 42, 43, 43, 43, 44, 44, 45, 45, 46, 46, 47, 47),
    *(48, 48, 48, 49, 50, 50, 51, 52, 52, 53, 53, 53, 53, 53, 54, 54, 57, 57, 59, 60, 60, 60, 61, 61, 61, 61, 62, 62),
    *(62, 62, 63, 66, 70, 72, 72),
]
Part = tuple[float, float, float]  # share of the values, place, standard deviation


def mixture(random: np.random.Generator, n: int, parts: list[Part]) -> np.ndarray:
    """Normal humps, the shares met exactly."""
    return np.concatenate([random.normal(place, std, round(share * n)) for share, place, std in parts])


@pytest.mark.parametrize(
    ("values", "published"),
    [
        (FACULTY, 7.5 / 126),  # 0.05952381
        ([1, 1, 2, 2], 1 / 4),  # the largest of all
        ([0, 1, 3, 6], 1 / 8),  # 1 / (2n): the smallest
        ([0, 2, 3, 5, 6], 4 / 30),
        ([6, 4, 3, 1, 0], 4 / 30),  # its mirror image
        ([1] + [2] * 9, 1 / 20),  # one value that is there often may be the mode
    ],
)
def test_the_dip_is_the_published_one(values: list[float], published: float) -> None:
    """Those of R's package diptest, whose tests give them (Maechler)."""
    assert dip(values) == pytest.approx(published, rel=1e-12)


def by_linear_programming(x: np.ndarray) -> float:
    """The dip from its definition: the least distance to a distribution that is convex, then concave.

    Between neighbours of the sample the best such distribution is straight, but for the segment with the mode.
    """
    linprog = pytest.importorskip("scipy.optimize").linprog
    n = len(x)
    widths = np.diff(x)
    best = math.inf
    for mode in range(n - 1):
        for beside in (-1, 1):  # the mode lies at the end of its segment, whose slope is at least the next one's
            rows = []
            for i in range(n - 2):
                slope, following = np.zeros(n + 1), np.zeros(n + 1)
                slope[[i, i + 1]] = -1 / widths[i], 1 / widths[i]
                following[[i + 1, i + 2]] = -1 / widths[i + 1], 1 / widths[i + 1]
                if i + 1 < mode or (i + 1 == mode and beside == -1):
                    rows.append(slope - following)
                elif i > mode or (i == mode and beside == 1):
                    rows.append(following - slope)
            close = [np.append(sign * np.eye(n)[i], -1.0) for i in range(n) for sign in (1, -1)]
            heights = [height for i in range(n) for height in (i / n, -(i + 1) / n)]
            rises = [np.eye(n + 1)[i] - np.eye(n + 1)[i + 1] for i in range(n - 1)]
            found = linprog(
                np.append(np.zeros(n), 1.0),
                A_ub=np.array(rows + close + rises),
                b_ub=[0.0] * len(rows) + heights + [0.0] * len(rises),
                bounds=[(0, 1)] * n + [(0, 1)],
            )
            best = min(best, found.fun)
    return best


@pytest.mark.parametrize("seed", range(4))
def test_the_dip_is_what_its_definition_says(seed: int) -> None:
    """The least distance of the empirical distribution to any unimodal one, by linear programming."""
    random = np.random.default_rng(seed)
    x = np.sort(np.concatenate((random.normal(0.0, 1.0, 5), random.normal(3.0 + seed, 1.0, 5))))
    assert dip(x) == pytest.approx(by_linear_programming(x), rel=1e-6)


def test_the_dip_does_not_depend_on_order_or_unit() -> None:
    """Nanoseconds or seconds, forwards or backwards."""
    x = np.random.default_rng(0).lognormal(0.0, 1.0, 101)
    assert dip(x[::-1]) == dip(x)
    assert dip(1e-9 * x) == pytest.approx(dip(x), rel=1e-9)
    assert dip(-x) == pytest.approx(dip(x), rel=1e-12)


def test_p_of_the_published_example() -> None:
    """R's dip.test(statfaculty) gives 0.08672 from its own simulation, ours 0.0877 from a second one."""
    assert dip_p(dip(FACULTY), 63) == pytest.approx(0.08672, abs=0.0015)


# n, dip, p from the PyPI package diptest 0.12.0, which carries Maechler's table.
ORACLE = [
    (7, 0.1659653, 0.03811),
    (25, 0.0895072, 0.09031),
    (80, 0.0576382, 0.04351),
    (300, 0.0375274, 0.00419),
    (3000, 0.0096455, 0.06303),
    (15000, 0.0049214, 0.01741),
]


@pytest.mark.parametrize(("n", "distance", "p"), ORACLE)
def test_p_is_that_of_the_other_implementation(n: int, distance: float, p: float) -> None:
    """Between the sample sizes of the table, too: within 3 %."""
    assert dip_p(distance, n) == pytest.approx(p, rel=0.03)


def test_p_beyond_the_table() -> None:
    """The smallest dip is certain to be reached, the largest is as improbable as the table knows."""
    assert dip_p(1 / 20, 10) == 1.0
    assert dip_p(0.25, 1000) == pytest.approx(1e-4)
    assert dip_p(0.25, 3) == 1.0
    assert dip_p(0.5 / math.sqrt(10**6), 10**6) == pytest.approx(dip_p(0.5 / math.sqrt(20_000), 20_000))


@pytest.mark.parametrize("n", [15, 40, 150])
def test_uniform_values_are_seldom_called_multimodal(n: int) -> None:
    """The uniform is the hardest: 5 % of 600, and what chance adds in 99.9 % of all seeds."""
    random = np.random.default_rng(n)
    assert sum(modality(random.random(n)).multimodal for _ in range(600)) <= 47


UNIMODAL = {
    "normal": lambda random, n: random.normal(0.0, 1.0, n),
    "lognormal": lambda random, n: random.lognormal(0.0, 1.0, n),
    "exponential": lambda random, n: random.exponential(1.0, n),
    "heavy tail": lambda random, n: random.pareto(1.5, n),
    "with outliers": lambda random, n: np.where(random.random(n) < 0.03, 10.0, 1.0) * random.normal(10.0, 1.0, n),
    "fine ticks": lambda random, n: np.round(random.normal(0.0, 3.0, n)),
    "coarse ticks": lambda random, n: np.round(random.normal(0.0, 0.7, n)),
    "one tick or two": lambda random, n: random.integers(1, 3, n) * 1e-6,
    "uneven ticks": lambda random, n: np.floor(np.round(random.normal(20.0, 3.0, n)) * 41.6667),
    "skewed ticks": lambda random, n: np.round(random.lognormal(3.0, 0.5, n)),
    "equal": lambda random, n: np.full(n, 0.1),
}


@pytest.mark.parametrize("name", UNIMODAL)
def test_one_hump_is_one_mode(name: str) -> None:
    """Skewed, heavy-tailed or seen through a clock that ticks: many equal values are not modes."""
    random = np.random.default_rng(1)
    found = [modality(UNIMODAL[name](random, n)) for n in (20, 100, 1000) for _ in range(40)]
    assert sum(one.multimodal for one in found) <= 6
    assert all(sum(mode.share for mode in one.modes) == pytest.approx(1.0) for one in found)


MULTIMODAL: dict[str, tuple[int, list[Part]]] = {
    "two": (200, [(0.5, 10.0, 1.0), (0.5, 15.0, 1.0)]),
    "unequal": (500, [(0.8, 10.0, 1.0), (0.2, 16.0, 1.0)]),
    "narrow and wide": (100, [(0.5, 10.0, 0.3), (0.5, 16.0, 1.0)]),
    "three": (300, [(0.4, 10.0, 1.0), (0.3, 16.0, 1.0), (0.3, 25.0, 1.0)]),
    "four": (400, [(0.25, 10.0 + 7.0 * i, 1.0) for i in range(4)]),
    "few": (30, [(0.5, 10.0, 0.5), (0.5, 15.0, 0.5)]),
}


@pytest.mark.parametrize("name", MULTIMODAL)
def test_the_modes_are_counted_and_placed(name: str) -> None:
    """In 19 of 20 samples at least their number is right; then each has its place and its share."""
    n, parts = MULTIMODAL[name]
    random = np.random.default_rng(2)
    found = [modality(mixture(random, n, parts)) for _ in range(40)]
    right = [one for one in found if len(one.modes) == len(parts)]
    assert len(right) >= 38
    for i, (share, place, std) in enumerate(parts):
        assert np.mean([one.modes[i].place for one in right]) == pytest.approx(place, abs=0.35 * std)
        assert np.mean([one.modes[i].share for one in right]) == pytest.approx(share, abs=0.02)


def test_modes_of_a_ticking_clock_need_its_resolution_when_there_are_few_ticks() -> None:
    """Two values only: one hump seen by a slow clock, or two by a fast one. The resolution tells."""
    values = np.repeat([100.0, 200.0], 50)
    assert not modality(values).multimodal
    one = modality(values, resolution=0.01)
    assert one.sentence() == "2 modes: 50 % near 100, 50 % near 200 (dip test, p <= 0.0001)"
    many = np.round(np.concatenate(np.random.default_rng(0).normal([[100.0], [130.0]], 4.0, (2, 100))))
    assert len(modality(many).modes) == 2


def test_a_handful_far_off_are_outliers_not_a_mode() -> None:
    """Less than 5 % of the values, or fewer than five, make no hump; eight of a hundred do."""
    random = np.random.default_rng(3)
    near = random.normal(10.0, 0.5, 200)
    assert len(modality(np.append(near, random.normal(50.0, 0.5, 6))).modes) == 1
    assert len(modality(np.append(near, random.normal(50.0, 0.5, 60))).modes) == 2


def test_a_sentence_for_one_mode() -> None:
    """Where it is."""
    assert modality([3.0]).sentence() == "one mode near 3"
    assert modality([0.25] * 9).sentence() == "one mode near 0.25"
    assert modality([0.25] * 9).p == 1.0


def test_what_cannot_be_judged_is_refused() -> None:
    """As everywhere in stats; and a resolution that is none."""
    with pytest.raises(OptionError, match="no values"):
        modality([])
    with pytest.raises(OptionError, match="level is 5"):
        modality([1.0], level=5)
    for resolution in (0.0, -1.0, math.nan):
        with pytest.raises(OptionError, match=r"resolution is .*; it must be positive"):
            modality([1.0], resolution=resolution)
