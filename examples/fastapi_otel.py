"""A FastAPI service whose reports go out through OpenTelemetry.

    pip install "fastapi>=0.143" uvicorn opentelemetry-sdk opentelemetry-exporter-otlp-proto-http
    python examples/fastapi_otel.py --port 8000
    curl 'http://127.0.0.1:8000/search?words=event+loop'

Spans go to the collector at OTEL_EXPORTER_OTLP_ENDPOINT, or to the console when that is not set. FastAPI
makes one for each request. Every ten seconds hotlap adds one for each function, with its statistics and its
score, linked to the traces of the slowest requests. With `tail_spans` a slow or failed call appears in the
trace of its request, too.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI, HTTPException
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

import hotlap

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))


def exporter() -> SpanExporter:
    if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    return ConsoleSpanExporter()


class Library:
    """The standard library's source files, in a full-text index."""

    def __init__(self) -> None:
        self.index = sqlite3.connect(":memory:", check_same_thread=False)
        self.index.execute("create virtual table files using fts5(name, source)")

    @hotlap.benchmark(type="i_o")
    def add(self, path: Path) -> None:
        source = path.read_text(encoding="utf-8", errors="replace")
        self.index.execute("insert into files values (?, ?)", (path.name, source))

    @hotlap.benchmark(slo="20ms")
    def search(self, words: str) -> list[str]:
        """Names of the ten files that match best. sqlite3.OperationalError if it can not read `words`."""
        query = "select name from files where files match ? order by rank limit 10"
        return [name for (name,) in self.index.execute(query, (words,))]


library = Library()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    provider = TracerProvider(resource=Resource.create({"service.name": "library-search"}))
    provider.add_span_processor(BatchSpanProcessor(exporter()))
    trace.set_tracer_provider(provider)
    hotlap.start(sinks=["otel"], tail_spans=True)
    for path in sorted(STANDARD_LIBRARY.glob("*.py")):
        library.add(path)
    yield
    hotlap.stop()  # a last cycle, then the exporter sends what is left
    provider.shutdown()


app = FastAPI(title="Search in the standard library", lifespan=lifespan)


@app.get("/search")
@hotlap.benchmark(slo="50ms", tags={"route": "/search"})
def search(words: str) -> list[str]:
    """The ten files that match best."""
    try:
        return library.search(words)
    except sqlite3.OperationalError as error:
        raise HTTPException(400, f"can not search for {words!r}: {error}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description="Search in the standard library, watched by hotlap.")
    parser.add_argument("--port", type=int, default=8000)
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port, log_level="warning")


if __name__ == "__main__":
    main()
