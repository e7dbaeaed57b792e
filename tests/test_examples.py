"""Every example runs by itself, as its first lines say, and shows what it promises."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live import run_program

EXAMPLES = Path(__file__).parent.parent / "examples"
README = EXAMPLES.parent / "README.md"
PATIENCE_S = 60.0


def run(name: str) -> str:
    """What the example prints; it has to end by itself, and without a word on stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_every_example_is_run_here() -> None:
    tested = {"quickstart", "thread_pool", "asyncio_worker", "ml_inference", "fastapi_otel"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested
    lab = {"sorting", "sqlite_cache", "http_endpoint", "ml_inference", "monitoring", "regression", "ci_gate"}
    assert {path.stem for path in (EXAMPLES / "lab").glob("*.py")} == lab


def test_what_the_readme_shows_runs(tmp_path: Path) -> None:
    """Its Python, top to bottom, given only the function that it leaves to the reader."""
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)
    use, read, lab, test = blocks
    program = "\n".join(("def load(query): return ['found']", use, "search('needle')", read, lab, test))
    done = run_program(tmp_path, program)
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"^(\S+) [\d.e-]+ [\d.]+$", done.stdout, re.M)) == {"__main__.rerank", "fetch"}
    assert len(re.findall(r"^score: [\d.]+ of 100", done.stdout, re.M)) == 2


def test_quickstart_scores_the_function_and_the_block() -> None:
    """40 files: 40 calls of each, with a score for each."""
    printed = run("quickstart")
    assert re.search(r"^most frequent: Load [\d,]+, Name [\d,]+", printed, re.M)
    assert re.search(r"^\S*count_nodes: 40 calls$", printed, re.M)
    assert re.search(r"^read file: 40 calls$", printed, re.M)
    assert len(re.findall(r"score: [\d.]+ of 100, (excellent|good|average|poor|critical)\b", printed)) == 2
    assert len(re.findall(r"p50 [\d.]+ ms, p99 [\d.]+ ms", printed)) == 2


def test_thread_pool_tells_waiting_from_working() -> None:
    """The compression is CPU, the log is a wait; several calls are in flight at once."""
    rows = dict(re.findall(r"^(compress|write_log|archive) +(.+)$", run("thread_pool"), re.M))
    calls, _, _, cpu, peak = rows["write_log"].split()
    assert int(calls) == 120
    assert int(cpu.rstrip("%")) < 50
    assert 2 <= int(peak) <= 4
    assert int(rows["compress"].split()[3].rstrip("%")) > int(cpu.rstrip("%"))


def test_asyncio_worker_finds_what_blocks_the_loop() -> None:
    """fetch waits, digest runs without a suspension."""
    printed = run("asyncio_worker")
    assert "60 files digested" in printed
    sites = dict(re.findall(r"^(?:\S+\.)?(fetch|digest|job): 60 calls.*\n(  running .*)", printed, re.M))
    fetch, digest = (
        [float(value) for value in re.findall(r"[\d.]+(?= ms)", sites[name])] for name in ("fetch", "digest")
    )
    assert fetch[1] > fetch[0]  # suspended for longer than it ran
    assert digest[1] < digest[0]
    assert re.search(r"^(\S+\.)?job: 60 calls", printed, re.M)


def test_ml_inference_compares_single_calls_and_batches() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    printed = run("ml_inference")
    accuracy = re.search(r"^accuracy (\d+\.\d)% on 450 images$", printed, re.M)
    assert accuracy is not None
    assert float(accuracy[1]) > 97
    one, many = re.findall(r"([\d.]+) ms(?:,|$)", printed.splitlines()[1])
    assert float(many) < float(one)
    assert re.search(r"^read_one: 450 calls, p50", printed, re.M)
    assert re.search(r"^correct per batch: (5\d|6\d)\.\d$", printed, re.M)


def test_fastapi_service_sends_reports_and_links_them_to_requests() -> None:
    """Spans arrive by OTLP: the requests, the cycle, its sites; a site's span links to a request's trace."""
    for module in (
        "fastapi",
        "uvicorn",
        "oteltap",
        "opentelemetry.sdk",
        "opentelemetry.exporter.otlp.proto.http",
    ):
        if not _installed(module):
            pytest.skip(f"{module} is not installed")
    spans = asyncio.run(_spans_of_the_service())

    requests = [span for span in spans if span.name == "GET /search"]
    assert len(requests) == 21
    traces = {span.trace_id for span in requests}
    reports = {_attributes(span)["hotlap.site"]: span for span in spans if span.name == "hotlap.site"}
    for site in ("__main__.search", "__main__.Library.search"):
        assert _attributes(reports[site])["hotlap.calls"] == 21
        assert reports[site].links
        assert {link.trace_id for link in reports[site].links} <= traces
    assert _attributes(reports["__main__.Library.search"])["hotlap.errors"] == 1
    (refused,) = (span.trace_id for span in requests if _attributes(span)["http.response.status_code"] == 400)
    failed = [span for span in spans if span.name == "__main__.Library.search" and span.trace_id == refused]
    assert len(failed) == 1, "the failed call is a span in the trace of its own request"


