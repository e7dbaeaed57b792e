"""MEMORY: what a call peaks at and keeps is what it allocates, whatever else the user's program does."""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import threading
import time
import tracemalloc
from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap import BenchmarkConfig, DebugLevel, PerformanceBenchmarker, core
from hotlap.lab.kinds.memory import Memory
from hotlap.lab.looks import heap
from hotlap.lab.looks.memory import MemoryTracker
from hotlap.lab.looks.procfs import Unreadable
from kinds import examined
from memory_looks import look, median, shorten


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


# -- what a call peaks at, and gives back --------------------------------------------------------------------------


def test_the_peak_is_what_is_held_at_once() -> None:
    """10 MB that are freed before the call ends, and 10 MB that it returns."""
    freed = look(lambda: len(bytes(10_000_000)))
    assert median(freed, "peak") == pytest.approx(1e7, rel=0.01)
    assert median(freed, "result") < 100
    returned = look(bytes, 10_000_000)
    assert median(returned, "peak") == pytest.approx(1e7, rel=0.01)
    assert median(returned, "result") == pytest.approx(1e7, rel=0.01)
    assert max(median(freed, "kept"), median(returned, "kept")) < 100


def test_numpy_and_sqlite_are_seen() -> None:
    assert median(look(lambda: np.zeros(1_000_000).sum()), "peak") == pytest.approx(8e6, rel=0.01)
    with sqlite3.connect(":memory:") as table:
        query = look(lambda: table.execute("select zeroblob(3000000)").fetchone())
    assert median(query, "result") == pytest.approx(3e6, rel=0.01)
    table.close()


def test_a_result_is_counted_in_blocks_too() -> None:
    blocks = look(lambda: [object() for _ in range(100)])["result_blocks"]
    assert blocks["median"] == pytest.approx(101, abs=2)


def test_nothing_is_billed_for_looking() -> None:
    """A function that does nothing allocates nothing, async or not."""

    def nothing() -> None:
        pass

    async def nothing_async() -> None:
        pass

    for func in (nothing, nothing_async):
        details = look(func)
        assert median(details, "peak") < 1000  # a coroutine is an object
        assert median(details, "result") < 64
        assert median(details, "kept") < 64
        assert median(details, "cyclic") == 0


@settings(max_examples=5, deadline=None)
@given(st.integers(10_000, 3_000_000), st.integers(1, 5))
def test_the_sizes_add_up(size: int, count: int) -> None:
    def parts() -> list[bytes]:
        return [bytes(size) for _ in range(count)]

    assert median(look(parts, iterations=1), "peak") == pytest.approx(count * size, rel=0.01, abs=1000)


def test_one_peak_for_each_iteration_and_nan_where_none_was_seen() -> None:
    _, few = examined(Memory, lambda: bytes(5000), iterations=7, warmup_iterations=0)
    assert few.memory_mb is not None
    assert few.memory_mb.shape == (7,)
    assert few.memory_mb == pytest.approx(0.005, rel=0.02)
    outcome, many = examined(Memory, lambda: bytes(5000), iterations=1200, warmup_iterations=0, loops=1)
    assert many.memory_mb is not None
    assert many.memory_mb.shape == (len(outcome.series.time_s),)
    assert np.isnan(many.memory_mb[-1])
    assert np.isfinite(many.memory_mb[0])


def test_cycles_are_freed_only_by_the_collector_and_no_leak() -> None:
    def cycle() -> None:
        part: list[Any] = [bytes(100_000)]
        part.append(part)

    _, examination = examined(Memory, cycle, iterations=10)
    assert median(examination.details, "cyclic") == pytest.approx(100_000, rel=0.01)
    assert examination.details["leak"]["kind"] == "none"
    assert any("100 kB of a call are freed only by the collector" in said for said in examination.advice)


def test_freed_objects_that_the_interpreter_keeps_for_later_are_not_held() -> None:
    """Freed tuples, dicts and floats are not given back at once."""

    def many() -> int:
        return len([(number, {}, float(number)) for number in range(2000)])

    details = look(many)
    assert median(details, "cyclic") == 0
    assert median(details, "kept") == 0
    assert details["leak"]["kind"] == "none"


def test_async_calls_share_one_event_loop() -> None:
    loops = set()

    async def call() -> bytes:
        await asyncio.sleep(0)
        loops.add(id(asyncio.get_running_loop()))
        return bytes(1_000_000)

    details = look(call)
    assert median(details, "peak") == pytest.approx(1e6, rel=0.01)
    assert details["leak"]["kind"] == "none"
    assert len(loops) <= 2  # one for the run, one for the look


# -- what the user's program does ---------------------------------------------------------------------------------


