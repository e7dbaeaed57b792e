"""Recorder: reads sites and ring, and cuts time into windows. The one owner of the core's hooks while it runs.

Nothing here waits for a user's thread or makes one wait: counters are copied under the interpreter's own lock in
microseconds, records are drained without it.
"""

from __future__ import annotations

import gc
import logging
import sys
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

__all__ = ["Recorder"]

logger = logging.getLogger("hotlap")

_CHUNK = 256  # sites read at once: 3 MB of scratch space however many sites there are
_CALLS = core.COUNTERS.index("calls")


def active_trace() -> tuple[int, int, int] | None:
    """Trace id (high, low 64 bits) and span id that are active here, when OpenTelemetry is in use at all."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid or not context.trace_flags.sampled:  # nobody keeps an unsampled trace
        return None
    return context.trace_id >> 64, context.trace_id & 0xFFFF_FFFF_FFFF_FFFF, context.span_id


class Recorder:
    """Ring, readings and sampling of this process. `start` installs it, `stop` takes it out again."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.ring = core.Ring(config.ring_capacity)
        self.governor = Governor(config)
        self.faults: dict[str, int] = {}
        self._logged: set[tuple[str, int]] = set()
        self._forget()

    def _forget(self) -> None:
        """The state of a process that has seen nothing yet."""
        self._counters: NDArray[np.uint64] = np.zeros((0, len(core.COUNTERS)), np.uint64)
        # Mostly never touched: the kernel gives memory to the pages with counts alone.
        self._histogram: NDArray[np.uint32] = np.zeros((0, core.BUCKETS), np.uint32)
        self._tally = Tally()
        self._lost = 0
        self._wall_start = time.time()
        self._mono_start = core.now_ns()

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Install the hooks. Calls made before count in the first window, without records."""
        registry.set_limit(self.config.max_sites)
        core.set_fault(self._fault)
        core.set_trace(active_trace)
        core.set_ring(self.ring)
        if core.on_gc not in gc.callbacks:
            gc.callbacks.append(core.on_gc)
        self.governor.prepare(registry.sites.values())

    def stop(self) -> None:
        core.set_ring(None)
        core.set_trace(None)
        core.set_fault(None)
        if core.on_gc in gc.callbacks:
            gc.callbacks.remove(core.on_gc)

    def after_fork(self) -> None:
        """In a child: counters, ring and readings begin anew; what the parent saw is the parent's."""
        core.after_fork()
        self._forget()
        self.governor.forget()

    def _fault(self, kind: str, site: core.Site | None, error: BaseException) -> None:
        """A function of the user's failed in the core, which has switched it off: counted, and logged once."""
        self.faults[kind] = self.faults.get(kind, 0) + 1
        key = (kind, site.id if site is not None else -1)
        if key in self._logged:
            return
        self._logged.add(key)
        where = f" of site {site.name!r}" if site is not None else ""
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
        """Reduce what is in the ring. Called more often than windows are cut, so that the ring can be small."""
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
        self.drain()
        core.calibrate()
        sites = list(registry.sites.values())
        self._grow(len(sites))
        counters = np.empty((len(sites), len(core.COUNTERS)), np.uint64)
        scratch = np.empty((min(_CHUNK, max(len(sites), 1)), core.BUCKETS), np.uint64)
        active: list[NDArray[np.intp]] = []
        parts: list[tuple[int, NDArray[np.uint32]]] = []
        for start in range(0, len(sites), _CHUNK):
            chunk = sites[start : start + _CHUNK]
            stop = start + len(chunk)
            low, high = core.collect(chunk, counters[start:stop], scratch[: len(chunk)], True)
            rows = np.flatnonzero(counters[start:stop, _CALLS] != self._counters[start:stop, _CALLS])
            if len(rows) == 0:
                continue
            now = scratch[rows, low:high].astype(np.uint32)
            active.append(rows + start)
            # Modulo 2**32 the difference is right for up to four thousand million calls a window.
            parts.append((low, now - self._histogram[rows + start, low:high]))
            self._histogram[rows + start, low:high] = now
        mono, wall = core.now_ns(), time.time()
        seconds = max((mono - self._mono_start) / 1e9, 1e-9)
        delta = deltas(self._counters, counters)
        row_sites = np.concatenate(active) if active else np.empty(0, np.intp)
        low, histogram = _stack(parts)
        tally, self._tally = self._tally, Tally()
        row_of = _row_of([sites[index] for index in row_sites], tally.sums.shape[1])
        ids = np.flatnonzero(row_of >= 0)
        sums = np.zeros((len(tally.sums), len(row_sites)))
        longest = np.zeros(len(row_sites))
        known = ids[ids < tally.sums.shape[1]]
        sums[:, row_of[known]] = tally.sums[:, known]
        longest[row_of[known]] = tally.longest_ns[known]
        records, traced = tally.kept(), tally.traced()
        lost = self.ring.lost
        window = Window(
            started_at=wall - seconds,
            seconds=seconds,
            sites=tuple(sites[row] for row in row_sites),
            counters=delta[row_sites],
            histogram=histogram,
            low=low,
            sums=sums,
            longest_ns=longest,
            records=records,
            rows=row_of[records["site"]],
            traced=traced,
            traced_rows=row_of[traced["site"]],
            drained=tally.count,
            lost=lost - self._lost,
            metrics=tuple(_take_metrics(sites[row]) for row in row_sites),
            epoch_ns=time.time_ns() - core.now_ns(),
        )
        self._counters, self._lost = counters, lost
        self._wall_start, self._mono_start = wall, mono
        return window

    def _grow(self, count: int) -> None:
        missing = count - len(self._counters)
        if missing > 0:
            fresh = np.zeros((missing, len(core.COUNTERS)), np.uint64)
            self._counters = np.concatenate((self._counters, fresh))
        if count > len(self._histogram):
            # Room for twice as many, so that a program that keeps making sites does not copy each time.
            grown = np.zeros((2 * count, core.BUCKETS), np.uint32)
            if len(self._histogram):
                touched = np.flatnonzero(self._histogram.any(axis=0))
                if len(touched):
                    span = slice(touched[0], touched[-1] + 1)
                    grown[: len(self._histogram), span] = self._histogram[:, span]
            self._histogram = grown


def _row_of(sites: list[core.Site], ids: int) -> NDArray[np.intp]:
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


def _stack(parts: list[tuple[int, NDArray[np.uint32]]]) -> tuple[int, NDArray[np.uint32]]:
    """Chunks that start at different buckets, as one array that starts at the lowest."""
    if not parts:
        return 0, np.zeros((0, 0), np.uint32)
    if len(parts) == 1:
        return parts[0]
    low = min(start for start, _ in parts)
    high = max(start + part.shape[1] for start, part in parts)
    whole = np.zeros((sum(len(part) for _, part in parts), high - low), np.uint32)
    row = 0
    for start, part in parts:
        whole[row : row + len(part), start - low : start - low + part.shape[1]] = part
        row += len(part)
    return low, whole
