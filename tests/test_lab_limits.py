"""Limits end a run with what was measured, whatever the call is doing."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from hotlap.lab.config import BenchmarkConfig, DebugLevel
from hotlap.lab.progress import Reporter
from hotlap.lab.runs.run import Outcome, Run
from hotlap.lab.runs.subject import Subject


def run(func: Callable[..., Any], **options: Any) -> Outcome:
    config = BenchmarkConfig(progress=False, **options)
    return Run(Subject(func), config, DebugLevel.BASIC, Reporter("test", config)).execute()


def spin() -> None:
    while True:
        pass


def sleep() -> None:
    time.sleep(600)


def stubborn() -> None:
    """Swallows all that can be caught with except Exception."""
    while True:
        with suppress(Exception):
            time.sleep(600)


async def wait_for_ever() -> None:
    await asyncio.sleep(600)


async def block_the_loop() -> None:
    time.sleep(600)


@pytest.mark.parametrize("func", [spin, sleep, stubborn, wait_for_ever, block_the_loop])
def test_a_call_that_never_ends_is_cut_off(func: Callable[..., Any]) -> None:
    """The time budget is hard: a call that computes, sleeps or blocks an event loop is ended."""
    outcome = run(func, timeout=0.2)
    assert outcome.ended is not None
    assert outcome.ended.limit == "timeout"
    assert outcome.cut_off
    assert len(outcome.series.time_s) == 0


def test_on_another_thread_the_run_ends_after_the_call() -> None:
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(run(lambda: time.sleep(0.3), timeout=0.2)))
    thread.start()
    thread.join(60)
    assert outcomes[0].ended is not None
    assert outcomes[0].ended.limit == "timeout"
    assert len(outcomes[0].series.time_s) == 0


def test_what_was_measured_before_stays() -> None:
    calls = 0

    def slows_down() -> None:
        nonlocal calls
        calls += 1
        if calls > 8:
            time.sleep(600)

    outcome = run(slows_down, timeout=0.5, loops=1, warmup_iterations=3, iterations=100)
    assert len(outcome.series.time_s) == 5
    assert outcome.ended is not None
    assert outcome.planned == 100


def test_the_iterations_end_with_the_time() -> None:
    """Calls that are short each do not outlast the budget together."""
    outcome = run(lambda: time.sleep(0.01), timeout=0.3, iterations=100_000)
    assert outcome.ended is not None
    assert 0 < len(outcome.series.time_s) < 100


def test_memory_that_grows_beyond_its_limit_ends_the_run() -> None:
    kept: list[bytearray] = []

    def grow() -> None:
        kept.append(bytearray(b"x") * 4_000_000)
        time.sleep(0.001)

    outcome = run(grow, memory_limit=100, loops=1, iterations=10_000)
    kept.clear()
    assert outcome.ended is not None
    assert outcome.ended.limit == "memory_limit"
    assert outcome.ended.value > 100
    assert "more than its limit of 100 MB" in outcome.ended.sentence


def test_an_interrupt_by_the_user_returns_what_was_measured() -> None:
    calls = 0

    def interrupted() -> None:
        nonlocal calls
        calls += 1
        if calls == 8:
            signal.raise_signal(signal.SIGINT)

    outcome = run(interrupted, loops=1, warmup_iterations=2, iterations=50)
    assert outcome.interrupted
    assert len(outcome.series.time_s) == 5
    assert outcome.ended is None


def test_an_interrupt_of_an_async_run_too() -> None:
    calls = 0

    async def interrupted() -> None:
        nonlocal calls
        calls += 1
        if calls == 8:
            signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)

    outcome = run(interrupted, loops=1, warmup_iterations=2, iterations=50)
    assert outcome.interrupted
    assert len(outcome.series.time_s) <= 6


def test_an_interrupt_of_an_async_function_that_never_suspends() -> None:
    """No event loop tells it anything: the run ends after the call."""
    calls = 0

    async def interrupted() -> None:
        nonlocal calls
        calls += 1
        if calls == 8:
            signal.raise_signal(signal.SIGINT)

    outcome = run(interrupted, loops=1, warmup_iterations=2, iterations=50)
    assert outcome.interrupted
    assert calls == 8


def test_the_signal_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGALRM)
    run(lambda: None, iterations=2)
    assert signal.getsignal(signal.SIGALRM) is before


def test_a_handler_of_the_users_is_left_alone() -> None:
    """Where the signal is taken, a call goes on to its end, and the run ends after it."""
    hits: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
    try:
        outcome = run(lambda: time.sleep(0.3), timeout=0.2)
        assert outcome.ended is not None
        assert not hits
    finally:
        signal.signal(signal.SIGALRM, before)
