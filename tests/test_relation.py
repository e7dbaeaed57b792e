"""stats.relation: how one column goes with another."""

from __future__ import annotations

import numpy as np
import pytest

from hotlap.stats.relation import distinct, exponent, rank_correlation, ranks, relative_slope


@pytest.mark.parametrize("values", [[], [5], [3, 1, 3, 2, 1, 1], [1.5, 1.5]])
def test_distinct_is_what_numpy_calls_unique(values: list[float]) -> None:
    """The same three arrays, for no values, too."""
    ours = distinct(np.array(values))
    theirs = np.unique(np.array(values), return_inverse=True, return_counts=True)
    assert [array.tolist() for array in ours] == [array.tolist() for array in theirs]


def test_ranks_begin_at_one_and_ties_share_theirs() -> None:
    """As in every textbook: the mean of the ranks that tied values take up together."""
    assert ranks(np.array([30, 10, 20, 10])).tolist() == [4.0, 1.5, 3.0, 1.5]
    assert ranks(np.array([])).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_is_spearmans(seed: int) -> None:
    """The same rho as scipy's, ties included, and a p value of the same size."""
    spearmanr = pytest.importorskip("scipy.stats").spearmanr
    random = np.random.default_rng(seed)
    x = random.integers(0, 6, 80)
    y = x * seed + random.normal(0, 6, 80)
    theirs = spearmanr(x, y)
    ours = rank_correlation(x, y)
    assert ours is not None
    assert ours[0] == pytest.approx(theirs.statistic)
    assert ours[1] == pytest.approx(theirs.pvalue, abs=0.02)


def test_a_monotone_relation_is_certain() -> None:
    """Rho is exactly 1 or -1, and p is 0 rather than an infinite logarithm."""
    x = np.arange(10.0)
    assert rank_correlation(x, np.exp(x)) == (1.0, 0.0)
    assert rank_correlation(x, -x) == (-1.0, 0.0)


def test_no_correlation_without_evidence() -> None:
    """Fewer than four pairs, or a column that never changes, say nothing: None, not 0."""
    assert rank_correlation(np.arange(3), np.arange(3)) is None
    assert rank_correlation(np.ones(10), np.arange(10)) is None
    assert rank_correlation(np.arange(10), np.ones(10)) is None


def test_chance_is_seldom_called_significant() -> None:
    """Among unrelated columns p is below 0.05 about one time in twenty."""
    random = np.random.default_rng(1)
    found = [rank_correlation(random.normal(size=40), random.normal(size=40)) for _ in range(1000)]
    share = np.mean([one[1] < 0.05 for one in found if one is not None])
    assert 0.03 < share < 0.075


def test_relative_slope_is_growth_per_step_relative_to_the_start() -> None:
    """Wall time 10 ms alone and 5 ms more for each further call in flight: 0.5."""
    in_flight = np.repeat([1, 2, 3, 4], 25)
    wall = 10e6 + 5e6 * (in_flight - 1)
    assert relative_slope(in_flight, wall) == pytest.approx(0.5)
    assert relative_slope(in_flight[::-1], wall[::-1]) == pytest.approx(0.5)


def test_an_outlier_does_not_move_the_relative_slope() -> None:
    """The medians at each level carry it, not the means."""
    in_flight = np.repeat([1, 2, 3], 31)
    wall = 1e6 * in_flight.astype(float)
    wall[-1] = 1e12
    assert relative_slope(in_flight, wall) == pytest.approx(1.0)


def test_no_relative_slope_without_two_levels_or_with_a_zero_start() -> None:
    """None: there is nothing to be relative to."""
    assert relative_slope(np.ones(5), np.arange(5.0)) is None
    assert relative_slope(np.array([1, 1, 2, 2]), np.array([0.0, 0.0, 5.0, 5.0])) is None


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_exponent_is_the_power_of_the_size(power: float) -> None:
    """time = c * size**b gives b, whatever c."""
    sizes = np.geomspace(10, 10_000, 50)
    assert exponent(sizes, 3e3 * sizes**power) == pytest.approx(power, abs=1e-9)


def test_sizes_that_are_no_sizes_are_left_out() -> None:
    """NaN, zero and infinite sizes and times of zero have no logarithm."""
    sizes = np.concatenate((np.geomspace(1, 100, 20), [np.nan, 0.0, np.inf, 50.0]))
    times = np.concatenate((np.geomspace(1, 100, 20) ** 2, [1.0, 1.0, 1.0, 0.0]))
    assert exponent(sizes, times) == pytest.approx(2.0)


def test_no_exponent_from_few_or_similar_sizes() -> None:
    """Fewer than ten calls, or sizes within a factor of four, say nothing."""
    assert exponent(np.geomspace(1, 100, 9), np.arange(1.0, 10.0)) is None
    assert exponent(np.geomspace(10, 39, 50), np.arange(1.0, 51.0)) is None
