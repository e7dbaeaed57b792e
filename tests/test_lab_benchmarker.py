"""The lab's front door: every kind of benchmark returns one kind of report."""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
import pickle
import random
import re
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from hotlap import (
    BenchmarkConfig,
    BenchmarkMetrics,
    BenchmarkReport,
    BenchmarkResult,
    BenchmarkType,
    DebugLevel,
    PerformanceBenchmarker,
)
from hotlap.lab.grid import Grid
from hotlap.lab.kinds.stress import stressed
from hotlap.lab.profiler import PerformanceProfiler
from hotlap.lab.report import RunVerdict
from hotlap.stats.growth import Growth

QUICK = BenchmarkConfig(iterations=30, warmup_iterations=3)


def work(n: int = 200) -> int:
    return sum(i * i for i in range(n))


async def work_async(n: int = 200) -> int:
    await asyncio.sleep(0)
    return work(n)


class TestInterface:
    """Names, fields and defaults that are fixed."""

    def test_config(self) -> None:
        config = BenchmarkConfig()
        first = [(field.name, getattr(config, field.name)) for field in fields(config)][:8]
        assert first == [
            ("iterations", 100),
            ("warmup_iterations", 10),
            ("concurrent_users", 1),
            ("timeout", 30.0),
            ("memory_limit", 1024.0),
            ("cpu_limit", 80.0),
            ("error_threshold", 0.05),
            ("performance_threshold", 1.0),
        ]

    def test_metrics(self) -> None:
        assert [field.name for field in fields(BenchmarkMetrics)] == [
            "execution_time",
            "memory_usage",
            "cpu_usage",
            "throughput",
            "latency",
            "error_rate",
            "success_rate",
            "iterations",
            "concurrent_users",
            "timestamp",
        ]

    def test_report(self) -> None:
        names = [field.name for field in fields(BenchmarkReport)]
        assert names[:9] == [
            "benchmark_name",
            "benchmark_type",
            "config",
            "metrics",
            "summary",
            "recommendations",
            "performance_score",
            "result_category",
            "timestamp",
        ]
        assert {"findings", "environment", "verdict"} < set(names)

    def test_kinds_and_categories(self) -> None:
        assert [kind.value for kind in BenchmarkType] == [
            "function",
            "memory",
            "cpu",
            "i_o",
            "network",
            "concurrent",
            "stress",
            "comparison",
        ]
        assert [each.value for each in BenchmarkResult] == ["excellent", "good", "average", "poor", "critical"]

    def test_a_benchmarker_has_its_parts(self) -> None:
        lab = PerformanceBenchmarker()
        assert lab.debug_level is DebugLevel.DETAILED
        with lab.memory_tracker as memory, lab.cpu_tracker as cpu:
            kept = bytes(10_000_000)
        assert memory.retained_mb == pytest.approx(len(kept) / 1e6, rel=0.05)
        assert cpu.cpu_s is not None
        assert lab.benchmark_history == []
        assert lab.baseline_metrics == {}
        report = lab.benchmark_function(work, config=BenchmarkConfig(iterations=5))
        assert [event.what for event in lab.debugger.events][:1] == ["started"]
        assert lab.benchmark_history == [report]


def test_the_profiler_of_the_lab_is_the_one_that_profiles() -> None:
    """Another may be put in its place: this one tells a single line, of a tenth of a second."""
    lab = PerformanceBenchmarker(DebugLevel.PROFILING)
    lab.profiler = PerformanceProfiler(seconds=0.1, most=1)
    report = lab.benchmark_function(sorted, list(range(1000)), config=BenchmarkConfig(iterations=5))
    assert len(report.details["profile"]["lines"]) == 1
    assert report.details["profile"]["seconds"] < 0.5


@pytest.mark.parametrize(
    "method",
    ["function", "memory", "cpu", "io", "network", "concurrent", "stress"],
)
@pytest.mark.parametrize("func", [work, work_async])
def test_every_kind_takes_sync_and_async_functions(method: str, func: Callable[..., Any]) -> None:
    """Arguments come after the function, and a report comes back that says what it is."""
    lab = PerformanceBenchmarker()
    run = getattr(lab, f"benchmark_{method}")
    report = run(func, 100, config=BenchmarkConfig(iterations=20, warmup_iterations=2, concurrent_users=2))
    assert report.benchmark_name == func.__name__
    assert report.benchmark_type.value == {"io": "i_o"}.get(method, method)
    assert report.verdict.complete
    assert len(report.metrics) >= 20
    assert report.summary["success_rate"] == 1.0
    assert report.performance_score is not None
    assert 0.0 <= report.performance_score <= 100.0
    assert lab.get_benchmark_history() == [report]


