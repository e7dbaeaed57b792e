"""What a lab run gives: a metric for each iteration, a summary, findings, a score, and the circumstances."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ..model import BenchmarkResult, Finding
from ..options import BenchmarkType
from ..rules.words import duration
from .config import BenchmarkConfig
from .rows import lines

__all__ = ["BenchmarkMetrics", "BenchmarkReport", "Failure", "Mark", "RunVerdict"]


@dataclass
class BenchmarkMetrics:
    """One iteration. None where the debug level, or the system, gives no value.

    execution_time    seconds of one call, overhead subtracted
    memory_usage      MB (10**6 bytes) of one call: what it peaks at or, without tracing, what it touches anew
    cpu_usage         percent (0-100) of the CPUs that the process may use
    throughput        successful calls per second
    latency           milliseconds from the intended start of a call to its end
    error_rate        percent (0-100) of the calls; a report's summary has the fraction (0-1)
    success_rate      percent (0-100) of the calls; a report's summary has the fraction (0-1)
    iterations        calls that were made in the iteration
    concurrent_users  users at once
    timestamp         unix seconds at the start
    """

    execution_time: float  # s
    memory_usage: float | None = None  # MB
    cpu_usage: float | None = None  # percent
    throughput: float = 0.0  # calls/s
    latency: float = 0.0  # ms
    error_rate: float = 0.0  # percent
    success_rate: float = 100.0  # percent
    iterations: int = 1  # calls
    concurrent_users: int = 1
    timestamp: float = field(default_factory=time.time)  # unix s


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
    """A limit that was passed, or a leak."""

    limit: str  # name of the field of BenchmarkConfig; "leak": value and allowed are bytes per call
    value: float
    allowed: float
    sentence: str
    ended: bool  # the run ended there


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """Whether the run is what was asked for.

    complete     all iterations were measured, and nobody interrupted the run
    marks        the limits that it passed
    notes        what a reader must know of the numbers: sentences
    interrupted  it ended by Ctrl-C: the report has what was measured until then
    """

    complete: bool
    marks: tuple[Mark, ...] = ()
    notes: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def passed(self) -> bool:
        """Complete, and within all limits."""
        return self.complete and not self.marks

    @property
    def sentence(self) -> str:
        """ "passed", or why not."""
        if self.passed:
            return "passed"
        reasons = ["interrupted"] * self.interrupted + [mark.sentence for mark in self.marks]
        return "; ".join(reasons) or "not complete"


@dataclass(repr=False)
class BenchmarkReport:
    """One lab run. `print(report)` shows it on some lines.

    benchmark_name     of the function, or as compare_functions was told
    benchmark_type     kind of benchmark
    config             the options of the run
    metrics            one BenchmarkMetrics for each iteration, in their order
    summary            numbers of all iterations, by the names below
    recommendations    sentences: limits that were passed, what the rules found, what failed
    performance_score  0-100; None when nothing could be scored
    result_category    the score in a word; None without a score
    timestamp          unix seconds at the start
    findings           what the rules found, the most severe first
    environment        the machine, the interpreter and their settings
    verdict            whether the run is what was asked for
    failures           calls that failed, by type and place
    overhead           what measuring cost (seconds), and what of it was subtracted
    details            what this kind of benchmark measures beyond the rest; of a comparison: "comparison"
    parameters         of this point of a grid: name -> value

    In the summary, avg_, min_, max_, std_, p50_, p95_ and p99_execution_time are seconds of one call, over the
    iterations without a failure; avg_, min_, max_ and std_memory_usage MB; those of cpu_usage percent (0-100);
    avg_throughput calls per second; avg_latency milliseconds; success_rate and error_rate fractions (0-1), where each
    of `metrics` has percent. "iterations", "loops" (calls in each) and "calls" are counts, "seconds" is how long
    measuring took. "confidence_intervals", "outliers", "modes" and "steady_state" are of the execution times,
    "process_means" of config.isolate fresh processes; times in there are seconds. None: no evidence, which is not 0.
    """

    benchmark_name: str
    benchmark_type: BenchmarkType
    config: BenchmarkConfig
    metrics: list[BenchmarkMetrics]
    summary: dict[str, Any]
    recommendations: list[str]
    performance_score: float | None  # 0-100
    result_category: BenchmarkResult | None
    timestamp: float  # unix s
    findings: list[Finding] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    verdict: RunVerdict = field(default_factory=lambda: RunVerdict(True))
    failures: list[Failure] = field(default_factory=list)
    overhead: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join(lines(self))

    def __repr__(self) -> str:
        mean = self.summary.get("avg_execution_time")
        return (
            f"<BenchmarkReport {self.benchmark_name} ({self.benchmark_type.value}): {len(self.metrics):,} iterations, "
            f"mean {'unknown' if mean is None else duration(mean)}, {self.verdict.sentence}>"
        )
