"""stats.summary: from a window to the stats of each site, exact and estimated."""

from __future__ import annotations

import asyncio
import gc
import math
import mmap
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import hotlap
from hotlap import core, monitor
from hotlap.stats.summary import fill, summarise
from hotlap.testing import FakeClock, fake_clock
from hotlap.window import SUMS, Tally
from live import made, nothing, probed, records, stats_of


@contextmanager
def recorded(**options: Any) -> Iterator[tuple[FakeClock, monitor.Monitor]]:
    """A monitor whose calls take the time that a fake clock is told, every one of them sampled."""
    with fake_clock() as clock:
        one = made(sample_rate=1e6, **options)
        try:
            yield clock, one
        finally:
            one.stop()


def sleeper(clock: FakeClock) -> Callable[[float], None]:
    return lambda seconds: clock.advance(seconds)


# -- exact ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_exact_numbers_are_those_of_the_raw_durations(seed: int) -> None:
    """Counts, sum, mean exactly; extremes, deviation and quantiles within 1.1 %, sampled or not."""
    chance = random.Random(seed)
    durations = [round(chance.lognormvariate(-7, 1.5), 9) + 1e-9 for _ in range(3000)]
    with recorded() as (clock, one):
        work, name = probed(sleeper(clock), sample=0)
        for seconds in durations:
            work(seconds)
        clock.advance(5.0)
        stats = stats_of(one.cycle(), name)
    raw = np.array([round(seconds * 1e9) for seconds in durations]) / 1e9
    assert stats.calls == stats.timed == 3000
    assert stats.total_s == pytest.approx(raw.sum(), rel=1e-9)
    assert stats.mean_s == pytest.approx(raw.mean(), rel=1e-9)
    assert stats.std_s == pytest.approx(raw.std(), rel=0.03)
    assert stats.min_s == pytest.approx(raw.min(), rel=0.011)
    assert stats.max_s == pytest.approx(raw.max(), rel=0.011)
    for q, value in ((0.5, stats.p50_s), (0.9, stats.p90_s), (0.95, stats.p95_s), (0.99, stats.p99_s)):
        assert value == pytest.approx(np.quantile(raw, q, method="inverted_cdf"), rel=0.011)
    assert stats.p999_s == pytest.approx(np.quantile(raw, 0.999, method="inverted_cdf"), rel=0.011)
    assert stats.window_s == pytest.approx(raw.sum() + 5.0)
    assert stats.throughput == pytest.approx(3000 / stats.window_s)
    assert (stats.samples, stats.cpu_s, stats.parents, stats.slowest) == (0, None, {}, ())


def test_quantiles_lie_within_the_extremes() -> None:
    """A single call has one duration, whatever its bucket stands for."""
    with recorded() as (clock, one):
        work, name = probed(sleeper(clock))
        work(0.123456789)
        stats = stats_of(one.cycle(), name)
    assert stats.min_s == stats.max_s == stats.p50_s == stats.p999_s == stats.mean_s == 0.123456789


def test_the_longest_call_of_a_window_is_not_that_of_the_sites_life() -> None:
    """The first window has the slow call, the second one has not."""
    with recorded() as (clock, one):
        work, name = probed(sleeper(clock))
        work(5.0)
        assert stats_of(one.cycle(), name).max_s == pytest.approx(5.0)
        work(0.001)
        work(0.002)
        stats = stats_of(one.cycle(), name)
    assert stats.max_s == pytest.approx(0.002)
    assert stats.min_s == pytest.approx(0.001, rel=0.011)


def test_errors_and_cancelled_calls_are_told_apart() -> None:
    """Rates are fractions of all calls; a cancelled one is no error."""

    def fail(kind: type[BaseException] | None) -> None:
        if kind is not None:
            raise kind

    with recorded() as (_, one):
        work, name = probed(fail)
        work(None)
        work(None)
        with pytest.raises(ValueError):
            work(ValueError)
        with pytest.raises(asyncio.CancelledError):
            work(asyncio.CancelledError)
        stats = stats_of(one.cycle(), name)
    assert (stats.calls, stats.errors, stats.cancelled) == (4, 1, 1)
    assert (stats.error_rate, stats.success_rate) == (0.25, 0.75)