def test_the_summary_is_that_of_the_metrics() -> None:
    """Mean, extremes, deviation and percentiles are those of the iterations in the report."""
    report = PerformanceBenchmarker().benchmark_function(work, config=QUICK)
    times = [metric.execution_time for metric in report.metrics]
    summary = report.summary
    assert len(times) == 30
    assert summary["avg_execution_time"] == pytest.approx(statistics.fmean(times), rel=1e-12)
    assert summary["std_execution_time"] == pytest.approx(statistics.stdev(times), rel=1e-9)
    assert (summary["min_execution_time"], summary["max_execution_time"]) == (min(times), max(times))
    assert summary["p50_execution_time"] == pytest.approx(statistics.median(times), rel=1e-12)
    assert summary["p50_execution_time"] <= summary["p95_execution_time"] <= summary["p99_execution_time"] <= max(times)
    assert summary["avg_latency"] == pytest.approx(1e3 * summary["avg_execution_time"])
    assert summary["avg_throughput"] == pytest.approx(1 / summary["avg_execution_time"], rel=1e-6)
    low, high = summary["confidence_intervals"]["avg_execution_time"]
    assert low <= summary["avg_execution_time"] <= high
    for name in ("memory_usage", "cpu_usage"):
        for key in ("avg", "min", "max", "std"):
            assert math.isfinite(summary[f"{key}_{name}"])
    assert {"outliers", "steady_state", "modes"} <= set(summary)


def test_basic_looks_at_time_alone() -> None:
    """What is not looked at is None, and never 0."""
    report = PerformanceBenchmarker(DebugLevel.BASIC).benchmark_function(work, config=QUICK)
    assert report.summary["avg_execution_time"] > 0
    assert report.summary["avg_cpu_usage"] is None
    assert report.summary["avg_memory_usage"] is None
    assert {metric.cpu_usage for metric in report.metrics} == {None}
    assert report.overhead["level"] == "basic"


def test_the_overhead_is_measured_and_shown() -> None:
    """Detailed costs more beside an iteration than time alone, and what is subtracted is said."""
    overheads = [
        PerformanceBenchmarker(level).benchmark_function(work, config=QUICK).overhead
        for level in (DebugLevel.BASIC, DebugLevel.DETAILED)
    ]
    assert 0 < overheads[0]["recording_s"] < overheads[1]["recording_s"]
    for overhead in overheads:
        assert overhead["subtracted_s"] > 0
        assert 0 < overhead["resolution_share"] < 0.01


def test_a_sleep_takes_its_time_and_no_cpu() -> None:
    report = PerformanceBenchmarker().benchmark_function(time.sleep, 0.01, config=QUICK)
    assert report.summary["min_execution_time"] >= 0.01
    assert report.summary["avg_cpu_usage"] < 10
    assert any("waits" in finding.summary for finding in report.findings)


def test_a_healthy_function_gets_no_advice() -> None:
    """Whatever the machine does: advice is about the function, notes are about the run."""
    report = PerformanceBenchmarker().benchmark_function(sorted, list(range(1000)), config=QUICK)
    assert [finding for finding in report.findings if finding.rule != "time.tail"] == []


