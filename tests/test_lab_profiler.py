"""PROFILING: the hottest lines are those that take the time, and the largest allocations those that hold the memory."""

from __future__ import annotations

import asyncio
import builtins
import cProfile
import importlib.util
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hotlap.lab
from hotlap.errors import MissingExtraError, OptionError, OptionTypeError
from hotlap.lab.config import BenchmarkConfig
from hotlap.lab.looks.lines import LineClock
from hotlap.lab.profiler import PerformanceProfiler, Profile
from hotlap.lab.runs.limits import Guard
from hotlap.lab.runs.subject import Subject

LAB = str(Path(hotlap.lab.__file__).parent)


@pytest.fixture
def no_tracer() -> Iterator[None]:
    """A debugger, or the measuring of coverage, has a tracer on: it would be in the way."""
    before = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(before)


def profile(func: Callable[..., Any], *args: Any) -> Profile:
    found = PerformanceProfiler(seconds=0.2).profile(func, *args)
    assert not tracemalloc.is_tracing()
    assert sys.getprofile() is None
    return found


def line(func: Callable[..., Any], text: str) -> int:
    """The number of the line of a function that has a text."""
    code = func.__code__
    lines = Path(code.co_filename).read_text(encoding="utf-8").splitlines()
    return next(n for n in range(code.co_firstlineno, len(lines)) if text in lines[n - 1] and n > code.co_firstlineno)


def bubble(values: list[int]) -> list[int]:
    values = list(values)
    for end in range(len(values) - 1, 0, -1):
        for i in range(end):
            if values[i] > values[i + 1]:
                values[i], values[i + 1] = values[i + 1], values[i]
    return values


def total(n: int) -> int:
    return sum(range(n))


def work() -> int:
    few = total(10)
    return few + total(200_000)


async def nap() -> None:
    await asyncio.sleep(0.005)


async def naps() -> int:
    await nap()
    return sum(range(100))


# -- time ---------------------------------------------------------------------------------------------------------


def test_the_line_that_takes_the_time_comes_first() -> None:
    found = profile(work)
    first = found.lines[0]
    assert (first.file, first.line, first.function) == (__file__, line(total, "return sum"), "total")
    assert first.code == "return sum(range(n))"
    assert 0.5 < first.share <= 1
    assert first.seconds == pytest.approx(first.share * found.seconds)
    caller = next(one for one in found.lines if one.function == "work") if len(found.lines) > 1 else None
    assert caller is None or caller.total_share > caller.share
    assert f"{__file__}:{first.line} in total" in found.sentences[0]


def test_what_a_line_calls_is_in_its_total() -> None:
    def outer() -> int:
        return sum(len(str(number)) for number in range(3000))

    shares = {one.function: one.total_share for one in profile(outer).lines}
    assert shares["outer"] > 0.8


@pytest.mark.usefixtures("no_tracer")
def test_lines_of_a_loop_without_calls_are_told_apart() -> None:
    """Samples are taken where something is called: of such a loop they see the return at its end."""
    found = profile(bubble, list(range(150, 0, -1)))
    inner = line(bubble, "for i in range(end)")
    shares = {one.line: one.share for one in found.lines}
    assert sum(shares[number] for number in range(inner, inner + 3) if number in shares) > 0.8
    assert shares[inner + 2] > 0.1
    assert shares.get(line(bubble, "return values"), 0.0) < 0.1
    assert sum(one.share for one in found.lines) == pytest.approx(1, abs=0.02)


def test_a_function_written_in_c_is_named() -> None:
    found = profile(sorted, list(range(50_000, 0, -1)))
    assert (found.lines[0].function, found.lines[0].line) == ("sorted", 0)
    assert found.lines[0].place == "sorted"
    assert found.lines[0].share > 0.9
    assert profile(bytes, 5_000_000).lines[0].place == "bytes"  # of a type no call is seen


