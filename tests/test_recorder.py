"""recorder: from sites and ring to windows, and the hooks in between."""

from __future__ import annotations

import gc
import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import hotlap
from hotlap import config, core
from hotlap import sites as registry
from hotlap.errors import OptionError
from hotlap.recorder import Readings, Recorder, active_trace
from hotlap.testing import fake_clock
from live import made, named, probed, records, stats_of


def counts_of(window: Any, row: int) -> Any:
    """The counts of the buckets of one row."""
    return window.buckets[window.buckets[:, 0] == row, 2]


def row_of(window: Any, name: str) -> int:
    return [site.name for site in window.sites].index(name)


# -- windows -------------------------------------------------------------------------------


def test_windows_add_up() -> None:
    """Every call is in exactly one window, in counters, histogram and samples alike."""
    one = made()
    work, name = probed()
    work._self_site.sample(1.0, 10**6)
    try:
        calls, filled, samples = [], [], []
        for count in (5, 1, 300, 17):
            for _ in range(count):
                work()
            if count == 300:
                one.recorder.drain()
            window = one.recorder.cut()
            row = row_of(window, name)
            calls.append(int(window.column("calls")[row]))
            filled.append(int(counts_of(window, row).sum()))
            samples.append(int(window.sum("samples")[row]))
    finally:
        one.stop()
    assert calls == filled == samples == [5, 1, 300, 17]


def test_only_sites_with_calls_are_in_a_window() -> None:
    """The others are not even read into it; an empty window has no rows at all."""
    one = made()
    busy, name = probed()
    probed()
    try:
        busy()
        window = one.recorder.cut()
        empty = one.recorder.cut()
    finally:
        one.stop()
    assert [site.name for site in window.sites] == [name]
    assert (empty.sites, len(empty.records), empty.drained) == ((), 0, 0)
    assert empty.buckets.shape == (0, 3)
    assert window.epoch_ns > 1.6e18


def test_sites_may_be_made_at_any_time_and_in_any_number() -> None:
    """Between two windows and by the hundred: each has its own row, across the chunks they are read in."""
    with fake_clock() as clock:
        one = made(sample_rate=1e6)
        try:
            first, _ = probed(lambda: clock.advance(1e-6))
            first()
            one.recorder.cut()
            probes = [probed(lambda number=number: clock.advance(1e-6 * (number + 1))) for number in range(600)]
            first()
            for probe, _ in probes:
                probe()
            window = one.recorder.cut()
            probes[500][0]()
            last = one.recorder.cut()
        finally:
            one.stop()
    assert len(window.sites) == 601
    for number, (_, name) in enumerate(probes):
        row = row_of(window, name)
        assert window.column("total_ns")[row] == pytest.approx(1000 * (number + 1), abs=1)
        (bucket,) = window.buckets[window.buckets[:, 0] == row, 1]
        assert bucket == core.bucket_index(int(window.column("total_ns")[row]))
    assert [site.name for site in last.sites] == [probes[500][1]]
    assert last.buckets[:, [0, 2]].tolist() == [[0, 1]]


def test_a_window_is_as_long_as_the_time_since_the_last() -> None:
    """By the core's clock; a clock that did not move leaves a window that can still be divided by."""
    with fake_clock() as clock:
        one = made()
        try:
            clock.advance(2.5)
            assert one.recorder.cut().seconds == pytest.approx(2.5)
            assert one.recorder.cut().seconds == pytest.approx(1e-9)
        finally:
            one.stop()


def test_records_of_a_site_without_calls_in_the_window_are_left_out() -> None:
    """Such as those of a site that nobody registered: counted as drained, in no row."""
    one = made()
    try:
        work, name = probed()
        work()
        one.recorder._tally.add(records(3, site=work._self_site.id + 50, wall_ns=9, span=1))
        window = one.recorder.cut()
    finally:
        one.stop()
    assert window.drained == 4
    assert [site.name for site in window.sites] == [name]
    assert sorted(window.rows.tolist()) == [-1, -1, -1, 0]
    assert window.traced_rows.tolist() == [-1, -1, -1]


def test_records_that_were_overwritten_are_counted_as_lost() -> None:
    """A ring of 16 and a hundred sampled calls: 16 drained, 84 lost, in the context of that window alone."""
    one = made(ring_capacity=16, sample_rate=1e6)
    work, name = probed()
    try:
        for _ in range(100):
            work()
        cycle = one.cycle()
        work()
        after = one.cycle()
    finally:
        one.stop()
    assert stats_of(cycle, name).calls == 100
    assert (cycle.context.records, cycle.context.records_lost) == (16, 84)
    assert (after.context.records, after.context.records_lost) == (1, 0)


