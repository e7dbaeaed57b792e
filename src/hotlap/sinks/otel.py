"""OpenTelemetry spans, through the API only: what becomes of them is up to the host's SDK.

    hotlap.cycle       a root span over the window, with the state of the process
      hotlap.site      one child for each site: its stats and score, an event for each finding, and links
                       to the traces of its slowest sampled calls
    <site>             with tail_spans: a slow or failed sampled call, with its true start and end, under the
                       span that was active when it was made

Attributes are named `hotlap.<field>`, with the names and units of the model. Each span has `process.pid`
besides, of OpenTelemetry's own conventions: the resource that an SDK was made with is a forked worker's, too.
"""

from __future__ import annotations

import heapq
import os
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags

from . import fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.trace import Tracer, TracerProvider

    from ..model import Cycle, Exemplar, Report, TailCall

# A batch processor holds 2048 spans by default and drops the rest: the host's own spans must keep room in it.
MAX_SITE_SPANS = 512
MAX_TAIL_SPANS = 256

_T = TypeVar("_T")

_SILENT = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class OtelSink:
    """Makes spans of each cycle; returns at once where no SDK is set up, or where it does not record.

    Of more than MAX_SITE_SPANS sites those with the most time in all get a span, of more than MAX_TAIL_SPANS
    tail calls the failed and the slowest; sites_left_out and tail_calls_left_out of the cycle count the rest.
    """

    def __init__(self, *, tail_spans: bool = False, tracer_provider: TracerProvider | None = None) -> None:
        self.tail_spans = tail_spans
        self._given = tracer_provider
        self._provider: TracerProvider | None = None
        self._tracer: Tracer = trace.NoOpTracer()

    def emit(self, cycle: Cycle) -> None:
        # Asked for anew in each cycle: the host may set its provider after the recorder was started.
        provider = self._given or trace.get_tracer_provider()
        if isinstance(provider, _SILENT):
            return
        if provider is not self._provider:
            self._tracer = provider.get_tracer("hotlap", _version())
            self._provider = provider
        end_ns = _ns(cycle.started_at + cycle.window_s)
        tail_calls = cycle.tail_calls if self.tail_spans else ()
        self._cycle(cycle, end_ns, tail_calls)
        for call in _first(tail_calls, MAX_TAIL_SPANS, _slowest_failed):
            self._tail(call)

    def _cycle(self, cycle: Cycle, end_ns: int, tail_calls: tuple[TailCall, ...]) -> None:
        start_ns = _ns(cycle.started_at)
        attributes = _attributes(fields.of_cycle(cycle))
        for name, count in (
            ("hotlap.sites_left_out", len(cycle.reports) - MAX_SITE_SPANS),
            ("hotlap.tail_calls_left_out", len(tail_calls) - MAX_TAIL_SPANS),
        ):
            if count > 0:
                attributes[name] = count
        # An empty context: flush() may run in a user's thread, whose active span is no parent of this one.
        span = self._tracer.start_span("hotlap.cycle", Context(), attributes=attributes, start_time=start_ns)
        if span.is_recording():
            parent = trace.set_span_in_context(span, Context())
            for report in _first(cycle.reports, MAX_SITE_SPANS, _total_s):
                self._site(report, parent, start_ns, end_ns)
        span.end(end_ns)

    def _site(self, report: Report, parent: Context, start_ns: int, end_ns: int) -> None:
        span = self._tracer.start_span(
            "hotlap.site",
            parent,
            attributes=_attributes(fields.of_report(report)),
            links=[_link(exemplar) for exemplar in report.stats.slowest if exemplar.trace_id and exemplar.span_id],
            start_time=start_ns,
        )
        if span.is_recording():
            for finding in report.findings:
                span.add_event("hotlap.finding", _prefixed(fields.of_finding(finding)), timestamp=end_ns)
        span.end(end_ns)

    def _tail(self, call: TailCall) -> None:
        context = _span_context(call.trace_id, call.span_id)
        if not context.is_valid:
            return
        span = self._tracer.start_span(
            call.site,
            trace.set_span_in_context(NonRecordingSpan(context), Context()),
            attributes={
                "hotlap.site": call.site,
                "hotlap.tail": call.tail,
                "hotlap.error": call.error,
                "process.pid": os.getpid(),
                "thread.id": call.thread,
            },
            start_time=call.start_epoch_ns,
        )
        if call.error:
            span.set_status(Status(StatusCode.ERROR))
        span.end(call.start_epoch_ns + call.wall_ns)


def _span_context(trace_id: int, span_id: int) -> SpanContext:
    # Only calls whose trace is sampled leave ids in their records, so the flag is known.
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED)


def _link(exemplar: Exemplar) -> Link:
    return Link(
        _span_context(exemplar.trace_id, exemplar.span_id),
        {
            "hotlap.wall_s": exemplar.wall_s,
            "hotlap.start_ns": exemplar.start_ns_epoch,
            "hotlap.error": exemplar.error,
            "hotlap.tail": exemplar.tail,
        },
    )


def _attributes(flat: Mapping[str, fields.Field]) -> dict[str, fields.Field]:
    return {"process.pid": os.getpid(), **_prefixed(flat)}


def _prefixed(flat: Mapping[str, fields.Field]) -> dict[str, fields.Field]:
    return {f"hotlap.{name}": value for name, value in flat.items()}


def _total_s(report: Report) -> float:
    return report.stats.total_s or 0.0


def _slowest_failed(call: TailCall) -> tuple[bool, int]:
    return call.error, call.wall_ns


def _first(items: tuple[_T, ...], count: int, key: Callable[[_T], Any]) -> tuple[_T, ...]:
    """All items in their order, or the `count` greatest where there are more."""
    return items if len(items) <= count else tuple(heapq.nlargest(count, items, key))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _version() -> str | None:
    try:
        return metadata.version("hotlap")
    except metadata.PackageNotFoundError:  # run from a source tree
        return None
