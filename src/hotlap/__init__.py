"""hotlap: lap times of your hot functions, in production.

    core/           the hot path: probes, sites, ring, clock; in C, with a twin in Python
    probe, sites    benchmark, measure: what is wrapped, and what is known of it
    recorder        reads sites and ring, cuts windows; governor keeps it within its budget
    window, stats/  one interval as columns -> Stats for each site
    score, rules/   Stats -> Score and Findings
    monitor         the background aggregator that wires these together
    sinks/          the ways out: structlog, OpenTelemetry, memory, file, callable
    lab/            benchmarks on purpose, by the same probe, stats, score and rules
    cli/, demo/     the command line, and the program it shows off with

Importing hotlap starts nothing and imports neither numpy nor structlog nor OpenTelemetry: `start()` does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from . import core
from .errors import HotlapError
from .options import BenchmarkType
from .probe import benchmark, disable, enable, measure, restore

if TYPE_CHECKING:
    from .lab import (
        BenchmarkConfig,
        BenchmarkMetrics,
        BenchmarkReport,
        DebugLevel,
        PerformanceBenchmarker,
    )
    from .model import (
        BenchmarkResult,
        Context,
        Cycle,
        Finding,
        Report,
        Score,
        Stats,
        Verdict,
    )
    from .monitor import SiteSnapshot, configure, flush, running, snapshot, start, stop

__version__ = "0.1.0"

__all__ = [
    "BenchmarkConfig",
    "BenchmarkMetrics",
    "BenchmarkReport",
    "BenchmarkResult",
    "BenchmarkType",
    "Context",
    "Cycle",
    "DebugLevel",
    "Finding",
    "HotlapError",
    "PerformanceBenchmarker",
    "Report",
    "Score",
    "SiteSnapshot",
    "Stats",
    "Verdict",
    "__version__",
    "benchmark",
    "configure",
    "disable",
    "enable",
    "flush",
    "measure",
    "restore",
    "running",
    "snapshot",
    "start",
    "stop",
]

# What is imported when it is first asked for: the aggregator brings numpy, the model brings dataclasses.
_LATER = {
    "lab": ("BenchmarkConfig", "BenchmarkMetrics", "BenchmarkReport", "DebugLevel", "PerformanceBenchmarker"),
    "model": ("BenchmarkResult", "Context", "Cycle", "Finding", "Report", "Score", "Stats", "Verdict"),
    "monitor": ("SiteSnapshot", "configure", "flush", "running", "snapshot", "start", "stop"),
}
_HOME = {name: module for module, names in _LATER.items() for name in names}


if hasattr(os, "register_at_fork"):  # what a child counts is its own, whether it starts the aggregator or not
    os.register_at_fork(after_in_child=core.after_fork)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'hotlap' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
