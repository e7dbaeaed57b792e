"""Window: what one interval gives, as columns: a row for each site with calls, and the records of the interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import core

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Window", "deltas"]

COLUMN = {name: index for index, name in enumerate(core.COUNTERS)}
_LEVELS = [COLUMN[name] for name in ("in_flight", "in_flight_peak", "min_ns", "max_ns", "longest_ns")]


@dataclass(frozen=True, slots=True)
class Window:
    """Deltas over one interval. Rows belong to `sites`; all arrays with a first axis of rows have its length."""

    started_at: float  # unix seconds
    seconds: float
    sites: tuple[core.Site, ...]  # those with calls that ended in the window, or with records
    counters: NDArray[np.uint64]  # (rows, len(COUNTERS)): deltas; in_flight, peak, min, max, longest are levels
    histogram: NDArray[np.uint32]  # (rows, width): deltas of the buckets low .. low+width
    low: int
    records: NDArray[Any]  # (records,) of core.record_dtype(), sorted by row
    rows: NDArray[np.intp]  # (records,) the row of each record
    lost: int  # records overwritten before they were read
    metrics: tuple[dict[str, list[float]] | None, ...]  # per row: name -> [count, total, min, max]
    epoch_ns: int  # what to add to a record's start_ns for unix nanoseconds

    def column(self, name: str) -> NDArray[np.uint64]:
        """One counter of COUNTERS, for all rows."""
        column: NDArray[np.uint64] = self.counters[:, COLUMN[name]]
        return column


def deltas(before: NDArray[np.uint64], after: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Counter deltas of two readings of the same sites, both (sites, len(COUNTERS)); levels are those of `after`."""
    delta: NDArray[np.uint64] = after - before
    delta[:, _LEVELS] = after[:, _LEVELS]
    return delta
