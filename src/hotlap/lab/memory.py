"""MEMORY: what a call peaks at and what it keeps, by tracemalloc; resident memory; the garbage collector.

The timed iterations are not traced, because tracing makes calls several times as slow. The subject is called again for
that afterwards: first one by one, then in blocks of calls from one end of which to the next a leak shows, and in blocks
without tracing, in which memory that is not Python's shows, too.
"""

from __future__ import annotations

import gc
import math
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import HotlapError
from ..options import BenchmarkType
from ..rules.words import duration, share
from .collector import Collections
from .config import BenchmarkConfig, DebugLevel
from .heap import read_levels, rss_bytes
from .kind import Examination, Kind
from .procfs import Unreadable
from .subject import Subject
from .traced import TracedCalls
from .tracing import AllocationSite, Held, Tracing, grown, held

if TYPE_CHECKING:
    from .limits import Guard
    from .progress import Reporter
    from .run import Observer, Outcome

__all__ = ["Memory", "MemoryTracker"]

_MB = 1e6


class MemoryTracker:
    """The memory of the process from start() to stop(), or in a with block:

        with MemoryTracker() as memory:
            work()
        print(memory.peak_mb, memory.retained_mb, memory.sites)

    Until stop() the values are those so far. What cannot be known is None, and `not_readable` says why. Everything
    counts that the process does, in all threads. With trace=False nothing is made slow, and only the resident
    memory, malloc's and the collector's numbers are there.

    `frames` is how much of the stack is kept of each allocation for `sites`, `most` how many sites there are.
    """

    def __init__(self, trace: bool = True, frames: int = 1, most: int = 10) -> None:
        self._trace, self._frames, self._most = trace, frames, most
        self._running = False
        self._reset()

    def _reset(self) -> None:
        self.not_readable: dict[str, str] = {}
        self.sites: list[AllocationSite] = []  # that have more than before, the most first; once stopped
        self._collections = Collections()
        self._tracing: Tracing | None = None
        self._held: Held = {}
        self._base: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def __enter__(self) -> MemoryTracker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> MemoryTracker:
        """Forget what was, and begin. Raises HotlapError when it runs already."""
        if self._running:
            raise HotlapError("this MemoryTracker runs already: call stop() first, or use another one")
        self._reset()
        self._running = True
        gc.collect()  # the garbage of what came before is not ours to keep, nor to free
        self._collections.before()
        if self._trace:
            self._tracing = Tracing(self._frames)
            self._tracing.start()
            if Tracing.users():
                self._held = held()
        self._base = self._read()
        if self._tracing is not None:
            self._tracing.reset_peak()
            self._base["traced"] = self._tracing.current()
        return self

    def stop(self) -> MemoryTracker:
        """Raises HotlapError when it does not run."""
        if not self._running:
            raise HotlapError("this MemoryTracker does not run: call start() first, or use it in a with block")
        last = self._read()
        self._collections.after()
        self._running = False
        gc.collect()
        if self._tracing is not None:
            last["kept"] = self._tracing.current()
            if self._most:
                self.sites = grown(self._held, held(), most=self._most)
            self._tracing.stop()
        self._held = {}
        self._last = last
        return self

    def _read(self) -> dict[str, float]:
        values: dict[str, float] = {}
        if self._tracing is not None:
            values["traced"], values["peak"] = self._tracing.current(), self._tracing.peak()
        read_levels(values, self.not_readable)
        return values

    def _now(self, name: str) -> float | None:
        value = (self._read() if self._running else self._last).get(name)
        return None if value is None or math.isnan(value) else value

    def _more(self, name: str, than: str | None = None) -> float | None:
        now, base = self._now(name), self._base.get(than or name, math.nan)
        return None if now is None or math.isnan(base) else now - base

    @property
    def peak_mb(self) -> float | None:
        """Most traced memory over that at the start."""
        more = self._more("peak", "traced")
        return None if more is None else max(0, more) / _MB

    @property
    def retained_mb(self) -> float | None:
        """Traced memory that is still there; once stopped, after a collection. Below 0 if more was freed."""
        more = self._more("traced" if self._running else "kept", "traced")
        return None if more is None else more / _MB

    @property
    def cyclic_mb(self) -> float | None:
        """What only the collector could free, at the end; None until stopped."""
        traced, kept = self._last.get("traced"), self._last.get("kept")
        return None if traced is None or kept is None else max(0, traced - kept) / _MB

    @property
    def rss_mb(self) -> float | None:
        """Resident memory."""
        rss = self._now("rss_bytes")
        return None if rss is None else rss / _MB

    @property
    def rss_growth_mb(self) -> float | None:
        """With tracing, this has the tables of tracemalloc in it."""
        more = self._more("rss_bytes")
        return None if more is None else more / _MB

    @property
    def native_growth_mb(self) -> float | None:
        """What malloc has given out more, to Python and to others; with tracing, the tables of tracemalloc as well."""
        more = self._more("native_bytes")
        return None if more is None else more / _MB

    @property
    def blocks(self) -> int | None:
        """Blocks of Python's own allocator that are in use more than before."""
        more = self._more("python_blocks")
        return None if more is None else int(more)

    @property
    def collections(self) -> tuple[int, ...]:
        """Runs of the garbage collector, by generation."""
        return tuple(self._collections.counts)

    @property
    def collected(self) -> int:
        """Objects that the collector freed."""
        return self._collections.collected

    @property
    def gc_pause_s(self) -> float:
        """Time that the collector took."""
        return self._collections.pause_ns / 1e9

    @property
    def longest_gc_pause_s(self) -> float:
        return self._collections.longest_ns / 1e9


