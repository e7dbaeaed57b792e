"""stats.changepoint: where a series changes its level or its spread."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.errors import OptionError
from hotlap.stats.changepoint import change_penalty, change_points, clip_outliers, segments


def noisy(levels: list[tuple[int, float, float]], seed: int = 0) -> np.ndarray:
    """Normal noise: (values, mean, standard deviation) one after another."""
    random = np.random.default_rng(seed)
    return np.concatenate([random.normal(mean, deviation, count) for count, mean, deviation in levels])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("length", [60, 300, 3000])
def test_levels_are_found_where_they_change(length: int, seed: int) -> None:
    """Each change of the mean by 10 deviations, to the value, on the grid or off it; and no other."""
    parts = [length // 3 - 7, length // 2 + 1]
    parts.append(length - sum(parts))
    series = noisy([(count, mean, 0.1) for count, mean in zip(parts, (3.0, 2.0, 5.0), strict=True)], seed)
    assert change_points(series).tolist() == [parts[0], parts[0] + parts[1]]


@pytest.mark.parametrize("seed", range(5))
def test_a_change_of_the_spread_alone_is_one(seed: int) -> None:
    """The mean stays what it is."""
    found = change_points(noisy([(400, 10.0, 0.1), (400, 10.0, 1.0)], seed))
    assert len(found) == 1
    assert abs(found[0] - 400) < 10


@pytest.mark.parametrize(("length", "most"), [(30, 10), (50, 3), (100, 1), (1000, 0), (3000, 0)])
def test_noise_has_hardly_any_changes(length: int, most: int) -> None:
    """In a hundred series of normal or lognormal noise; three of a few values can be alike by chance."""
    random = np.random.default_rng(length)
    series = [random.normal(1.0, 0.1, length) for _ in range(50)]
    series += [random.lognormal(0.0, 0.3, length) for _ in range(50)]
    assert sum(len(change_points(one)) > 0 for one in series) <= most


def test_it_is_the_best_partition_there_is() -> None:
    """The least sum of costs and penalties over all partitions of a short series into segments of three and more."""
    series = noisy([(5, 1.0, 0.1), (6, 1.3, 0.1), (4, 1.0, 0.3)], 3)
    resolution, penalty = 0.01, 5.0

    def cost(borders: tuple[int, ...]) -> float:
        pieces = [series[i:j] for i, j in itertools.pairwise((0, *borders, len(series)))]
        if min(map(len, pieces)) < 3:
            return np.inf
        return penalty * len(borders) + sum(len(one) * np.log(one.var() / resolution**2 + 1.0) for one in pieces)

    every = [borders for count in range(5) for borders in itertools.combinations(range(1, len(series)), count)]
    best = min(every, key=cost)
    assert change_points(series, penalty=penalty, resolution=resolution).tolist() == list(best)
    assert best


@pytest.mark.parametrize("series", [[], [1.0], [1, 2, 3, 4, 5]])
def test_a_short_series_has_one_segment(series: list[float]) -> None:
    """Two segments of three values need six of them; no values are refused, as in every statistic."""
    if series:
        assert change_points(series).tolist() == []
    else:
        with pytest.raises(OptionError, match="no values"):
            change_points(series)


def test_equal_values_have_no_changes() -> None:
    """Nor have values that differ by less than the resolution, such as a clock's last digit."""
    assert change_points([7.0] * 500).tolist() == []
    assert change_points([0.0] * 500).tolist() == []
    assert change_points([7.0] * 250 + [7.001] * 250).tolist() == []
    assert change_points([7.0] * 250 + [7.001] * 250, resolution=1e-5).tolist() == [250]


def test_quantised_values_change_where_their_level_does() -> None:
    """Times in whole clock ticks, mostly equal."""
    random = np.random.default_rng(1)
    ticks = np.concatenate((random.choice([20, 21], 200, p=[0.8, 0.2]), random.choice([25, 26], 200, p=[0.8, 0.2])))
    assert change_points(ticks).tolist() == [200]


def test_a_higher_penalty_finds_fewer() -> None:
    """From every value that may be one to none at all."""
    series = noisy([(50, 1.0, 0.1), (50, 1.2, 0.1), (50, 1.05, 0.1)])
    counts = [len(change_points(series, penalty=penalty)) for penalty in (0.0, 1.0, 5.0, 20.0, 1e6)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 10
    assert counts[-1] == 0
    assert change_points(series).tolist() == change_points(series, penalty=change_penalty(150)).tolist()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"penalty": -1.0}, "penalty is -1.0"), ({"penalty": np.nan}, "nan"), ({"resolution": 0.0}, "resolution is 0.0")],
)
def test_bad_options_are_refused(options: dict[str, float], said: str) -> None:
    """With the value and the rule."""
    with pytest.raises(OptionError, match=said):
        change_points([1.0] * 10, **options)


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=400),
    st.integers(-60, 60),
    st.sampled_from([None, 3.0, 30.0]),
)
def test_segments_partition_any_series_in_any_unit(values: list[float], exponent: int, penalty: float | None) -> None:
    """Each value is in one segment, none is shorter than three values, and a unit moves no border."""
    series = np.array(values)
    points = change_points(series, penalty=penalty)
    parts = segments(series, points)
    assert [part.start for part in parts] == [0, *points]
    assert [part.stop for part in parts] == [*points, len(series)]
    for part in parts:
        assert part.size >= min(3, len(series))
        assert part.mean == series[part.start : part.stop].mean()
        assert part.var == series[part.start : part.stop].var()
    assert change_points(series * 2.0**exponent, penalty=penalty).tolist() == points.tolist()


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
def test_pauses_are_clipped(share: float) -> None:
    """To near the others, at random places, at every length; the others stay what they are."""
    random = np.random.default_rng(5)
    for length in (50, 200, 1000, 3000):
        series = random.normal(1.0, 0.02, length)
        pauses = random.choice(length, int(share * length), replace=False)
        series[pauses] *= 10.0
        clipped = clip_outliers(series)
        others = np.delete(np.arange(length), pauses)
        assert clipped.max() < 1.5
        assert np.array_equal(clipped[others], series[others])


def test_a_level_is_not_clipped() -> None:
    """However far it is from the others, as long as it has more than a seventh of a window."""
    series = noisy([(300, 1.0, 0.02), (60, 9.0, 0.02), (300, 1.0, 0.02)])
    assert np.array_equal(clip_outliers(series), series)


def test_quiet_values_leave_room_for_a_change() -> None:
    """Where there is no spread at all, the fence is 10 % away."""
    assert clip_outliers([10.0] * 95 + [10.9] * 5).max() == 10.9
    assert clip_outliers([10.0] * 95 + [20.0] * 5).max() == 11.0


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=500))
def test_clipping_keeps_length_and_order(values: list[float]) -> None:
    """What is clipped moves towards the others, and what is not stays."""
    series = np.array(values)
    clipped = clip_outliers(series)
    assert clipped.shape == series.shape
    assert clipped.min() >= series.min()
    assert clipped.max() <= series.max()