class TestSetup:
    def test_setup_and_teardown_surround_each_call(self) -> None:
        steps: list[str] = []
        config = BenchmarkConfig(
            iterations=3,
            warmup_iterations=1,
            setup=lambda: steps.append("setup"),
            teardown=lambda: steps.append("teardown"),
        )
        PerformanceBenchmarker().benchmark_function(lambda: steps.append("call"), config=config)
        assert steps == ["setup", "call", "teardown"] * 4

    def test_setup_may_give_the_arguments(self) -> None:
        """As for a sort in place, which needs an unsorted list each time."""
        chance = random.Random(1)
        seen: list[bool] = []

        def sort(values: list[float]) -> None:
            seen.append(values == sorted(values))
            values.sort()

        config = BenchmarkConfig(
            iterations=5, warmup_iterations=0, setup=lambda: (([chance.random() for _ in range(50)],), {})
        )
        PerformanceBenchmarker().benchmark_function(sort, config=config)
        assert seen == [False] * 5

    def test_async_setup_is_awaited(self) -> None:
        steps: list[str] = []

        async def prepare() -> None:
            await asyncio.sleep(0)
            steps.append("setup")

        async def call() -> None:
            steps.append("call")

        PerformanceBenchmarker().benchmark_function(
            call, config=BenchmarkConfig(iterations=2, warmup_iterations=0, setup=prepare)
        )
        assert steps == ["setup", "call"] * 2

    def test_what_else_setup_returns_is_refused(self) -> None:
        config = BenchmarkConfig(setup=lambda: 7)
        with pytest.raises(ValueError, match=r"setup returned 7: it must return None, or the arguments"):
            PerformanceBenchmarker().benchmark_function(work, config=config)


class TestSuspicion:
    def notes(self, func: Callable[..., Any], *args: Any) -> str:
        return " ".join(PerformanceBenchmarker().benchmark_function(func, *args, config=QUICK).verdict.notes)

    def test_a_generator_that_nobody_consumes(self) -> None:
        def lazy() -> Any:
            yield from range(10**6)

        assert "returned a generator that nobody has consumed" in self.notes(lazy)

    def test_a_function_that_does_nothing(self) -> None:
        def nothing() -> None:
            pass

        assert "does next to nothing" in self.notes(nothing)

    def test_a_cached_function(self) -> None:
        import functools

        assert "has a cache" in self.notes(functools.lru_cache(work), 100)

    def test_work_is_not_suspected(self) -> None:
        notes = self.notes(work)
        assert "nothing" not in notes
        assert "consumed" not in notes


class TestLimits:
    def test_marks_are_set(self) -> None:
        config = BenchmarkConfig(iterations=5, warmup_iterations=0, performance_threshold=0.001)
        report = PerformanceBenchmarker().benchmark_function(time.sleep, 0.01, config=config)
        assert [mark.limit for mark in report.verdict.marks] == ["performance_threshold"]
        assert not report.verdict.passed
        assert report.verdict.complete

    def test_errors_beyond_the_threshold_mark_the_run(self) -> None:
        calls = 0

        def fails() -> None:
            nonlocal calls
            calls += 1
            if calls % 2:
                raise ValueError("odd")

        report = PerformanceBenchmarker().benchmark_function(fails, config=QUICK)
        assert "error_threshold" in [mark.limit for mark in report.verdict.marks]
        assert report.summary["error_rate"] == pytest.approx(0.5, abs=0.05)
        assert report.failures[0].type == "ValueError"
        assert any("ValueError" in advice for advice in report.recommendations)

    def test_only_failures_give_no_times(self) -> None:
        def fails() -> None:
            raise ValueError("always")

        report = PerformanceBenchmarker().benchmark_function(fails, config=QUICK)
        assert report.summary["avg_execution_time"] is None
        assert report.summary["success_rate"] == 0.0
        assert report.result_category is BenchmarkResult.CRITICAL or report.performance_score is not None

    def test_a_cut_off_run_still_reports(self) -> None:
        config = BenchmarkConfig(iterations=1000, warmup_iterations=0, timeout=1.0)
        report = PerformanceBenchmarker().benchmark_function(time.sleep, 0.02, config=config)
        assert 0 < len(report.metrics) < 1000
        assert not report.verdict.complete
        assert report.verdict.marks[0].limit == "timeout"
        assert "time budget" in report.verdict.sentence