def test_calls_in_flight_are_counted_where_they_end() -> None:
    """A call that spans two windows belongs to the second; the first knows only that it is there."""
    with recorded() as (_, one):
        inner, inner_name = probed()
        seen: list[Any] = []

        def outer() -> None:
            inner()
            seen.append(one.cycle())

        work, name = probed(outer)
        work()
        second = one.cycle()
    assert [report.site for report in seen[0].reports] == [inner_name]
    assert stats_of(second, name).calls == 1
    assert stats_of(second, name).in_flight == 0


def test_a_site_on_counting_alone_has_no_times() -> None:
    """None rather than zero for all that only a clock can tell."""
    with recorded() as (clock, one):
        work, name = probed(sleeper(clock))
        work._self_site.mode = core.COUNT
        work(1.0)
        window = one.recorder.cut()
        (stats,) = summarise(window, counting=frozenset({work._self_site.id}))
    assert (stats.site, stats.calls, stats.timed, stats.counting) == (name, 1, 0, True)
    assert stats.mean_s is stats.total_s is stats.std_s is stats.min_s is stats.p50_s is stats.max_s is None
    assert stats.error_rate == 0.0


def test_what_is_known_of_a_site_goes_with_its_numbers() -> None:
    """Type, tags, location and SLO; the configuration's SLO comes before the site's own."""
    with recorded(slo="2s") as (_, one):
        work, name = probed(tags={"team": "search"}, type="cpu", slo="50ms")
        other, other_name = probed()
        work()
        other()
        cycle = one.cycle()
    stats = stats_of(cycle, name)
    assert (stats.type, stats.tags, stats.slo_s) == (hotlap.BenchmarkType.CPU, {"team": "search"}, 0.05)
    assert stats.location is not None
    assert stats.location.rpartition(":")[0].endswith("live.py")
    assert stats_of(cycle, other_name).slo_s == 2.0


def test_a_site_without_options_is_a_plain_one() -> None:
    """Sites that were not made by the registry have no info."""
    site = core.Site(1, "bare")
    one = made()
    try:
        window = one.recorder.cut()
    finally:
        one.stop()
    bare = type(window)(**{**{f: getattr(window, f) for f in window.__slots__}, **_one_row(window, site)})
    (stats,) = summarise(bare, fill(bare))
    assert (stats.site, stats.type, stats.slo_s, stats.location) == (
        "bare",
        hotlap.BenchmarkType.FUNCTION,
        None,
        None,
    )


def _one_row(window: Any, site: core.Site) -> dict[str, Any]:
    counters = np.zeros((1, len(core.COUNTERS)), np.uint64)
    counters[0, 0] = 1
    return {
        "sites": (site,),
        "counters": counters,
        "buckets": np.zeros((0, 3), np.uint32),
        "sums": np.zeros((len(window.sums), 1)),
        "longest_ns": np.zeros(1),
        "longest_run_ns": np.zeros(1),
        "metrics": (None,),
    }


def test_a_window_without_calls_has_no_stats() -> None:
    """An empty list, and no warning from an empty array."""
    with recorded() as (clock, one):
        clock.advance(1.0)
        assert summarise(one.recorder.cut()) == []


# -- async ---------------------------------------------------------------------------------


def test_running_and_suspended_time_are_told_apart() -> None:
    """A coroutine that runs 3 ms in three runs and waits 10 ms in between."""
    with recorded() as (clock, one):

        async def work() -> None:
            clock.advance(0.0005)
            await step(clock, 0.004)
            clock.advance(0.002)
            await step(clock, 0.006)
            clock.advance(0.0005)

        probe, name = probed(work)
        drive(probe(), clock)
        stats = stats_of(one.cycle(), name)
    assert stats.mean_s == pytest.approx(0.013)
    assert stats.run_s == pytest.approx(0.003)
    assert stats.suspended_s == pytest.approx(0.010)
    assert stats.suspensions == 2
    assert stats.longest_run_s == pytest.approx(0.002)


class step:
    """Suspends once, for that long."""

    def __init__(self, clock: FakeClock, seconds: float) -> None:
        self.seconds = seconds

    def __await__(self) -> Iterator[float]:
        yield self.seconds


def drive(coroutine: Any, clock: FakeClock) -> None:
    try:
        while True:
            clock.advance(coroutine.send(None))
    except StopIteration:
        return


