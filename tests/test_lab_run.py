"""Runs: what is timed, whose CPU time counts, and what a subject gives that nobody looks at."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest

from hotlap import BenchmarkConfig, BenchmarkReport, DebugLevel, PerformanceBenchmarker
from hotlap.errors import OptionTypeError
from hotlap.lab.environment import cpus
from hotlap.lab.progress import Reporter
from hotlap.lab.runs.run import Run
from hotlap.lab.runs.subject import Subject
from hotlap.lab.runs.timer import Timer
from hotlap.lab.summary import summarise

SILENT = BenchmarkConfig(progress=False)
KINDS = ("function", "memory", "cpu", "io", "network", "concurrent", "stress")


def run(kind: str, func: Callable[..., Any], *args: Any, **options: Any) -> BenchmarkReport:
    config = BenchmarkConfig(**{"iterations": 20, "warmup_iterations": 2, "progress": False, **options})
    report: BenchmarkReport = getattr(PerformanceBenchmarker(), f"benchmark_{kind}")(func, *args, config=config)
    return report


def returns_one() -> int:
    return 1


def fails() -> None:
    raise KeyError("always")


async def later() -> None:
    await asyncio.sleep(0)


def numbers() -> Iterator[int]:
    yield 1


async def async_numbers() -> AsyncIterator[int]:
    yield 1


# -- CPU time --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("func", [returns_one, fails])
def test_one_thread_uses_no_more_than_one_cpu(func: Callable[[], Any]) -> None:
    """However short a call is beside the reading of a clock. (In a few, the lab's own watcher may wake.)"""
    report = run("function", func, loops=1)
    assert np.median([one.cpu_usage for one in report.metrics]) <= 100.0 / cpus() + 1e-9
    assert report.summary["avg_cpu_usage"] < 65.0 or cpus() == 1


@pytest.mark.skipif(cpus() < 2, reason="needs two CPUs")
def test_other_threads_cpu_time_counts() -> None:
    """The subject only waits for a thread that computes: that is its CPU time all the same."""
    data = bytes(4_000_000)

    def by_another() -> None:
        thread = threading.Thread(target=lambda: hashlib.sha256(data).digest())
        thread.start()
        thread.join()

    report = run("function", by_another, iterations=10)
    waiting = run("function", threading.Event().wait, 0.01, iterations=10)
    # how much of the time it gets a CPU is up to the machine
    assert report.summary["avg_cpu_usage"] > max(10.0 / cpus(), 3.0 * waiting.summary["avg_cpu_usage"])


# -- what calls give -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:coroutine 'later' was never awaited:RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_coroutine_that_nobody_awaits_is_refused(kind: str) -> None:
    """`lambda: later()` is no async function: nothing of its work would be done."""
    with pytest.raises(OptionTypeError, match=r"returned a coroutine \(later\), which nobody awaits: give the async"):
        run(kind, lambda: later())


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_that_nobody_consumes_is_said(kind: str) -> None:
    said = [note for note in run(kind, numbers).verdict.notes if "nobody has consumed" in note]
    assert len(said) == 1
    assert "returned a generator" in said[0]
    assert "lambda: list(numbers(...))" in said[0]


def test_an_async_generator_is_consumed_in_another_way() -> None:
    (said,) = [note for note in run("function", async_numbers).verdict.notes if "nobody has consumed" in note]
    assert "returned an async generator" in said
    assert "async for item in async_numbers(...)" in said


def test_what_does_next_to_nothing_is_held_against_a_function_with_its_parameters() -> None:
    """And what is not Python is held against nothing: a call of `len` may well cost less than an empty function."""

    class Tool:
        def empty(self, a: int, /, b: int, *rest: int, c: int, **more: int) -> None: ...

        def work(self, a: int, /, b: int, *rest: int, c: int, **more: int) -> int:
            return sum(range(a))

    def said(func: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        return " ".join(PerformanceBenchmarker().benchmark_function(func, *args, **kwargs).verdict.notes)

    assert "does next to nothing" in said(Tool().empty, 1, 2, 3, c=4, d=5)
    assert "does next to nothing" not in said(Tool().work, 1000, 2, 3, c=4, d=5)
    assert "does next to nothing" not in said(len, [])


def test_options_for_load_are_said_to_do_nothing_elsewhere() -> None:
    for options in ({"concurrent_users": 4}, {"arrival_rate": 100.0}):
        assert any(
            "One caller made all calls" in note for note in run("function", returns_one, **options).verdict.notes
        )
    assert not any("One caller" in note for note in run("concurrent", returns_one, concurrent_users=2).verdict.notes)


# -- limits and ends ---------------------------------------------------------------------------------------------------


def test_a_time_that_is_over_at_once_is_no_error() -> None:
    """Spent before the first call has been calibrated, on most machines: a report all the same, that says so."""
    report = run("function", sum, range(1000), timeout=1e-3, iterations=10_000)
    assert not report.verdict.complete
    assert [mark.limit for mark in report.verdict.marks] == ["timeout"]


def test_a_setup_that_hangs_is_ended_with_the_time() -> None:
    """It is interrupted as a call is."""
    hung: list[bool] = []

    def setup() -> None:
        if len(hung) == 3:
            time.sleep(600)
        hung.append(True)

    report = run("function", returns_one, setup=setup, warmup_iterations=0, timeout=1.0)
    assert len(report.metrics) == 3
    assert [mark.limit for mark in report.verdict.marks] == ["timeout"]


@pytest.mark.parametrize("name", ["setup", "teardown"])
@pytest.mark.parametrize("func", [returns_one, later])
def test_a_setup_that_fails_ends_the_run_and_loses_nothing(name: str, func: Callable[[], Any]) -> None:
    """In the 8th iteration, that is, whose call was made before its teardown.

    Where nothing has been measured yet there is nothing to report, and it raises.
    """
    made: list[None] = []

    def eighth() -> None:
        made.append(None)
        if len(made) == 8:
            raise ValueError("no more")

    report = run("function", func, warmup_iterations=0, **{name: eighth})
    assert len(report.metrics) == (7 if name == "setup" else 8)
    assert not report.verdict.complete
    assert f"The run ended when {name} raised ValueError: no more." in report.verdict.notes
    made[:] = [None] * 7
    with pytest.raises(ValueError, match="no more"):
        run("function", func, warmup_iterations=0, **{name: eighth})


def test_a_call_that_exits_has_failed() -> None:
    """What the function under test does at its end is not to end who tests it."""

    def exits() -> None:
        raise SystemExit(3)

    report = run("function", exits)
    assert report.summary["error_rate"] == 1.0
    assert report.failures[0].type == "SystemExit"


# -- single calls ------------------------------------------------------------------------------------------------------


def test_a_tail_that_means_hide_is_told() -> None:
    """One call in fifty waits: the iterations are means of many calls, of which each has such a one."""
    calls = itertools.count()

    def sometimes() -> None:
        sum(range(2000))
        if next(calls) % 50 == 0:
            time.sleep(0.002)

    report = run("function", sometimes, loops=100)
    single = report.details["single_calls"]
    assert report.summary["p99_execution_time"] < 0.001
    assert single["p99_s"] > 0.002
    assert single["p50_s"] < 0.001
    assert any("means of 100 calls" in note and "one by one" in note for note in report.verdict.notes)


def test_single_calls_are_not_looked_at_in_vain() -> None:
    """One call is one iteration already; or it is too short to be timed alone; or there was no time."""
    assert "single_calls" not in run("function", time.sleep, 0.001, loops=1).details
    assert "single_calls" not in run("function", returns_one).details
    assert "single_calls" not in run("function", sum, range(1000), timeout=0.01, iterations=10_000).details


# -- what the times tell -----------------------------------------------------------------------------------------------


def test_what_is_known_of_timing_is_subtracted() -> None:
    """(1050 ns - 50 ns for the timer) / 10 calls - 2 ns for the loop."""
    timer = Timer(resolution_s=1e-9, timer_s=50e-9, loop_s=2e-9, iteration_s=0.0)
    assert timer.per_call_s(1050e-9, 10) == pytest.approx(98e-9)
    assert timer.per_call_s(np.array([40e-9, 51e-9]), 1).tolist() == [0.0, 0.0]  # no time is negative
    report = run("function", returns_one, loops=1000)
    shown = report.overhead
    assert shown["subtracted_s"] == pytest.approx(shown["timer_s"] / 1000 + shown["loop_s"])
    assert shown["loop_s"] > 0.0


def test_times_that_grow_are_not_steady() -> None:
    """Each call waits longer than the one before: the report says so, and one that does not change is steady."""
    calls = itertools.count(1)
    report = run("function", lambda: time.sleep(next(calls) * 2e-4), loops=1, iterations=60)
    assert report.summary["steady_state"]["reached"] is False
    assert report.summary["steady_state"]["reason"] in report.verdict.notes
    steady = run("function", time.sleep, 0.003, loops=1, iterations=60)
    assert steady.summary["steady_state"]["reached"] is True


def test_two_modes_are_said() -> None:
    """Every other call waits: there is no typical time."""
    calls = itertools.count()
    report = run("function", lambda: time.sleep(0.001 + 0.004 * (next(calls) % 2)), loops=1, iterations=80)
    assert report.summary["modes"]["count"] >= 2  # a busy machine has more
    assert report.summary["modes"]["sentence"] in report.verdict.notes


def test_a_timer_that_is_coarse_beside_an_iteration_is_said() -> None:
    """With loops=1 a call of some nanoseconds is hardly more than what the clock can tell."""
    said = [note for note in run("function", returns_one, loops=1).verdict.notes if "the times are coarse" in note]
    assert len(said) == 1


def test_the_confidence_is_the_users() -> None:
    """An interval of 99.9 % is wider than one of 50 %, of the same times."""
    outcome = Run(
        Subject(time.sleep, (0.0005,)), BenchmarkConfig(progress=False), DebugLevel.BASIC, Reporter("", SILENT)
    ).execute()
    widths = []
    for confidence in (0.5, 0.999):
        found = summarise(outcome, np.zeros(0), BenchmarkConfig(confidence=confidence))["confidence_intervals"]
        low, high = found["avg_execution_time"]
        assert found["level"] == confidence
        widths.append(high - low)
    assert widths[0] < widths[1]


# -- limits that are judged in the end ---------------------------------------------------------------------------------


def test_a_mean_beyond_a_limit_is_marked() -> None:
    """CPU, time and failures: what is within its limit has no mark."""

    def spins() -> None:
        until = time.perf_counter() + 0.002
        while time.perf_counter() < until:
            pass

    over = run("function", spins, cpu_limit=20.0 / cpus(), performance_threshold=0.001)
    marks = {mark.limit for mark in over.verdict.marks}
    assert marks == {"cpu_limit", "performance_threshold"} - ({"cpu_limit"} if cpus() == 1 else set())
    assert not over.verdict.passed
    assert run("function", spins, cpu_limit=100.0).verdict.marks == ()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process")
def test_on_one_cpu_a_loop_that_computes_is_not_blamed_for_using_it() -> None:
    """In a container of one CPU any function that computes would pass the limit: it is said, and no failure."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        report = run("function", sum, range(100_000), cpu_limit=20.0)
    finally:
        os.sched_setaffinity(0, before)
    assert report.verdict.marks == ()
    assert any("of the one CPU there is" in note for note in report.verdict.notes)


# -- what comes before -----------------------------------------------------------------------------------------------


def test_the_calls_before_the_first_measured_one_are_told() -> None:
    """Who fails after so many calls may have used up the good ones in calibration and warm-up."""
    made: list[None] = []
    report = run("function", lambda: made.append(None), iterations=3, warmup_iterations=4)
    assert report.overhead["calls_before"] == len(made) - sum(one.iterations for one in report.metrics)
    assert run("function", returns_one, loops=1, warmup_iterations=7).overhead["calls_before"] == 7
    assert run("concurrent", returns_one).overhead["calls_before"] is None  # whose users warm up side by side


def test_what_is_compared_has_the_same_subtracted() -> None:
    """The cost of the loop is known to half a nanosecond or so: it must not be the difference."""
    reports = PerformanceBenchmarker(DebugLevel.BASIC).compare_functions(
        [(returns_one, "a"), (returns_one, "b"), (lambda: 1, "c")], config=BenchmarkConfig(iterations=20)
    )
    assert len({(one.overhead["timer_s"], one.overhead["loop_s"]) for one in reports.values()}) == 1
