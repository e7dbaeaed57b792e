"""Other ways to time a call in production, each as its users write it. A missing one is said, not fatal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from .subjects import bare
from .timing import Variant, loop


def prometheus() -> Variant:
    """A histogram's `time()` decorator, in a registry of its own."""
    from prometheus_client import CollectorRegistry, Histogram

    histogram = Histogram("call_seconds", "Duration of a call.", registry=CollectorRegistry())
    return Variant("prometheus_client Histogram.time()", loop(histogram.time()(bare)))


def opentelemetry_histogram() -> Variant:
    """A meter's histogram, recorded by hand with its unit in seconds."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    meter = MeterProvider(metric_readers=[InMemoryMetricReader()]).get_meter("benchmark")
    record = meter.create_histogram("call.duration", unit="s").record

    def recorded(x: int) -> int:
        begin = perf_counter()
        try:
            return bare(x)
        finally:
            record(perf_counter() - begin)

    return Variant("OpenTelemetry histogram.record", loop(recorded))


def opentelemetry_span() -> Variant:
    """A span for each call, through a batch processor into an exporter that throws it away."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    tracer = provider.get_tracer("benchmark")

    def traced(x: int) -> int:
        with tracer.start_as_current_span("call"):
            return bare(x)

    @contextmanager
    def emptied() -> Iterator[None]:
        # The processor's thread must not work off this variant's spans in another variant's chunk.
        yield
        provider.force_flush()

    return Variant("OpenTelemetry span, null exporter", loop(traced), emptied)


def logfire_span() -> Variant:
    """A logfire span for each call, configured to send nothing anywhere."""
    import logfire

    logfire.configure(send_to_logfire=False, console=False, metrics=False, inspect_arguments=False)

    def spanned(x: int) -> int:
        with logfire.span("call"):
            return bare(x)

    return Variant("logfire.span, not sending", loop(spanned))


PEERS: dict[str, Callable[[], Variant]] = {
    "prometheus_client": prometheus,
    "opentelemetry-sdk histogram": opentelemetry_histogram,
    "opentelemetry-sdk span": opentelemetry_span,
    "logfire": logfire_span,
}


def available() -> tuple[list[Variant], list[str]]:
    """The peers that can be measured here, and a sentence for each that can not."""
    found: list[Variant] = []
    missing: list[str] = []
    for name, make in PEERS.items():
        try:
            found.append(make())
        except ImportError as error:  # noqa: PERF203
            missing.append(f"{name} is not installed ({error}): pip install 'hotlap[bench]'")
    return found, missing