def test_the_longest_run_is_that_of_the_window() -> None:
    """A start that blocked the loop for a second is not reported for ever."""
    with recorded() as (clock, one):

        async def work(seconds: float) -> None:
            clock.advance(seconds)

        probe, name = probed(work)
        drive(probe(1.0), clock)
        assert stats_of(one.cycle(), name).longest_run_s == pytest.approx(1.0)
        drive(probe(0.003), clock)
        assert stats_of(one.cycle(), name).longest_run_s == pytest.approx(0.003)
        probe._self_site.sample(0.0, 1, 0)
        drive(probe(0.002), clock)
        assert stats_of(one.cycle(), name).longest_run_s is None


def test_plain_calls_have_no_running_time_of_their_own() -> None:
    """None: they are never suspended."""
    with recorded() as (clock, one):
        work, name = probed(sleeper(clock))
        work(1.0)
        stats = stats_of(one.cycle(), name)
    assert stats.run_s is stats.suspended_s is stats.suspensions is stats.longest_run_s is None


# -- estimates -----------------------------------------------------------------------------


def test_estimates_from_samples_are_unbiased() -> None:
    """Calls come in bursts, and the faster they come the longer they take: what fools a sampler by time.

    The totals that the weights give are right on average, within their standard error, and so is the mean.
    """
    core.seed(12345)
    chance = random.Random(99)
    counts, totals, means = [], [], []
    dtype = core.record_dtype()
    with fake_clock() as clock:
        site = core.Site(0, "burst")
        work = core.FunctionProbe(lambda ns: clock.advance(ns / 1e9), site)
        ring = core.Ring(4096)
        core.set_ring(ring)
        for _ in range(400):
            site.sample(0.3, 12, 0)  # beyond twelve samples the probability falls: bursts are sampled thinly
            true_count = true_total = 0
            for _ in range(6):
                burst = chance.choice((1, 4, 40))
                for _ in range(burst):
                    ns = burst * chance.randrange(50, 150)
                    work(ns)
                    true_count, true_total = true_count + 1, true_total + ns
                clock.advance(chance.expovariate(1.0))
            got = np.frombuffer(ring.drain(), dtype)
            weight, wall = got["weight"].astype(float), got["wall_ns"].astype(float)
            counts.append(weight.sum() / true_count - 1)
            totals.append((weight @ wall) / true_total - 1)
            means.append((weight.sum(), weight @ wall, true_count, true_total))
    for errors in (counts, totals):
        standard_error = np.std(errors) / math.sqrt(len(errors))
        assert 0.001 < standard_error < 0.05
        assert abs(np.mean(errors)) < 4 * standard_error
    weights, walls, true_counts, true_totals = np.sum(means, axis=0)
    assert walls / weights == pytest.approx(true_totals / true_counts, rel=0.1)


def test_the_mean_of_the_records_would_be_biased_without_weights() -> None:
    """Half of the calls sampled at 1, half at 1/100: the weighted mean is the mean of the calls."""
    tally = Tally()
    tally.add(records(101, wall_ns=[1000] + [3000] * 100, cpu_ns=[1000] + [3000] * 100, weight=[100] + [1] * 100))
    sums = dict(zip(SUMS, tally.sums[:, 0], strict=True))
    assert sums["cpu_ns"] / sums["cpu_weight"] == pytest.approx(2000)


def test_slow_calls_leave_records_that_no_estimate_uses() -> None:
    """Only the tail is slow here: CPU time per call and samples are those of the random choice."""
    with recorded() as (clock, one):
        work, name = probed(sleeper(clock), stem="tail")
        site = work._self_site
        site.sample(0.0, 1, 0)
        site.tail_ns = 1_000_000
        for _ in range(50):
            work(0.0005)
        work(0.5)
        stats = stats_of(one.cycle(), name)
    assert (stats.calls, stats.samples, stats.tail_samples) == (51, 0, 1)
    assert stats.cpu_s is None
    assert stats.max_s == 0.5


