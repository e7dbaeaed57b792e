"""OpenTelemetry: the spans of a cycle, against the real SDK and over the wire."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from hotlap.model import (
    BenchmarkResult,
    Context,
    Cycle,
    Exemplar,
    Finding,
    Metric,
    Part,
    Report,
    Score,
    Stats,
    TailCall,
    Verdict,
)
from hotlap.sinks import otel
from hotlap.sinks.otel import OtelSink

START_S = 1_700_000_000.0
START_NS = 1_700_000_000_000_000_000
TRACE = 0x0AF7651916CD43DD8448EB211C80319C
SPAN = 0xB7AD6B7169203331


def finding(**changes) -> Finding:
    values = {
        "rule": "slow",
        "topic": "time",
        "site": "app.search",
        "severity": 80.0,
        "summary": "p95 is 0.8 s",
        "advice": "look at the query",
        "evidence": {"p95_s": 0.8, "samples": 40},
    }
    return Finding(**{**values, **changes})


def report(site: str = "app.search", findings: tuple[Finding, ...] = (), **stats) -> Report:
    part = Part("execution_time", 0.8, "s", 0.3, 0.5, 66.0, (0.1, 0.5, 1.0, 2.0))
    return Report(
        Stats(site=site, **{"calls": 40, "p95_s": 0.8, "total_s": 20.0, **stats}),
        Score(66.0, BenchmarkResult.AVERAGE, (part,)),
        tuple(Verdict(found.rule, found) for found in findings),
    )


def cycle(*reports: Report, **changes) -> Cycle:
    values = {"number": 7, "started_at": START_S, "window_s": 10.0, "context": Context(rss_mb=120.0)}
    return Cycle(reports=reports, **{**values, **changes})


def tail_call(**changes) -> TailCall:
    values = {
        "site": "app.search",
        "start_epoch_ns": START_NS + 5,
        "wall_ns": 800_000_000,
        "error": False,
        "tail": True,
        "trace_id": TRACE,
        "span_id": SPAN,
        "thread": 33,
    }
    return TailCall(**{**values, **changes})


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


def named(exporter: InMemorySpanExporter, name: str):
    return [span for span in exporter.get_finished_spans() if span.name == name]


# --- a cycle ---------------------------------------------------------------------------------------------


def test_a_cycle_is_a_root_span_over_its_window(provider, exporter):
    OtelSink(tracer_provider=provider).emit(cycle(report()))
    (span,) = named(exporter, "hotlap.cycle")
    assert span.parent is None
    assert (span.start_time, span.end_time) == (START_NS, START_NS + 10_000_000_000)
    assert span.attributes["hotlap.cycle"] == 7
    assert span.attributes["hotlap.rss_mb"] == 120.0
    assert span.attributes["hotlap.calls"] == 40
    assert span.instrumentation_scope.name == "hotlap"
    assert "hotlap.sites_left_out" not in span.attributes


def test_each_site_is_a_child_with_its_stats_and_score(provider, exporter):
    sites = (report(metrics={"rows": Metric(2, 3.0, 1.0, 2.0)}), report("app.other", cpu_s=None))
    OtelSink(tracer_provider=provider).emit(cycle(*sites))
    (root,) = named(exporter, "hotlap.cycle")
    first, second = named(exporter, "hotlap.site")
    assert first.parent.span_id == second.parent.span_id == root.context.span_id
    assert first.context.trace_id == root.context.trace_id
    assert first.attributes["hotlap.site"] == "app.search"
    assert first.attributes["hotlap.type"] == "function"
    assert first.attributes["hotlap.p95_s"] == 0.8
    assert first.attributes["hotlap.score"] == 66.0
    assert first.attributes["hotlap.category"] == "average"
    assert first.attributes["hotlap.points_execution_time"] == 66.0
    assert first.attributes["hotlap.metric.rows.total"] == 3.0
    assert (first.start_time, first.end_time) == (root.start_time, root.end_time)
    assert "hotlap.cpu_s" not in second.attributes
    assert {span.attributes["process.pid"] for span in (root, first, second)} == {os.getpid()}


def test_a_finding_is_an_event_of_its_site(provider, exporter):
    OtelSink(tracer_provider=provider).emit(cycle(report(findings=(finding(), finding(rule="waiting", severity=30.0)))))
    (span,) = named(exporter, "hotlap.site")
    assert [event.name for event in span.events] == ["hotlap.finding"] * 2
    event = span.events[0]
    assert event.attributes["hotlap.rule"] == "slow"
    assert event.attributes["hotlap.severity"] == 80.0
    assert event.attributes["hotlap.evidence.p95_s"] == 0.8
    assert event.timestamp == START_NS + 10_000_000_000


def test_a_site_links_to_the_traces_of_its_slowest_calls(provider, exporter):
    slowest = (
        Exemplar(TRACE, SPAN, START_NS, 0.8, error=True),
        Exemplar(TRACE + 1, SPAN, START_NS, 0.7, tail=True),
        Exemplar(0, 0, START_NS, 0.6),  # was made outside any trace
    )
    OtelSink(tracer_provider=provider).emit(cycle(report(slowest=slowest)))
    (span,) = named(exporter, "hotlap.site")
    assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [
        (TRACE, SPAN),
        (TRACE + 1, SPAN),
    ]
    assert span.links[0].attributes["hotlap.wall_s"] == 0.8
    assert span.links[0].attributes["hotlap.error"] is True
    assert span.links[1].attributes["hotlap.tail"] is True


def test_a_span_active_in_the_caller_is_no_parent_and_stays_active(provider, exporter):
    """flush() runs the sinks in a user's thread, within whatever span is active there."""
    with provider.get_tracer("app").start_as_current_span("request") as request:
        OtelSink(tail_spans=True, tracer_provider=provider).emit(cycle(report(), tail_calls=(tail_call(),)))
        assert trace.get_current_span() is request
    (root,) = named(exporter, "hotlap.cycle")
    assert root.parent is None
    assert root.context.trace_id != request.get_span_context().trace_id
    (tail,) = named(exporter, "app.search")
    assert tail.context.trace_id == TRACE


