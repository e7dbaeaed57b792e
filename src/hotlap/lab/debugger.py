"""AdvancedDebugger: what the runs of a benchmarker did, step by step, and why one failed."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .config import DebugLevel
from .report import BenchmarkReport

__all__ = ["AdvancedDebugger", "Event"]

logger = logging.getLogger("hotlap")

_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """One step of a run."""

    timestamp: float  # unix s
    benchmark: str
    what: str  # "started", "ended", "mark", "failure", "note"
    values: dict[str, Any] = field(default_factory=dict)


class AdvancedDebugger:
    """Keeps the last thousand events of all runs; each goes to the logger "hotlap" as well, at level debug."""

    def __init__(self, level: DebugLevel) -> None:
        self.level = level
        self.events: deque[Event] = deque(maxlen=_KEPT)

    def record(self, benchmark: str, what: str, **values: Any) -> None:
        self.events.append(Event(time.time(), benchmark, what, values))
        logger.debug("benchmark %s: %s %s", benchmark, what, values)

    def follow(self, report: BenchmarkReport) -> None:
        """Note what a report has to say of its run."""
        name = report.benchmark_name
        for failure in report.failures:
            self.record(name, "failure", type=failure.type, place=failure.place, count=failure.count)
        for mark in report.verdict.marks:
            self.record(name, "mark", limit=mark.limit, value=mark.value, allowed=mark.allowed)
        for note in report.verdict.notes:
            self.record(name, "note", text=note)
        self.record(name, "ended", iterations=len(report.metrics), verdict=report.verdict.sentence)

    def of(self, benchmark: str) -> Iterator[Event]:
        """The events of one benchmark, the oldest first."""
        return (event for event in list(self.events) if event.benchmark == benchmark)

    def explain(self, report: BenchmarkReport) -> str:
        """The verdict, the notes and the failures with their tracebacks, as lines of text."""
        lines = [f"{report.benchmark_name}: {report.verdict.sentence}", *report.verdict.notes]
        for failure in report.failures:
            lines += ["", f"{failure.count} x {failure.type} at {failure.place}", *failure.patterns, failure.traceback]
        return "\n".join(lines).rstrip()

    def clear(self) -> None:
        self.events.clear()
