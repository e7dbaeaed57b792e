"""monitor: start, stop and configure."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import hotlap
from aggregator import FOREVER, alone, current, threads, until
from hotlap.errors import OptionError, OptionTypeError
from hotlap.model import Cycle
from hotlap.sinks.memory import MemorySink
from live import probed


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    """No aggregator runs before or after the test, and nothing is configured."""
    with alone():
        yield


def test_start_runs_one_daemon_thread_and_stop_ends_it() -> None:
    """Started twice it is the same one; stopped twice it is as stopped."""
    assert not hotlap.running()
    hotlap.start(interval=FOREVER, sinks=[])
    before = current()
    hotlap.start()
    hotlap.start(interval=FOREVER)
    assert hotlap.running()
    assert current() is before
    (thread,) = threads()
    assert thread.daemon
    hotlap.stop()
    hotlap.stop()
    assert not hotlap.running()
    until(lambda: not threads())


def test_starting_again_with_what_holds_already_changes_nothing() -> None:
    """No cycle, no new thread, no new sink; an option that is not named stays, as it does over a stop."""
    memory = MemorySink()
    hotlap.start(interval=FOREVER, sinks=[memory], sample_rate=7)
    before = current()
    for again in ({}, {"interval": "60 min"}, {"sample_rate": 7.0}, {"sinks": [memory]}):
        hotlap.start(**again)
        assert current() is before
    assert memory.cycles == ()
    hotlap.stop()
    hotlap.start()
    assert current().config == before.config
    assert len(memory.cycles) == 1


def test_other_options_take_effect_at_once() -> None:
    """The old aggregator gives its last cycle to its own sinks; options given before stay."""
    work, name = probed()
    first, second = MemorySink(), MemorySink()
    hotlap.start(interval=FOREVER, sinks=[first], sample_rate=7.0)
    work()
    hotlap.start(sinks=[second])
    assert [report.site for report in first.reports if report.site == name] == [name]
    assert (current().config.sample_rate, current().config.interval) == (7.0, FOREVER)
    assert len(threads()) == 1
    work()
    hotlap.stop()
    assert sum(report.stats.calls for report in second.reports if report.site == name) == 1


def test_no_call_is_reported_twice_and_none_is_lost() -> None:
    """Over flush, start, changed options, stop and start again, with calls in between."""
    work, name = probed()
    cycles: list[Cycle] = []
    options = {"interval": FOREVER, "sinks": [cycles.append]}
    hotlap.configure(**options)
    work()
    hotlap.flush()
    work()
    hotlap.start()
    work()
    hotlap.flush()
    hotlap.configure(budget=0.5)
    work()
    hotlap.stop()
    work()
    hotlap.start()
    work()
    hotlap.stop()
    calls = [report.stats.calls for cycle in cycles for report in cycle.reports if report.site == name]
    assert sum(calls) == 6
    assert hotlap.snapshot()[name].calls == 6


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"intervall": 5}, OptionError, "did you mean 'interval'"),
        ({"interval": "soon"}, OptionError, "interval"),
        ({"ring_capacity": 1000}, OptionError, "power of two"),
        ({"slo": -1}, OptionError, "slo"),
        ({"budget": "much"}, OptionTypeError, "budget"),
        ({"sinks": ["structlogg"]}, OptionError, "structlog"),
        ({"sinks": [object()]}, OptionTypeError, "no sink"),
        ({"rules": {"time.sloww": {"info": 1}}}, OptionError, "sloww"),
    ],
)
def test_refused_options_leave_everything_as_it_was(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """An error that names the value and what was meant; what runs goes on, with the old options."""
    with pytest.raises(error, match=message):
        hotlap.start(**options)
    assert not hotlap.running()
    hotlap.start(interval=FOREVER, sinks=[])
    before = current()
    for change in (hotlap.start, hotlap.configure):
        with pytest.raises(error, match=message):
            change(**options)
    assert current() is before
    assert before._thread is not None
    assert before._thread.is_alive()
    hotlap.start()
    assert current() is before


@pytest.mark.parametrize("name", ["start", "configure"])
def test_an_unknown_option_is_told_by_the_function_that_was_called(name: str) -> None:
    """start() for start(), configure() for configure(), running or not."""
    for _ in range(2):
        with pytest.raises(OptionError) as caught:
            getattr(hotlap, name)(intervall=1)
        assert str(caught.value) == f"{name}() has no option 'intervall': did you mean 'interval'?"
        hotlap.start(interval=FOREVER, sinks=[])


def test_configure_before_start_is_for_the_next_start() -> None:
    """It starts nothing itself, and refuses the same as start does."""
    hotlap.configure(interval=FOREVER, sinks=())
    hotlap.configure(sample_rate=3.0)
    assert not hotlap.running()
    with pytest.raises(OptionError, match="did you mean 'sample_rate'"):
        hotlap.configure(sample_rates=3)
    hotlap.start()
    assert (current().config.interval, current().config.sample_rate) == (FOREVER, 3.0)


def test_a_sink_that_goes_on_is_not_closed_in_between() -> None:
    """The same object in the old options and the new ones is closed once, at the end."""
    events: list[str] = []

    class Sink:
        def emit(self, cycle: Cycle) -> None:
            events.append("emit")

        def close(self) -> None:
            events.append("close")

    class Other(Sink):
        def close(self) -> None:
            events.append("close other")

    sink = Sink()
    hotlap.start(interval=FOREVER, sinks=[sink, Other()])
    hotlap.configure(sinks=[sink])
    assert events == ["emit", "emit", "close other"]
    hotlap.stop()
    assert events == ["emit", "emit", "close other", "emit", "close"]


def test_a_thread_that_cannot_be_started_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the caller's; no hook stays installed, and the next start works."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            hotlap.start(interval=FOREVER, sinks=[])
    assert not hotlap.running()
    work, _ = probed()
    work()
    hotlap.start(interval=FOREVER, sinks=[])
    assert hotlap.running()
