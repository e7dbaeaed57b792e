"""monitor: flush and snapshot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hotlap
from aggregator import FOREVER, alone, current, threads
from hotlap import config, core, monitor
from hotlap.errors import HotlapError
from hotlap.model import Cycle
from hotlap.sinks.memory import MemorySink
from hotlap.testing import fake_clock
from live import flushed, named, probed, run_program, stats_of


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    """No aggregator runs before or after the test, and nothing is configured."""
    with alone():
        yield


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


def test_a_flush_covers_what_ended_since_the_last_cycle() -> None:
    """Whoever ran that; the sinks have the same cycle, and no later one has those calls again."""
    memory = MemorySink()
    work, name = probed()
    hotlap.start(interval=FOREVER, sinks=[memory])
    for calls in (1, 2):
        for _ in range(calls):
            work()
        with hotlap.measure(named("open")) as block:  # has not ended yet: of a later cycle
            assert {report.site: report.stats.calls for report in hotlap.flush()} == {name: calls}
        assert [report.site for report in hotlap.flush()] == [block._site.name]
    assert [report.stats.calls for report in memory.reports if report.site == name] == [1, 2]
    hotlap.stop()
    assert [report.stats.calls for report in memory.reports if report.site == name] == [1, 2]


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


def test_a_quantile_lies_between_the_least_and_the_most() -> None:
    """A bucket is up to 2 % wide: its middle may lie outside of what was seen."""
    with fake_clock() as clock:

        def work(ns: int) -> None:
            clock.now_ns += ns

        for ns in range(1000, 1100, 7):
            probe, name = probed(work)
            probe(ns)
            one = hotlap.snapshot()[name]
            assert (one.min_ns, one.max_ns) == (ns, ns)
            assert set(one.quantiles.values()) == {ns / 1e9}


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


def test_flush_gives_up_on_a_cycle_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread's cycle is in a sink that waits: flush() says so, and works again once the sink is through."""
    monkeypatch.setattr(monitor, "_FLUSH_S", 0.05)
    entered, go_on = threading.Event(), threading.Event()

    def stuck(cycle: Cycle) -> None:
        entered.set()
        go_on.wait(30)

    hotlap.start(interval=0.01, sinks=[stuck])
    assert entered.wait(30)
    with pytest.raises(HotlapError, match=r"under way for 0\.05 s, in the .*stuck sink"):
        hotlap.flush()
    go_on.set()
    assert isinstance(hotlap.flush(), list)