class TestBaseline:
    def test_changes_are_in_percent(self) -> None:
        lab = PerformanceBenchmarker()
        lab.set_baseline("parse", BenchmarkMetrics(0.1, 10.0, 20.0, 10.0, 100.0, 0.0, 100.0))
        changes = lab.compare_to_baseline("parse", BenchmarkMetrics(0.15, 5.0, 20.0, 5.0, 150.0, 50.0, 50.0))
        assert changes == {
            "execution_time_change": pytest.approx(50.0),
            "memory_usage_change": pytest.approx(-50.0),
            "cpu_usage_change": pytest.approx(0.0),
            "latency_change": pytest.approx(50.0),
            "throughput_change": pytest.approx(-50.0),
            "success_rate_change": pytest.approx(-50.0),
        }

    def test_a_report_may_be_one(self) -> None:
        lab = PerformanceBenchmarker()
        report = lab.benchmark_function(work, config=QUICK)
        lab.set_baseline("work", report)
        assert lab.compare_to_baseline("work", report)["execution_time_change"] == 0.0

    def test_where_there_is_no_value_there_is_no_change(self) -> None:
        lab = PerformanceBenchmarker()
        lab.set_baseline("a", BenchmarkMetrics(0.1))
        changes = lab.compare_to_baseline("a", BenchmarkMetrics(0.1, 3.0))
        assert changes["memory_usage_change"] is None
        assert changes["throughput_change"] is None

    def test_an_unknown_baseline_is_named(self) -> None:
        lab = PerformanceBenchmarker()
        with pytest.raises(ValueError, match="there is no baseline 'a': call set_baseline"):
            lab.compare_to_baseline("a", BenchmarkMetrics(1.0))
        lab.set_baseline("parse", BenchmarkMetrics(1.0))
        with pytest.raises(ValueError, match="did you mean 'parse'"):
            lab.compare_to_baseline("prase", BenchmarkMetrics(1.0))


def test_history_and_files(tmp_path: Path) -> None:
    lab = PerformanceBenchmarker()
    report = lab.benchmark_function(work, config=QUICK)
    lab.benchmark_function(sorted, [3, 1, 2], config=QUICK)
    assert len(lab.get_benchmark_history()) == 2
    assert lab.get_benchmark_history("work") == [report]
    path = lab.export_report(report, tmp_path / "work.json")
    assert path == str(tmp_path / "work.json")
    assert lab.load_report(path) == report
    lab.clear_history()
    assert lab.get_benchmark_history() == []


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda lab: lab.benchmark_function(7), TypeError, "func=7 is not callable"),
        (lambda lab: lab.benchmark_function(work, config={"iterations": 3}), TypeError, "is no BenchmarkConfig"),
        (lambda lab: BenchmarkConfig(iterations=0), ValueError, "iterations=0 is not allowed: give a whole number"),
        (lambda lab: BenchmarkConfig(timeout="1"), TypeError, "timeout='1' has the wrong type"),
        (lambda lab: BenchmarkConfig(gc="of"), ValueError, "did you mean 'off'"),
        (lambda lab: BenchmarkConfig(setup=3), TypeError, "setup=3 is not callable"),
        (lambda lab: BenchmarkConfig(arrival_rate=5.0, processes=True), ValueError, "with processes=True"),
        (lambda lab: PerformanceBenchmarker("loud"), ValueError, "give one of DebugLevel.BASIC"),
        (lambda lab: PerformanceBenchmarker("loud"), ValueError, "or 'basic', 'detailed', 'profiling'"),
        (lambda lab: PerformanceBenchmarker(None), ValueError, "debug_level=None is not known"),
        (lambda lab: lab.benchmark_function(work, BenchmarkConfig(iterations=5)), TypeError, "pass config="),
        (lambda lab: lab.benchmark_stress(work, 3, BenchmarkConfig()), TypeError, "give lambda: func(config)"),
        (lambda lab: lab.compare_functions([(work, "a")], BenchmarkConfig()), TypeError, "pass config="),
        (lambda lab: lab.benchmark_parameters(work, {"n": [1]}, BenchmarkConfig()), TypeError, "pass config="),
        (lambda lab: lab.compare_functions([]), ValueError, "nothing to compare"),
        (lambda lab: lab.compare_functions([work]), TypeError, "is no pair of a function and its name"),
        (lambda lab: lab.compare_functions([(work, "a"), (work, "a")]), ValueError, "two functions are called 'a'"),
        (lambda lab: lab.compare_functions([(work, "a")], base="b"), ValueError, "base='b' is none of the functions"),
        (lambda lab: lab.benchmark_parameters(work, {}), TypeError, "is no grid"),
        (lambda lab: lab.benchmark_parameters(work, [1, 2]), TypeError, "parameters=[1, 2] is no grid"),
        (lambda lab: lab.benchmark_parameters(work, {"n": []}), ValueError, "is empty"),
        (lambda lab: lab.benchmark_parameters(work, {"n": 5}), TypeError, "give {'n': [5]} for one value"),
        (lambda lab: lab.benchmark_parameters(work, {"n": "abc"}), TypeError, "parameters['n']='abc' is no list"),
        (lambda lab: lab.benchmark_parameters(work, {"n": {"a": 1}}), TypeError, "is no list of values"),
        (lambda lab: lab.benchmark_parameters(work, {1: [2]}), TypeError, "parameters has the name 1: give a string"),
        (lambda lab: lab.benchmark_parameters(work, {"n": [1]}, n=2), ValueError, "give it once"),
        (
            lambda lab: lab.benchmark_parameters(work, {"n": [1]}, benchmark_type="speed"),
            ValueError,
            "benchmark_type='speed' is not known: give one of BenchmarkType.FUNCTION",
        ),
        (
            lambda lab: lab.benchmark_parameters(work, {"n": [1]}, benchmark_type=BenchmarkType.COMPARISON),
            ValueError,
            "use compare_functions",
        ),
        (lambda lab: lab.set_baseline(3, BenchmarkMetrics(1.0)), TypeError, "name=3 is no string"),
        (lambda lab: lab.set_baseline("", BenchmarkMetrics(1.0)), ValueError, "name='' is empty"),
        (lambda lab: lab.compare_to_baseline(None, BenchmarkMetrics(1.0)), TypeError, "name=None is no string"),
        (lambda lab: lab.set_baseline("a", 3.0), TypeError, "is neither BenchmarkMetrics nor a BenchmarkReport"),
    ],
)
def test_bad_input_is_refused(call: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    """The value, the rule and the fix."""
    with pytest.raises(error) as raised:
        call(PerformanceBenchmarker())
    assert message in str(raised.value)


def test_a_config_that_was_changed_is_checked_again() -> None:
    config = BenchmarkConfig()
    config.iterations = -1
    with pytest.raises(ValueError, match="iterations=-1 is not allowed"):
        PerformanceBenchmarker().benchmark_function(work, config=config)


class TestConfig:
    def test_an_option_that_does_not_exist_cannot_be_set(self) -> None:
        config = BenchmarkConfig()
        with pytest.raises(AttributeError, match="no option 'iteratons': did you mean 'iterations'"):
            config.iteratons = 4  # type: ignore[attr-defined]

    def test_it_can_be_copied_pickled_and_replaced(self) -> None:
        config = BenchmarkConfig(iterations=7, setup=work)
        for other in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config)), replace(config)):
            assert other == config
            assert other is not config
        assert replace(config, iterations=8).iterations == 8

    def test_a_users_own_may_have_more(self) -> None:
        @dataclass
        class Own(BenchmarkConfig):
            label: str = "mine"

        own = Own(iterations=3, label="other")
        own.seen = True  # type: ignore[attr-defined]
        report = PerformanceBenchmarker().benchmark_function(work, config=own)
        assert len(report.metrics) == 3
        assert isinstance(report.config, Own)
        assert report.config.label == "other"