def test_waiting_is_where_the_users_code_waits() -> None:
    found = profile(naps)
    first = found.lines[0]
    assert first.waiting
    assert (first.file, first.line, first.function) == (__file__, line(nap, "await asyncio"), "nap")
    assert first.share > 0.5
    assert found.sentences[0].startswith("It waits ")


def test_tasks_are_followed() -> None:
    async def gathers() -> None:
        await asyncio.gather(nap(), nap())

    found = profile(gathers)
    assert all(one.waiting for one in found.lines[:1])
    assert found.seconds > 0


def test_no_frame_of_ours_is_a_hot_line() -> None:
    for found in (profile(lambda: None), profile(work), profile(naps)):
        assert not any(one.file.startswith((LAB, "<hotlap")) for one in found.lines)
        assert not any(one.file.startswith((LAB, "<hotlap")) for one in found.allocations)


def test_what_the_lab_does_around_a_call_is_in_no_list() -> None:
    """Neither its own calls of the standard library, nor the setup and teardown, which are in no time either."""

    def setup() -> tuple[tuple[bytes], dict[str, Any]]:
        return (bytes(3_000_000),), {}

    def call(given: bytes) -> int:
        block = bytearray(1_000_000)
        return len(block) + sum(range(20_000))

    config = BenchmarkConfig(setup=setup, teardown=lambda: sum(range(20_000)))
    with Guard(config) as guard:
        found = PerformanceProfiler(seconds=0.2).profile_subject(Subject(call), config, guard)
    assert {(one.file, one.function) for one in found.lines} == {(__file__, "call")}
    assert found.peak_bytes == pytest.approx(1e6, rel=0.01)
    assert [one.code for one in found.allocations] == ["block = bytearray(1_000_000)"]


@pytest.mark.parametrize("func", [lambda: None, lambda: [1], naps], ids=["nothing", "list", "async"])
def test_a_call_that_allocates_next_to_nothing_has_no_sites(func: Callable[..., Any]) -> None:
    """A profile function makes objects of its own, for each call that is open: they would be most of what is held."""
    found = profile(func)
    assert found.peak_bytes is not None
    assert found.peak_bytes < 5_000
    assert found.allocations == ()
    assert all(one.file == __file__ for one in found.lines if one.line)


def test_how_much_slower_the_calls_were_is_told() -> None:
    found = profile(bubble, list(range(100)))
    assert found.slowdown is not None
    assert found.slowdown > 0
    assert found.tracing_slowdown is not None
    assert found.tracing_slowdown > 0
    assert found.calls > 1
    assert found.samples > 1


# -- memory -------------------------------------------------------------------------------------------------------


def test_what_is_held_at_the_peak_is_told_by_line() -> None:
    def passing() -> int:
        large = bytearray(5_000_000)
        small = [bytes(1000) for _ in range(1000)]
        length = len(large)
        del large
        return length + len(small)

    found = profile(passing)
    assert found.peak_bytes == pytest.approx(6_050_000, rel=0.02)
    first, second = found.allocations[:2]
    assert (first.file, first.line) == (__file__, line(passing, "large = "))
    assert first.bytes == pytest.approx(5e6, rel=0.01)
    assert (second.line, second.blocks) == (line(passing, "small = "), pytest.approx(1001, abs=10))


def test_the_callers_of_an_allocation_are_told() -> None:
    def keep() -> bytes:
        return bytes(2_000_000)

    def caller() -> int:
        return len(keep())

    first = profile(caller).allocations[0]
    assert first.line == line(keep, "return")
    assert first.stack[0] == f"{__file__}:{line(caller, 'return')}"


# -- what may be in the way ---------------------------------------------------------------------------------------


def test_without_pyinstrument_it_says_how_to_install_it_before_anything_is_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    called: list[int] = []
    for call in (PerformanceProfiler.check, lambda: PerformanceProfiler().profile(called.append, 1)):
        with pytest.raises(MissingExtraError, match=r"pip install 'hotlap\[profile\]'") as caught:
            call()
        assert "\n" not in str(caught.value)
    assert called == []