def test_a_drain_ends_though_the_calls_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes at most some two rings full: calls that come faster than they are read hold nobody up."""
    one = made(ring_capacity=16)
    blocks = iter(lambda: bytearray(records(4).tobytes()), None)
    monkeypatch.setattr(one.recorder, "ring", SimpleNamespace(drain=lambda limit: next(blocks), capacity=16, lost=0))
    one.recorder.drain()
    assert one.recorder._tally.count == 4
    one.stop()


def test_changed_options_report_no_call_twice() -> None:
    """Readings outlive the recorder: the next one goes on where the last one stopped."""
    readings = Readings()
    work, name = probed()
    first = Recorder(config.load({}), readings)
    work()
    assert row_of(first.cut(), name) >= 0
    second = Recorder(config.load({}), readings)
    assert name not in {site.name for site in second.cut().sites}
    work()
    window = second.cut()
    assert window.column("calls")[row_of(window, name)] == 1
    assert counts_of(window, row_of(window, name)).tolist() == [1]


# -- hooks ---------------------------------------------------------------------------------


def test_start_and_stop_leave_no_hook_behind() -> None:
    """The collector's callback is there once while it runs, and gone afterwards; so are ring and trace."""
    one = made()
    one.recorder.start()
    assert gc.callbacks.count(core.on_gc) == 1
    one.recorder.stop()
    one.recorder.stop()
    assert core.on_gc not in gc.callbacks
    work, _ = probed()
    work()
    assert one.recorder.ring.written == 0


def test_a_failing_size_function_is_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    """Logged once with its traceback, counted, and the call is none the wiser. Another site's goes on."""

    def size(*_: Any) -> int:
        raise KeyError("size")

    one = made(sample_rate=1e6)
    try:
        bad, name = probed(lambda x: x, size=size)
        good, good_name = probed(lambda x: x, size="x")
        with caplog.at_level(logging.ERROR, "hotlap"):
            assert [bad(number) for number in range(5)] == [0, 1, 2, 3, 4]
            for _ in range(40):
                good(5)
        cycle = one.cycle()
    finally:
        one.stop()
    (record,) = caplog.records
    assert record.getMessage() == f"the size function of site {name!r} failed and is switched off: KeyError: 'size'"
    assert record.exc_info is not None
    assert one.recorder.faults == {"size": 1}
    assert stats_of(cycle, name).calls == 5
    assert stats_of(cycle, good_name).samples == 40
    assert bad._self_site.size_of is None


def test_a_failing_trace_hook_is_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    """It belongs to no site; sampled calls go on without a trace."""

    def broken() -> Any:
        raise RuntimeError("no context")

    one = made(sample_rate=1e6)
    try:
        core.set_trace(broken)
        work, name = probed()
        with caplog.at_level(logging.ERROR, "hotlap"):
            for _ in range(5):
                work()
        stats = stats_of(one.cycle(), name)
    finally:
        one.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "the trace function failed and is switched off: RuntimeError: no context"
    ]
    assert one.recorder.faults == {"trace": 1}
    assert (stats.samples, stats.slowest) == (5, ())


def test_a_fault_is_counted_each_time_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The core may have been told to call the function again."""
    one = made()
    with caplog.at_level(logging.ERROR, "hotlap"):
        for _ in range(3):
            one.recorder._fault("size", core.Site(3, "x"), ValueError("no"))
    one.stop()
    assert len(caplog.records) == 1
    assert one.recorder.faults == {"size": 3}


def test_a_number_that_is_left_out_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    one = made()
    name = named("recorder_record")
    with caplog.at_level(logging.ERROR, "hotlap"):
        for number in (1.0, float("nan"), float("inf")):
            with core.measure(name) as block:
                block.record(rows=number)
    one.stop()
    assert [record.getMessage() for record in caplog.records] == [
        f"a number of site {name!r} was left out: record(rows=nan): must be a finite number"
    ]
    assert one.recorder.faults == {"record": 2}


def test_the_limit_on_sites_is_the_configurations() -> None:
    """One warning, then every further name counts under `other`; nothing that was there is lost."""
    try:
        one = made(max_sites=len(registry.sites) + 1)
        work, name = probed()
        with pytest.warns(RuntimeWarning, match="raise max_sites"):
            extra, _ = probed()
        more, _ = probed()
        before = hotlap.snapshot()["other"].calls
        for probe in (work, extra, more):
            probe()
        cycle = one.cycle()
        one.stop()
        assert stats_of(cycle, name).calls == 1
        assert stats_of(cycle, "other").calls == 2
        assert hotlap.snapshot()["other"].calls == before + 2
    finally:
        registry.set_limit(registry.DEFAULT_LIMIT)


def test_a_ring_that_is_no_power_of_two_is_refused() -> None:
    """At once, with the rule."""
    with pytest.raises(OptionError, match="power of two"):
        made(ring_capacity=1000)


# -- traces --------------------------------------------------------------------------------


@pytest.fixture
def provider() -> Any:
    """A real tracer provider that is nobody else's."""
    exporter = InMemorySpanExporter()
    one = TracerProvider()
    one.add_span_processor(SimpleSpanProcessor(exporter))
    yield one
    one.shutdown()


