"""Quantiles and moments of base-2 exponential histograms (OpenTelemetry metrics data model, scale 5, seconds).

A bucket is represented by the value whose relative distance to both borders is the same, 2*l*u/(l+u): no duration
in it is further off than (base - 1)/(base + 1) = 1.08 %, with base = 2**(1/32).
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

    The q-quantile is the value of rank ceil(q*N) (inverse of the empirical distribution function, definition 1 of
    Hyndman and Fan 1996), within 1.08 %. NaN for an empty row.
    """
    if counts.shape[1] == 0:
        return np.full((counts.shape[0], len(wanted)), np.nan)
    cumulated = np.cumsum(counts, axis=1, dtype=np.uint64)
    totals = cumulated[:, -1].astype(np.float64)
    values = representatives()[low : low + counts.shape[1]]
    result = np.empty((counts.shape[0], len(wanted)))
    for column, q in enumerate(wanted):
        # The product is rounded before ceil: 0.99 * 100 is 99.00000000000001 in floating point.
        ranks = np.maximum(np.ceil(np.round(q * totals, 9)), 1.0).astype(np.uint64)
        index = (cumulated < ranks[:, None]).sum(axis=1)
        result[:, column] = values[np.minimum(index, len(values) - 1)]
    result[totals == 0] = np.nan
    return result


def means_and_deviations(counts: NDArray[np.unsignedinteger], low: int = 0) -> tuple[Floats, Floats]:
    """Mean and standard deviation (of the population) of each row, in seconds; NaN for an empty row.

    From the buckets: the mean within 1.08 %; recorded sums give it exactly.
    """
    values = representatives()[low : low + counts.shape[1]]
    weights = counts.astype(np.float64)
    totals = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = weights @ values / totals
        # Around the mean, not as a difference of squares: that would cancel for narrow distributions.
        squares = weights @ (values * values) / totals - means * means
    return means, np.sqrt(np.maximum(squares, 0.0))
