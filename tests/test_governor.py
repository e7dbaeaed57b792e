"""governor: sampling, modes and tail limits, by what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hotlap
from hotlap import core, governor, monitor
from hotlap.governor import Governor, measure_call_cost
from hotlap.testing import FakeClock, fake_clock
from live import flushed, probed

NEVER = 2**64 - 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeClock]:
    """Time in the test's hand; calls cost 50 ns timed and 15 ns counted, the aggregator nothing."""
    hotlap.stop()
    monkeypatch.setattr(governor, "measure_call_cost", lambda clock: (50.0, 15.0))
    monkeypatch.setattr(Governor, "spend", lambda self, ns: None)
    with fake_clock() as one:
        hotlap.flush()
        yield one
        hotlap.stop()
    monitor._options.clear()
    monitor._readings.start_ns = core.now_ns()


def start(**options: Any) -> Governor:
    """The aggregator with no cycle of its own for an hour; flush() gives the others."""
    hotlap.start(**{"interval": 3600, "sinks": [], **options})
    assert monitor._monitor is not None
    return monitor._monitor.recorder.governor


def calls(work: Callable[..., Any], clock: FakeClock, count: int, seconds: float) -> None:
    """`count` calls, evenly over that time, which take no time themselves."""
    for _ in range(count):
        work()
        clock.advance(seconds / count)


# -- sampling ------------------------------------------------------------------------------


def test_sampling_reaches_the_wanted_rate(clock: FakeClock) -> None:
    """From the second window on, a site leaves about as many records as it should, at any call rate."""
    core.seed(1)
    start(interval=10.0, sample_rate=20.0)
    work, name = probed()
    samples = []
    for rate in (1000, 1000, 1000, 300, 300):
        calls(work, clock, rate * 10, 10.0)
        stats = flushed(name)
        assert stats is not None
        assert stats.calls == rate * 10
        samples.append(stats.samples)
    for found in (samples[1], samples[2], samples[4]):
        assert abs(found - 200) < 5 * math.sqrt(200)
    # At first everything up to the quota of 2 * 20/s * 10 s, then half the chance for each further 200.
    assert samples[0] == pytest.approx(400 + 200 * math.log2(1 + (10_000 - 400) / 400), rel=0.1)
    assert samples[3] < 200


def test_a_site_that_is_called_seldom_leaves_a_record_each_time(clock: FakeClock) -> None:
    """Below the wanted rate nothing is left out."""
    start(interval=10.0)
    work, name = probed()
    for _ in range(3):
        calls(work, clock, 50, 10.0)
        stats = flushed(name)
        assert stats is not None
        assert stats.samples == 50


def test_a_site_has_the_rate_that_its_user_said(clock: FakeClock) -> None:
    """Its own option comes before the common one, and 0 means none at all."""
    core.seed(2)
    start(interval=10.0, sample_rate=1.0)
    often, often_name = probed(sample=100.0)
    never, never_name = probed(sample=0)
    for _ in range(2):
        calls(lambda: (often(), never()), clock, 5000, 10.0)
        stats = flushed(often_name)
    assert stats is not None
    assert abs(stats.samples - 1000) < 5 * math.sqrt(1000)
    assert flushed(never_name) is None
    calls(never, clock, 100, 1.0)
    silent = flushed(never_name)
    assert silent is not None
    assert (silent.calls, silent.samples) == (100, 0)


def test_a_rate_of_nothing_samples_nothing(clock: FakeClock) -> None:
    """sample_rate=0 for sites that are there at the start, and for all from the next window on."""
    work, name = probed()
    start(sample_rate=0)
    for _ in range(2):
        calls(work, clock, 100, 1.0)
        stats = flushed(name)
        assert stats is not None
        assert stats.samples == 0


def test_the_first_calls_always_leave_a_record(clock: FakeClock) -> None:
    """As many as the configuration says, at any rate."""
    work, name = probed()
    start(first_calls=5, sample_rate=1e-6, interval=1.0)
    calls(work, clock, 1000, 1.0)
    stats = flushed(name)
    assert stats is not None
    assert 5 <= stats.samples < 50


# -- the budget ----------------------------------------------------------------------------


