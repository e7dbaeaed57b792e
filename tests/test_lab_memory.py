"""MEMORY: what a call peaks at and keeps is what it allocates, a leak is found where it is, and nothing is called one
that is none.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import json
import mmap
import sqlite3
import sys
import threading
import time
import tracemalloc
from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap import BenchmarkConfig, DebugLevel, PerformanceBenchmarker, core
from hotlap.errors import HotlapError
from hotlap.lab.kinds.memory import Memory
from hotlap.lab.looks import heap, traced
from hotlap.lab.looks.memory import MemoryTracker
from hotlap.lab.looks.procfs import Unreadable
from hotlap.lab.looks.retention import Retention, amount
from hotlap.stats.leak import LEAK, NONE, NOT_JUDGED, PLATEAU, Growth
from kinds import examined

glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc from 2.33 on tells what malloc has given out"
)
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells this, others do not")


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer calls, and collections that look only at what a test makes: there are many in each look."""
    monkeypatch.setattr(traced, "_SINGLE_S", 0.1)
    monkeypatch.setattr(traced, "_BLOCKS_S", 0.3)
    gc.collect()
    gc.freeze()


def look(func: Any, *args: Any, **options: Any) -> dict[str, Any]:
    """The details of a short run."""
    _, examination = examined(Memory, func, *args, **{"iterations": 10, "warmup_iterations": 2, **options})
    assert not tracemalloc.is_tracing()
    return examination.details


def median(details: dict[str, Any], what: str) -> float:
    value = details[f"{what}_bytes"]["median"]
    assert value is not None
    return float(value)


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


# -- leaks --------------------------------------------------------------------------------------------------------


def test_what_each_call_keeps_is_a_leak_with_its_line() -> None:
    kept = []

    def leak() -> None:
        kept.append(bytes(67))  # with its header 100 bytes

    _, examination = examined(Memory, leak, iterations=10)
    found = examination.details["leak"]
    assert (found["kind"], found["where"]) == ("leak", "python")
    assert 90 <= found["low"] <= 110 <= found["high"] + 10
    assert found["sites"][0]["file"] == __file__
    assert found["sites"][0]["line"] == leak.__code__.co_firstlineno + 1
    assert found["sites"][0]["code"].startswith("kept.append")
    assert found["sites"][0]["blocks"] == pytest.approx(1, abs=0.01)
    assert found["sentence"] in examination.advice
    assert f"{__file__}:{leak.__code__.co_firstlineno + 1}" in found["sentence"]


def test_an_object_in_each_tenth_call_is_a_leak() -> None:
    kept, calls = [], 0

    def leak() -> None:
        nonlocal calls
        calls += 1
        if calls % 10 == 0:
            kept.append(bytes(991))

    found = look(leak)["leak"]
    assert found["kind"] == "leak"
    assert found["low"] <= 103.2  # with its place in the list, which grows by leaps
    assert found["high"] >= 102.4


def test_the_callers_of_the_line_that_leaks_are_told() -> None:
    kept = []

    def keep() -> None:
        kept.append(bytearray(1000))

    def caller() -> None:
        keep()

    site = look(caller)["leak"]["sites"][0]
    assert site["line"] == keep.__code__.co_firstlineno + 1
    assert site["stack"] == (f"{__file__}:{caller.__code__.co_firstlineno + 1}",)


def test_an_async_leak_is_found() -> None:
    kept = []

    async def leak() -> None:
        await asyncio.sleep(0)
        kept.append(bytes(67))

    assert look(leak)["leak"]["kind"] == "leak"


