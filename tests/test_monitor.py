"""monitor: start, stop, flush, snapshot and configure, and the thread behind them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hotlap
from hotlap import config, core, monitor
from hotlap.errors import HotlapError, OptionError, OptionTypeError
from hotlap.model import Context, Cycle, Stats
from hotlap.rules import PROCESS_SITE
from hotlap.rules.base import Limits, Rule
from hotlap.sinks.memory import MemorySink
from hotlap.testing import fake_clock
from live import flushed, made, named, probed, run_program, stats_of

FOREVER = 3600  # an interval: no cycle but those that are asked for
SOON_S = 10.0  # long enough for a busy machine


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    """No aggregator runs before or after the test, and nothing is configured."""
    hotlap.stop()
    monitor._options.clear()
    monitor._monitor = None
    yield
    hotlap.stop()
    monitor._options.clear()
    monitor._monitor = None


def current() -> monitor.Monitor:
    assert monitor._monitor is not None
    return monitor._monitor


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hotlap"]


def until(condition: Callable[[], object]) -> None:
    """Wait for another thread."""
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# -- start and stop ------------------------------------------------------------------------


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


# -- the thread ----------------------------------------------------------------------------


def test_cycles_come_by_themselves() -> None:
    """Numbered from one, each with the calls since the one before; stop() adds a last one."""
    sink = MemorySink()
    work, name = probed()
    hotlap.start(interval=0.02, sinks=[sink])
    for _ in range(3):
        count = len(sink.cycles)
        work()
        until(lambda count=count: len(sink.cycles) > count + 1)
    hotlap.stop()
    assert [cycle.number for cycle in sink.cycles] == list(range(1, len(sink.cycles) + 1))
    assert sum(report.stats.calls for report in sink.reports if report.site == name) == 3
    assert all(0 < cycle.window_s < SOON_S for cycle in sink.cycles[1:])


def test_the_ring_is_emptied_between_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second, or what the test makes of it: a small ring is enough for a long interval."""
    monkeypatch.setattr(monitor, "_DRAIN_S", 0.005)
    hotlap.start(interval=FOREVER, sinks=[], ring_capacity=64)
    work, name = probed()
    for _ in range(4):
        work._self_site.sample(1.0, 1000)
        before = current().recorder._tally.count
        for _ in range(50):
            work()
        until(lambda before=before: current().recorder._tally.count >= before + 50)
    stats = flushed(name)
    assert stats is not None
    assert stats.samples == 200


def test_cycles_that_were_missed_are_not_made_up_for() -> None:
    """A sink that takes five intervals is followed by one cycle, not by five at once."""
    sink = MemorySink()
    slow = threading.Event()

    def block(cycle: Cycle) -> None:
        if cycle.number == 1:
            slow.wait(0.3)

    hotlap.start(interval=0.05, sinks=[sink, block])
    until(lambda: len(sink.cycles) >= 3)
    hotlap.stop()
    assert sink.cycles[1].window_s > 0.25
    assert sink.cycles[2].window_s > 0.02


def test_a_cycle_that_fails_is_logged_once_and_the_thread_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The host sees nothing of it; failures are counted, and when the cause is gone reports come again."""
    sink = MemorySink()
    work, name = probed()
    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR, "hotlap"):
        patched.setattr(monitor, "summarise", lambda *_: 1 / 0)
        hotlap.start(interval=0.01, sinks=[sink])
        until(lambda: current().failures.get("a cycle", 0) >= 3)
        work()
    until(lambda: sink.cycles)
    work()
    until(lambda: any(report.site == name for report in sink.reports))
    assert [record.getMessage() for record in caplog.records] == [
        "a cycle failed; further failures are counted, not logged"
    ]


def test_a_drain_that_fails_is_logged_apart(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and cycles are still reported on their own."""
    monkeypatch.setattr(monitor, "_DRAIN_S", 0.001)
    hotlap.start(interval=FOREVER, sinks=[])
    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR, "hotlap"):
        patched.setattr(current().recorder, "drain", lambda: 1 / 0)
        until(lambda: current().failures.get("draining the ring", 0) >= 3)
    assert len(caplog.records) == 1
    assert "draining the ring failed" in caplog.records[0].getMessage()


