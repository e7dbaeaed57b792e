"""Recorder: reads sites and ring, and cuts time into windows. While it runs, the core's hooks are its own.

Nothing here waits for a user's thread or makes one wait: counters are copied under the interpreter's own lock
in microseconds, records are drained without it.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from . import core
from . import sites as registry
from .governor import Governor
from .window import CHUNK, Tally, Window, deltas

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .config import Config

__all__ = ["Readings", "Recorder"]

logger = logging.getLogger("hotlap")

_CALLS = core.COUNTERS.index("calls")
_PEAK = core.COUNTERS.index("in_flight_peak")


def active_trace() -> tuple[int, int, int] | None:
    """Trace id (high, low 64 bits) and span id that are active here, when OpenTelemetry is in use at all."""
    current_span = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current_span is None:  # not imported, or another thread is at it
        return None
    context = current_span().get_span_context()
    if not context.is_valid or not context.trace_flags.sampled:  # nobody keeps an unsampled trace
        return None
    return context.trace_id >> 64, context.trace_id & 0xFFFF_FFFF_FFFF_FFFF, context.span_id


class Readings:
    """The last reading of every site: where the next window begins.

    It outlives the recorder that took it, so that changed options never report a call twice.
    """

    def __init__(self) -> None:
        self.start_ns = 0
        self.forget()
        first_ns = registry.first_ns()
        if first_ns is not None:  # calls that nobody has read yet were made since then
            self.start_ns = min(self.start_ns, first_ns)

    def forget(self) -> None:
        """The state of a process that has seen nothing yet."""
        self.lock = threading.Lock()  # held while a window is cut; no user's thread comes here
        self.start_ns = core.now_ns()
        self.counters: NDArray[np.uint64] = np.zeros((0, len(core.COUNTERS)), np.uint64)
        self.peaks: NDArray[np.uint64] = np.zeros(0, np.uint64)  # of calls in flight, in all windows so far
        # Mostly never touched: the kernel gives memory to the pages with counts alone.
        self.histogram: NDArray[np.uint32] = np.zeros((0, core.BUCKETS), np.uint32)

    def peak(self, row: int) -> int:
        """The most calls in flight at once of a site, up to the last reading."""
        return int(self.peaks[row]) if row < len(self.peaks) else 0

    def begin(self) -> None:
        """The next window begins now, unless there were calls that it has to tell of."""
        calls = [site.read()[_CALLS] for site in list(registry.sites.values())]
        read = self.counters[:, _CALLS].tolist()
        if calls[: len(read)] == read and not any(calls[len(read) :]):
            self.start_ns = core.now_ns()

    def grow(self, count: int) -> None:
        """Make room for `count` sites."""
        missing = count - len(self.counters)
        if missing > 0:
            fresh = np.zeros((missing, len(core.COUNTERS)), np.uint64)
            self.counters = np.concatenate((self.counters, fresh))
            self.peaks = np.concatenate((self.peaks, np.zeros(missing, np.uint64)))
        if count > len(self.histogram):
            # Room for twice as many, so that a program that keeps making sites does not copy each time.
            grown = np.zeros((2 * count, core.BUCKETS), np.uint32)
            touched = np.flatnonzero(self.histogram.any(axis=0))
            if len(touched):
                span = slice(touched[0], touched[-1] + 1)
                grown[: len(self.histogram), span] = self.histogram[:, span]
            self.histogram = grown


class Recorder:
    """Ring, readings and sampling of this process. `start` installs it, `stop` takes it out again."""

    def __init__(self, config: Config, readings: Readings | None = None) -> None:
        self.config = config
        self.ring = core.Ring(config.ring_capacity)
        self.governor = Governor(config)
        self.readings = readings or Readings()
        self.faults: dict[str, int] = {}
        self._logged: set[tuple[str, int]] = set()
        self._tally = Tally()
        self._lost = 0

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Install the hooks. Calls made before count in the first window, without records."""
        registry.set_limit(self.config.max_sites)
        core.set_fault(self._fault)
        core.set_trace(active_trace)
        core.set_ring(self.ring)
        if core.on_gc not in gc.callbacks:
            gc.callbacks.append(core.on_gc)
        self.readings.begin()
        self.governor.prepare(list(registry.sites.values()))
        registry.set_newcomer(self.governor.welcome)

    def stop(self) -> None:
        registry.set_newcomer(None)
        core.set_ring(None)
        core.set_trace(None)
        core.set_fault(None)
        if core.on_gc in gc.callbacks:
            gc.callbacks.remove(core.on_gc)

    def after_fork(self) -> None:
        """In a child, after the core: ring and readings begin anew; what the parent saw is the parent's."""
        self.readings.forget()
        self._tally = Tally()
        self._lost = self.ring.lost
        self.governor.forget()

    def _fault(self, kind: str, site: core.Site | None, error: BaseException) -> None:
        """The core left something of the user's out: a function that failed, or a number. Counted, and logged once."""
        self.faults[kind] = self.faults.get(kind, 0) + 1
        key = (kind, site.id if site is not None else -1)
        if key in self._logged:
            return
        self._logged.add(key)
        where = f" of site {site.name!r}" if site is not None else ""
        if kind == "record":
            logger.error("a number%s was left out: %s", where, error)
            return
        logger.error(
            "the %s function%s failed and is switched off: %s: %s",
            kind,
            where,
            type(error).__name__,
            error,
            exc_info=error,
        )

    # -- reading ---------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Reduce what is in the ring: more often than windows are cut, so that the ring can be small."""
        dtype = core.record_dtype()
        before = self._tally.tails()
        for _ in range(2 * self.ring.capacity // CHUNK + 1):  # calls go on meanwhile: not for ever
            block = self.ring.drain(CHUNK)
            if not block:
                break
            self._tally.add(np.frombuffer(block, dtype))
        self.governor.watch_tails(before, self._tally)

    def cut(self) -> Window:
        """Close the window that began with the last cut, and begin the next."""
        with self.readings.lock:
            return self._cut()

    def _cut(self) -> Window:
        self.drain()
        core.calibrate()
        sites, counters, rows, buckets = self._read()
        now_ns, wall = core.now_ns(), time.time()
        seconds = max((now_ns - self.readings.start_ns) / 1e9, 1e-9)
        delta = deltas(self.readings.counters, counters)[rows]
        self.readings.counters, self.readings.start_ns = counters, now_ns
        tally, self._tally = self._tally, Tally()
        ring_lost, self._lost = self._lost, self.ring.lost
        active = tuple(sites[row] for row in rows)
        row_of = _row_of(active, tally.sums.shape[1])
        ids = np.flatnonzero(row_of[: tally.sums.shape[1]] >= 0)  # of the active sites with records
        sums, longest, longest_run = (
            np.zeros((len(tally.sums), len(rows))),
            np.zeros(len(rows)),
            np.zeros(len(rows)),
        )
        sums[:, row_of[ids]] = tally.sums[:, ids]
        longest[row_of[ids]] = tally.longest_ns[ids]
        longest_run[row_of[ids]] = tally.longest_run_ns[ids]
        records, traced = tally.kept(), tally.traced()
        return Window(
            started_at=wall - seconds,
            seconds=seconds,
            sites=active,
            counters=delta,
            buckets=buckets,
            sums=sums,
            longest_ns=longest,
            longest_run_ns=longest_run,
            records=records,
            rows=row_of[records["site"]],
            traced=traced,
            traced_rows=row_of[traced["site"]],
            drained=tally.count,
            lost=self._lost - ring_lost,
            metrics=tuple(_take_metrics(site) for site in active),
            epoch_ns=time.time_ns() - core.now_ns(),
        )

    def _read(self) -> tuple[list[core.Site], NDArray[np.uint64], NDArray[np.intp], NDArray[np.uint32]]:
        """All sites and their counters now; of those with calls since the last reading, where they are among
        the sites, and (row, bucket, count) of what has been added to their histograms."""
        sites = list(registry.sites.values())
        self.readings.grow(len(sites))
        counters = np.empty((len(sites), len(core.COUNTERS)), np.uint64)
        added = core.advance(sites, counters, self.readings.histogram)
        self.readings.peaks = np.maximum(self.readings.peaks, counters[:, _PEAK])
        rows = np.flatnonzero(counters[:, _CALLS] != self.readings.counters[:, _CALLS])
        buckets = np.frombuffer(added, np.uint32).reshape(-1, 3)
        if len(rows) < len(sites):
            row_of = np.zeros(len(sites), np.uint32)
            row_of[rows] = np.arange(len(rows))
            buckets[:, 0] = row_of[buckets[:, 0]]
        return sites, counters, rows, buckets


def _row_of(sites: tuple[core.Site, ...], ids: int) -> NDArray[np.intp]:
    """The row of each site id, -1 for those without one."""
    numbers = np.fromiter((site.id for site in sites), np.intp, len(sites))
    row_of = np.full(max(ids, int(numbers.max(initial=-1)) + 1), -1, np.intp)
    row_of[numbers] = np.arange(len(sites))
    return row_of


def _take_metrics(site: core.Site) -> dict[str, list[float]] | None:
    metrics: dict[str, list[float]] | None = site.metrics
    if metrics is not None:
        site.metrics = None
    return metrics
