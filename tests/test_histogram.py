"""stats.histogram: quantiles and moments from buckets, against the raw durations."""

from __future__ import annotations

import numpy as np
import pytest

from hotlap import core
from hotlap.stats.histogram import (
    RELATIVE_ERROR,
    Filled,
    quantiles,
    representatives,
    upper_bounds,
)

WANTED = (0.0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
RANDOM = np.random.default_rng(7)

DATA = {
    "one": np.array([123_456]),
    "equal": np.full(1000, 1_000_000),
    "a hundred": np.arange(1, 101) * 1_000_000,
    "lognormal": RANDOM.lognormal(12, 2, 5000).astype(np.int64) + 1,
    "uniform": RANDOM.integers(1, 10**9, 5000),
    "two humps": np.concatenate((RANDOM.integers(1000, 2000, 999), [10**10])),
    "short": RANDOM.integers(1, 50, 500),
    "heavy tail": (RANDOM.pareto(0.7, 5000) * 1e4).astype(np.int64) + 1,
    "with zeros": np.concatenate((np.zeros(300, np.int64), RANDOM.integers(1, 10**6, 300))),
}


def buckets(durations_ns: np.ndarray) -> np.ndarray:
    """The histogram of the durations, as the core fills it; shape (1, BUCKETS)."""
    index = [core.bucket_index(int(ns)) for ns in durations_ns]
    return np.bincount(index, minlength=core.BUCKETS)[None, :].astype(np.uint64)


@pytest.mark.parametrize("name", DATA)
def test_quantiles_are_those_of_the_raw_durations(name: str) -> None:
    """Within 1.1 % of numpy's inverse of the empirical distribution function, at every probability."""
    raw = np.quantile(DATA[name], WANTED, method="inverted_cdf") / 1e9
    assert quantiles(buckets(DATA[name]), WANTED)[0] == pytest.approx(raw, rel=0.011, abs=0)


@pytest.mark.parametrize("name", DATA)
def test_mean_and_deviation_are_those_of_the_raw_durations(name: str) -> None:
    """The mean within 1.1 %; the deviation within 2 % and what the width of a bucket adds."""
    raw = DATA[name] / 1e9
    means, deviations = Filled.of(buckets(DATA[name])).means_and_deviations()
    assert means[0] == pytest.approx(raw.mean(), rel=0.011)
    assert deviations[0] == pytest.approx(raw.std(), rel=0.022, abs=0.022 * raw.mean())


def test_a_part_of_the_buckets_is_enough() -> None:
    """Counts that start at bucket `low` give what the whole histogram gives."""
    whole = buckets(DATA["lognormal"])
    (touched,) = np.nonzero(whole[0])
    low, high = int(touched[0]), int(touched[-1]) + 1
    part = whole[:, low:high].astype(np.uint32)
    assert np.array_equal(quantiles(part, WANTED, low), quantiles(whole, WANTED))
    assert np.allclose(Filled.of(part, low).means_and_deviations(), Filled.of(whole).means_and_deviations())


def test_rows_do_not_mix() -> None:
    """Each row has its own quantiles, also between rows that are empty, and NaN stands for an empty one."""
    rows = np.concatenate([buckets(DATA[name]) for name in DATA])
    rows = np.concatenate((np.zeros_like(rows[:1]), rows, np.zeros_like(rows[:1])))
    together = quantiles(rows, WANTED)
    assert np.isnan(together[[0, -1]]).all()
    for row, name in enumerate(DATA, 1):
        assert np.array_equal(together[row], quantiles(buckets(DATA[name]), WANTED)[0])
    means, deviations = Filled.of(rows).means_and_deviations()
    assert np.isnan(means[[0, -1]]).all()
    assert np.isnan(deviations[[0, -1]]).all()


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (3, 0)])
def test_no_rows_or_no_buckets_give_no_numbers(shape: tuple[int, int]) -> None:
    """Not an error: a window without calls, or without timed ones."""
    result = quantiles(np.zeros(shape, np.uint32), WANTED)
    assert result.shape == (shape[0], len(WANTED))
    assert np.isnan(result).all()


def test_a_rank_that_is_whole_is_not_rounded_up() -> None:
    """p99 of a hundred durations is the 99th, though 0.99 * 100 is a bit more than 99 in floating point."""
    hundred = buckets(DATA["a hundred"])
    assert quantiles(hundred, (0.99,))[0, 0] == pytest.approx(0.099, rel=RELATIVE_ERROR)


def test_a_representative_is_within_the_error_of_all_that_its_bucket_counts() -> None:
    """Both borders of a bucket are 1.08 % away from what stands for it; zero stands for itself."""
    values, bounds = representatives(), upper_bounds()
    assert len(values) == len(bounds) == core.BUCKETS
    assert values[0] == bounds[0] == 0.0
    assert np.allclose(1 - values[1:] / bounds[1:], RELATIVE_ERROR)
    assert np.allclose(values[2:] / bounds[1:-1] - 1, RELATIVE_ERROR)
    assert RELATIVE_ERROR < 0.0109
    for ns in (1, 2, 999, 1_953_125, 10**9, 3_600 * 10**9):
        assert values[core.bucket_index(ns)] == pytest.approx(ns / 1e9, rel=0.0109)


def test_the_tables_cannot_be_changed() -> None:
    """They are shared by everybody who asks."""
    for table in (representatives(), upper_bounds()):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 1.0
