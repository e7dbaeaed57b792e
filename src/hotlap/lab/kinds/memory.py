"""MEMORY: what a call peaks at and what it keeps, by tracemalloc; resident memory; the garbage collector.

The timed iterations are not traced, because tracing makes calls several times as slow. The subject is called again for
that afterwards: first one by one, then in blocks of calls from one end of which to the next a leak shows, and in blocks
without tracing, in which memory that is not Python's shows, too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ...options import BenchmarkType
from ...rules.words import duration, share
from ..config import BenchmarkConfig, DebugLevel
from ..examination import Examination
from ..looks.collector import Collections
from ..looks.heap import rss_bytes
from ..looks.procfs import Unreadable
from ..looks.traced import TracedCalls
from ..runs.subject import Subject
from .kind import Kind

if TYPE_CHECKING:
    from ..progress import Reporter
    from ..runs.limits import Guard
    from ..runs.run import Observer, Outcome

__all__ = ["Memory"]

_MB = 1e6


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
        self._collections.after()  # which an iteration that was ended has not come to
        calls = TracedCalls(self.subject, self.config, outcome, guard, reporter)
        reason = calls.look()
        notes = [f"Memory was not looked at to the end: {reason}."] if reason else []
        if calls.shared:
            notes.append(
                "tracemalloc was on already, and stays on: its peak was reset, and memory outside of Python's objects "
                "cannot be told from its own tables."
            )
        leak = None if calls.retention is None else calls.retention.mark
        return Examination(
            details={**calls.details(), "rss": self._rss(outcome), "gc": self._gc(outcome)},
            memory_mb=calls.peaks_mb(len(outcome.series.time_s)),
            advice=[*calls.advice(), *self._advice(outcome)],
            notes=notes,
            marks=[] if leak is None else [leak],
            interrupted=calls.interrupted,
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
        return {
            "collections": list(seen.counts),
            "collections_per_1000_calls": 1000.0 * seen.count / calls if calls else math.nan,
            "pause_s": seen.pause_ns / 1e9,
            "longest_pause_s": seen.longest_ns / 1e9 if seen.count else math.nan,
            "share_of_time": seen.share,
            "collected_objects": seen.collected,
            "uncollectable_objects": seen.uncollectable,
        }

    def _advice(self, outcome: Outcome) -> list[str]:
        seen = self._collections
        if not seen.share >= 0.05:
            return []
        return [
            f"The garbage collector took {share(seen.share)} of the time, in {seen.count} "
            f"collection{'' if seen.count == 1 else 's'}, the longest of {duration(seen.longest_ns / 1e9)}. Make fewer "
            "objects that stay for long, avoid reference cycles, or call gc.freeze() once the program has started."
        ]
