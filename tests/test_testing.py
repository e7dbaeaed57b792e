"""hotlap.testing: a clock that stands still, and the reports of one block."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hotlap
from hotlap import core
from hotlap.errors import OptionError, OptionTypeError
from hotlap.testing import FakeClock, NotCapturedError, capture, fake_clock

_numbers = itertools.count()


@pytest.fixture
def stopped() -> Iterator[None]:
    """No aggregator runs before or after the test."""
    hotlap.stop()
    yield
    hotlap.stop()


pytestmark = pytest.mark.usefixtures("stopped")


def nothing() -> None:
    """What most tests measure."""


def probed(function: Callable[..., Any]) -> tuple[Any, str]:
    """`function` measured under a name that no other test has, and that name."""
    name = f"test_testing.{function.__name__}_{next(_numbers)}"
    return hotlap.benchmark(name=name)(function), name


# -- fake_clock ----------------------------------------------------------------------------


def test_calls_are_timed_with_the_fake_clock() -> None:
    """A call lasts as long as the test says, to the nanosecond."""
    with fake_clock() as clock:
        work, name = probed(lambda: clock.advance(0.25))
        work()
        before = clock.now_ns
        clock.advance(1e-9)
        assert clock.now_ns == before + 1
    assert hotlap.snapshot()[name].total_ns == 250_000_000


def test_the_clock_before_is_back_after_the_block() -> None:
    """Real time after the outermost block, the outer fake one after the inner."""
    with fake_clock(5.0) as outer:
        assert core.now_ns() == 5_000_000_000
        with pytest.raises(ZeroDivisionError), fake_clock(7.0):
            assert core.now_ns() == 7_000_000_000
            raise ZeroDivisionError
        outer.advance(1)
        assert core.now_ns() == 6_000_000_000
    assert core.clock()["kind"] != "fake"


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf")])
def test_time_never_runs_backwards(seconds: float) -> None:
    """A negative or infinite step is refused, and the clock stays where it is."""
    clock = FakeClock(3)
    with pytest.raises(OptionError, match=r"seconds=.* is not a duration"):
        clock.advance(seconds)
    assert clock.now_ns == 3_000_000_000
    assert repr(clock) == "<FakeClock at 3.0 s>"


@pytest.mark.parametrize("seconds", ["1", None, True])
def test_a_step_is_a_number(seconds: object) -> None:
    with pytest.raises(OptionTypeError, match="is not a number"):
        FakeClock().advance(seconds)  # type: ignore[arg-type]


# -- capture ----------------------------------------------------------------------------


def test_capture_reports_what_ran_inside() -> None:
    """Calls before and after the block are in no report; those inside are all there, each with evidence."""
    with fake_clock() as clock:
        work, name = probed(lambda: clock.advance(0.01))
        for _ in range(3):
            work()
        with capture() as captured:
            assert captured.reports == ()
            for _ in range(300):
                work()
        work()
    stats = captured[name].stats
    assert stats.calls == stats.timed == stats.samples == 300
    assert stats.max_s == pytest.approx(0.01)
    assert stats.total_s == pytest.approx(3.0)
    assert hotlap.snapshot()[name].calls == 304
    assert name in repr(captured)


def test_a_report_is_found_by_the_last_part_of_its_name() -> None:
    """An unknown name and an ambiguous one say what there is."""
    one = hotlap.benchmark(name="test_testing.first.twice")(nothing)
    two = hotlap.benchmark(name="test_testing.second.twice")(nothing)
    with capture() as captured:
        one()
        two()
    assert captured["second.twice"].site == "test_testing.second.twice"
    with pytest.raises(OptionError, match=r"several sites: write one of test_testing\.first\.twice"):
        captured["twice"]
    with pytest.raises(NotCapturedError, match=r"what was: .*test_testing\.second\.twice"):
        captured["never"]
    with capture() as empty:
        pass
    with pytest.raises(LookupError, match="what was: nothing"):
        empty["never"]
    assert repr(empty) == "<Capture of nothing>"


def test_an_exception_passes_through_and_the_reports_are_there() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    work, name = probed(fail)
    with pytest.raises(ZeroDivisionError), capture() as captured:
        work()
    assert captured[name].stats.errors == 1


def test_afterwards_modes_limits_and_switches_are_as_before() -> None:
    """Also those that the captured cycle itself would have changed."""
    work, name = probed(nothing)
    site = work._self_site
    site.mode, site.tail_ns = core.COUNT, 12_345
    hotlap.disable()
    try:
        with capture() as captured:
            for _ in range(500):
                work()
        assert not core.enabled()
    finally:
        hotlap.enable()
    assert captured[name].stats.timed == 500
    assert (site.mode, site.tail_ns) == (core.COUNT, 12_345)


def test_a_running_recorder_goes_on() -> None:
    """Its windows hold every call, those in the block without a record; afterwards it has records again."""
    work, name = probed(nothing)
    hotlap.start(interval=3600, sinks=[])
    with capture() as captured:
        work()
    work()
    assert hotlap.running()
    assert captured[name].stats.samples == 1
    (report,) = (report for report in hotlap.flush() if report.site == name)
    assert (report.stats.calls, report.stats.samples) == (2, 1)


def test_a_program_may_start_hotlap_in_the_block() -> None:
    """What it started is what runs afterwards."""
    work, name = probed(nothing)
    with capture() as captured:
        hotlap.start(interval=3600, sinks=[])
        work()
    assert captured[name].stats.calls == 1
    work()
    (report,) = (report for report in hotlap.flush() if report.site == name)
    assert report.stats.samples >= 1


def test_captures_can_be_nested() -> None:
    """Both count the inner calls; the outer one gets its records back."""
    work, name = probed(nothing)
    with capture() as outer:
        work()
        with capture() as inner:
            work()
        work()
    assert (inner[name].stats.calls, inner[name].stats.samples) == (1, 1)
    assert (outer[name].stats.calls, outer[name].stats.samples) == (3, 2)


def test_options_are_those_of_start() -> None:
    """A sink that is named gets the cycle; an unknown option is refused, and nothing is left behind."""
    cycles: list[hotlap.Cycle] = []
    work, name = probed(nothing)
    with capture(sinks=[cycles.append]):
        work()
    assert [report.site for cycle in cycles for report in cycle.reports] == [name]
    with pytest.raises(OptionError, match=r"^capture\(\) has no option 'colour'"), capture(colour="red"):
        pytest.fail("the block must not run")


def test_a_site_that_wants_no_records_has_none() -> None:
    name = f"test_testing.unsampled_{next(_numbers)}"
    work = hotlap.benchmark(name=name, sample=0)(nothing)
    with capture() as captured:
        work()
    assert (captured[name].stats.calls, captured[name].stats.samples) == (1, 0)
