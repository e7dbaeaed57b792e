"""Window: what one interval gives, as columns: counter and histogram deltas, and what its records add up to.

Records are reduced as they are drained, a few thousand at a time while they are in the processor's cache:
sums per site are kept for all of them, and the records themselves up to a bound, for what sums cannot tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Records = NDArray[Any]  # of core.record_dtype()

__all__ = ["CHUNK", "SLOWEST", "SUMS", "TAIL_CALLS", "Tally", "Window", "deltas"]

CHUNK = 4096  # records reduced at once: 512 KB
_KEPT = 1 << 17  # records kept: 16 MB
_TRACED = 8192  # calls with a trace that are kept before they are thinned out
SLOWEST = 5  # of each site, for its report
TAIL_CALLS = 1000  # slow and failed calls of all sites, to be shown as spans
COLUMN = {name: index for index, name in enumerate(core.COUNTERS)}
_LEVELS = [COLUMN[name] for name in ("in_flight", "in_flight_peak", "min_ns", "max_ns")]
_LONGEST = COLUMN["longest_ns"]
_FLOW = core.FLAG_ASYNC | core.FLAG_GENERATOR

# What is summed over the sampled calls of a site, each times the record's weight. `x_of` is the sum of what x
# is compared with over the same calls, because x is not known for all of them.
SUMS = (
    "samples",  # unweighted
    "tails",  # unweighted, of the calls that are here only because they were slow
    "tail_wall_ns",
    "weight",
    "cpu_ns",
    "cpu_of",  # wall
    "cpu_weight",
    "own_ns",
    "own_of",  # running time
    "own_weight",
    "gc_ns",
    "voluntary",
    "involuntary",
    "minor_faults",
    "minor_faults_squared",
    "major_faults",
)
_ROW = {name: index for index, name in enumerate(SUMS)}


class Tally:
    """The records of one window, reduced per site. Sites are counted by their id."""

    def __init__(self) -> None:
        self.sums: Floats = np.zeros((len(SUMS), 0))
        self.longest_ns: Floats = np.zeros(0)  # longest call that left a record, by site
        self.longest_run_ns: Floats = np.zeros(0)  # longest run without a suspension in a record, by site
        self.count = 0
        self._kept: list[Records] = []
        self._traced: list[Records] = []
        self._kept_count = 0
        self._traced_count = 0
        self._stride = 1  # every how many chunks one is kept
        self._chunks = 0

    def add(self, records: Records) -> None:
        """Reduce up to CHUNK records. They may be a view of memory that is gone after the call."""
        site = records["site"].astype(np.intp)
        self._grow(int(site.max()) + 1)
        width = self.sums.shape[1]
        flags = records["flags"]
        self.count += len(records)
        wall = records["wall_ns"].astype(np.float64)
        np.maximum.at(self.longest_ns, site, wall)
        if (flags & _FLOW).any():
            np.maximum.at(self.longest_run_ns, site, records["longest_ns"].astype(np.float64))
        self._keep_traced(records)
        tail = (flags & core.FLAG_TAIL) != 0
        sums = self.sums

        def total(name: str, values: Floats | None, where: NDArray[np.intp]) -> None:
            sums[_ROW[name]] += np.bincount(where, values, width)

        if tail.any():
            total("tails", None, site[tail])
            total("tail_wall_ns", wall[tail], site[tail])
            random = ~tail
            records, site, wall, flags = records[random], site[random], wall[random], flags[random]
            if len(records) == 0:
                return
        weight = records["weight"].astype(np.float64)
        total("samples", None, site)
        total("weight", weight, site)
        cpu, own = records["cpu_ns"], records["own_ns"]
        for name, values, of in (("cpu", cpu, wall), ("own", own, records["run_ns"])):
            known = values >= 0
            if known.all():
                total(f"{name}_ns", weight * values, site)
                total(f"{name}_of", weight * of, site)
                total(f"{name}_weight", weight, site)
            else:
                w = weight[known]
                total(f"{name}_ns", w * values[known], site[known])
                total(f"{name}_of", w * of[known], site[known])
                total(f"{name}_weight", w, site[known])
        for name in ("gc_ns", "voluntary", "involuntary", "minor_faults", "major_faults"):
            values = records[name]
            if values.any():  # mostly not: spares the rest
                total(name, weight * values, site)
                if name == "minor_faults":
                    total("minor_faults_squared", weight * np.square(values, dtype=np.float64), site)
        self._keep(records)

    def tails(self) -> Floats:
        """By site: how many calls are here only because they were slow, and their time; a copy, (2, n)."""
        return self.sums[[_ROW["tails"], _ROW["tail_wall_ns"]]]

    def _grow(self, sites: int) -> None:
        missing = sites - self.sums.shape[1]
        if missing > 0:
            self.sums = np.concatenate((self.sums, np.zeros((len(SUMS), missing))), axis=1)
            self.longest_ns = np.concatenate((self.longest_ns, np.zeros(missing)))
            self.longest_run_ns = np.concatenate((self.longest_run_ns, np.zeros(missing)))

    def _keep(self, records: Records) -> None:
        """Keep this chunk, or not: whole chunks, evenly over the window, whatever is in them."""
        self._chunks += 1
        if (self._chunks - 1) % self._stride:
            return
        self._kept.append(records.copy())
        self._kept_count += len(records)
        if self._kept_count > _KEPT:
            self._kept = self._kept[::2]
            self._kept_count = sum(map(len, self._kept))
            self._stride *= 2

    def _keep_traced(self, records: Records) -> None:
        """Keep the calls that happened in a trace, and thin them out when they are many."""
        traced = np.flatnonzero(records["span"])
        if len(traced) == 0:
            return
        self._traced.append(records[traced])
        self._traced_count += len(traced)
        if self._traced_count > _TRACED:
            self._traced = [_remarkable(_joined(self._traced))]
            self._traced_count = 0

    def kept(self) -> Records:
        """The sampled calls themselves: all of them, or an even choice where there were very many."""
        return _joined(self._kept)

    def traced(self) -> Records:
        """The remarkable ones of the calls that happened in a trace."""
        return _remarkable(_joined(self._traced))


def _joined(parts: list[Records]) -> Records:
    return np.concatenate(parts) if parts else np.empty(0, core.record_dtype())


def _remarkable(records: Records) -> Records:
    """The slowest calls of each site, and of all sites the slowest that failed or were tails."""
    order = np.lexsort((-records["wall_ns"].astype(np.int64), records["site"]))
    site = records["site"][order]
    rank = np.arange(len(site)) - np.searchsorted(site, site)
    odd = np.flatnonzero(records["flags"] & (core.FLAG_ERROR | core.FLAG_TAIL))
    odd = odd[np.argsort(-records["wall_ns"][odd].astype(np.int64), kind="stable")[:TAIL_CALLS]]
    chosen = np.zeros(len(records), np.bool_)
    chosen[order[rank < SLOWEST]] = True
    chosen[odd] = True
    return records[chosen]


@dataclass(frozen=True, slots=True)
class Window:
    """Deltas over one interval. Rows belong to `sites`."""

    started_at: float  # unix seconds
    seconds: float
    sites: tuple[core.Site, ...]  # those with calls that ended in the window
    counters: NDArray[np.uint64]  # (rows, len(COUNTERS)): as `deltas` gives them
    buckets: NDArray[np.uint32]  # (m, 3): row, bucket, count, ascending: what the histograms have got
    sums: Floats  # (len(SUMS), rows): over the sampled calls
    longest_ns: Floats  # (rows,): longest call that left a record, 0 without one
    longest_run_ns: Floats  # (rows,): longest run without a suspension, as far as known; 0 without one
    records: Records  # sampled calls, at most some hundred thousand
    rows: NDArray[np.intp]  # (len(records),): the row of each, -1 for a site without one
    traced: Records  # the slowest calls with a trace, and those that failed or were tails
    traced_rows: NDArray[np.intp]
    drained: int  # records in all
    lost: int  # records overwritten before they were read
    metrics: tuple[dict[str, list[float]] | None, ...]  # per row: name -> [count, total, min, max]
    epoch_ns: int  # what to add to a record's start_ns for unix nanoseconds

    def column(self, name: str) -> NDArray[np.uint64]:
        """One counter of COUNTERS, for all rows."""
        column: NDArray[np.uint64] = self.counters[:, COLUMN[name]]
        return column

    def sum(self, name: str) -> Floats:
        """One of SUMS, for all rows."""
        row: Floats = self.sums[_ROW[name]]
        return row


def deltas(before: NDArray[np.uint64], after: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Counter deltas of two readings of the same sites, both (sites, len(COUNTERS)).

    in_flight, in_flight_peak, min_ns and max_ns are those of `after`; longest_ns is where it is new, else 0.
    """
    delta: NDArray[np.uint64] = after - before
    delta[:, _LEVELS] = after[:, _LEVELS]
    delta[delta[:, _LONGEST] > 0, _LONGEST] = after[delta[:, _LONGEST] > 0, _LONGEST]
    return delta