def test_sampling_that_is_dear_is_done_less_until_it_fits(clock: FakeClock) -> None:
    """The trace of each sample takes 1 ms here: 200 of them in 10 s are 2 %, and 1 % is allowed.

    The scale falls until the cost is within the budget, and rises again when samples are cheap.
    """
    core.seed(3)
    governor = start(interval=10.0, sample_rate=20.0, budget=0.01)
    work, name = probed()

    def dear() -> None:
        clock.advance(0.001)

    core.set_trace(dear)
    overheads = []
    for _ in range(8):
        calls(work, clock, 5000, 10.0)
        hotlap.flush()
        overheads.append(governor.overhead_fraction)
    assert overheads[0] > 0.012
    assert overheads[-1] < 0.012
    assert 0.2 < governor.scale < 0.8
    core.set_trace(None)
    for _ in range(4):
        calls(work, clock, 5000, 10.0)
        hotlap.flush()
    assert governor.scale == 1.0
    stats = flushed(name)
    assert stats is None


def test_sampling_never_ends_altogether(clock: FakeClock) -> None:
    """When the calls alone cost more than the budget, a hundredth of it is left for samples."""
    governor = start(interval=10.0, budget=1e-6)
    work, _ = probed(lambda: clock.advance(0.001))
    core.set_trace(lambda: clock.advance(0.01))
    for _ in range(3):
        calls(work, clock, 2000, 10.0)
        hotlap.flush()
    assert 1e-6 <= governor.scale < 0.01


def test_a_hot_tiny_site_is_dropped_to_counting_and_brought_back(clock: FakeClock) -> None:
    """500,000 calls in a second cost 2.5 % in timing. Counted, they are all there; Stats says so.

    A site whose calls are long is timed on: there the same cost is nothing. When calls are few all are timed.
    """
    governor = start(budget=0.01)
    tiny, tiny_name = probed(lambda: None, sample=0)
    long, long_name = probed(lambda: clock.advance(0.0005), sample=0)
    for _ in range(10):
        long()
    calls(tiny, clock, 5000, 0.01)
    first = flushed(tiny_name)
    assert first is not None
    assert (first.timed, first.counting) == (5000, False)
    assert tiny._self_site.mode == core.COUNT
    assert long._self_site.mode == core.TIME
    assert governor.counting == {tiny._self_site.id}

    calls(tiny, clock, 5000, 0.01)
    second = flushed(tiny_name)
    assert second is not None
    assert (second.calls, second.timed, second.counting, second.mean_s) == (5000, 0, True, None)
    assert tiny._self_site.mode == core.COUNT  # still as hot

    calls(tiny, clock, 10, 0.01)
    third = flushed(tiny_name)
    assert third is not None
    assert third.counting
    assert tiny._self_site.mode == core.TIME
    calls(tiny, clock, 10, 0.01)
    fourth = flushed(tiny_name)
    assert fourth is not None
    assert (fourth.timed, fourth.counting) == (10, False)
    assert long_name not in {report.site for report in hotlap.flush()}


def test_no_more_sites_are_dropped_than_it_takes(clock: FakeClock) -> None:
    """The costliest goes first; one that costs little stays. A site that went silent is brought back."""
    governor = start(budget=0.01)
    hot, _ = probed(sample=0)
    warm, _ = probed(sample=0)
    calls(hot, clock, 5000, 0.01)
    calls(warm, clock, 20, 0.01)
    hotlap.flush()
    assert governor.counting == {hot._self_site.id}
    clock.advance(1.0)
    hotlap.flush()
    assert governor.counting == frozenset()
    assert hot._self_site.mode == core.TIME