def test_cpu_own_time_and_parents_come_from_the_samples() -> None:
    """A parent's own time is what its children leave of it; a child knows who called it."""
    with recorded() as (clock, one):
        child, child_name = probed(sleeper(clock))

        def parent() -> None:
            clock.advance(0.003)
            child(0.001)

        work, name = probed(parent)
        for _ in range(20):
            work()
        child(0.001)
        cycle = one.cycle()
    stats = stats_of(cycle, name)
    assert stats.samples == 20
    assert stats.own_s == pytest.approx(0.003)
    assert stats.own_fraction == pytest.approx(0.75)
    assert stats.parents == {}
    assert stats.cpu_s is not None
    assert 0 <= stats.cpu_s < 0.003
    assert stats.cpu_percent == pytest.approx(100 * stats.cpu_fraction * stats.total_s / stats.window_s)
    assert stats_of(cycle, child_name).parents == {name: pytest.approx(20 / 21)}


def test_collections_are_charged_to_the_calls_they_fell_into() -> None:
    """Garbage collected within a sampled call shows as its GC time, in nobody else's."""
    one = made(sample_rate=1e6)
    try:
        dirty, dirty_name = probed(lambda: gc.collect())
        clean, clean_name = probed()
        gc.disable()
        for _ in range(3):
            dirty()
            clean()
        cycle = one.cycle()
    finally:
        gc.enable()
        one.stop()
    stats = stats_of(cycle, dirty_name)
    assert stats.gc_s is not None
    assert stats.mean_s is not None
    assert 0 < stats.gc_s <= stats.mean_s
    assert stats_of(cycle, clean_name).gc_s == 0.0


def test_fresh_memory_shows_in_the_calls_that_touch_it() -> None:
    """4,000 new pages per call: that many MB, and the process's share of it."""

    def touch_pages() -> None:
        with mmap.mmap(-1, 4000 * mmap.PAGESIZE) as memory:
            if hasattr(mmap, "MADV_NOHUGEPAGE"):
                memory.madvise(mmap.MADV_NOHUGEPAGE)
            for page in range(4000):
                memory[page * mmap.PAGESIZE] = 1

    one = made(sample_rate=1e6)
    try:
        touch, name = probed(touch_pages)
        for _ in range(5):
            touch()
        cycle = one.cycle()
    finally:
        one.stop()
    stats = stats_of(cycle, name)
    assert stats.memory_mb == pytest.approx(4000 * mmap.PAGESIZE / 1e6, rel=0.1)
    assert stats.memory_mb_std is not None
    assert stats.memory_mb_std < 1.0
    assert cycle.context.site_memory_share[name] > 0.9


def test_wall_time_that_grows_with_the_calls_in_flight() -> None:
    """Each further call in flight adds 50 % here: correlation, its p value and the slope."""
    stats = related(in_flight=np.repeat([1, 2, 3, 4], 25), wall_ns=np.repeat([10e6, 15e6, 20e6, 25e6], 25))
    assert stats.in_flight_correlation == pytest.approx(1.0)
    assert stats.in_flight_p == pytest.approx(0.0)
    assert stats.in_flight_slope == pytest.approx(0.5)
    assert stats.size_exponent is None


def test_wall_time_that_grows_with_the_size() -> None:
    """Quadratic work has the exponent 2; a site that is never crowded has no slope."""
    size = np.linspace(10, 1000, 3000)
    stats = related(size=size, wall_ns=size**2 * 100, peak=1)
    assert stats.size_exponent == pytest.approx(2.0, abs=1e-3)
    assert stats.in_flight_slope is None


def test_too_few_samples_say_nothing_about_a_relation() -> None:
    """Twenty-nine are not thirty; and a column that never changes has no relation."""
    few = related(in_flight=np.arange(29) + 1, wall_ns=np.arange(29) + 1)
    assert few.in_flight_correlation is None
    constant = related(in_flight=2, wall_ns=np.arange(100) + 1)
    assert (constant.in_flight_slope, constant.in_flight_correlation) == (None, None)


def related(peak: int = 4, **fields: Any) -> hotlap.Stats:
    """The stats of one site whose records have these columns, next to another site that has none."""
    one = made()
    try:
        work, name = probed(nothing, stem="related")
        other, _ = probed(nothing, stem="unrelated")
        work._self_site.sample(0.0, 1, 0)
        other._self_site.sample(0.0, 1, 0)
        work()
        other()
        count = max(np.size(values) for values in fields.values())
        one.recorder._tally.add(records(count, site=work._self_site.id, **fields))
        window = one.recorder.cut()
    finally:
        one.stop()
    row = [site.name for site in window.sites].index(name)
    window.counters[row, core.COUNTERS.index("in_flight_peak")] = peak
    return summarise(window)[row]


