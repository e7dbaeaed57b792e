"""The lab: functions that are benchmarked on purpose, by the recorder's own probe, statistics, score and rules.

benchmarker     PerformanceBenchmarker, the front door
config, report  what is asked for, and what comes out; export, baseline: kept and compared
subject, recording, timer, limits, run    one benchmark: loop of calls, probe and ring, precision, budget, phases
kind and the kinds    function, memory, cpu, io, network, concurrent, stress, comparison
summary, failures, environment, debugger    what is made of a run
isolation, progress   fresh processes, and a bar for who waits
"""

from __future__ import annotations

from ..model import BenchmarkResult
from ..options import BenchmarkType
from .benchmarker import Grid, PerformanceBenchmarker
from .config import BenchmarkConfig, DebugLevel
from .report import BenchmarkMetrics, BenchmarkReport

__all__ = [
    "BenchmarkConfig",
    "BenchmarkMetrics",
    "BenchmarkReport",
    "BenchmarkResult",
    "BenchmarkType",
    "DebugLevel",
    "Grid",
    "PerformanceBenchmarker",
]
