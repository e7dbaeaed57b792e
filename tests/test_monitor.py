"""monitor: the thread, who waits for it, and what becomes of parts that fail."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import hotlap
from aggregator import FOREVER, SOON_S, alone, current, threads, until
from hotlap import monitor
from hotlap.errors import HotlapError
from hotlap.model import Context, Cycle, Stats
from hotlap.rules import PROCESS_SITE
from hotlap.rules.base import Limits, Rule
from hotlap.sinks.memory import MemorySink
from live import flushed, made, named, probed


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    """No aggregator runs before or after the test, and nothing is configured."""
    with alone():
        yield


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


def test_a_drain_that_fails_is_logged_apart(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
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


def test_spans_are_made_on_the_aggregators_thread() -> None:
    """Those of slow calls, too: their own threads have no part in it."""
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    from hotlap.sinks.otel import OtelSink

    threads: dict[str, str] = {}

    class Watch(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            threads.setdefault(span.name, threading.current_thread().name)

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Watch())
    work, name = probed()
    with alone():
        hotlap.start(interval=0.05, tail_spans=True, sinks=[OtelSink(tail_spans=True, tracer_provider=provider)])
        with provider.get_tracer("app").start_as_current_span("request"):
            work._self_site.sample(0.0, 1, 0)
            work._self_site.tail_ns = 0
            for _ in range(20):
                work()
        until(lambda: name in threads)
    assert threads[name] == threads["hotlap.cycle"] == threads["hotlap.site"] == "hotlap"
    assert threads["request"] != "hotlap"
