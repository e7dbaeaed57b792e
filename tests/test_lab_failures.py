"""Exceptions in benchmarked code: classed by type and place, counted, timed, and searched for patterns."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hotlap.lab.config import BenchmarkConfig, DebugLevel
from hotlap.lab.failures import FailureLog
from hotlap.lab.progress import Reporter
from hotlap.lab.report import Failure
from hotlap.lab.runs.run import Outcome, Run
from hotlap.lab.runs.subject import Subject


def run(func: Callable[..., Any], **options: Any) -> Outcome:
    config = BenchmarkConfig(progress=False, **options)
    return Run(Subject(func), config, DebugLevel.BASIC, Reporter("test", config)).execute()


def classed(outcome: Outcome) -> list[Failure]:
    good = outcome.series.good
    return outcome.failures.failures(outcome.series.time_s, float(good.mean()) if len(good) else None)


def log_of(failed: list[int]) -> FailureLog:
    log = FailureLog()
    error = ValueError("bad")
    for number in failed:
        log.add(error, number)
    return log


def test_failures_are_classed_by_type_and_place() -> None:
    calls = 0

    def fails() -> None:
        nonlocal calls
        calls += 1
        if calls % 5 == 0:
            raise KeyError("five")
        if calls % 3 == 0:
            raise ValueError("three")

    outcome = run(fails, iterations=60, warmup_iterations=0)
    many, few = classed(outcome)
    assert (many.type, few.type) == ("ValueError", "KeyError")
    assert many.count + few.count == outcome.series.failed.sum()
    assert many.count > few.count
    assert __file__ in many.place
    assert many.place.endswith("in fails")
    assert many.message == "three"
    assert many.traceback.rstrip().endswith("ValueError: three")


def test_the_first_traceback_is_kept() -> None:
    """Of failures at one place the message may differ: the first is what all began with."""
    calls = 0

    def fails() -> None:
        nonlocal calls
        calls += 1
        raise ValueError(f"call {calls}")

    (one,) = classed(run(fails, iterations=5, warmup_iterations=0, loops=1))
    assert one.count == 5
    assert one.message == "call 1"
    assert one.traceback.rstrip().endswith("ValueError: call 1")


def test_the_traceback_begins_with_the_subject() -> None:
    """No frame of ours comes before the user's code."""

    def fails() -> None:
        raise RuntimeError("no")

    (failure,) = classed(run(fails, iterations=3))
    assert failure.traceback.splitlines()[1].strip().startswith(f'File "{__file__}"')
    assert failure.count == 3


def test_a_function_that_always_fails_has_no_time() -> None:
    def fails() -> None:
        raise RuntimeError

    outcome = run(fails, iterations=10)
    assert len(outcome.series.good) == 0
    assert outcome.series.failed.sum() == 10


def test_a_failure_within_a_loop_of_calls_counts_the_calls_before_it() -> None:
    """From the first failure on each call is an iteration, so that failures have times of their own."""
    calls = 0

    def fails_once_in_a_while() -> None:
        nonlocal calls
        calls += 1
        if calls in {1_234, 1_260}:
            raise OSError

    outcome = run(fails_once_in_a_while, loops=100, iterations=40, warmup_iterations=0)
    series = outcome.series
    assert series.calls.sum() == calls
    assert series.calls[12] == 34
    assert series.failed[12] == 1
    assert set(series.calls[13:].tolist()) == {1}
    assert np.isnan(series.time_s[12])
    assert series.failed.sum() == 2


def test_slow_failures_are_named() -> None:
    calls = 0

    def times_out() -> None:
        nonlocal calls
        calls += 1
        if calls % 4 == 0:
            time.sleep(0.02)
            raise TimeoutError

    (failure,) = classed(run(times_out, iterations=24, warmup_iterations=0, loops=1))
    assert failure.mean_s is not None
    assert failure.mean_s >= 0.02
    assert any("times as long as a success" in pattern for pattern in failure.patterns)


def test_bursts_are_named() -> None:
    (failure,) = log_of([*range(40, 46), *range(80, 86)]).failures(np.ones(100), 1.0)
    assert "It comes in bursts: 12 failures in 2 runs." in failure.patterns


def test_a_late_beginning_is_named() -> None:
    (failure,) = log_of(list(range(60, 100, 3))).failures(np.ones(100), 1.0)
    assert "It begins with iteration 61 of 100: something has changed by then." in failure.patterns


def test_failures_at_random_have_no_pattern() -> None:
    """Of 200 logs of random failures hardly any is said to have a pattern."""
    chance = random.Random(5)
    said = 0
    for _ in range(200):
        failed = sorted(chance.sample(range(100), 10))
        (failure,) = log_of(failed).failures(np.ones(100), 1.0)
        said += bool(failure.patterns)
    assert said <= 8  # two tests at 1 % each give 4 on average


def test_failures_of_processes_are_joined() -> None:
    joined = FailureLog.joined([(log_of([1, 2]), 10), (log_of([0]), 10)])
    (failure,) = joined.failures(np.arange(20.0), None)
    assert failure.count == 3
    assert failure.mean_s == pytest.approx((1 + 2 + 10) / 3)