def test_importing_the_profiler_does_not_import_pyinstrument(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refusing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pyinstrument"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.startswith("pyinstrument")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "hotlap.lab.profiler")
    monkeypatch.setattr(builtins, "__import__", refusing)
    importlib.import_module("hotlap.lab.profiler").PerformanceProfiler()


def test_failures_are_counted() -> None:
    def fails() -> None:
        sum(range(1000))
        raise ValueError

    found = profile(fails)
    assert found.failed >= found.calls > 0
    assert found.lines[0].line == line(fails, "sum(")


def test_another_profiler_in_the_thread_stays_on_and_is_said() -> None:
    other = cProfile.Profile()
    calls: list[str] = []
    sys.setprofile(lambda frame, event, argument: calls.append(event))
    try:
        found = PerformanceProfiler(seconds=0.05).profile(work)
        assert sys.getprofile() is not None
    finally:
        sys.setprofile(None)
    assert found.lines == ()
    assert found.slowdown is None
    assert any("another profile function is on" in note for note in found.notes)
    assert found.peak_bytes is not None
    other.disable()


def test_another_tracer_in_the_thread_stays_on_and_is_said() -> None:
    def tracer(frame: Any, event: str, argument: Any) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        found = PerformanceProfiler(seconds=0.1).profile(bubble, list(range(100)))
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
    assert any("In bubble a line may stand for those before it" in note for note in found.notes)
    assert found.lines[0].function == "bubble"


def test_setup_and_teardown_go_with_each_call() -> None:
    order: list[str] = []

    def setup() -> tuple[tuple[int], dict[str, Any]]:
        order.append("setup")
        return (20_000,), {}

    def call(n: int) -> int:
        order.append("call")
        return total(n)

    config = BenchmarkConfig(setup=setup, teardown=lambda: order.append("teardown"))
    with Guard(config) as guard:
        found = PerformanceProfiler(seconds=0.1).profile_subject(Subject(call), config, guard)
    assert order == ["setup", "call", "teardown"] * (len(order) // 3)
    assert any(one.function == "total" for one in found.lines)


def test_a_setup_that_fails_ends_it_with_a_note() -> None:
    calls = 0

    def setup() -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise RuntimeError("no more")

    config = BenchmarkConfig(setup=setup)
    with Guard(config) as guard:
        found = PerformanceProfiler(seconds=0.1).profile_subject(Subject(work), config, guard)
    assert any("setup raised RuntimeError: no more" in note for note in found.notes)


def test_a_limit_ends_it_with_a_note() -> None:
    config = BenchmarkConfig(timeout=0.3)
    with Guard(config) as guard:
        found = PerformanceProfiler().profile_subject(Subject(time.sleep, (600,)), config, guard)
    assert found.notes == ("Profiling was not done to the end: a limit was reached.",)
    assert sys.getprofile() is None
    assert found.lines == ()


def test_details_are_plain() -> None:
    found = profile(work)
    details = json.loads(json.dumps(found.details()))
    assert details["lines"][0]["function"] == found.lines[0].function
    assert details["slowdown"] == found.slowdown
    assert details["interval_s"] == 1e-3


@pytest.mark.parametrize("option", [{"seconds": 0}, {"interval": -1}, {"most": 0}, {"seconds": 0.01, "interval": 1}])
def test_options_that_make_no_sense_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(option))):
        PerformanceProfiler(**option)


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(OptionTypeError, match="not callable"):
        PerformanceProfiler().profile(42)  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_tracer")
def test_the_clock_of_lines_leaves_out_what_a_line_calls() -> None:
    """Only a line's own time counts: that of its callees is theirs."""

    def calls(n: int) -> int:
        found = 0
        for _ in range(n):
            found += total(20_000)
            found += sum(range(2000))
        return found

    code = calls.__code__
    with LineClock({(code.co_filename, code.co_firstlineno, code.co_name)}) as clock:
        calls(300)
    (shares,) = clock.shares().values()
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[line(calls, "found += sum")] > shares[line(calls, "found += total")]
    assert sys.gettrace() is None