async def _spans_of_the_service() -> list[Any]:
    """Start the service and an OTLP receiver, search, stop the service, and give all spans it sent."""
    from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

    collector = _free_port()
    spans: list[Any] = []
    async with OtelTapHttpProtobufReceiver(OtelTapHttpProtobufReceiverSettings(http_port=collector)) as receiver:

        async def collect() -> None:
            async for span in receiver.stream_traces():
                spans.append(span)  # noqa: PERF401 - read while it grows

        collecting = asyncio.create_task(collect())
        await asyncio.to_thread(_search, collector)
        # The service has sent everything when it has ended; the receiver hands it over by polling.
        seen = -1
        while seen != len(spans):
            seen = len(spans)
            await asyncio.sleep(0.6)
        collecting.cancel()
    return spans


def _search(collector: int) -> None:
    with _service(collector) as url:
        for word in ("lock", "queue", "socket", "thread"):
            for _ in range(5):
                with urllib.request.urlopen(f"{url}/search?words={word}", timeout=10) as answer:
                    assert len(json.load(answer)) == 10
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(f"{url}/search?words=%22", timeout=10)


@contextlib.contextmanager
def _service(collector: int) -> Iterator[str]:
    port = _free_port()
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}"}
    command = [sys.executable, str(EXAMPLES / "fastapi_otel.py"), "--port", str(port)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            _await_port(process, port)
            yield f"http://127.0.0.1:{port}"
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)
        finally:
            process.kill()


def _await_port(process: subprocess.Popen[str], port: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if process.poll() is not None:
            assert process.stderr is not None
            pytest.fail(f"the service ended: {process.stderr.read()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    pytest.fail(f"the service did not listen on port {port} within {PATIENCE_S:.0f} s")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def _attributes(span: Any) -> dict[str, Any]:
    """The attributes of an OTLP span as a plain dict."""
    values: dict[str, Any] = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        values[attribute.key] = getattr(attribute.value, kind) if kind else None
    return values


class TestLab:
    """The examples of the lab."""

    def test_sorting(self) -> None:
        """Quick sort wins, with an interval."""
        first, second = run("lab/sorting").splitlines()
        assert re.fullmatch(r"quick sort +[\d.]+ ms +the reference", first)
        assert re.fullmatch(r"bubble sort +[\d.]+ ms +slower by a factor of [\d.]+ \[[\d.]+, [\d.]+\]", second)

    def test_sqlite_cache(self) -> None:
        """The cache answers in less time than the query, and its report says that it is one."""
        printed = run("lab/sqlite_cache")
        query, cached = (float(re.search(rf"^{name} +([\d.]+) us", printed, re.M)[1]) for name in ("query", "cached"))  # type: ignore[index]
        assert cached < query / 10
        assert "has a cache" in printed

    def test_http_endpoint(self) -> None:
        """Ten users, and a fixed rate: all calls are answered."""
        printed = run("lab/http_endpoint")
        assert re.findall(r"^(10 users|100 calls/s) +p50 [\d.]+ ms, p95 [\d.]+ ms, 100% answered$", printed, re.M) == [
            "10 users",
            "100 calls/s",
        ]

    def test_ml_inference(self) -> None:
        """A report for each batch size; an image costs less in a large batch."""
        images = [float(each) for each in re.findall(r"([\d.]+) us an image$", run("lab/ml_inference"), re.M)]
        assert len(images) == 4
        assert images[-1] < images[0]

    def test_monitoring(self) -> None:
        """The search that slows down is found."""
        rounds = re.findall(r"^round \d: +[\d.]+ us, (regressed|as before)", run("lab/monitoring"), re.M)
        assert len(rounds) == 3
        assert rounds[-1] == "regressed"

    def test_regression(self) -> None:
        """No regression without a change, and one with it."""
        same, changed = run("lab/regression").splitlines()
        assert same.startswith("count_words          ok")
        assert changed.startswith("count_words_changed  REGRESSED")

    def test_ci_gate(self) -> None:
        assert run("lab/ci_gate").startswith("parse: passed, score ")

    @pytest.mark.parametrize(
        ("parse", "verdict"),
        [
            ("kept.append(bytes(100_000))", r"it leaks 100 kB per call \[100 kB, 100 kB\]"),
            ("time.sleep(0.06)", r"a call took 0\.06\d* s on average, more than 0\.05 s"),
            ("1 / 0", r".+ of the calls failed, more than .+"),
        ],
        ids=["leaks", "slow", "fails"],
    )
    def test_ci_gate_ends_with_status_1(self, parse: str, verdict: str) -> None:
        """For what its first line says it does, each by itself."""
        planted = f"import sys, time, ci_gate; kept = []; ci_gate.parse = lambda: {parse}; sys.exit(ci_gate.main())"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", planted],
            cwd=EXAMPLES / "lab",
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert done.stderr == ""
        assert re.match(rf"parse: {verdict}, score ", done.stdout)
