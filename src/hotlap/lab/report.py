"""What a lab run gives: a metric for each iteration, a summary, findings, a score, and the circumstances."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ..model import BenchmarkResult, Finding
from ..options import BenchmarkType
from .config import BenchmarkConfig

__all__ = ["BenchmarkMetrics", "BenchmarkReport", "Failure", "Mark", "RunVerdict"]


@dataclass
class BenchmarkMetrics:
    """One iteration. None where the debug level, or the system, gives no value."""

    execution_time: float  # s of one call
    memory_usage: float | None = None  # MB of one call: what it peaks at or, without tracing, what it touches anew
    cpu_usage: float | None = None  # percent of the CPUs that the process may use
    throughput: float = 0.0  # calls per second
    latency: float = 0.0  # ms from the intended start of a call to its end
    error_rate: float = 0.0  # percent of the calls
    success_rate: float = 100.0  # percent of the calls
    iterations: int = 1  # calls that were made
    concurrent_users: int = 1
    timestamp: float = field(default_factory=time.time)  # unix s, at the start


@dataclass(frozen=True, slots=True)
class Failure:
    """Calls that failed alike: the same type of exception, raised at the same place."""

    type: str  # "builtins.ValueError" without "builtins."
    place: str  # "path/file.py:12 in parse"
    message: str  # of the first one
    count: int
    first_iteration: int  # from 0
    mean_s: float | None  # what such a call took
    traceback: str  # of the first one
    patterns: tuple[str, ...] = ()  # sentences


@dataclass(frozen=True, slots=True)
class Mark:
    """A limit that was passed."""

    limit: str  # name of the field of BenchmarkConfig
    value: float
    allowed: float
    sentence: str
    ended: bool  # the run ended there


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """Whether the run is what was asked for."""

    complete: bool  # all iterations were measured
    marks: tuple[Mark, ...] = ()
    notes: tuple[str, ...] = ()  # what a reader must know of the numbers

    @property
    def passed(self) -> bool:
        """Complete, and within all limits."""
        return self.complete and not self.marks

    @property
    def sentence(self) -> str:
        """ "passed", or why not."""
        return "passed" if self.passed else "; ".join(mark.sentence for mark in self.marks) or "not complete"


@dataclass
class BenchmarkReport:
    """One lab run."""

    benchmark_name: str
    benchmark_type: BenchmarkType
    config: BenchmarkConfig
    metrics: list[BenchmarkMetrics]
    summary: dict[str, Any]
    recommendations: list[str]
    performance_score: float | None  # 0-100; None when nothing could be scored
    result_category: BenchmarkResult | None
    timestamp: float  # unix s, at the start
    findings: list[Finding] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    verdict: RunVerdict = field(default_factory=lambda: RunVerdict(True))
    failures: list[Failure] = field(default_factory=list)
    overhead: dict[str, Any] = field(default_factory=dict)  # what measuring cost, and what of it was subtracted
    details: dict[str, Any] = field(default_factory=dict)  # what this kind of benchmark measures beyond the rest
    parameters: dict[str, Any] = field(default_factory=dict)  # of this point of a grid
