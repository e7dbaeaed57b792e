"""stats.bootstrap and stats.distributions: intervals that hold the true value as often as they say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hotlap.errors import OptionError
from hotlap.stats.bootstrap import Interval, interval
from hotlap.stats.distributions import binomial_cdf, student_cdf, student_quantile

TRIALS = 400
Draw = Callable[[np.random.Generator, int], np.ndarray]


def lognormal(random: np.random.Generator, n: int) -> np.ndarray:
    return random.lognormal(0.0, 1.0, n)


def normal(random: np.random.Generator, n: int) -> np.ndarray:
    return random.normal(10.0, 1.0, n)


def autoregressive(random: np.random.Generator, n: int) -> np.ndarray:
    """Each value keeps half of the one before: AR(1), mean and median 10."""
    x = random.normal(0.0, 1.0, n)
    x[0] /= np.sqrt(0.75)
    for i in range(1, n):
        x[i] += 0.5 * x[i - 1]
    return x + 10.0


def covered(draw: Draw, n: int, truth: float, statistic: str = "mean", level: float = 0.95) -> float:
    """The share of samples whose interval holds the truth."""
    random = np.random.default_rng(1)
    found = [interval(draw(random, n), statistic, level, resamples=999, seed=i) for i in range(TRIALS)]
    return float(np.mean([one is not None and one.low <= truth <= one.high for one in found]))


@pytest.mark.parametrize("n", [2, 5, 20, 100])
def test_the_mean_of_normal_values_is_covered(n: int) -> None:
    """95 % to within what 400 samples show: 2.5 standard errors."""
    assert covered(normal, n, 10.0) == pytest.approx(0.95, abs=0.027)


@pytest.mark.parametrize(("n", "least"), [(20, 0.90), (100, 0.92)])
def test_the_mean_of_skewed_values_is_covered(n: int, least: float) -> None:
    """Lognormal times, as calls have them: Student's t covers 86.7 and 91.6 % of the time."""
    assert covered(lognormal, n, float(np.exp(0.5))) >= least


@pytest.mark.parametrize(("draw", "median"), [(normal, 10.0), (lognormal, 1.0)])
@pytest.mark.parametrize("n", [7, 30, 101])
def test_the_median_is_covered_whatever_the_distribution(draw: Draw, median: float, n: int) -> None:
    """At least 95 %: ranks are whole numbers, so it is more for few values."""
    assert covered(draw, n, median, "median") >= 0.95 - 0.022


def test_a_high_quantile_is_covered() -> None:
    """p95 of 200 lognormal values."""
    assert covered(lognormal, 200, float(np.exp(1.6448536)), "p95", 0.9) >= 0.9 - 0.03


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_neighbours_that_resemble_each_other_are_not_taken_for_independent(statistic: str) -> None:
    """AR(1) with 0.5, 500 values: an interval that took them for independent would cover 74 %."""
    assert covered(autoregressive, 500, 10.0, statistic) >= 0.91
    found = interval(autoregressive(np.random.default_rng(0), 500), statistic)
    assert found is not None
    assert "batches" in found.method


def test_too_few_batches_are_said() -> None:
    """A drift through the whole sample cannot be batched away, and the method says so."""
    found = interval(np.linspace(1.0, 2.0, 40) + np.random.default_rng(0).normal(0.0, 0.01, 40))
    assert found is not None
    assert "neighbours still alike" in found.method


@pytest.mark.parametrize(
    ("n", "statistic", "low", "high"),
    [(6, "median", 1, 6), (10, "median", 2, 9), (100, "median", 40, 61), (100, "p90", 84, 96)],
)
def test_ranks_of_the_exact_interval(n: int, statistic: str, low: int, high: int) -> None:
    """P(B < 40) = 0.018 <= 0.025 < P(B < 41) of 100 coins, and so on: what tables of the sign test give."""
    shuffled = np.random.default_rng(0).permutation(np.arange(1.0, n + 1.0))
    assert interval(shuffled, statistic) == Interval(low, high, 0.95, "order statistics")


def test_no_interval_without_evidence() -> None:
    """One value has no spread; five cannot enclose a median, nor a hundred p99, with 95 %: None, not a guess."""
    assert interval([1.0]) is None
    assert interval([1.0, 2.0, 3.0, 4.0, 5.0], "median") is None
    assert interval(np.arange(100.0), "p99") is None


def test_few_values_get_students_interval() -> None:
    """Resamples of fewer than eight values have too often no spread: exactly scipy's t interval."""
    stats = pytest.importorskip("scipy.stats")
    x = [10.1, 9.7, 10.4, 9.9]
    theirs = stats.t.interval(0.9, 3, np.mean(x), stats.sem(x))
    assert interval(x, level=0.9) == (*(pytest.approx(end, rel=1e-9) for end in theirs), 0.9, "Student's t")


