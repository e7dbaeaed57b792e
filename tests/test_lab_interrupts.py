"""Ctrl-C: what was measured is returned at once, and the subject is not called again."""

from __future__ import annotations

import asyncio
import signal
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from hotlap import BenchmarkConfig, BenchmarkReport, DebugLevel, PerformanceBenchmarker

RUN = 10  # calls of the timed part
KINDS = ["memory", "cpu", "io", "network"]


class Interrupted:
    """A subject in whose call number `at` somebody presses Ctrl-C."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def call(self) -> int:
        self.calls += 1
        if self.calls == self.at:
            signal.raise_signal(signal.SIGINT)
        return sum(range(1000))

    async def call_async(self) -> int:
        found = self.call()
        await asyncio.sleep(0)
        return found


def benchmarked(kind: str, call: Callable[[], Any], level: DebugLevel = DebugLevel.DETAILED) -> BenchmarkReport:
    config = BenchmarkConfig(iterations=RUN, warmup_iterations=0, loops=1)
    report: BenchmarkReport = getattr(PerformanceBenchmarker(level), f"benchmark_{kind}")(call, config=config)
    assert not tracemalloc.is_tracing()
    return report


@pytest.mark.parametrize("kind", ["function", *KINDS])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_an_interrupt_of_the_timed_part_is_the_last_call(kind: str, asynchronous: bool) -> None:
    subject = Interrupted(at=5)
    report = benchmarked(kind, subject.call_async if asynchronous else subject.call, DebugLevel.PROFILING)
    assert subject.calls == 5
    assert len(report.metrics) == 4
    assert not report.verdict.passed
    assert any("Interrupted after 4 of 10 iterations" in note for note in report.verdict.notes)
    assert "profile" not in report.details


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_an_interrupt_of_the_examination_is_the_last_call(kind: str, asynchronous: bool) -> None:
    """What was measured before is there, and nothing is profiled."""
    subject = Interrupted(at=RUN + 3)
    report = benchmarked(kind, subject.call_async if asynchronous else subject.call, DebugLevel.PROFILING)
    assert subject.calls == RUN + 3
    assert len(report.metrics) == RUN
    assert report.summary["avg_execution_time"] > 0.0
    assert "profile" not in report.details
    assert any("nterrupted" in note for note in report.verdict.notes)


def test_an_interrupt_of_profiling_is_the_last_call() -> None:
    subject = Interrupted(at=RUN + 3)
    report = benchmarked("function", subject.call, DebugLevel.PROFILING)
    assert subject.calls == RUN + 3
    assert report.details["profile"]["notes"] == ["Profiling was not done to the end: interrupted."]