def test_sampled_calls_know_the_trace_they_happened_in(provider: TracerProvider) -> None:
    """Trace and span id are those of the active span, whole; calls outside of one have none."""
    one = made(sample_rate=1e6)
    work, name = probed()
    try:
        with provider.get_tracer("t").start_as_current_span("request") as span:
            context = span.get_span_context()
            assert active_trace() == (context.trace_id >> 64, context.trace_id & (2**64 - 1), context.span_id)
            work()
        work()
        stats = stats_of(one.cycle(), name)
    finally:
        one.stop()
    (exemplar,) = stats.slowest
    assert (exemplar.trace_id, exemplar.span_id) == (context.trace_id, context.span_id)
    assert abs(exemplar.start_ns_epoch - span.start_time) < 5e9
    assert not exemplar.tail
    assert stats.samples == 2


def test_a_trace_that_nobody_keeps_is_not_linked() -> None:
    """Its span was not sampled: a link would lead nowhere."""
    provider = TracerProvider(sampler=ALWAYS_OFF)
    with provider.get_tracer("t").start_as_current_span("request"):
        assert active_trace() is None
    assert active_trace() is None


def test_without_opentelemetry_there_is_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when it was not imported nor while another thread is importing it: that is no failure."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", SimpleNamespace())  # type: ignore[misc]
    assert active_trace() is None
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert active_trace() is None


def test_slow_and_failed_calls_in_a_trace_can_become_spans(provider: TracerProvider) -> None:
    """With tail_spans, each with its true start, end and thread; without it there are none."""

    def work(seconds: float) -> None:
        clock.advance(seconds)
        if seconds == 0.25:
            raise ValueError

    with fake_clock() as clock:
        one = made(sample_rate=1e6, tail_spans=True)
        probe, name = probed(work)
        probe._self_site.sample(0.0, 1, 0)
        try:
            with provider.get_tracer("t").start_as_current_span("request") as span:
                probe(0.1)
                probe._self_site.tail_ns = 500_000_000
                probe(1.0)
                probe._self_site.sample(1.0, 10)
                with pytest.raises(ValueError):
                    probe(0.25)
            cycle = one.cycle()
        finally:
            one.stop()
    slow, failed = cycle.tail_calls
    context = span.get_span_context()
    assert (slow.site, slow.wall_ns, slow.tail, slow.error) == (name, 1_000_000_000, True, False)
    assert (failed.wall_ns, failed.tail, failed.error) == (250_000_000, False, True)
    assert slow.trace_id == failed.trace_id == context.trace_id
    assert slow.span_id == context.span_id
    assert failed.start_epoch_ns - slow.start_epoch_ns == 1_000_000_000
    assert slow.thread > 0


def test_nobody_is_in_a_hurry_for_metrics() -> None:
    """What a block records before it ends waits for the window in which it ends."""
    one = made()
    name = named("metrics")
    try:
        with hotlap.measure(name) as block:
            block.record(rows=1)
            assert name not in {report.site for report in one.cycle().reports}
        assert stats_of(one.cycle(), name).metrics["rows"].count == 1
    finally:
        one.stop()


def test_each_window_looks_at_the_clocks_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else would, in a program that runs for weeks."""
    one = made()
    looks: list[int] = []
    monkeypatch.setattr(core, "calibrate", lambda: looks.append(1))
    one.recorder.cut()
    one.stop()
    assert looks
