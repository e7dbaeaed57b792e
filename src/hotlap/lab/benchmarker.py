"""PerformanceBenchmarker: the lab's front door. Each method runs one kind of benchmark and returns its report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OptionError, OptionTypeError
from ..options import BenchmarkType
from ..readers import nearest
from ..stats.relation import exponent
from . import export
from .benchmark import benchmark, report_of
from .comparison import Competitor, compared, details, measure
from .config import BenchmarkConfig, DebugLevel
from .debugger import AdvancedDebugger
from .kinds.concurrent import Concurrent
from .kinds.cpu import CPU
from .kinds.function import Function
from .kinds.io import IO
from .kinds.kind import Kind
from .kinds.memory import Memory
from .kinds.network import Network
from .kinds.stress import Stress, stressed
from .looks.cpu import CPUTracker
from .looks.memory import MemoryTracker
from .profiler import PerformanceProfiler
from .report import BenchmarkMetrics, BenchmarkReport
from .runs.subject import Subject

__all__ = ["Grid", "PerformanceBenchmarker"]

_KINDS: Mapping[BenchmarkType, type[Kind]] = {
    BenchmarkType.FUNCTION: Function,
    BenchmarkType.MEMORY: Memory,
    BenchmarkType.CPU: CPU,
    BenchmarkType.I_O: IO,
    BenchmarkType.NETWORK: Network,
    BenchmarkType.CONCURRENT: Concurrent,
    BenchmarkType.STRESS: Stress,
}
_CHANGES = {  # of compare_to_baseline: the field of BenchmarkMetrics
    "execution_time_change": "execution_time",
    "memory_usage_change": "memory_usage",
    "cpu_usage_change": "cpu_usage",
    "latency_change": "latency",
    "throughput_change": "throughput",
    "success_rate_change": "success_rate",
}


@dataclass(frozen=True, slots=True)
class Grid:
    """The reports over a grid of parameters, and how the time grows along each numeric one."""

    reports: tuple[BenchmarkReport, ...]  # in the order of the grid, the last parameter fastest
    scaling: Mapping[str, float | None]  # parameter -> k of time ~ parameter ** k; None where that cannot be told


class PerformanceBenchmarker:
    """The lab: benchmarks functions on purpose, and keeps their reports.

    Every method takes sync and async functions, their arguments after them, and `config`. With
    `DebugLevel.PROFILING` it needs the extra hotlap[profile]. Not safe for use by several threads at once.
    """

    def __init__(self, debug_level: DebugLevel | str = DebugLevel.DETAILED) -> None:
        try:
            self.debug_level = DebugLevel(debug_level)
        except ValueError:
            known = ", ".join(f"DebugLevel.{level.name}" for level in DebugLevel)
            raise OptionError(f"debug_level={debug_level!r} is not known: give one of {known}") from None
        self.debugger = AdvancedDebugger(self.debug_level)
        self.profiler = PerformanceProfiler()
        self.memory_tracker = MemoryTracker()
        self.cpu_tracker = CPUTracker()
        self.benchmark_history: list[BenchmarkReport] = []
        self.baseline_metrics: dict[str, BenchmarkMetrics] = {}

    # -- benchmarks -------------------------------------------------------------------------------------------

    def benchmark_function(
        self, func: Callable[..., Any], *args: Any, config: BenchmarkConfig | None = None, **kwargs: Any
    ) -> BenchmarkReport:
        """How long a call takes."""
        return self._run(BenchmarkType.FUNCTION, func, args, kwargs, config)

    def benchmark_memory(
        self, func: Callable[..., Any], *args: Any, config: BenchmarkConfig | None = None, **kwargs: Any
    ) -> BenchmarkReport:
        """What a call allocates, and whether calls leak."""
        return self._run(BenchmarkType.MEMORY, func, args, kwargs, config)

    def benchmark_cpu(
        self, func: Callable[..., Any], *args: Any, config: BenchmarkConfig | None = None, **kwargs: Any
    ) -> BenchmarkReport:
        """What a call does with its CPUs."""
        return self._run(BenchmarkType.CPU, func, args, kwargs, config)

    def benchmark_io(
        self, func: Callable[..., Any], *args: Any, config: BenchmarkConfig | None = None, **kwargs: Any
    ) -> BenchmarkReport:
        """What a call reads and writes, and how long it waits for that."""
        return self._run(BenchmarkType.I_O, func, args, kwargs, config)

    def benchmark_network(
        self, func: Callable[..., Any], *args: Any, config: BenchmarkConfig | None = None, **kwargs: Any
    ) -> BenchmarkReport:
        """What a call sends and receives, and how long it waits for that."""
        return self._run(BenchmarkType.NETWORK, func, args, kwargs, config)

    def benchmark_concurrent(
        self, func: Callable[..., Any], *args: Any, config: BenchmarkConfig | None = None, **kwargs: Any
    ) -> BenchmarkReport:
        """Calls by `config.concurrent_users` at once or, with `config.arrival_rate`, at fixed times."""
        return self._run(BenchmarkType.CONCURRENT, func, args, kwargs, config)

    def benchmark_stress(
        self, func: Callable[..., Any], *args: Any, config: BenchmarkConfig | None = None, **kwargs: Any
    ) -> BenchmarkReport:
        """More and more users: ten times the iterations, up to twice the users but no more than there are CPUs, and
        twice the time of `config`."""
        return self._run(BenchmarkType.STRESS, func, args, kwargs, stressed(_config(config)))

    def compare_functions(
        self,
        functions: Iterable[tuple[Callable[..., Any], str]],
        *args: Any,
        config: BenchmarkConfig | None = None,
        base: str | None = None,
        **kwargs: Any,
    ) -> dict[str, BenchmarkReport]:
        """Each function's report by its name, the fastest first; all are called with the same arguments.

        `details["comparison"]` of each says its place, its ratio to the fastest (or to `base`) with the interval, and
        one of: faster by, slower by, equivalent within, no evidence.
        """
        competitors = self._competitors(functions, args, kwargs, config)
        if base is not None and base not in competitors:
            raise OptionError(f"base={base!r} is none of the functions: {nearest(base, competitors)}")
        chosen = _config(config)
        measured = measure(competitors, chosen, self.debug_level)
        ranking = compared(measured, chosen, base)
        reports = {
            name: self._keep(
                replace(
                    report_of(competitors[name], chosen, self.debug_level, outcome, measured.examinations[name]),
                    benchmark_name=name,
                    details={"comparison": details(name, ranking, measured)},
                )
            )
            for name, outcome in measured.outcomes.items()
        }
        order = list(reports) if ranking is None else [row.name for row in ranking.rows]
        return {name: reports[name] for name in order}

    def benchmark_parameters(
        self,
        func: Callable[..., Any],
        parameters: Mapping[str, Sequence[Any]],
        *args: Any,
        benchmark_type: BenchmarkType = BenchmarkType.FUNCTION,
        config: BenchmarkConfig | None = None,
        **kwargs: Any,
    ) -> Grid:
        """A report for each combination of the parameters, which are passed by keyword, and the scaling over them."""
        if not isinstance(parameters, Mapping) or not parameters:
            raise OptionTypeError(
                f"parameters={parameters!r} is no grid: give names with their values, such as {{'n': [10, 100]}}"
            )
        if twice := sorted(set(parameters) & set(kwargs)):
            raise OptionError(f"{', '.join(twice)} is given as a parameter and as an argument: give it once")
        points = [dict(zip(parameters, values, strict=True)) for values in product(*parameters.values())]
        if not points:
            raise OptionError(f"parameters={parameters!r} is empty: give at least one value for each name")
        reports = []
        for point in points:
            report = self._run(BenchmarkType(benchmark_type), func, args, {**kwargs, **point}, config)
            report.parameters = point
            reports.append(report)
        return Grid(tuple(reports), {name: _scaling(name, points, reports) for name in parameters})

    def _run(
        self,
        benchmark_type: BenchmarkType,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        config: BenchmarkConfig | None,
    ) -> BenchmarkReport:
        chosen = _config(config)
        kind_of = _KINDS.get(benchmark_type)
        if kind_of is None:
            raise OptionError(f"benchmark_type={benchmark_type} is not allowed here: use compare_functions")
        if chosen.isolate and issubclass(kind_of, (Concurrent, Stress)):
            raise OptionError(
                f"isolate={chosen.isolate} with benchmark_{benchmark_type.value} is not allowed: its users are what is "
                "compared; leave isolate at 0"
            )
        subject = Subject(func, args, kwargs)
        self.debugger.record(subject.name, "started", type=benchmark_type.value, iterations=chosen.iterations)
        return self._keep(benchmark(kind_of(subject, chosen, self.debug_level), chosen, self.debug_level))

    def _keep(self, report: BenchmarkReport) -> BenchmarkReport:
        self.debugger.follow(report)
        self.benchmark_history.append(report)
        return report

    def _competitors(
        self,
        functions: Iterable[tuple[Callable[..., Any], str]],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        config: BenchmarkConfig | None,
    ) -> dict[str, Competitor]:
        found: dict[str, Competitor] = {}
        for pair in functions:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], str)):
                raise OptionTypeError(f"{pair!r} is no pair of a function and its name: give [(func, name), ...]")
            func, name = pair
            if name in found:
                raise OptionError(f"two functions are called {name!r}: give each a name of its own")
            found[name] = Competitor(Subject(func, args, kwargs), _config(config), self.debug_level)
        if not found:
            raise OptionError("there is nothing to compare: give [(func, name), ...]")
        return found

    # -- baselines --------------------------------------------------------------------------------------------

    def set_baseline(self, name: str, metrics: BenchmarkMetrics | BenchmarkReport) -> None:
        """Remember metrics, or the averages of a report, under a name."""
        if not isinstance(name, str):
            raise OptionTypeError(f"name={name!r} is no string: give the baseline a name")
        self.baseline_metrics[name] = _metrics(metrics)

    def compare_to_baseline(self, name: str, metrics: BenchmarkMetrics | BenchmarkReport) -> dict[str, float | None]:
        """The change of each metric against the baseline in percent; None where either has no value, or that is 0.

        Positive is more: for times, memory and CPU that is worse, for throughput and success better. A change of two
        single numbers says nothing of chance: compare_functions() does.
        """
        if name not in self.baseline_metrics:
            raise OptionError(
                f"there is no baseline {name!r}: call set_baseline({name!r}, ...) first"
                + (f"; {nearest(name, self.baseline_metrics)}" if self.baseline_metrics else "")
            )
        before, now = self.baseline_metrics[name], _metrics(metrics)
        return {key: _change(getattr(before, field), getattr(now, field)) for key, field in _CHANGES.items()}

    # -- history and files ------------------------------------------------------------------------------------

    def get_benchmark_history(self, name: str | None = None) -> list[BenchmarkReport]:
        """The reports so far, the oldest first; of one benchmark, if named."""
        return [report for report in self.benchmark_history if name is None or report.benchmark_name == name]

    def clear_history(self) -> None:
        self.benchmark_history.clear()

    def export_report(self, report: BenchmarkReport, path: str | os.PathLike[str] | None = None) -> str:
        """Write a report as JSON, whole or not at all; returns the path. See export.py for the format."""
        return str(export.export(report, path))

    def load_report(self, path: str | os.PathLike[str]) -> BenchmarkReport:
        """Read a report again. Raises OptionError for a file that is damaged, or no report."""
        return export.load(Path(path))


def _config(config: BenchmarkConfig | None) -> BenchmarkConfig:
    """A copy, checked: its owner may change it while it is kept in a report."""
    if config is None:
        return BenchmarkConfig()
    if not isinstance(config, BenchmarkConfig):
        raise OptionTypeError(f"config={config!r} is no BenchmarkConfig: give BenchmarkConfig(iterations=100, ...)")
    return replace(config)


def _metrics(given: BenchmarkMetrics | BenchmarkReport) -> BenchmarkMetrics:
    if isinstance(given, BenchmarkMetrics):
        return replace(given)
    if not isinstance(given, BenchmarkReport):
        raise OptionTypeError(f"metrics={given!r} is neither BenchmarkMetrics nor a BenchmarkReport: give one of them")
    summary = given.summary
    if summary["avg_execution_time"] is None:
        raise OptionError(f"the report of {given.benchmark_name} has no successful call: it is no baseline")
    return BenchmarkMetrics(
        execution_time=summary["avg_execution_time"],
        memory_usage=summary["avg_memory_usage"],
        cpu_usage=summary["avg_cpu_usage"],
        throughput=summary["avg_throughput"],
        latency=summary["avg_latency"],
        error_rate=100.0 * summary["error_rate"],
        success_rate=100.0 * summary["success_rate"],
        iterations=summary["calls"],
        concurrent_users=given.config.concurrent_users,
        timestamp=given.timestamp,
    )


def _change(before: float | None, now: float | None) -> float | None:
    if before is None or now is None or before == 0.0:
        return None
    return 100.0 * (now - before) / before


def _scaling(name: str, points: Sequence[Mapping[str, Any]], reports: Sequence[BenchmarkReport]) -> float | None:
    """The exponent of time over one parameter, over all points of the grid."""
    values, times = [], []
    for point, report in zip(points, reports, strict=True):
        value = point[name]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            good = [metric.execution_time for metric in report.metrics if metric.error_rate == 0.0]
            values += [float(value)] * len(good)
            times += good
    return exponent(np.array(values), np.array(times))