def test_records_that_were_thinned_out_relate_nothing() -> None:
    """Sums may know of many samples where few records were kept."""
    one = made()
    try:
        work, _ = probed(stem="thin")
        work._self_site.sample(0.0, 1, 0)
        work()
        tally = one.recorder._tally
        tally.add(records(100, site=work._self_site.id, in_flight=np.arange(100), wall_ns=5))
        tally._kept = [tally._kept[0][:10]]
        window = one.recorder.cut()
    finally:
        one.stop()
    window.counters[:, core.COUNTERS.index("in_flight_peak")] = 9
    assert summarise(window)[0].in_flight_slope is None


def test_a_parent_outside_the_registry_has_no_name() -> None:
    """It is counted all the same."""
    stats = related(parent=4_000_000, in_flight=1, wall_ns=np.arange(40))
    assert stats.parents == {"?": 1.0}


# -- metrics and exemplars -----------------------------------------------------------------


def test_metrics_of_a_block_are_those_of_the_window() -> None:
    """Count, total and extremes of what was recorded; the next window begins anew."""
    with recorded() as (_, one):
        name = probed()[1]
        for rows in (3, 1, 8):
            with hotlap.measure(name) as block:
                block.record(rows=rows, hits=0.5)
        metrics = stats_of(one.cycle(), name).metrics
        assert metrics["rows"] == (3, 12.0, 1.0, 8.0)
        assert metrics["rows"].mean == 4.0
        assert metrics["hits"].total == 1.5
        with hotlap.measure(name) as block:
            block.record(rows=100)
        metrics = stats_of(one.cycle(), name).metrics
        assert metrics == {"rows": (1, 100.0, 100.0, 100.0)}
        with hotlap.measure(name):
            pass
        assert stats_of(one.cycle(), name).metrics == {}


def test_the_slowest_calls_with_a_trace_are_shown() -> None:
    """At most five, the slowest first, with their whole trace id and true start; others are not."""
    one = made()
    try:
        work, name = probed(stem="traced")
        work._self_site.sample(0.0, 1, 0)
        work()
        fields = {"trace_hi": 0xABC, "trace_lo": 2**63 + 1, "start_ns": 5_000}
        one.recorder._tally.add(
            records(9, site=work._self_site.id, wall_ns=np.arange(9) * 10**9, span=[0, *range(1, 9)], **fields)
        )
        one.recorder._tally.add(  # of slow calls more are kept: as spans they may be wanted
            records(9, site=work._self_site.id, wall_ns=5, span=7, flags=core.FLAG_TAIL, **fields)
        )
        window = one.recorder.cut()
        one.recorder._tally.add(records(1, site=work._self_site.id, span=1))
        idle = one.recorder.cut()
    finally:
        one.stop()
    (stats,) = summarise(window)
    assert stats.site == name
    assert [exemplar.wall_s for exemplar in stats.slowest] == [8.0, 7.0, 6.0, 5.0, 4.0]
    assert stats.slowest[0].trace_id == (0xABC << 64) | (2**63 + 1)
    assert stats.slowest[0].span_id == 8
    assert stats.slowest[0].start_ns_epoch == 5_000 + window.epoch_ns
    assert summarise(idle) == []  # its call belonged to the window before


def test_the_mean_lies_between_the_extremes() -> None:
    """Buckets are good to 1 %, the mean is exact; one call is its own minimum, maximum and median."""
    with fake_clock() as clock:
        one = made()
        try:
            work, _ = probed(lambda seconds: clock.advance(seconds))
            for seconds in ([0.1, 0.0303], [0.0301], [0.0301, 0.0301]):
                for each in seconds:
                    work(each)
                (stats,) = summarise(one.recorder.cut())
                assert stats.min_s <= stats.mean_s <= stats.max_s
                if len(seconds) == 1:
                    assert stats.min_s == stats.max_s == stats.p50_s == stats.mean_s == 0.0301
        finally:
            one.stop()


def test_cpu_time_is_part_of_the_time() -> None:
    """However few and short the samples, a call does not compute longer than it takes."""
    one = made()
    try:
        work, _ = probed()
        for _ in range(30):
            work()
        (stats,) = summarise(one.recorder.cut())
        assert 0 <= stats.cpu_s <= stats.mean_s
    finally:
        one.stop()