@glibc
def test_memory_that_is_not_pythons_leaks_too() -> None:
    """What C code takes from malloc is seen beside the objects of Python."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p

    def leak() -> None:
        libc.malloc(1000)

    found = look(leak)["leak"]
    assert (found["kind"], found["where"]) == ("leak", "native")
    assert 1000 <= found["low"] <= found["high"] <= 1100
    assert found["levels"]["traced_bytes"]["kind"] == "none"
    assert "outside of Python's objects" in found["sentence"]


@linux
def test_mapped_memory_is_seen_as_resident_memory() -> None:
    maps = []

    def leak() -> None:
        maps.append(mmap.mmap(-1, 1 << 16))
        maps[-1].write(bytes(1 << 16))
        time.sleep(0.001)  # some hundred calls are enough

    found = look(leak)["leak"]
    assert found["kind"] == "leak"
    assert found["levels"]["rss_bytes"]["low"] == pytest.approx(1 << 16, rel=0.1)


# -- caches, and what else is no leak -----------------------------------------------------------------------------


def numbered(maxsize: int | None) -> Any:
    """A function with a cache in which no key comes twice."""

    @functools.lru_cache(maxsize=maxsize)
    def cached(number: int) -> bytes:
        return bytes(300)

    calls = iter(range(10**9))
    return cached, lambda: cached(next(calls)) and None


def test_a_cache_that_is_soon_full_is_no_leak() -> None:
    _, call = numbered(200)
    assert look(call)["leak"]["kind"] in {"plateau", "none"}


def test_a_full_cache_replaces_what_earlier_calls_had_kept() -> None:
    """Its entries are new to tracemalloc, but they add nothing."""
    cached, call = numbered(200_000)
    for number in range(-200_000, 0):
        cached(number)
    found = look(call, loops=1)["leak"]
    assert found["levels"]["traced_bytes"]["kind"] == "leak"
    assert found["kind"] == "plateau"
    assert "take the place" in found["sentence"]


def test_a_ring_is_no_leak() -> None:
    ring: deque[bytes] = deque((bytes(5000) for _ in range(3000)), maxlen=3000)
    found = look(lambda: ring.append(bytes(5000)), loops=1)["leak"]
    assert found["kind"] in {"plateau", "none"}


def test_a_ring_that_was_filled_on_the_way_is_no_leak() -> None:
    """What tracemalloc sees of it grows by fits and starts, and cannot be judged; what is in use does not grow."""
    unjudged = Growth(NOT_JUDGED, "by fits and starts", 3600.0, 2500.0, 4600.0, 250.0, 1900.0, 15e6, 2952, 20, 2460)
    still = Growth(NONE, "", 0.0, 0.0, 0.0, 0.0, 0.3, 0.0, 0, 20, 2880)
    retention = Retention(unjudged, python=still, native=still, resident=still)
    assert retention.kind == PLATEAU
    assert "take the place" in retention.sentence
    assert Retention(unjudged, python=still).kind == NOT_JUDGED
    grows = replace(still, kind=LEAK, per_call=5000.0, low=4000.0, high=6000.0)
    assert Retention(unjudged, python=still, native=grows, resident=grows).kind == LEAK


def test_a_bounded_cache_that_fills_is_named() -> None:
    _, call = numbered(10**9)
    found = look(call)["leak"]
    assert found["kind"] == "cache filling"
    assert found["caches"][0]["name"].endswith("numbered.<locals>.cached")
    assert found["caches"][0]["maxsize"] == 10**9
    assert "numbered.<locals>.cached" in found["sentence"]


def test_a_cache_without_bound_is_a_leak_and_named() -> None:
    _, call = numbered(None)
    found = look(call)["leak"]
    assert found["kind"] == "leak"
    assert "numbered.<locals>.cached has no maxsize" in found["sentence"]


def test_a_working_set_of_changing_size_is_no_leak() -> None:
    held: list[bytes] = []
    sizes = iter(np.random.default_rng(1).integers(1, 50_000, 10**6).tolist())

    def work() -> None:
        held[:] = [bytes(next(sizes))]

    assert look(work)["leak"]["kind"] == "none"


def test_no_leak_says_what_would_have_been_seen() -> None:
    found = look(lambda: [1] * 100)["leak"]
    assert found["kind"] == "none"
    assert 0 < found["smallest_seen"] < 100
    assert found["calls"] > 100
    assert "would have been seen" in found["sentence"]


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
    assert seen["collected"] > 0
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


# -- the tracker --------------------------------------------------------------------------------------------------


def test_the_tracker_tells_peak_and_rest_of_a_block() -> None:
    with MemoryTracker() as memory:
        passing = bytes(10_000_000)
        kept = bytearray(2_000_000)
        del passing
    assert memory.peak_mb == pytest.approx(12, rel=0.01)
    assert memory.retained_mb == pytest.approx(2, rel=0.01)
    assert memory.sites[0].code == "kept = bytearray(2_000_000)"
    assert memory.sites[0].bytes == pytest.approx(len(kept), rel=0.01)
    assert not tracemalloc.is_tracing()


def test_the_tracker_bills_nothing_for_itself() -> None:
    with MemoryTracker() as memory:
        pass
    assert memory.peak_mb is not None
    assert memory.retained_mb is not None
    assert 0 <= memory.peak_mb < 0.005
    assert abs(memory.retained_mb) < 0.005
    assert sum(site.bytes for site in memory.sites) < 500


@linux
def test_the_tracker_reads_the_resident_memory() -> None:
    with MemoryTracker(trace=False) as memory:
        assert not tracemalloc.is_tracing()
        kept = mmap.mmap(-1, 20_000_000)
        kept.write(bytes(20_000_000))
    assert memory.rss_growth_mb == pytest.approx(20, abs=3)
    assert memory.rss_mb is not None
    assert memory.rss_mb > 20
    assert (memory.peak_mb, memory.retained_mb, memory.cyclic_mb) == (None, None, None)
    kept.close()


def test_the_tracker_sees_cycles_and_collections() -> None:
    gc.disable()
    try:
        with MemoryTracker() as memory:
            part: list[Any] = [bytes(300_000)]
            part.append(part)
            del part
            assert memory.retained_mb == pytest.approx(0.3, rel=0.02)  # so far
            assert memory.cyclic_mb is None
        assert memory.cyclic_mb == pytest.approx(0.3, rel=0.02)
        assert memory.retained_mb == pytest.approx(0, abs=0.005)
        assert memory.collections == (0, 0, 0)
        with memory:
            gc.collect()
        assert sum(memory.collections) == 1
        assert 0 < memory.longest_gc_pause_s <= memory.gc_pause_s
    finally:
        gc.enable()


def test_trackers_nest_and_none_takes_the_others_peak() -> None:
    with MemoryTracker() as outer:
        len(bytes(3_000_000))
        with MemoryTracker() as inner:
            len(bytes(1_000_000))
        assert tracemalloc.is_tracing()
    assert outer.peak_mb == pytest.approx(3, rel=0.01)
    assert inner.peak_mb == pytest.approx(1, rel=0.01)
    assert not tracemalloc.is_tracing()


def test_the_tracker_is_used_again_from_the_start() -> None:
    memory = MemoryTracker()
    assert (memory.peak_mb, memory.rss_mb, memory.blocks) == (None, None, None)
    memory.start()
    first = bytes(5_000_000)
    memory.stop()
    memory.start()
    second = bytes(1_000_000)
    memory.stop()
    assert memory.retained_mb == pytest.approx(1, rel=0.01)
    assert (len(first), len(second)) == (5_000_000, 1_000_000)


def test_the_tracker_says_what_it_cannot_do() -> None:
    memory = MemoryTracker()
    with pytest.raises(HotlapError, match="does not run: call start"):
        memory.stop()
    with memory, pytest.raises(HotlapError, match="runs already: call stop"):
        memory.start()


def test_the_tracker_leaves_the_users_tracing_on_and_tells_only_what_is_new() -> None:
    tracemalloc.start(2)
    try:
        before = bytes(1_000_000)
        with MemoryTracker() as memory:
            kept = bytes(500_000)
        assert tracemalloc.is_tracing()
        assert memory.retained_mb == pytest.approx(0.5, rel=0.01)
        assert [site.code for site in memory.sites] == ["kept = bytes(500_000)"]
        assert (len(before), len(kept)) == (1_000_000, 500_000)
    finally:
        tracemalloc.stop()


@given(st.floats(-1e12, 1e12))
def test_amounts_are_in_units_that_people_use(size: float) -> None:
    assert amount(size).split()[-1] in {"byte", "bytes", "kB", "MB", "GB", "TB"}
    assert amount(1) == "1 byte"
    assert amount(120) == "120 bytes"
    assert amount(1500) == "1.5 kB"
