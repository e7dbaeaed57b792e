"""TracedCalls: the subject called again, to see what a call peaks at and what it keeps."""

from __future__ import annotations

import gc
import math
import sys
import time
from dataclasses import replace
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import core
from ...stats.leak import FILLING, LEAK, LEAST_BLOCKS, Growth, growth
from ..runs.calls import Calls, Unprepared
from ..runs.interrupts import Stopped
from ..runs.run import drive
from ..runs.subject import empty_loop
from .caches import Cache, CacheSizes
from .heap import PAGE_BYTES, read_level, read_levels
from .levels import Levels, collect
from .retention import BLOCK_BYTES, Retention, amount
from .tracing import AllocationSite, Held, Tracing, grown, held

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..config import BenchmarkConfig
    from ..progress import Reporter
    from ..runs.limits import Guard
    from ..runs.run import Outcome
    from ..runs.subject import Loop, Subject

    Floats = NDArray[np.float64]

__all__ = ["TracedCalls"]

_SINGLE_S = 0.5  # what each part takes, unless a call is so long that it needs more
_BLOCKS_S = 1.0
_LEAST_SINGLE = 5
_MOST_SINGLE = 1000
_BLOCKS = 30
_MOST_IN_BLOCK = 1000
_EMPTY = 5
_COUNT_S = 0.3
_FRAMES = 12
_TELL_S = 0.5  # how often progress is told: it may keep memory, and that is not the subject's doing
_IN_CYCLES = 1000  # bytes that are worth a word
_SLOWER = 5.0  # times: tracing with so many frames, over tracing with one
_OF_CALLS = 0.01  # entries per call that a cache must get to be spoken of
_COLUMNS = ("peak_bytes", "result_bytes", "result_blocks", "cyclic_bytes", "kept_bytes")
_PEAK, _CYCLIC = _COLUMNS.index("peak_bytes"), _COLUMNS.index("cyclic_bytes")

_NOT_COUNTED = "only the native core counts them, in CPython with its global lock, and when there is time"
# Of each level that is read without tracing: the least that can be kept at once, and what is worth a word.
_QUANTA = {"python_blocks": (1.0, 64.0), "native_bytes": (32.0, 16_384.0), "rss_bytes": (PAGE_BYTES, 1e6)}