def test_of_very_many_sites_those_with_the_most_time_get_a_span(provider, exporter, monkeypatch):
    monkeypatch.setattr(otel, "MAX_SITE_SPANS", 2)
    sites = [report(f"site{time_s}", total_s=time_s) for time_s in (1.0, 3.0, None, 2.0)]
    OtelSink(tracer_provider=provider).emit(cycle(*sites))
    assert [span.attributes["hotlap.site"] for span in named(exporter, "hotlap.site")] == [
        "site3.0",
        "site2.0",
    ]
    (root,) = named(exporter, "hotlap.cycle")
    assert root.attributes["hotlap.sites_left_out"] == 2


def test_no_attribute_is_lost_to_the_default_limits_of_the_sdk(provider, exporter):
    """The SDK keeps 128 attributes and 128 links of a span."""
    names = [field.name for field in dataclasses.fields(Stats) if field.name.endswith(("_s", "_fraction", "_rate"))]
    everything = {**dict.fromkeys(names, 1.0), "tags": {"team": "search"}, "parents": {"app.main": 1.0}}
    OtelSink(tracer_provider=provider).emit(cycle(report(**everything)))
    (span,) = named(exporter, "hotlap.site")
    assert SpanLimits().max_span_attributes == 128
    assert span.dropped_attributes == 0


# --- calls as spans --------------------------------------------------------------------------------------


def test_slow_calls_are_not_shown_unless_asked_for(provider, exporter):
    OtelSink(tracer_provider=provider).emit(cycle(tail_calls=(tail_call(),)))
    assert named(exporter, "app.search") == []


def test_a_slow_call_becomes_a_span_of_the_trace_it_happened_in(provider, exporter):
    OtelSink(tail_spans=True, tracer_provider=provider).emit(cycle(tail_calls=(tail_call(),)))
    (span,) = named(exporter, "app.search")
    assert span.context.trace_id == TRACE
    assert span.parent.span_id == SPAN
    assert span.kind is SpanKind.INTERNAL
    assert (span.start_time, span.end_time) == (START_NS + 5, START_NS + 800_000_005)
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes) == {
        "hotlap.site": "app.search",
        "hotlap.tail": True,
        "hotlap.error": False,
        "process.pid": os.getpid(),
        "thread.id": 33,
    }


def test_a_failed_call_has_the_status_error(provider, exporter):
    OtelSink(tail_spans=True, tracer_provider=provider).emit(cycle(tail_calls=(tail_call(error=True),)))
    (span,) = named(exporter, "app.search")
    assert span.status.status_code is StatusCode.ERROR


def test_a_call_outside_any_trace_becomes_no_span(provider, exporter):
    calls = (tail_call(trace_id=0), tail_call(span_id=0))
    OtelSink(tail_spans=True, tracer_provider=provider).emit(cycle(tail_calls=calls))
    assert [span.name for span in exporter.get_finished_spans()] == ["hotlap.cycle"]


def test_of_very_many_calls_the_failed_and_the_slowest_are_shown(provider, exporter, monkeypatch):
    monkeypatch.setattr(otel, "MAX_TAIL_SPANS", 2)
    calls = (
        tail_call(wall_ns=1),
        tail_call(wall_ns=9),
        tail_call(wall_ns=2, error=True),
        tail_call(wall_ns=8),
    )
    OtelSink(tail_spans=True, tracer_provider=provider).emit(cycle(tail_calls=calls))
    shown = [span.end_time - span.start_time for span in named(exporter, "app.search")]
    assert shown == [2, 9]
    (root,) = named(exporter, "hotlap.cycle")
    assert root.attributes["hotlap.tail_calls_left_out"] == 2


