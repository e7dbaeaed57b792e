"""Several processes: each has a recorder and counters of its own, and what it reports says which it is."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from pathlib import Path

import pytest

from live import run_program

PROGRAM = """
    import json, multiprocessing, os, sys
    import hotlap, structlog

    structlog.configure(
        processors=[structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )

    @hotlap.benchmark(name="work")
    def work(n):
        return sum(range(n))

    def job(calls):
        for _ in range(calls):
            work(100)
        return os.getpid()

    if __name__ == "__main__":
        hotlap.start()
        pids = [job(1)]
        context = multiprocessing.get_context({method!r})
        with context.Pool(2, initializer={initializer}) as pool:
            pids += pool.map(job, [1] * 20, chunksize=1)
            pool.close()
            pool.join()
        print(json.dumps(pids))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "initializer"),
    [
        ("fork", None),  # the recorder goes on in the child
        ("fork", "hotlap.start"),  # and starting it does no harm
        ("spawn", "hotlap.start"),
        ("forkserver", "hotlap.start"),
    ],
)
def test_each_process_reports_its_own_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, initializer: str | None
) -> None:
    """In the log and in a file of its own; together every call once, and none of the parent's in a child."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    monkeypatch.setenv("HOTLAP_INTERVAL", "3600")
    monkeypatch.setenv("HOTLAP_SINKS", "structlog,file")
    monkeypatch.setenv("HOTLAP_REPORT_PATH", "report-{pid}.json")
    program = PROGRAM.format(method=method, initializer=initializer)
    done = run_program(tmp_path, program, traced=False)
    assert done.returncode == 0, done.stderr
    called = Counter(json.loads(done.stdout))
    assert len(called) >= 2

    events = [json.loads(line) for line in done.stderr.splitlines()]
    reported = [(event["pid"], event["calls"]) for event in events if event["event"] == "hotlap.report"]
    assert sorted(reported) == sorted(called.items())

    files = [json.loads(path.read_text()) for path in tmp_path.glob("report-*.json")]
    written = {file["pid"]: file["reports"][0]["stats"]["calls"] for file in files if file["reports"]}
    assert written == called


def test_a_spawned_process_that_starts_nothing_reports_nothing(tmp_path: Path) -> None:
    """It has not run what stands under __main__; its calls are counted there and nobody asks."""
    done = run_program(
        tmp_path,
        """
        import multiprocessing, sys, hotlap

        @hotlap.benchmark(name="work")
        def work():
            return hotlap.running(), hotlap.snapshot()["work"].calls

        if __name__ == "__main__":
            hotlap.start(sinks=[])
            assert work() == (True, 0)
            assert work() == (True, 1)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                assert pool.apply(work) == (False, 0)
        """,
    )
    assert done.returncode == 0, done.stderr