def test_quantised_times_keep_a_finite_interval() -> None:
    """Nine ticks and one more: a third of the resamples have no spread, which would give an infinite end."""
    found = interval([1e-6] * 9 + [2e-6])
    assert found is not None
    assert found.method == "BCa bootstrap"
    assert 1e-6 <= found.low < 1.1e-6 < found.high <= 2e-6
    assert interval([0.1] * 49) == (0.1, 0.1, 0.95, "Student's t")


@pytest.mark.parametrize("n", [20, 100, 1000])
def test_one_outlier_does_not_make_the_mean_anything(n: int) -> None:
    """One call of 5 among those of 1: resamples without it have no spread, by which the studentised end is divided."""
    x = 1.0 + 0.002 * np.random.default_rng(0).standard_normal(n)
    x[-1] = 5.0
    found = interval(x)
    assert found is not None
    assert 0.99 < found.low < 1.01
    assert x.mean() < found.high < 1.0 + 5.6 * 4.0 / n  # whose rate is at most 5.6 in n, with 97.5 % (Poisson)


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_the_mean_of_values_with_outliers_is_covered(share: float) -> None:
    """As often as values that may have none of them can tell: with 13 % of such samples, no method knows of any."""

    def spiked(random: np.random.Generator, n: int) -> np.ndarray:
        return random.normal(1.0, 0.01, n) + 4.0 * (random.random(n) < share)

    none = (1.0 - share) ** 100
    assert covered(spiked, 100, 1.0 + 4.0 * share) >= 0.93 * (1.0 - none)


def test_bca_is_that_of_scipy() -> None:
    """The same interval, to what two sets of resamples differ by."""
    stats = pytest.importorskip("scipy.stats")
    x = np.random.default_rng(4).normal(1.0, 0.01, 60)
    x[[17, 41]] = 1.5, 2.0
    found = interval(x, resamples=20_000)
    assert found is not None
    assert found.method == "BCa bootstrap"
    theirs = stats.bootstrap((x,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(0))
    ends = theirs.confidence_interval
    width = ends.high - ends.low
    assert found[:2] == (pytest.approx(ends.low, abs=0.03 * width), pytest.approx(ends.high, abs=0.03 * width))


def test_the_same_seed_gives_the_same_interval() -> None:
    """A report can be made again; another seed changes an interval by less than a tenth of its width."""
    x = lognormal(np.random.default_rng(3), 50)
    one, again, other = interval(x), interval(x), interval(x, seed=1)
    assert one is not None
    assert other is not None
    assert one == again
    assert other != one
    assert other.low == pytest.approx(one.low, abs=0.1 * (one.high - one.low))


def test_many_values_are_batched_first() -> None:
    """A hundred thousand need a thousand batch means: the interval stays that of the t distribution."""
    x = normal(np.random.default_rng(0), 100_000)
    found = interval(x)
    assert found is not None
    assert found.method == "studentised bootstrap of 1000 batches"
    assert found.high - found.low == pytest.approx(2 * 1.96 / np.sqrt(100_000), rel=0.1)


def test_bad_options_are_refused() -> None:
    """With the value and what is allowed."""
    with pytest.raises(OptionError, match="'p0' is not known; use"):
        interval([1.0, 2.0], "p0")
    with pytest.raises(OptionError, match="'std' is not known"):
        interval([1.0, 2.0], "std")
    with pytest.raises(OptionError, match=r"level is 95; .* 0\.95"):
        interval([1.0, 2.0], level=95)
    with pytest.raises(OptionError, match="at least 99"):
        interval([1.0, 2.0], resamples=10)
    with pytest.raises(OptionError, match="no values"):
        interval([])


@pytest.mark.parametrize("freedom", [1, 2, 3.5, 10, 100, 100_000])
def test_students_t_is_scipys(freedom: float) -> None:
    """The distribution to 12 digits, its quantiles to 10, from one degree of freedom to the normal limit."""
    t = pytest.importorskip("scipy.stats").t
    for x in (-30.0, -2.0, -0.1, 0.0, 0.7, 3.0, 8.0):
        assert student_cdf(x, freedom) == pytest.approx(t.cdf(x, freedom), rel=1e-10, abs=1e-15)
    for p in (0.0005, 0.025, 0.4, 0.5, 0.8, 0.975, 0.9999):
        assert student_quantile(p, freedom) == pytest.approx(t.ppf(p, freedom), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("trials", [1, 10, 1000, 1_000_000])
@pytest.mark.parametrize("probability", [0.01, 0.5, 0.99])
def test_the_binomial_is_scipys(trials: int, probability: float) -> None:
    """Around the mean, at the ends and beyond them."""
    binom = pytest.importorskip("scipy.stats").binom
    spread = int(2 * np.sqrt(trials * probability * (1 - probability)))
    for k in (-1, 0, int(trials * probability) - spread, int(trials * probability), trials - 1, trials, trials + 1):
        assert binomial_cdf(k, trials, probability) == pytest.approx(
            binom.cdf(k, trials, probability), rel=1e-7, abs=1e-12
        )