@pytest.mark.parametrize("documented", [BenchmarkConfig, BenchmarkMetrics, BenchmarkReport, Grid, Growth, RunVerdict])
def test_help_explains_every_field(documented: type) -> None:
    """On a line of its own each, or several of a kind together."""
    text = inspect.getdoc(documented) or ""
    explained = {name.strip(" ,") for line in text.splitlines() for name in re.split(r"\s\s+|, ", line)[:2]}
    assert {field.name for field in fields(documented)} <= explained


class TestShown:
    def test_a_report_is_a_dozen_lines(self) -> None:
        """Or some more, and one for each note and recommendation."""
        report = PerformanceBenchmarker().benchmark_function(work, config=QUICK)
        shown = str(report).splitlines()
        assert shown[0] == "work (function)"
        labels = {line[2:14].strip() for line in shown}
        assert {"mean time", "median", "p95", "p99", "throughput", "memory", "CPU", "failures"} <= labels
        assert {"overhead", "score", "verdict"} <= labels
        assert "garbage collector on" in str(report)
        said = len(report.verdict.notes) + len(report.recommendations)
        assert len(shown) <= 15 + said + 2
        assert any(line.split() == ["verdict", *report.verdict.sentence.split()] for line in shown)
        for advice in report.recommendations:
            assert f"  {advice}" in shown

    def test_fresh_processes_have_a_line(self) -> None:
        config = BenchmarkConfig(iterations=5, warmup_iterations=1, isolate=2, progress=False)
        report = PerformanceBenchmarker().benchmark_function(statistics.fmean, [1.0, 2.0], config=config)
        assert re.search(r"^  mean of 2 processes +\S+ .s +95 % interval: ", str(report), re.M)

    def test_and_on_one_line(self) -> None:
        report = PerformanceBenchmarker().benchmark_function(work, config=QUICK)
        assert repr(report).startswith("<BenchmarkReport work (function): 30 iterations, mean ")
        assert len(repr(report)) < 200

    def test_one_without_a_time_too(self) -> None:
        def fails() -> None:
            raise ValueError("always")

        report = PerformanceBenchmarker(DebugLevel.BASIC).benchmark_function(fails, config=QUICK)
        assert "mean unknown" in repr(report)
        assert re.search(r"^  failures +100 % +of ", str(report), re.M)
        assert re.search(r"^  mean time +-$", str(report), re.M)