def test_slow_calls_of_sampled_traces_are_shown_even_where_the_cycle_is_not_sampled(exporter):
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    OtelSink(tail_spans=True, tracer_provider=provider).emit(cycle(report(), tail_calls=(tail_call(),)))
    assert [span.name for span in exporter.get_finished_spans()] == ["app.search"]
    provider.shutdown()


# --- nobody listens --------------------------------------------------------------------------------------


class Untouchable:
    """Stands for a cycle that nobody may look at."""

    def __getattribute__(self, name):
        raise AssertionError(f"{name} was asked for")


@pytest.mark.parametrize("silent", [trace.ProxyTracerProvider, trace.NoOpTracerProvider])
def test_without_an_sdk_the_cycle_is_not_even_looked_at(monkeypatch, silent):
    monkeypatch.setattr(trace, "get_tracer_provider", silent)
    OtelSink(tail_spans=True).emit(Untouchable())


def test_a_provider_that_the_host_sets_later_is_used(provider, exporter, monkeypatch):
    sink = OtelSink()
    monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    sink.emit(cycle(report()))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    sink.emit(cycle(report()))
    sink.emit(cycle(report()))
    assert len(named(exporter, "hotlap.cycle")) == 2


def test_sites_get_no_spans_where_the_cycle_is_not_sampled(exporter, monkeypatch):
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    sink = OtelSink(tracer_provider=provider)
    monkeypatch.setattr(sink, "_site", None)  # calling it would fail
    sink.emit(cycle(report()))
    assert exporter.get_finished_spans() == ()
    provider.shutdown()


def test_a_disabled_sdk_is_as_good_as_none():
    code = (
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "trace.set_tracer_provider(TracerProvider())\n"
        "from hotlap.model import Context, Cycle, Report, Score, Stats\n"
        "from hotlap.sinks.otel import OtelSink\n"
        "sink = OtelSink(tail_spans=True)\n"
        "sink._site = None\n"
        "report = Report(Stats(site='a'), Score(None, None))\n"
        "sink.emit(Cycle(number=1, started_at=0.0, window_s=1.0, reports=(report,), context=Context()))\n"
        "print('nothing made')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OTEL_SDK_DISABLED": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "nothing made"


def test_the_sink_names_its_version_where_hotlap_is_installed(monkeypatch):
    def missing(name):
        raise otel.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(otel.metadata, "version", lambda name: "1.2.3")
    assert otel._version() == "1.2.3"
    monkeypatch.setattr(otel.metadata, "version", missing)
    assert otel._version() is None


# --- over the wire ---------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_spans_links_and_events_arrive_at_an_otlp_receiver():
    """The real exporter, OTLP over HTTP on loopback, a receiver that is not ours."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

    port = _free_port()
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces", timeout=10)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    slow = report(findings=(finding(),), slowest=(Exemplar(TRACE, SPAN, START_NS, 0.8),))
    given = cycle(slow, tail_calls=(tail_call(error=True),))

    def send() -> None:
        OtelSink(tail_spans=True, tracer_provider=provider).emit(given)
        assert provider.force_flush(10_000)

    async def exchange():
        settings = OtelTapHttpProtobufReceiverSettings(http_port=port)
        async with OtelTapHttpProtobufReceiver(settings) as receiver:
            names = ("hotlap.cycle", "hotlap.site", "app.search")
            waiting = [
                asyncio.ensure_future(receiver.await_trace(lambda span, name=name: span.name == name, timeout=30))
                for name in names
            ]
            await asyncio.sleep(0)  # all three wait before anything is sent
            await asyncio.to_thread(send)
            return await asyncio.gather(*waiting)

    try:
        root, site, tail = asyncio.run(exchange())
    finally:
        provider.shutdown()

    def attributes(item) -> dict[str, object]:
        return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in item.attributes}

    assert not root.parent_span_id
    assert site.parent_span_id == root.span_id
    assert attributes(site)["hotlap.p95_s"] == 0.8
    assert attributes(site)["hotlap.calls"] == 40
    assert site.links[0].trace_id.hex() == f"{TRACE:032x}"
    assert site.links[0].span_id.hex() == f"{SPAN:016x}"
    assert attributes(site.events[0])["hotlap.rule"] == "slow"
    assert tail.trace_id.hex() == f"{TRACE:032x}"
    assert tail.parent_span_id.hex() == f"{SPAN:016x}"
    assert (tail.start_time_unix_nano, tail.end_time_unix_nano) == (START_NS + 5, START_NS + 800_000_005)
    assert tail.status.code == tail.status.STATUS_CODE_ERROR