def test_setup_and_teardown_go_with_each_call_and_are_not_billed() -> None:
    """What setup allocates is in no peak, and what teardown frees is not kept."""
    kept: list[bytes] = []
    order: deque[str] = deque(maxlen=100)

    def setup() -> tuple[tuple[bytes], dict[str, Any]]:
        order.append("setup")
        return (bytes(5_000_000),), {}

    def teardown() -> None:
        order.append("teardown")
        kept.clear()

    def call(given: bytes) -> None:
        kept.append(bytes(len(given) // 50))
        order.append("call")

    details = look(call, setup=setup, teardown=teardown)
    assert median(details, "peak") == pytest.approx(100_000, rel=0.05)
    assert details["leak"]["kind"] == "none"
    assert list(order)[-6:] == ["setup", "call", "teardown"] * 2


def test_async_setup_is_awaited() -> None:
    async def setup() -> tuple[tuple[int], dict[str, Any]]:
        await asyncio.sleep(0)
        return (100_000,), {}

    async def call(size: int) -> bytes:
        return bytes(size)

    assert median(look(call, setup=setup), "result") == pytest.approx(100_000, rel=0.01)


def test_failures_do_not_end_the_look() -> None:
    """A subject that fails now and then is measured by its successes; one that always fails has no peak."""
    calls = 0

    def flaky() -> bytes:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise ValueError(calls)
        return bytes(50_000)

    details = look(flaky)
    assert median(details, "peak") == pytest.approx(50_000, rel=0.01)
    assert details["failed_calls"] > 0
    assert details["leak"]["kind"] == "none"

    async def fails() -> None:
        raise OSError("always")

    _, examination = examined(Memory, fails, iterations=10)
    assert examination.details["peak_bytes"]["median"] is None
    assert examination.memory_mb is None
    assert examination.details["leak"]["kind"] == "none"


def test_a_leak_of_failures_is_found() -> None:
    kept = []

    def fails() -> None:
        kept.append(bytes(500))
        raise ValueError

    assert look(fails)["leak"]["kind"] == "leak"


def test_a_setup_that_fails_later_ends_the_look_with_a_note() -> None:
    calls = 0

    def setup() -> None:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise RuntimeError("no more")

    _, examination = examined(Memory, lambda: bytes(1000), iterations=10, warmup_iterations=0, setup=setup)
    assert any("setup raised RuntimeError: no more" in note for note in examination.notes)
    assert examination.details["peak_bytes"]["median"] == pytest.approx(1033, abs=100)


def test_a_call_that_hangs_in_the_look_is_ended() -> None:
    calls = 0

    def hangs() -> None:
        nonlocal calls
        calls += 1
        if calls > 30:
            time.sleep(600)

    _, examination = examined(Memory, hangs, iterations=10, warmup_iterations=0, loops=1, budget_s=0.5)
    assert any("time budget" in note for note in examination.notes)
    assert examination.details["leak"] is None or examination.details["leak"]["kind"] == "not judged"
    assert not tracemalloc.is_tracing()


def test_the_budget_that_is_told_is_the_users() -> None:
    """Not what the timed part has left of it."""
    report = PerformanceBenchmarker().benchmark_memory(time.sleep, 600, config=BenchmarkConfig(timeout=0.5))
    assert "Memory was not looked at to the end: the time budget of 0.5 s is spent." in report.verdict.notes
    assert [mark.sentence for mark in report.verdict.marks] == ["the time budget of 0.5 s is spent"]


def test_no_time_left_is_said() -> None:
    _, examination = examined(Memory, lambda: time.sleep(0.01), iterations=3, loops=1, budget_s=0.15)
    leak = examination.details["leak"]
    assert leak is None or leak["kind"] == "not judged"
    json.dumps(examination.details)


def test_an_interrupt_keeps_what_was_seen() -> None:
    calls = 0

    def interrupted() -> bytes:
        nonlocal calls
        calls += 1
        if calls == 40:
            raise KeyboardInterrupt
        return bytes(90_000)

    _, examination = examined(Memory, interrupted, iterations=30, warmup_iterations=0, loops=1)
    assert any("interrupted" in note for note in examination.notes)
    # a tracer of lines, such as coverage's, has some 100 bytes of its own in it
    assert median(examination.details, "peak") == pytest.approx(90_033, abs=300)


def test_what_a_progress_function_keeps_is_not_the_subjects() -> None:
    told = []
    _, examination = examined_with_progress(lambda: time.sleep(0.02), told.append)
    assert told
    assert examination.details["leak"]["kind"] == "none"


def examined_with_progress(func: Any, progress: Any) -> Any:
    from hotlap.lab.config import BenchmarkConfig, DebugLevel
    from hotlap.lab.progress import Reporter
    from hotlap.lab.runs.limits import Guard
    from hotlap.lab.runs.subject import Subject

    config = BenchmarkConfig(iterations=5, progress=progress)
    kind, reporter = Memory(Subject(func), config, DebugLevel.DETAILED), Reporter("test", config)
    outcome = kind.run(reporter)
    with Guard(BenchmarkConfig(timeout=10)) as guard:
        return outcome, kind.examine(outcome, guard, reporter)


def test_tracing_that_the_user_has_on_stays_as_it_was() -> None:
    tracemalloc.start(3)
    try:
        mine = bytes(1_000_000)
        _, examination = examined(Memory, bytes, 2_000_000, iterations=5)
        assert tracemalloc.is_tracing()
        assert tracemalloc.get_traceback_limit() == 3
        assert tracemalloc.get_object_traceback(mine) is not None
        assert median(examination.details, "peak") == pytest.approx(2e6, rel=0.01)
        assert set(examination.details["leak"]["levels"]) == {"traced_bytes"}
        assert any("tracemalloc was on already" in note for note in examination.notes)
    finally:
        tracemalloc.stop()


def test_the_collector_is_seen_and_its_policy_kept() -> None:
    def garbage() -> None:
        for _ in range(100):
            part: list[Any] = []
            part.append(part)

    seen = look(garbage)["gc"]
    assert sum(seen["collections"]) > 0
    assert seen["collected_objects"] > 0
    assert 0 < seen["longest_pause_s"] <= seen["pause_s"]
    assert 0 < seen["share_of_time"] < 1
    assert not any(getattr(callback, "__name__", "") == "_watch" for callback in gc.callbacks)
    off = look(garbage, gc="off")["gc"]
    assert sum(off["collections"]) == 0
    assert gc.isenabled()


def test_a_system_that_does_not_tell_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed() -> int:
        raise Unreadable("it is closed to us")

    monkeypatch.setattr(heap, "LEVELS", dict.fromkeys(heap.LEVELS, closed))
    monkeypatch.setattr("hotlap.lab.kinds.memory.rss_bytes", closed)
    details = look(lambda: bytes(1000))
    assert {name: details["not_readable"][name] for name in heap.LEVELS} == dict.fromkeys(
        heap.LEVELS, "it is closed to us"
    )
    assert details["rss"] == {"not_readable": "it is closed to us"}
    assert details["leak"]["kind"] == "none"
    with MemoryTracker() as memory:
        pass
    assert (memory.rss_mb, memory.native_growth_mb, memory.blocks) == (None, None, None)
    assert memory.not_readable == dict.fromkeys(heap.LEVELS, "it is closed to us")


def test_allocations_are_counted_by_the_native_core() -> None:
    """A call that makes a hundred objects more asks for memory a hundred times more; kept or not is the same."""

    def make(count: int) -> None:
        for _ in range(count):
            object()

    few, many = look(make, 10), look(make, 110)
    if core.NAME == "python":
        assert few["allocations"] == {"median": None, "min": None, "max": None}
        assert "native core" in few["not_readable"]["allocations"]
    else:
        assert many["allocations"]["median"] - few["allocations"]["median"] == 100
        assert "allocations" not in many["not_readable"]


@pytest.mark.skipif(core.NAME == "python", reason="counts nothing")
def test_allocations_are_those_of_one_thread_and_leave_tracemalloc_alone() -> None:
    """Another thread's are not counted; what was put over the counter meanwhile goes on, and so does the counter."""
    assert core.allocations_begin()
    assert not core.allocations_begin()  # one at a time
    thread = threading.Thread(target=lambda: [object() for _ in range(100_000)])
    thread.start()
    thread.join()
    tracemalloc.start()
    kept = [bytes(1000) for _ in range(50)]
    assert 50 <= core.allocations_end() < 5_000
    assert tracemalloc.get_traced_memory()[0] > 50_000
    del kept
    tracemalloc.stop()
    for _ in range(2):  # the second time nobody is in the way of taking ours out
        core.allocations_begin()
        objects = [object() for _ in range(50)]
        assert 50 <= core.allocations_end() < 100
        del objects


def test_time_is_held_back_for_the_look() -> None:
    """Calls that take all of the time budget leave it half to look at memory; the report says that it ended early."""
    report = PerformanceBenchmarker(DebugLevel.BASIC).benchmark_memory(
        lambda: [bytes(100_000), time.sleep(0.05)],
        config=BenchmarkConfig(iterations=1000, warmup_iterations=1, timeout=2.0),
    )
    assert 5 <= len(report.metrics) <= 21
    assert not report.verdict.complete
    assert [mark.limit for mark in report.verdict.marks] == ["timeout"]
    assert "looked at" in report.verdict.marks[0].sentence
    assert report.details["peak_bytes"]["median"] == pytest.approx(100_033, abs=3000)


def test_details_are_plain() -> None:
    details = look(lambda: bytes(1000))
    assert json.loads(json.dumps(details)).keys() == details.keys()
    assert details["tracing_slowdown"] > 0
    assert details["rss"]["end_mb"] > 0
