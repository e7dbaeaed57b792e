"""The lab: functions that are benchmarked on purpose, by the recorder's own probe, statistics, score and rules.

benchmarker     PerformanceBenchmarker, the front door
config, report  what is asked for, and what comes out; rows: shown; export, baseline: kept, and compared
benchmark       one benchmark from the call to its report: summary, examination, failures, environment
comparison      several functions beside each other; grid: one over parameters; isolation: in fresh processes
kinds/          what each kind measures: function, memory, cpu, io, network, concurrent, stress
load/           many users at once: threads, processes, tasks
looks/          what is read of memory, the CPU, files, sockets and lines while calls are made; the trackers
runs/           how a subject is called and timed by the recorder's own probe, within its limits
profiler        where time and memory go; debugger, progress: for who watches and who waits
"""

from __future__ import annotations

from ..model import BenchmarkResult
from ..options import BenchmarkType
from .benchmarker import PerformanceBenchmarker
from .config import BenchmarkConfig, DebugLevel
from .grid import Grid
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