class _Resident:
    """Resident memory at the begin of the first iteration and at the end of each."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.last: int | None = None
        self.most = 0
        self.reason = ""

    def before(self) -> None:
        if self.first is None and not self.reason:
            self.first = self._read()

    def after(self) -> None:
        if not self.reason:
            self.last = self._read()
            self.most = max(self.most, self.last or 0)

    def _read(self) -> int | None:
        try:
            return rss_bytes()
        except Unreadable as reason:
            self.reason = str(reason)
            return None


class Memory(Kind):
    """Peak and kept bytes of a call, resident memory, collections, and whether the subject leaks."""

    type = BenchmarkType.MEMORY
    timed_share = 0.5  # memory is what it is all about, and is seen afterwards

    def __init__(self, subject: Subject, config: BenchmarkConfig, level: DebugLevel) -> None:
        super().__init__(subject, config, level)
        self._resident, self._collections = _Resident(), Collections()

    def observers(self) -> tuple[Observer, ...]:
        return self._resident, self._collections

    def examine(self, outcome: Outcome, guard: Guard, reporter: Reporter) -> Examination:
        calls = TracedCalls(self.subject, self.config, outcome, guard, reporter)
        reason = calls.look()
        notes = [f"Memory was not looked at to the end: {reason}."] if reason else []
        if calls.shared:
            notes.append(
                "tracemalloc was on already, and stays on: its peak was reset, and memory outside of Python's objects "
                "cannot be told from its own tables."
            )
        return Examination(
            details={**calls.details(), "rss": self._rss(outcome), "gc": self._gc(outcome)},
            memory_mb=calls.peaks_mb(len(outcome.series.time_s)),
            advice=[*calls.advice(), *self._advice(outcome)],
            notes=notes,
        )

    def _rss(self, outcome: Outcome) -> dict[str, Any]:
        seen, calls = self._resident, int(outcome.series.calls.sum())
        if seen.first is None or seen.last is None:
            return {"not_readable": seen.reason or "no iteration was measured"}
        return {
            "start_mb": seen.first / _MB,
            "end_mb": seen.last / _MB,
            "most_mb": seen.most / _MB,  # between calls
            "growth_bytes_per_call": (seen.last - seen.first) / calls if calls else math.nan,
        }

    def _gc(self, outcome: Outcome) -> dict[str, Any]:
        seen, calls = self._collections, int(outcome.series.calls.sum())
        spent = float(outcome.series.raw_s.sum())
        return {
            "collections": list(seen.counts),
            "collections_per_1000_calls": 1000.0 * seen.count / calls if calls else math.nan,
            "pause_s": seen.pause_ns / 1e9,
            "longest_pause_s": seen.longest_ns / 1e9 if seen.count else math.nan,
            "share_of_time": seen.pause_ns / 1e9 / spent if spent > 0.0 else math.nan,
            "collected": seen.collected,
            "uncollectable": seen.uncollectable,
        }

    def _advice(self, outcome: Outcome) -> list[str]:
        seen, spent = self._collections, float(outcome.series.raw_s.sum())
        part = seen.pause_ns / 1e9 / spent if spent > 0.0 else 0.0
        if part < 0.05:
            return []
        return [
            f"The garbage collector took {share(part)} of the time, in {seen.count} collections, the longest of "
            f"{duration(seen.longest_ns / 1e9)}. Make fewer objects that stay for long, avoid reference cycles, or "
            "call gc.freeze() once the program has started."
        ]
