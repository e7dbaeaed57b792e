"""How far a mean or a quantile can be trusted: confidence intervals from the sample itself."""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import OptionError
from .distributions import binomial_cdf, student_quantile
from .sample import finite, fraction, quantiles

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["Interval", "interval"]

_UNSTABLE = 0.2  # of the sample's spread: with less in too many resamples, one value makes all the spread there is
_LEAST = 1e-3  # BCa's denominator is above it for all but levels that no number of resamples shows
_RESAMPLED = 8  # of fewer values a resample has too often no spread: Student's t instead
_BATCHES = 1000  # more of them make no better interval
_FEWEST_BATCHES = 10


class Interval(NamedTuple):
    """low <= the true value <= high in `level` of all samples; in the unit of the values."""

    low: float
    high: float
    level: float
    method: str


def interval(
    values: ArrayLike,
    statistic: str = "mean",
    level: float = 0.95,
    resamples: int = 4999,
    seed: int = 0,
) -> Interval | None:
    """The confidence interval of a statistic, from `values` of shape (n,) in the order of their measurement.

    "mean": the studentised bootstrap (Efron, 1979; second-order correct: Hall, 1988). Where few values make most of
    the spread, resamples without them have next to none, and its end would lie anywhere: then the BCa bootstrap
    (Efron, 1987). Neither leaves the range of the values. Below 8 values, Student's t (1908).
    "median" and "p90", "p99.9", ...: the exact interval between order statistics (Thompson, 1936), which assumes no
    distribution.

    Neighbours that resemble each other say less than independent values. Where they do, the mean is taken
    from batches of neighbours, doubled until the batches no longer do (Fishman, 1978), and the order statistics
    from the number of independent values that would be as informative. `method` names what was done, and says
    so when ten batches still resemble each other: then the interval is too narrow.

    None when there is no such interval: fewer than two values, or too few beyond the quantile. OptionError for
    an unknown statistic, a level outside 0 .. 1, fewer than 99 resamples, and as in `finite`.
    """
    x = finite(values)
    fraction(level, "level")
    if resamples < 99:
        raise OptionError(f"resamples is {resamples!r}; at least 99 are needed, and some thousands are usual")
    if statistic == "mean":
        return _mean(x, level, resamples, seed)
    return _quantile(x, _probability(statistic), level)


def _probability(statistic: str) -> float:
    if statistic == "median":
        return 0.5
    percent = float(statistic[1:]) if re.fullmatch(r"p\d+(\.\d+)?", str(statistic)) else 0.0
    if not 0.0 < percent < 100.0:
        raise OptionError(f"the statistic {statistic!r} is not known; use 'mean', 'median' or 'p99'")
    return percent / 100.0


def _mean(x: Floats, level: float, resamples: int, seed: int) -> Interval | None:
    if len(x) < 2:
        return None
    mean = math.fsum(x.tolist()) / len(x)
    batches, note = _batched(x - mean, math.ceil(len(x) / _BATCHES))
    n = len(batches)
    error = math.sqrt(float(batches @ batches) / (n - 1) / n)
    method = "Student's t"
    high = student_quantile(0.5 + level / 2.0, n - 1)
    low = -high
    if n < _RESAMPLED or error <= 0.0:
        return Interval(mean + low * error, mean + high * error, level, method + note)
    means, spreads = _resampled(batches, resamples, seed)
    beyond = max(1, int((resamples + 1) * (0.5 - level / 2.0) + 1e-9))
    if np.partition(spreads, beyond)[beyond] < _UNSTABLE * error * math.sqrt(n):
        low, high = _accelerated(batches, means, level)
        method = "BCa bootstrap"
    else:  # then few resamples have no spread at all, too few to be an end
        some = spreads > 1e-9 * error  # more than rounding leaves
        t = np.sort(np.divide(means * math.sqrt(n), spreads, out=np.copysign(np.inf, means), where=some))
        low, high = -float(t[-beyond]) * error, -float(t[beyond - 1]) * error
        method = "studentised bootstrap"
    low, high = max(low, float(batches.min())), min(high, float(batches.max()))
    return Interval(mean + low, mean + high, level, method + note)


