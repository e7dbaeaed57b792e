"""Quantiles and moments of base-2 exponential histograms (OpenTelemetry metrics, scale 5, unit seconds).

A bucket is represented by the value whose relative distance to both borders is the same, 2*l*u/(l+u): no
duration in it is further off than (base - 1)/(base + 1) = 1.08 %, with base = 2**(1/32).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..core import BUCKET_FIRST, BUCKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["RELATIVE_ERROR", "Filled", "quantiles", "representatives", "upper_bounds"]

_BASE = 2.0 ** (1.0 / 32.0)
RELATIVE_ERROR = (_BASE - 1.0) / (_BASE + 1.0)


@lru_cache(maxsize=1)
def upper_bounds() -> Floats:
    """Upper border of each bucket in seconds, inclusive; shape (BUCKETS,). The zero bucket's is 0."""
    bounds = np.exp2((np.arange(BUCKETS, dtype=np.float64) + BUCKET_FIRST) / 32.0)
    bounds[0] = 0.0
    bounds.flags.writeable = False
    return bounds


@lru_cache(maxsize=1)
def representatives() -> Floats:
    """The value in seconds that stands for each bucket; shape (BUCKETS,)."""
    values: Floats = upper_bounds() * (2.0 / (_BASE + 1.0))
    values.flags.writeable = False
    return values


class Filled:
    """The buckets with counts of many histograms, a few dozen of some hundreds each.

    `rows`, `buckets` and `counts` have shape (m,), in ascending order of row and bucket; the histograms are
    the rows 0 .. size.
    """

    __slots__ = ("_cumulated", "_ends", "_rows", "_starts", "_values", "_weights", "totals")

    def __init__(
        self,
        rows: NDArray[np.integer],
        buckets: NDArray[np.integer],
        counts: NDArray[np.unsignedinteger],
        size: int,
    ) -> None:
        self._rows = rows.astype(np.intp)
        self._values = representatives()[buckets]
        self._weights = counts
        self._cumulated = np.cumsum(self._weights, dtype=np.uint64)
        self._ends = np.searchsorted(self._rows, np.arange(size), "right")
        self._starts = np.searchsorted(self._rows, np.arange(size), "left")
        before = np.concatenate((np.zeros(1, np.uint64), self._cumulated))
        self.totals = before[self._ends] - before[self._starts]  # of each row

    @classmethod
    def of(cls, counts: NDArray[np.unsignedinteger], low: int = 0) -> Filled:
        """From whole histograms: `counts` has shape (rows, width), the buckets low .. low+width."""
        rows, buckets = np.nonzero(counts)
        return cls(rows, buckets + low, counts[rows, buckets], len(counts))

    def quantiles(self, wanted: Sequence[float]) -> Floats:
        """The quantiles of each row, (rows, len(wanted)) in seconds, within 1.08 %; NaN for an empty row.

        The q-quantile is the value of rank ceil(q*N): the inverse of the empirical distribution function,
        definition 1 of Hyndman and Fan (1996).
        """
        result = np.full((len(self.totals), len(wanted)), np.nan)
        some = np.flatnonzero(self.totals)
        if len(some) == 0:
            return result
        totals = self.totals[some][:, None]
        # The product is rounded before ceil: 0.99 * 100 is 99.00000000000001 in floating point.
        ranks = np.ceil(np.round(np.asarray(wanted) * totals, 9)).clip(1, totals).astype(np.uint64)
        # One sorted array for all rows: a rank is looked up beyond what the rows before it add up to.
        before = self._cumulated[self._ends[some] - 1][:, None] - totals
        result[some] = self._values[np.searchsorted(self._cumulated, before + ranks)]
        return result

    def extremes(self) -> tuple[Floats, Floats]:
        """What stands for the first and the last bucket of each row, in seconds; NaN for an empty row."""
        low, high = np.full(len(self.totals), np.nan), np.full(len(self.totals), np.nan)
        some = np.flatnonzero(self.totals)
        low[some] = self._values[self._starts[some]]
        high[some] = self._values[self._ends[some] - 1]
        return low, high

    def means_and_deviations(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation (of the population) of each row, in seconds; NaN for an empty row.

        From the buckets: the mean within 1.08 %; recorded sums give it exactly.
        """
        rows = len(self.totals)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.bincount(self._rows, self._weights * self._values, rows) / self.totals
            # Around the mean: the difference of two sums of squares would cancel in a narrow distribution.
            apart = self._values - means[self._rows]
            variances = np.bincount(self._rows, self._weights * apart * apart, rows) / self.totals
        return means, np.sqrt(variances)


def quantiles(counts: NDArray[np.unsignedinteger], wanted: Sequence[float], low: int = 0) -> Floats:
    """The quantiles of the rows of `counts`, whole histograms: see Filled."""
    return Filled.of(counts, low).quantiles(wanted)
