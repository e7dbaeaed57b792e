"""How one column goes with another: rank correlation, slopes, growth exponent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["LEAST_FACTOR", "distinct", "exponent", "rank_correlation", "ranks", "relative_slope", "slope"]

LEAST_FACTOR = 4.0  # between the smallest and the largest size: nearer ones say nothing of a power


def distinct(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.intp]]:
    """The distinct values in order, where each value is among them, and how often each is there.

    Not np.unique: that imports numpy.ma, and a process that forks while the aggregator's thread imports
    something leaves a child in which nobody can import it any more.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    new = np.ones(len(values), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    number = np.cumsum(new) - 1
    where = np.empty(len(values), np.intp)
    where[order] = number
    return ordered[new], where, np.bincount(number)


def ranks(values: NDArray[Any]) -> Floats:
    """Ranks from 1, ties share the mean of theirs; shape (n,)."""
    _, where, counts = distinct(values)
    last = np.cumsum(counts).astype(np.float64)
    result: Floats = (last - (counts - 1) / 2.0)[where]
    return result


def rank_correlation(x: NDArray[Any], y: NDArray[Any]) -> tuple[float, float] | None:
    """Spearman's rho and its two-sided p value; None for fewer than 4 pairs or when one column is constant.

    The p value is the normal approximation for Fisher's z of a rank correlation, with the standard error
    1.03/sqrt(n - 3) of Fieller, Hartley and Pearson (1957).
    """
    if len(x) < 4:
        return None
    a, b = ranks(x), ranks(y)
    a -= a.mean()
    b -= b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    if scale == 0.0:
        return None
    rho = max(-1.0, min(1.0, float(a @ b) / scale))
    if abs(rho) > 1.0 - 1e-12:
        return rho, 0.0
    z = math.atanh(rho) * math.sqrt(len(x) - 3) / 1.03
    return rho, math.erfc(abs(z) / math.sqrt(2.0))


def relative_slope(x: NDArray[Any], y: NDArray[Any]) -> float | None:
    """How much y grows for each further x, relative to the median y at the smallest x; None for a constant x.

    The slope runs through the medians of y at each x, weighted by their numbers (least squares): one outlier
    among the y does not move it.
    """
    levels, where, counts = distinct(x)
    if len(levels) < 2:
        return None
    order = np.lexsort((y, where))
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    sorted_y = y[order].astype(np.float64)
    medians = (sorted_y[starts + (counts - 1) // 2] + sorted_y[starts + counts // 2]) / 2.0
    weights = counts / counts.sum()
    x_mean, y_mean = float(weights @ levels), float(weights @ medians)
    spread = float(weights @ (levels - x_mean) ** 2)
    slope = float(weights @ ((levels - x_mean) * (medians - y_mean))) / spread
    base = float(medians[0])
    return slope / base if base > 0.0 else None


def exponent(sizes: NDArray[Any], times: NDArray[Any]) -> float | None:
    """b in time ~ size**b by least squares on the logarithms; None unless sizes differ by a factor of 4.

    Not yet a verdict on complexity: a constant part of the time pulls b down. growth.py says whether such a law fits.
    """
    good = np.isfinite(sizes) & (sizes > 0) & (times > 0)
    if np.count_nonzero(good) < 10:
        return None
    x, y = np.log(sizes[good].astype(np.float64)), np.log(times[good].astype(np.float64))
    if float(x.max() - x.min()) < math.log(LEAST_FACTOR):
        return None
    return slope(x - x.mean(), y - y.mean())


def slope(x: Floats, y: Floats) -> float:
    """Of y over x by least squares; both centred, and x not constant."""
    return float(x @ y / (x @ x))