def test_a_sink_that_exits_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    """SystemExit is no Exception, and would leave without a word."""
    exits = [1, 2]

    def leave(_: Cycle) -> None:
        if exits:
            raise SystemExit(exits.pop())

    sink = MemorySink()
    with caplog.at_level(logging.ERROR, "hotlap"):
        hotlap.start(interval=0.01, sinks=[leave, sink])
        until(lambda: sink.cycles)
    assert current().failures == {"a cycle": 2}
    assert len(caplog.records) == 1


# -- nobody waits --------------------------------------------------------------------------


def test_calls_go_on_while_a_sink_holds_a_cycle_up() -> None:
    """Calls, new sites, blocks and snapshots wait for nothing that the aggregator holds."""
    entered, leave = threading.Event(), threading.Event()

    def block(_: Cycle) -> None:
        entered.set()
        leave.wait(SOON_S)

    hotlap.start(interval=0.01, sinks=[block])
    assert entered.wait(SOON_S)
    try:
        work, name = probed()
        for _ in range(10_000):
            work()
        with hotlap.measure(named("block")) as one:
            one.record(rows=1)
        assert hotlap.snapshot()[name].calls == 10_000
        assert hotlap.running()
        hotlap.disable()
        hotlap.enable()
        assert not leave.is_set()
    finally:
        leave.set()


def test_stop_does_not_wait_for_a_sink_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """About a second, here less; there is no last cycle then, and nobody runs one beside the sink."""
    monkeypatch.setattr(monitor, "_STOP_S", 0.05)
    entered, leave = threading.Event(), threading.Event()

    def block(cycle: Cycle) -> None:
        entered.set()
        leave.wait(SOON_S)

    hotlap.start(interval=0.01, sinks=[block])
    assert entered.wait(SOON_S)
    begin = time.monotonic()
    hotlap.stop()
    assert time.monotonic() - begin < SOON_S / 2
    assert not hotlap.running()
    leave.set()


def test_a_sink_must_not_flush() -> None:
    """It would wait for itself: refused, and the sink is switched off; the others get their cycle."""
    memory = MemorySink()

    def flush(_: Cycle) -> None:
        hotlap.flush()

    hotlap.start(interval=FOREVER, sinks=[flush, memory])
    hotlap.flush()
    hotlap.flush()
    assert len(memory.cycles) == 2
    assert memory.cycles[1].context.sinks_failed != ()
    with pytest.raises(HotlapError, match="called by a sink"):
        current()._cycling = threading.get_ident()
        current().cycle()
    current()._cycling = None


@pytest.mark.parametrize("ask", [True, False])
def test_a_sink_may_stop_the_recorder(ask: bool) -> None:
    """In a cycle of the thread's, and in one that somebody asked for: no deadlock, and no further cycle."""
    cycles: list[int] = []

    def enough(cycle: Cycle) -> None:
        cycles.append(cycle.number)
        hotlap.stop()

    hotlap.start(interval=FOREVER if ask else 0.01, sinks=[enough])
    if ask:
        hotlap.flush()
    until(lambda: not hotlap.running())
    until(lambda: not threads())
    assert cycles == [1]


