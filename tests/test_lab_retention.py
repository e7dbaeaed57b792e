"""MEMORY: a leak is found where it is, and nothing is called one that is none."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import mmap
import re
import time
from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap import BenchmarkConfig, PerformanceBenchmarker
from hotlap.lab.export import dumps, loads
from hotlap.lab.kinds.memory import Memory
from hotlap.lab.looks.retention import Retention, amount
from hotlap.stats.leak import LEAK, NONE, NOT_JUDGED, PLATEAU, Growth
from kinds import examined
from memory_looks import glibc, linux, look, shorten


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


# -- leaks --------------------------------------------------------------------------------------------------------


def test_what_each_call_keeps_is_a_leak_with_its_line() -> None:
    kept = []

    def leak() -> None:
        kept.append(bytes(67))  # with its header 100 bytes

    _, examination = examined(Memory, leak, iterations=10)
    found = examination.details["leak"]
    assert (found["kind"], found["where"]) == ("leak", "python")
    assert 90 <= found["bytes_per_call_low"] <= 110 <= found["bytes_per_call_high"] + 10
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
    assert found["bytes_per_call_low"] <= 103.2  # with its place in the list, which grows by leaps
    assert found["bytes_per_call_high"] >= 102.4


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
    assert 1000 <= found["bytes_per_call_low"] <= found["bytes_per_call_high"] <= 1100
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


def test_a_leak_marks_the_run() -> None:
    """It has not passed; the verdict says how much, and the advice, once, where."""
    kept = deque()  # grows evenly, which a list does by leaps
    report = PerformanceBenchmarker().benchmark_memory(
        lambda: kept.append(bytes(10_000)), config=BenchmarkConfig(iterations=10)
    )
    assert report.verdict.complete
    assert not report.verdict.passed
    (mark,) = report.verdict.marks
    assert (mark.limit, mark.allowed, mark.ended) == ("leak", 0.0, False)
    assert mark.value == pytest.approx(10_033, rel=0.02)
    assert re.fullmatch(r"it leaks 10(\.\d)? kB per call \[.+ kB, .+ kB\]", report.verdict.sentence)
    assert [said for said in report.recommendations if "leak" in said] == [report.details["leak"]["sentence"]]
    assert loads(dumps(report)).verdict == report.verdict


def test_what_is_no_leak_for_certain_marks_nothing() -> None:
    _, fills = numbered(10**9)
    for call in (fills, lambda: bytes(10_000)):
        _, examination = examined(Memory, call, iterations=10)
        assert examination.marks == []


# -- caches, and what else is no leak -----------------------------------------------------------------------------


@functools.lru_cache(maxsize=10**9)
def answer(number: int) -> bytes:
    return bytes(300)


questions = iter(range(10**9))


def ask() -> None:
    answer(next(questions))


class Users:
    """Another way to the same cache."""

    def ask(self) -> None:
        answer(next(questions))


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


@glibc
def test_a_cache_that_was_full_before_has_kept_nothing() -> None:
    """What each of its calls puts in takes the place of an entry that was made before tracing began."""
    cache: dict[int, bytes] = {}
    calls = iter(range(10**9))

    def call() -> None:
        cache[next(calls) % 200] = bytes(10_000)

    for _ in range(1000):
        call()
    found = look(call, loops=1)["leak"]
    assert found["kind"] == "plateau"
    assert found["levels"]["traced_bytes"]["grown"] > 1e6
    assert found["levels"]["native_bytes"]["kind"] == "none"
    assert "they take the place of what earlier calls had kept" in found["sentence"]
    assert "it kept" not in found["sentence"]


@glibc
def test_what_a_cache_has_kept_until_it_was_full_is_told() -> None:
    """100 entries, of which some 20 are there before the look at blocks of calls begins."""
    cache: dict[int, bytes] = {}
    calls = iter(range(10**9))

    def call() -> None:
        number = next(calls)
        if number < 100:
            cache[number] = bytes(10_000)

    found = look(call, loops=1)["leak"]
    assert found["kind"] == "plateau"
    assert re.match(r"No leak: it kept (7|8)\d\d kB within [\d,]+ calls, and no more", found["sentence"])


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
    assert "15 MB of what it allocated stay, but what is in use does not grow" in retention.sentence
    assert replace(retention, kept=0.0).sentence.endswith("they take the place of what earlier calls had kept.")
    assert "it kept 15 MB within 2,952 calls" in replace(retention, kept=2e7).sentence
    assert retention.details()["bytes_per_call"] == 0.0
    assert Retention(unjudged, python=still).kind == NOT_JUDGED
    grows = replace(still, kind=LEAK, per_call=5000.0, low=4000.0, high=6000.0)
    assert Retention(unjudged, python=still, native=grows, resident=grows).kind == LEAK


def test_without_time_for_untraced_calls_it_counts_what_is_in_use_before_and_after() -> None:
    traced = Growth(LEAK, "", 1e4, 1e4, 1e4, 1e4, 1.0, 2e6, 200, 20, 200)
    assert Retention(traced, kept=2e6).kind == LEAK
    assert Retention(traced).kind == LEAK
    assert Retention(traced, kept=0.0).kind == PLATEAU
    assert "they take the place" in Retention(traced, kept=0.0).sentence


def test_a_bounded_cache_that_fills_is_named() -> None:
    _, call = numbered(10**9)
    found = look(call)["leak"]
    assert found["kind"] == "cache filling"
    assert found["caches"][0]["name"].endswith("numbered.<locals>.cached")
    assert found["caches"][0]["maxsize"] == 10**9
    assert "numbered.<locals>.cached" in found["sentence"]


def test_a_cache_is_found_where_the_program_has_called_freeze() -> None:
    """The collector tells no more of it; the function that uses it still does."""
    user = Users()
    gc.freeze()
    try:
        for call in (ask, user.ask, functools.partial(Users.ask, user)):
            found = look(call)["leak"]
            assert found["kind"] == "cache filling"
            assert found["caches"][0]["name"] == f"{__name__}.answer"
    finally:
        gc.unfreeze()


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
    assert 0 < found["smallest_seen_bytes_per_call"] < 100
    assert found["calls"] > 100
    assert "would have been seen" in found["sentence"]


@given(st.floats(-1e12, 1e12))
def test_amounts_are_in_units_that_people_use(size: float) -> None:
    assert amount(size).split()[-1] in {"byte", "bytes", "kB", "MB", "GB", "TB"}
    assert amount(1) == "1 byte"
    assert amount(120) == "120 bytes"
    assert amount(1500) == "1.5 kB"