def _resampled(x: Floats, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Mean, less that of x, and standard deviation of each resample; both shape (resamples,)."""
    n = len(x)
    random = np.random.default_rng(seed)
    means, spreads = np.empty(resamples), np.empty(resamples)
    rows = max(1, 2**20 // n)  # at a time: all resamples at once would be gigabytes
    for start in range(0, resamples, rows):
        drawn = x[random.integers(0, n, (min(rows, resamples - start), n))]
        means[start : start + rows] = drawn.mean(axis=1) - x.mean()
        spreads[start : start + rows] = drawn.std(axis=1, ddof=1)
    return means, spreads


def _accelerated(x: Floats, means: Floats, level: float) -> tuple[float, float]:
    """The ends of the BCa interval of the mean, less that of x (Efron, 1987, section 3).

    What resamples are biased by, and how much the standard error changes with the mean (from the skewness of x), shift
    the two quantiles of the resampled means.
    """
    normal = NormalDist()
    cubes, squares = float((x**3).sum()), float((x**2).sum())
    acceleration = cubes / (6.0 * squares**1.5)
    below = (float((means < 0.0).sum()) + 0.5 * float((means == 0.0).sum()) + 0.5) / (len(means) + 1.0)
    bias = normal.inv_cdf(below)
    ends = []
    for tail in (0.5 - level / 2.0, 0.5 + level / 2.0):
        z = bias + normal.inv_cdf(tail)
        ends.append(normal.cdf(bias + z / max(1.0 - acceleration * z, _LEAST)))
    low, high = quantiles(means, ends).tolist()
    return low, high


def _quantile(x: Floats, probability: float, level: float) -> Interval | None:
    n = len(x)
    at = quantiles(x, (probability,), "inverted_cdf")[0]
    beyond = (x <= at).astype(np.float64)
    beyond -= beyond.mean()
    batches, note = _batched(beyond, 1)
    worth = float(n)  # independent values that would say as much
    if len(batches) < n:
        worth = min(worth, len(batches) * float(np.mean(beyond**2)) / float(np.mean(batches**2)))
    tail = (1.0 - level) / 2.0
    ranks = range(1, int(worth) + 1)
    below = bisect_right(ranks, tail, key=lambda rank: binomial_cdf(rank - 1, worth, probability))
    above = bisect_left(ranks, 1.0 - tail, key=lambda rank: binomial_cdf(rank - 1, worth, probability)) + 1
    stretch = (n + 1.0) / (worth + 1.0)
    low, high = math.floor(below * stretch), math.ceil(above * stretch)
    if low < 1 or above > len(ranks) or high > n:
        return None
    ordered = np.sort(x)
    return Interval(float(ordered[low - 1]), float(ordered[high - 1]), level, "order statistics" + note)


def _batched(x: Floats, size: int) -> tuple[Floats, str]:
    """Means of neighbours, in batches of at least `size`, that do not resemble their neighbours; and a note on it.

    `x` has mean zero; batches differ by at most one in size.
    """
    batches = _means(x, size)
    while _alike(batches) and len(x) // (2 * size) >= _FEWEST_BATCHES:
        size *= 2
        batches = _means(x, size)
    note = f" of {len(batches)} batches" if len(batches) < len(x) else ""
    return batches, note + (" (neighbours still alike: too narrow)" if _alike(batches) else "")


def _means(x: Floats, size: int) -> Floats:
    edges = np.arange(len(x) // size + 1) * len(x) // (len(x) // size)
    means: Floats = np.add.reduceat(x, edges[:-1]) / np.diff(edges)
    return means


def _alike(x: Floats) -> bool:
    """Whether neighbours resemble each other beyond chance: lag-1 autocorrelation, one-sided at 5 %.

    `x` has shape (n,); False below ten values, which cannot show it.
    """
    n = len(x)
    if n < _FEWEST_BATCHES:
        return False
    apart = x - x.mean()
    squares = float(apart @ apart)
    # The estimate is -1/n on average for independent values (Marriott and Pope, 1954).
    return squares > 0.0 and (float(apart[1:] @ apart[:-1]) / squares + 1.0 / n) * math.sqrt(n) > 1.645