def test_flushes_from_many_threads_take_turns() -> None:
    """Every call is in exactly one of their cycles."""
    work, name = probed()
    found: list[int] = []
    hotlap.start(
        interval=0.01,
        sinks=[lambda cycle: found.extend(r.stats.calls for r in cycle.reports if r.site == name)],
    )

    def run() -> None:
        for _ in range(20):
            for _ in range(50):
                work()
            hotlap.flush()

    workers = [threading.Thread(target=run) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    hotlap.stop()
    assert sum(found) == 4 * 20 * 50
    assert hotlap.snapshot()[name].in_flight == 0


def test_sites_may_be_made_while_cycles_run() -> None:
    """The registry grows under the aggregator's hands, and no cycle fails of it."""
    hotlap.start(interval=0.01, sinks=[])

    def grow() -> None:
        for _ in range(200):
            work, _ = probed(stem="growing")
            work._self_site.tail_ns = 0
            for _ in range(3):
                work()

    workers = [threading.Thread(target=grow) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    hotlap.flush()
    assert current().failures == {}


# -- failing parts -------------------------------------------------------------------------


def test_a_failing_sink_is_logged_once_counted_and_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    """The other sinks have every cycle, and the context says which one is off."""
    memory = MemorySink()

    def broken(_: Cycle) -> None:
        raise OSError("disk full")

    hotlap.start(interval=FOREVER, sinks=[broken, memory])
    with caplog.at_level(logging.ERROR, "hotlap"):
        for _ in range(3):
            hotlap.flush()
    assert len(caplog.records) == 1
    assert len(memory.cycles) == 3
    assert [len(cycle.context.sinks_failed) for cycle in memory.cycles] == [0, 1, 1]
    assert (current().sinks[0].failures, current().sinks[0].missed) == (1, 3)


class Broken(Rule):
    """Raises for every site and for the process."""

    id = "test.broken"
    limits = Limits(1.0, 2.0)

    def check(self, stats: Stats, context: Context, limits: Limits) -> Any:
        raise LookupError(stats.site)


class BrokenForAll(Broken):
    """The same, for the process."""

    id = "test.broken_for_all"
    scope = "process"


def test_a_failing_rule_is_logged_once_and_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    """Its verdicts say so from then on, the context names it, the other rules judge on."""
    one = made()
    one.rules = type(one.rules)(one.config, [*one.rules.rules, Broken(), BrokenForAll()])
    work, name = probed()
    other, _ = probed()
    try:
        with caplog.at_level(logging.ERROR, "hotlap"):
            cycles = []
            for _ in range(3):
                work()
                other()
                cycles.append(one.cycle())
    finally:
        one.stop()
    assert [record.getMessage().split(" failed")[0] for record in caplog.records] == [
        "rule test.broken",
        "rule test.broken_for_all",
    ]
    assert cycles[0].context.rules_failed == ()
    assert cycles[2].context.rules_failed == ("test.broken", "test.broken_for_all")
    for cycle in cycles:
        (report,) = (report for report in cycle.reports if report.site == name)
        (verdict,) = (verdict for verdict in report.verdicts if verdict.rule == "test.broken")
        assert not verdict.judged
        assert "LookupError" in verdict.reason
        assert len(report.verdicts) > 5


def test_the_process_has_a_report_when_there_is_something_to_say() -> None:
    """Here that records were lost; without a finding there is none."""
    one = made(ring_capacity=16)
    work, _ = probed()
    work._self_site.sample(1.0, 10**6)
    try:
        for _ in range(5000):
            work()
        first = one.cycle()
        work()
        second = one.cycle()
    finally:
        one.stop()
    (whole,) = (report for report in first.reports if report.site == PROCESS_SITE)
    assert whole.score.value is None
    assert whole.findings[0].rule.startswith("recorder")
    assert PROCESS_SITE not in {report.site for report in second.reports}


# -- flush and snapshot --------------------------------------------------------------------


def test_flush_works_without_start() -> None:
    """Exact numbers of all calls since the last flush; nothing runs afterwards, no site is switched."""
    hotlap.configure(sinks=[])
    work, name = probed()
    for _ in range(20_000):
        work()
    stats = flushed(name)
    assert stats is not None
    assert (stats.calls, stats.timed, stats.samples) == (20_000, 20_000, 0)
    assert not hotlap.running()
    assert threads() == []
    assert work._self_site.mode == core.TIME
    work()
    again = flushed(name)
    assert again is not None
    assert (again.calls, again.timed) == (1, 1)
    assert flushed(name) is None


def test_the_first_window_begins_with_the_first_site(tmp_path: Path) -> None:
    """Calls before the first flush were made in that time, not in the instant since hotlap woke up."""
    done = run_program(
        tmp_path,
        """
        import time, hotlap
        time.sleep(0.3)
        begun = time.monotonic()
        work = hotlap.benchmark(name="work")(lambda: None)
        for _ in range(10): work()
        time.sleep(0.2)
        hotlap.configure(sinks=[])
        (report,) = hotlap.flush()
        assert 0.2 < report.stats.window_s <= time.monotonic() - begun, report.stats.window_s
        assert report.stats.throughput == 10 / report.stats.window_s
        """,
    )
    assert done.returncode == 0, done.stderr


def test_the_first_window_begins_with_start_when_nothing_was_called_before(tmp_path: Path) -> None:
    """What is imported long before is no part of the time that calls are a rate of."""
    done = run_program(
        tmp_path,
        """
        import time, hotlap
        work = hotlap.benchmark(name="work")(lambda: None)
        time.sleep(0.3)
        begun = time.monotonic()
        hotlap.start(sinks=[])
        work()
        (report,) = hotlap.flush()
        assert report.stats.window_s <= time.monotonic() - begun, report.stats.window_s
        """,
    )
    assert done.returncode == 0, done.stderr


def test_a_snapshot_knows_the_peak_of_all_windows() -> None:
    """A report does not take it away."""
    name = named("peak")
    with hotlap.measure(name), hotlap.measure(name):
        pass
    hotlap.start(interval=FOREVER, sinks=())
    hotlap.flush()
    assert hotlap.snapshot()[name].in_flight_peak == 2
    hotlap.flush()
    assert hotlap.snapshot()[name].in_flight_peak == 2


def test_flush_without_calls_gives_no_reports() -> None:
    """An empty list; the sinks have their cycle all the same."""
    memory = MemorySink()
    hotlap.start(interval=FOREVER, sinks=[memory])
    hotlap.flush()
    assert hotlap.flush() == []
    assert len(memory.cycles) == 2
    assert memory.cycles[1].reports == ()


def test_snapshot_is_exact_and_resets_nothing() -> None:
    """Twice the same, for sites that were called, that were not, and that are on counting alone."""
    chance = np.random.default_rng(4)
    durations = chance.lognormal(10, 1, 2000).astype(np.int64) + 1
    with fake_clock() as clock:

        def work(ns: int) -> None:
            clock.now_ns += ns
            if ns % 2:
                raise ValueError

        probe, name = probed(work)
        for ns in durations.tolist():
            with suppress(ValueError):
                probe(ns)
    idle, idle_name = probed()
    counted, counted_name = probed()
    counted._self_site.mode = core.COUNT
    counted()
    first = hotlap.snapshot()
    assert hotlap.snapshot() == first
    one = first[name]
    assert (one.calls, one.timed, one.cancelled, one.in_flight, one.in_flight_peak) == (2000, 2000, 0, 0, 1)
    assert one.errors == int((durations % 2).sum())
    assert (one.total_ns, one.min_ns, one.max_ns) == (durations.sum(), durations.min(), durations.max())
    for q, value in one.quantiles.items():
        assert value == pytest.approx(np.quantile(durations, q, method="inverted_cdf") / 1e9, rel=0.011)
    assert set(one.quantiles) == {0.5, 0.9, 0.95, 0.99, 0.999}
    assert (first[idle_name].calls, first[idle_name].min_ns, first[idle_name].quantiles) == (0, None, {})
    assert (first[counted_name].calls, first[counted_name].timed, first[counted_name].max_ns) == (1, 0, None)
    assert flushed(name) is not None
    idle()


def test_snapshot_sees_calls_in_flight() -> None:
    """Now, and the most at once since the last cycle."""
    seen: list[Any] = []
    name = named("nested")

    @hotlap.benchmark(name=name)
    def nested(depth: int) -> None:
        if depth:
            nested(depth - 1)
        else:
            seen.append(hotlap.snapshot()[name])

    nested(3)
    assert (seen[0].in_flight, seen[0].in_flight_peak, seen[0].calls) == (4, 4, 0)
    assert (hotlap.snapshot()[name].in_flight, hotlap.snapshot()[name].calls) == (0, 4)


def test_the_overhead_is_that_of_the_window() -> None:
    """Not of the one before: a flush after heavy use shows it."""
    hotlap.start(interval=FOREVER, sinks=[])
    work, _ = probed()
    hotlap.flush()
    for _ in range(100_000):
        work()
    cycle = current().cycle()
    assert cycle.context.overhead_fraction is not None
    assert cycle.context.overhead_fraction > 0.01
    assert cycle.cost_s > 0


def test_monitor_is_made_of_a_configuration_alone() -> None:
    """Without shared readings it sees every call since the process began."""
    work, name = probed()
    work()
    one = monitor.Monitor(config.load({"sinks": ()}))
    assert stats_of(one.cycle(), name).calls == 1
    one.stop()
