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

__all__ = ["RELATIVE_ERROR", "means_and_deviations", "quantiles", "representatives", "upper_bounds"]

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
    upper = np.exp2((np.arange(BUCKETS, dtype=np.float64) + BUCKET_FIRST) / 32.0)
    values = upper * 2.0 / (_BASE + 1.0)
    values[0] = 0.0
    values.flags.writeable = False
    return values


def quantiles(counts: NDArray[np.unsignedinteger], wanted: Sequence[float], low: int = 0) -> Floats:
    """Quantiles of the rows of `counts` (shape (n, width), buckets low .. low+width); shape (n, len(wanted)).

    The q-quantile is the value of rank ceil(q*N) (inverse of the empirical distribution function,
    definition 1 of Hyndman and Fan 1996), within 1.08 %. NaN for an empty row.
    """
    rows, width = counts.shape
    if counts.size == 0:
        return np.full((rows, len(wanted)), np.nan)
    # One sorted array for all rows: a rank is looked up beyond what the rows before it add up to.
    cumulated = np.cumsum(counts, dtype=np.uint64)
    ends = cumulated[width - 1 :: width]
    starts = np.concatenate(([np.uint64(0)], ends[:-1]))
    totals = (ends - starts)[:, None]
    # The product is rounded before ceil: 0.99 * 100 is 99.00000000000001 in floating point.
    ranks = np.ceil(np.round(np.asarray(wanted) * totals, 9)).clip(1, totals.clip(1)).astype(np.uint64)
    index = np.searchsorted(cumulated, starts[:, None] + ranks) - width * np.arange(rows)[:, None]
    values = representatives()[low : low + width]
    return np.where(totals > 0, values[index.clip(0, width - 1)], np.nan)


def means_and_deviations(counts: NDArray[np.unsignedinteger], low: int = 0) -> tuple[Floats, Floats]:
    """Mean and standard deviation (of the population) of each row, in seconds; NaN for an empty row.

    From the buckets: the mean within 1.08 %; recorded sums give it exactly.
    """
    values = representatives()[low : low + counts.shape[1]]
    weights = counts.astype(np.float64)
    totals = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Not `@`: it may start threads of its own in the process that is watched.
        means = np.einsum("ij,j->i", weights, values) / totals
        squares = np.einsum("ij,j->i", weights, values * values) / totals
    return means, np.sqrt(np.maximum(squares - means * means, 0.0))
