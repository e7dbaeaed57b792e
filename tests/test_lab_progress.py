"""Long work shows progress: to a function, as a bar on a terminal, and nowhere else."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys
import time
from typing import Any

import pytest

from hotlap import BenchmarkConfig, PerformanceBenchmarker
from hotlap.lab.progress import Progress

PROGRAM = """
import time
from hotlap import BenchmarkConfig, PerformanceBenchmarker
PerformanceBenchmarker().benchmark_function(time.sleep, 0.02, config=BenchmarkConfig(iterations=60))
print("done")
"""


def test_a_function_is_told_of_each_phase() -> None:
    """With what is done and what is left."""
    seen: list[Progress] = []
    config = BenchmarkConfig(iterations=15, warmup_iterations=5, progress=seen.append)
    PerformanceBenchmarker().benchmark_function(time.sleep, 0.03, config=config)
    phases = list(dict.fromkeys(state.phase for state in seen))
    assert phases[-2:] == ["warming up", "measuring"]
    measuring = [state for state in seen if state.phase == "measuring"]
    assert {state.benchmark for state in seen} == {"sleep"}
    assert [state.done for state in measuring] == sorted(state.done for state in measuring)
    assert (measuring[-1].done, measuring[-1].total, measuring[-1].left_s) == (15, 15, 0.0)
    assert measuring[0].left_s is not None
    assert 0.0 < measuring[0].left_s < 30.0
    assert len(measuring) < 15  # ten a second, not one for each iteration


def test_a_function_that_fails_is_called_no_more(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    def fails(state: Progress) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("no screen")

    config = BenchmarkConfig(iterations=20, progress=fails)
    with caplog.at_level(logging.ERROR, "hotlap"):
        report = PerformanceBenchmarker().benchmark_function(time.sleep, 0.01, config=config)
    assert report.verdict.complete
    assert calls == 1
    assert "the progress function failed" in caplog.text


def test_a_terminal_gets_a_bar() -> None:
    """And a pipe nothing: see below."""
    parent, child = pty.openpty()
    environment: dict[str, Any] = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM], stdout=subprocess.PIPE, stderr=child, env=environment, text=True
    ) as process:
        os.close(child)
        shown = b""
        try:
            while part := os.read(parent, 4096):
                shown += part
        except OSError:  # the other end is closed
            pass
        assert process.stdout is not None
        assert process.stdout.read() == "done\n"
    os.close(parent)
    assert process.returncode == 0
    assert b"sleep" in shown
    assert b"measuring" in shown


def test_what_is_no_terminal_gets_nothing() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")