class TracedCalls:
    """Looks at a subject's memory, within the time that is left; what is not reached is not known.

    First calls one by one under tracemalloc, then blocks of calls under it, from whose ends a leak shows, then blocks
    without it, which shows what tracemalloc does not know of. What is done between calls, and between blocks, is in
    no number.
    """

    def __init__(
        self, subject: Subject, config: BenchmarkConfig, outcome: Outcome, guard: Guard, reporter: Reporter
    ) -> None:
        self._subject, self._config, self._guard, self._reporter = subject, config, guard, reporter
        self._calls = Calls(subject, config, guard)
        self._planned = min(max(outcome.planned, 1), _MOST_SINGLE)
        made = int(outcome.series.calls.sum())
        self._untraced_s = max(outcome.seconds / made, 1e-8) if made else math.nan
        self._seen = np.full((len(_COLUMNS), 0), np.nan)
        self._traced: Growth | None = None
        self._held: Held = {}
        self._sites: list[AllocationSite] = []
        self._caches: list[Cache] = []
        self._kept = math.nan  # bytes that are in use more after the traced blocks of calls than before, at most
        self._untraced: dict[str, Growth] = {}
        self._blocks_s: dict[str, float] = {}  # time of a call in them
        self._not_readable: dict[str, str] = {}
        self._asked_for = np.zeros(0)
        self.shared = Tracing.users()
        self.interrupted = outcome.interrupted

    # -- looking ----------------------------------------------------------------------------------------------

    def look(self) -> str:
        """Make the calls, unless the run was interrupted. Returns why it ended early, or ""."""
        if self.interrupted:
            return "the run was interrupted"
        self._until = time.monotonic() + 0.95 * self._guard.left_s
        collects = gc.isenabled()
        if self._config.gc == "off":
            gc.disable()
        try:
            drive(self._look(), self._subject.asynchronous)
        except Stopped:
            ended = self._guard.ended
            if ended is not None and ended.limit == "timeout":  # of which the guard had what the run has left
                return f"the time budget of {self._config.timeout:g} s is spent"
            return "a limit was reached" if ended is None else ended.sentence
        except KeyboardInterrupt:
            self.interrupted = True
            return "interrupted"
        except Unprepared as error:
            return str(error)
        finally:
            if collects:
                gc.enable()
        return ""

    async def _look(self) -> None:
        begun = time.perf_counter()
        gc.collect()
        self._collect_s = time.perf_counter() - begun
        with Tracing() as tracing:
            await self._one_by_one(tracing)
        caches, made = CacheSizes(self._subject.target), self._calls.made
        before = _native_bytes()
        try:
            with Tracing():
                await self._traced_blocks()
        finally:
            if not self.shared:
                self._kept += _native_bytes() - before  # without tracemalloc's tables: these are gone
            self._caches = caches.grown(_OF_CALLS * (self._calls.made - made))
        if self.shared:
            return
        if self._traced is not None and self._traced.kind in (LEAK, FILLING):
            await self._stacks()
        await self._untraced_blocks()
        await self._count()

    @property
    def _left_s(self) -> float:
        return max(0.0, self._until - time.monotonic())

    async def _one_by_one(self, tracing: Tracing) -> None:
        """Single calls, less what the same look shows of a call of nothing."""
        empty = np.full((len(_COLUMNS), _EMPTY), np.nan)
        nothing = empty_loop(self._subject.asynchronous)
        for column in range(_EMPTY):
            await self._one(tracing, nothing, empty[:, column])
        seen = np.full((len(_COLUMNS), self._planned), np.nan)
        spent_s = []
        self._reporter.phase("tracing single calls", self._planned)
        latest = time.monotonic() + 0.3 * self._left_s
        ends = min(time.monotonic() + _SINGLE_S, latest)
        try:
            for column in range(self._planned):
                if time.monotonic() >= (ends if column >= _LEAST_SINGLE else latest) and column:
                    break
                begun = time.perf_counter()
                loop = await self._calls.set_up()
                await self._calls.run(loop, repeat(None, 0))  # what its first run makes for itself is not the subject's
                ready = time.perf_counter()
                called_s = await self._one(tracing, loop, seen[:, column])
                done = time.perf_counter()
                await self._calls.tear_down()
                spent_s.append(ready - begun + called_s + time.perf_counter() - done)
                self._reporter.advance()
        finally:
            base = np.nanmedian(empty, axis=1)[:, None]
            self._seen = np.maximum(seen[:, np.isfinite(seen[0])] - base, 0.0)
        self._traced_s = float(np.median(spent_s))

    async def _one(self, tracing: Tracing, loop: Loop, row: Floats) -> float:
        """One call, and what it took. `row` gets the _COLUMNS; it stays NaN when the call fails.

        Only a full collection gives back what the interpreter keeps of freed objects, to be used again: before one has
        run, freed tuples and dicts look as if they were held.
        """
        failed, calls, clock = self._calls.failed, repeat(None, 1), np.zeros(2)
        collect()
        tracing.reset_peak()
        before = tracing.current()
        clock[0] = time.perf_counter()  # kept where it was made before: what is made in here would be seen
        result = await self._calls.run(loop, calls)
        clock[1] = time.perf_counter()
        peak, at_end = tracing.peak(), tracing.current()
        young = gc.collect(1)
        cyclic = at_end - tracing.current()
        old = collect()
        with_result, blocks = tracing.current(), sys.getallocatedblocks()
        del result
        collect()
        kept = tracing.current()
        blocks -= sys.getallocatedblocks()
        if old:  # collections while the call ran have let its garbage grow old
            cyclic = at_end - with_result
        if self._calls.failed == failed:
            row[:] = peak - before, with_result - kept, blocks, cyclic if young or old else 0.0, kept - before
        return float(clock[1] - clock[0])

    def _plan(self, call_s: float, share: float) -> tuple[int, int]:
        """How many blocks of how many calls there is time for: no block when too few can be made to judge."""
        budget = share * self._left_s
        if not LEAST_BLOCKS * (call_s + self._collect_s) <= budget:
            return 0, 1
        call_s = max(call_s, 1e-7)
        wanted = (min(_BLOCKS_S, budget) / _BLOCKS - self._collect_s) / call_s
        wanted = max(wanted, 0.5 * self._collect_s / call_s)  # a large heap: collecting must not take all the time
        most = (budget / LEAST_BLOCKS - self._collect_s) / call_s
        calls = max(1, int(min(wanted, most, _MOST_IN_BLOCK)))
        return min(_BLOCKS, int(budget / (calls * call_s + self._collect_s))), calls

    async def _traced_blocks(self) -> None:
        blocks, calls = self._plan(self._traced_s, 0.5)
        levels = Levels(_traced, blocks)
        first = blocks // 3  # of those that are judged
        self._reporter.phase("tracing blocks of calls", blocks)
        try:
            await self._make(levels, calls, first)
        finally:
            after = held()
            self._blocks_s["traced"] = levels.block_s / calls
            self._traced = self._judge(levels.row("traced"), calls)
            in_use = levels.row("python_blocks")
            more = float(in_use[-1] - in_use[0])
            self._kept = BLOCK_BYTES * more if more > 0.0 else 0.0  # NaN: all of it is malloc's
            if self._traced.kind in (LEAK, FILLING):
                self._sites = grown(self._held, after, self._subject.name, per=(levels.done - first) * calls)

    async def _stacks(self) -> None:
        """Who called the lines that grew."""
        calls = int(min(_MOST_IN_BLOCK, 0.2 * self._left_s / (_SLOWER * max(self._traced_s, 1e-7))))
        if calls < 1 or not self._sites:
            return
        with Tracing(_FRAMES):
            await self._calls.make(calls)
            gc.collect()
            stacks = {site.place: site.stack for site in grown({}, held(), self._subject.name, most=100)}
        self._sites = [replace(site, stack=stacks.get(site.place, ())) for site in self._sites]

    async def _untraced_blocks(self) -> None:
        blocks, calls = self._plan(self._untraced_s, 0.9)
        levels = Levels(lambda values: read_levels(values, self._not_readable), blocks)
        self._reporter.phase("blocks of calls without tracing", blocks)
        try:
            await self._make(levels, calls)
        finally:
            self._blocks_s["plain"] = levels.block_s / calls
            for name, (quantum, least) in _QUANTA.items():
                if levels.done and name not in self._not_readable:
                    self._untraced[name] = self._judge(levels.row(name), calls, quantum, least)

    async def _make(self, levels: Levels, calls: int, hold: int | None = None) -> None:
        """Make the blocks. After `hold` of them it is remembered what is held, and where that comes from."""
        if not levels.blocks:
            return
        levels.read(0)
        told, when = 0, time.monotonic()
        for block in range(1, levels.blocks + 1):
            levels.begun = time.perf_counter()
            await self._calls.make(calls)
            levels.read(block)
            if block == hold:
                self._held = held()
                levels.skip()
            if time.monotonic() - when >= _TELL_S or block == levels.blocks:
                self._reporter.advance(block - told)
                told, when = block, time.monotonic()
                levels.skip()

    async def _count(self) -> None:
        """How often a call asks for memory, less what a call of nothing does."""
        calls = int(min(self._planned, 0.5 * self._left_s / self._untraced_s)) if self._left_s else 0
        ends = time.monotonic() + _COUNT_S
        self._reporter.phase("counting allocations", calls)
        nothing = empty_loop(self._subject.asynchronous)
        own = min([await self._asked(nothing) for _ in range(_EMPTY)])
        if own < 0:
            return
        asked: list[int] = []
        try:
            for number in range(calls):
                if number and time.monotonic() >= ends:
                    break
                failed = self._calls.failed
                loop = await self._calls.set_up()
                count = await self._asked(loop)
                await self._calls.tear_down()
                if self._calls.failed == failed:
                    asked.append(max(count - own, 0))
                self._reporter.advance()
        finally:
            self._asked_for = np.array(asked, np.float64)

    async def _asked(self, loop: Loop) -> int:
        """By one call; below 0 when it cannot be counted."""
        calls = repeat(None, 1)
        if not core.allocations_begin():
            return -1
        try:
            await self._calls.run(loop, calls)
        finally:
            count = core.allocations_end()
        return count

    def _judge(self, levels: Floats, calls: int, quantum: float = 32, least: float = 8192) -> Growth:
        seed, confidence = self._config.seed, self._config.confidence
        judged = growth(levels, calls, quantum=quantum, least=least, confidence=confidence, seed=seed)
        if len(levels) == 1:
            return replace(judged, reason=f"there was no time for {LEAST_BLOCKS} blocks of calls")
        return judged

    # -- what was seen ----------------------------------------------------------------------------------------

    @property
    def retention(self) -> Retention | None:
        if self._traced is None:
            return None
        return Retention(
            self._traced,
            python=self._untraced.get("python_blocks"),
            native=self._untraced.get("native_bytes"),
            resident=self._untraced.get("rss_bytes"),
            sites=self._sites,
            caches=self._caches,
            kept=None if math.isnan(self._kept) else self._kept,
            confidence=self._config.confidence,
        )

    def peaks_mb(self, iterations: int) -> Floats | None:
        """Of as many calls as there are iterations, NaN for those that were not traced; shape (iterations,)."""
        peaks = self._seen[_PEAK][:iterations] / 1e6
        if not len(peaks):
            return None
        return np.concatenate((peaks, np.full(iterations - len(peaks), np.nan)))

    def details(self) -> dict[str, Any]:
        """Of one call, in bytes or blocks of memory; None where nothing is known."""
        retention, plain_s, traced_s = self.retention, self._blocks_s.get("plain"), self._blocks_s.get("traced")
        return {
            **{name: _described(self._seen[row]) for row, name in enumerate(_COLUMNS)},
            "traced_calls": self._seen.shape[1],
            "failed_calls": self._calls.failed,
            "leak": None if retention is None else retention.details(),
            "tracing_slowdown": traced_s / plain_s if traced_s and plain_s else None,
            "allocations": _described(self._asked_for),
            "not_readable": {**self._not_readable, **({} if len(self._asked_for) else {"allocations": _NOT_COUNTED})},
        }

    def advice(self) -> list[str]:
        said = []
        retention = self.retention
        if retention is not None and retention.kind in (LEAK, FILLING):
            said.append(retention.sentence)
        cyclic, peak = (float(np.median(self._seen[row])) if self._seen.size else 0.0 for row in (_CYCLIC, _PEAK))
        if cyclic >= _IN_CYCLES and cyclic >= 0.1 * peak:
            said.append(
                f"{amount(cyclic)} of a call are freed only by the collector: they are in reference cycles. Break the "
                "cycles, with weakref or by clearing an attribute, and they are freed at once."
            )
        return said


def _traced(values: dict[str, float]) -> None:
    values["traced"] = Tracing.current()
    values["python_blocks"] = read_level("python_blocks", {})  # none of these are tracemalloc's own


def _native_bytes() -> float:
    gc.collect()
    return read_level("native_bytes", {})


def _described(values: Floats) -> dict[str, float | None]:
    if not len(values):
        return {"median": None, "min": None, "max": None}
    return {"median": float(np.median(values)), "min": float(values.min()), "max": float(values.max())}
