"""PerformanceBenchmarker: the lab's front door. Each method runs one kind of benchmark and returns its report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import OptionError, OptionTypeError
from ..options import BenchmarkType
from ..readers import nearest
from . import export
from .benchmark import benchmark, report_of
from .comparison import Competitor, compared, details, measure
from .config import BenchmarkConfig, DebugLevel
from .debugger import AdvancedDebugger
from .grid import Grid, points_of, scaling_of
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

__all__ = ["PerformanceBenchmarker"]

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


class PerformanceBenchmarker:
    """The lab: benchmarks functions on purpose, and keeps their reports.

    Every method takes sync and async functions, their arguments after them, and `config` by its name. With
    `DebugLevel.PROFILING` it needs the extra hotlap[profile]. Not safe for use by several threads at once.

    Ctrl-C ends a run and raises nothing: the report has what was measured until then, and says so in
    `report.verdict.interrupted`. In a loop of your own, look at that and leave:

        for size in sizes:
            report = lab.benchmark_function(work, size)
            if report.verdict.interrupted:
                break

    `debug_level` is a DebugLevel, or its value: "basic", "detailed" or "profiling". Raises OptionError for another.

    `debugger` has the events of all runs. `profiler` is what the level PROFILING uses; another may take its place, such
    as PerformanceProfiler(seconds=10.0). `memory_tracker` and `cpu_tracker` look at a block of your own:

        with lab.cpu_tracker as cpu:
            work()
        print(cpu.cores_used)
    """

    def __init__(self, debug_level: DebugLevel | str = DebugLevel.DETAILED) -> None:
        try:
            self.debug_level = DebugLevel(debug_level)
        except ValueError:
            known = ", ".join(f"DebugLevel.{level.name}" for level in DebugLevel)
            texts = ", ".join(repr(level.value) for level in DebugLevel)
            raise OptionError(f"debug_level={debug_level!r} is not known: give one of {known}, or {texts}") from None
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
        """More and more users, 1, 2, 4 and so on: ten times the iterations and twice the time of `config`, and twice
        its users where there are CPUs for them: the last level has max(concurrent_users, min(2 x concurrent_users,
        number of CPUs)) of them.

        With 8 CPUs, 2 users become 4, 6 become 8, and 16 stay 16.
        """
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
        in its "sentence" one of: faster by, slower by, equivalent within, no evidence, or why it was not compared.

        Few processes or rounds cannot tell a difference from chance: two functions at the level 0.95 need isolate=4
        or, without it, 6 iterations; more functions need more. With fewer the ratios are measured, no verdict is
        given, and a warning says so before the run (logger "hotlap").
        """
        _check_arguments(args)
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
        ranked = [] if ranking is None else [row.name for row in ranking.rows]
        return {name: reports[name] for name in dict.fromkeys([*ranked, *reports])}

    def benchmark_parameters(
        self,
        func: Callable[..., Any],
        parameters: Mapping[str, Sequence[Any]],
        *args: Any,
        benchmark_type: BenchmarkType = BenchmarkType.FUNCTION,
        config: BenchmarkConfig | None = None,
        **kwargs: Any,
    ) -> Grid:
        """A report for each combination of the parameters, which are passed by keyword, and the scaling over them.

        Ctrl-C ends the whole grid, and `Grid.interrupted` says so. An exponent needs 3 different positive numbers, of
        which the largest is at least 4 times the smallest; it is that of the median times, and incomplete reports are
        not in it.
        """
        points = points_of(parameters)
        if twice := sorted(set(parameters) & set(kwargs)):
            raise OptionError(f"{', '.join(twice)} is given as a parameter and as an argument: give it once")
        kind, reports, interrupted = _kind(benchmark_type), [], False
        for point in points:
            try:
                report = self._run(kind, func, args, {**kwargs, **point}, config)
            except KeyboardInterrupt:  # while a report was made: those before it are not lost
                interrupted = True
                break
            report.parameters = point
            reports.append(report)
            interrupted = report.verdict.interrupted
            if interrupted:
                break
        return Grid(tuple(reports), {name: scaling_of(name, reports) for name in parameters}, len(points), interrupted)

    def _run(
        self,
        benchmark_type: BenchmarkType,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        config: BenchmarkConfig | None,
    ) -> BenchmarkReport:
        chosen = _config(config)
        kind_of = _KINDS[benchmark_type]
        _check_arguments(args)
        if chosen.isolate and issubclass(kind_of, (Concurrent, Stress)):
            raise OptionError(
                f"isolate={chosen.isolate} with benchmark_{benchmark_type.value} is not allowed: its users are what is "
                "compared; leave isolate at 0"
            )
        subject = Subject(func, args, kwargs)
        self.debugger.record(subject.name, "started", type=benchmark_type.value, iterations=chosen.iterations)
        kind = kind_of(subject, chosen, self.debug_level)
        return self._keep(benchmark(kind, chosen, self.debug_level, self.profiler))

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
        _check_name(name)
        self.baseline_metrics[name] = _metrics(metrics)

    def compare_to_baseline(self, name: str, metrics: BenchmarkMetrics | BenchmarkReport) -> dict[str, float | None]:
        """The change of each metric against the baseline in percent; None where either has no value, or that is 0.

        Positive is more: for times, memory and CPU that is worse, for throughput and success better. A change of two
        single numbers says nothing of chance: compare_functions() does.
        """
        _check_name(name)
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
        return export.load(path)


def _config(config: BenchmarkConfig | None) -> BenchmarkConfig:
    """A copy, checked: its owner may change it while it is kept in a report."""
    if config is None:
        return BenchmarkConfig()
    if not isinstance(config, BenchmarkConfig):
        raise OptionTypeError(f"config={config!r} is no BenchmarkConfig: give BenchmarkConfig(iterations=100, ...)")
    return replace(config)


def _kind(benchmark_type: BenchmarkType) -> BenchmarkType:
    """What a grid can be made of."""
    if benchmark_type == BenchmarkType.COMPARISON:
        raise OptionError(f"benchmark_type={benchmark_type!r} is not allowed here: use compare_functions")
    try:
        return BenchmarkType(benchmark_type)
    except ValueError:
        known = ", ".join(f"BenchmarkType.{kind.name}" for kind in _KINDS)
        raise OptionError(f"benchmark_type={benchmark_type!r} is not known: give one of {known}") from None


def _check_arguments(args: tuple[Any, ...]) -> None:
    """A config among the arguments is a slip: the run would do something else than was asked for."""
    if any(isinstance(each, BenchmarkConfig) for each in args):
        raise OptionTypeError(
            "a BenchmarkConfig is among the function's arguments: pass config=BenchmarkConfig(...) by its name; for a "
            "function that takes one itself give lambda: func(config)"
        )


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        raise OptionTypeError(f"name={name!r} is no string: give the baseline a name")
    if not name.strip():
        raise OptionError(f"name={name!r} is empty: give the baseline a name")


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