def test_the_most_users_of_a_stress_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As its docstring says: twice as many where there are CPUs for them, and never fewer than were asked for."""
    monkeypatch.setattr("hotlap.lab.kinds.stress.cpus", lambda: 8)
    most = {users: stressed(BenchmarkConfig(concurrent_users=users)).concurrent_users for users in (2, 6, 16)}
    assert most == {2: 4, 6: 8, 16: 16}
    assert "2 users become 4, 6 become 8, and 16 stay 16" in (inspect.getdoc(PerformanceBenchmarker.benchmark_stress))


def test_an_interrupt_returns_what_was_measured() -> None:
    """And the report says so, for whoever calls in a loop."""
    calls = 0

    def interrupted() -> None:
        nonlocal calls
        calls += 1
        if calls == 8:
            signal.raise_signal(signal.SIGINT)

    config = BenchmarkConfig(iterations=50, warmup_iterations=2, loops=1)
    report = PerformanceBenchmarker().benchmark_function(interrupted, config=config)
    assert len(report.metrics) == 5
    assert (report.verdict.interrupted, report.verdict.complete) == (True, False)
    assert report.verdict.sentence == "interrupted"
    assert "Interrupted after 5 of 50 iterations." in report.verdict.notes


@pytest.mark.parametrize("kind", ["memory", "cpu", "io", "network", "profiling"])
def test_an_interrupt_of_what_comes_after_the_iterations_is_one(kind: str) -> None:
    """All of them were measured, and yet the run was not what was asked for."""
    if kind == "profiling":
        pytest.importorskip("pyinstrument")
    calls = 0

    def interrupted() -> int:
        nonlocal calls
        calls += 1
        if calls == 13:
            signal.raise_signal(signal.SIGINT)
        return work()

    lab = PerformanceBenchmarker("profiling" if kind == "profiling" else "detailed")
    run = lab.benchmark_function if kind == "profiling" else getattr(lab, f"benchmark_{kind}")
    report = run(interrupted, config=BenchmarkConfig(iterations=10, warmup_iterations=0, loops=1))
    assert calls == 13
    assert len(report.metrics) == 10
    assert (report.verdict.interrupted, report.verdict.complete) == (True, False)


def test_a_run_to_its_end_is_not_interrupted() -> None:
    assert not PerformanceBenchmarker().benchmark_function(work, config=QUICK).verdict.interrupted


def test_the_live_recorder_is_not_disturbed() -> None:
    """A lab run in a process with a recorder: its sites and its ring see nothing of it."""
    import hotlap

    hotlap.start(sinks=[], interval=3600)
    try:
        hotlap.flush()
        PerformanceBenchmarker().benchmark_function(work, config=QUICK)
        assert hotlap.flush() == []
    finally:
        hotlap.stop()


def test_measuring_that_is_switched_off_is_said() -> None:
    import hotlap

    hotlap.disable()
    try:
        with pytest.raises(hotlap.HotlapError, match=r"call hotlap\.enable"):
            PerformanceBenchmarker().benchmark_function(work, config=QUICK)
    finally:
        hotlap.enable()


def test_within_a_running_event_loop() -> None:
    """As in a notebook: the benchmark of an async function has a loop of its own on another thread."""

    async def cell() -> BenchmarkReport:
        return PerformanceBenchmarker().benchmark_function(work_async, config=QUICK)

    assert asyncio.run(cell()).summary["success_rate"] == 1.0