def test_a_dear_cycle_is_not_held_against_the_calls(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often somebody calls flush(), sites within half of the budget are timed on."""
    governor = start(budget=0.01)
    work, _ = probed(sample=0)
    calls(work, clock, 10, 0.001)
    governor._unmeasured_ns = 1e9
    hotlap.flush()
    assert work._self_site.mode == core.TIME
    assert governor.overhead_fraction > 1


def test_stop_leaves_every_site_timed(clock: FakeClock) -> None:
    """Nobody would bring it back later; and without a recorder no call leaves a record for being slow."""
    start(budget=0.01)
    work, _ = probed(sample=0)
    calls(work, clock, 5000, 0.01)
    hotlap.flush()
    assert work._self_site.mode == core.COUNT
    hotlap.stop()
    assert (work._self_site.mode, work._self_site.tail_ns) == (core.TIME, NEVER)


def test_changed_options_leave_every_site_timed(clock: FakeClock) -> None:
    """The next recorder measures for itself."""
    start(budget=0.01)
    work, name = probed(sample=0)
    calls(work, clock, 5000, 0.01)
    hotlap.flush()
    hotlap.configure(budget=1.0)
    calls(work, clock, 5000, 0.01)
    stats = flushed(name)
    assert stats is not None
    assert (stats.timed, stats.counting) == (5000, False)


# -- tails ---------------------------------------------------------------------------------


def test_calls_slower_than_the_sites_p99_leave_a_record(clock: FakeClock) -> None:
    """Flagged, and in addition to the samples; ordinary ones do not, though they share p99's bucket."""
    start()
    durations = iter([0.001] * 1000 + [0.001] * 500 + [0.002])
    work, name = probed(lambda: clock.advance(next(durations)), sample=0)
    for _ in range(1000):
        work()
    hotlap.flush()
    assert 1_000_000 <= work._self_site.tail_ns < 1_022_000
    for _ in range(501):
        work()
    stats = flushed(name)
    assert stats is not None
    assert (stats.tail_samples, stats.samples) == (1, 0)


def test_few_calls_have_no_p99(clock: FakeClock) -> None:
    """Under 200 calls in a window the limit stays as it was."""
    start()
    work, _ = probed(lambda: clock.advance(0.001))
    calls(work, clock, 199, 1.0)
    hotlap.flush()
    assert work._self_site.tail_ns == NEVER


def test_of_very_many_calls_only_the_slowest_thousandth_is_wanted(clock: FakeClock) -> None:
    """Beyond 20,000 calls a second one in a hundred would be more records than anybody looks at."""
    start(budget=1.0)
    work, _ = probed(lambda: clock.advance(next(durations)), sample=0)
    durations = iter(([1e-6] * 985 + [2e-6] * 14 + [9e-6]) * 30)
    for _ in range(30_000):
        work()
    hotlap.flush()
    assert 2000 <= work._self_site.tail_ns < 2050


def test_a_site_that_became_slower_for_good_does_not_flood_the_ring(clock: FakeClock) -> None:
    """More than 200 tails between two drains: the limit goes to twice what they take for this window."""
    start()
    work, name = probed(lambda seconds: clock.advance(seconds), sample=0)
    work._self_site.tail_ns = 1_000_000
    other, _ = probed(lambda: clock.advance(0.5), sample=0)
    other._self_site.tail_ns = 1_000_000
    other()
    for _ in range(300):
        work(0.0015)
    assert monitor._monitor is not None
    monitor._monitor._drain()
    assert work._self_site.tail_ns == pytest.approx(3_000_000, abs=1)
    assert other._self_site.tail_ns == 1_000_000
    for _ in range(300):
        work(0.0015)
    monitor._monitor._drain()
    stats = flushed(name)
    assert stats is not None
    assert (stats.calls, stats.tail_samples) == (600, 300)


def test_the_limit_rises_again_after_a_second_change(clock: FakeClock) -> None:
    """Each drain looks at what came since the one before."""
    start()
    work, _ = probed(lambda seconds: clock.advance(seconds), sample=0)
    work._self_site.tail_ns = 1_000_000
    assert monitor._monitor is not None
    for seconds in (0.002, 0.008):
        for _ in range(201):
            work(seconds)
        monitor._monitor._drain()
    assert work._self_site.tail_ns == pytest.approx(16_000_000, abs=1)


# -- what a call costs ---------------------------------------------------------------------


def test_the_cost_of_a_call_is_measured_once() -> None:
    """Timing costs more than counting, both cost something, and a switched-off hotlap stays off."""
    measure_call_cost.cache_clear()
    hotlap.disable()
    timed, counted = measure_call_cost("real")
    assert not core.enabled()
    assert counted >= 0.5
    assert 1.0 <= timed < 100_000
    assert measure_call_cost("real") == (timed, counted)
    measure_call_cost.cache_clear()


def test_the_aggregators_own_time_counts() -> None:
    """What it spent shows in the overhead of the interval in which that is measured, once."""
    with fake_clock() as clock:
        one = monitor.Monitor(monitor.configuration.load({"sinks": (), "interval": 1.0}))
        one.recorder.cut()
        one.recorder.governor.spend(250_000_000)
        clock.advance(1.0)
        one.recorder.governor.measure(one.recorder.cut())
        assert one.recorder.governor.overhead_fraction == pytest.approx(0.25)
        clock.advance(1.0)
        one.recorder.governor.measure(one.recorder.cut())
        assert one.recorder.governor.overhead_fraction == pytest.approx(0.0)


def test_overhead_is_a_share_of_at_least_an_interval() -> None:
    """Two flushes a moment apart do not make the cost of a cycle most of the time between them."""
    with fake_clock() as clock:
        one = monitor.Monitor(monitor.configuration.load({"sinks": (), "interval": 1.0}))
        governor = one.recorder.governor
        one.recorder.cut()
        for seconds, cost_ns, expected in ((1.0, 10_000_000, 0.01), (0.002, 10_000_000, 0.02 / 1.002)):
            clock.advance(seconds)
            governor.spend(cost_ns)
            governor.measure(one.recorder.cut())
            assert governor.overhead_fraction == pytest.approx(expected)
