"""Fresh processes, and Ctrl-C in a terminal, which goes to all of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

PROGRAM = """
import json, os, sys, time
from pathlib import Path
from hotlap import BenchmarkConfig, PerformanceBenchmarker

CALLS = Path("calls")

def work(after: int) -> None:
    '''So many calls are quick, of all processes together. Then one does not end.'''
    with CALLS.open("a") as file:
        file.write("call\\n")
    if len(CALLS.read_text().splitlines()) > after:
        Path("stuck").touch()
        time.sleep(600)

def other(after: int) -> None:
    work(after)

def told(report):
    return {
        "metrics": len(report.metrics),
        "interrupted": report.verdict.interrupted,
        "complete": report.verdict.complete,
        "sentence": report.verdict.sentence,
        "notes": list(report.verdict.notes),
        "summary": report.summary,
        "comparison": report.details.get("comparison"),
    }

if __name__ == "__main__":
    how, after = sys.argv[1], int(sys.argv[2])
    config = BenchmarkConfig(iterations=3, warmup_iterations=0, loops=1, isolate=4, progress=False)
    lab = PerformanceBenchmarker()
    if how == "function":
        reports = {"work": lab.benchmark_function(work, after, config=config)}
    elif how == "grid":
        reports = dict(enumerate(lab.benchmark_parameters(work, {"after": [after] * 3}, config=config)))
    else:
        reports = lab.compare_functions([(work, "work"), (other, "other")], after, config=config)
    print(json.dumps({name: told(report) for name, report in reports.items()}))
"""
PATIENCE_S = 60.0


def wait(process: subprocess.Popen[str], done: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def interrupted(here: Path, how: str, after: int = 0, *, at_once: bool = False) -> dict[str, Any]:
    """What a program prints whose group of processes gets Ctrl-C when a call of its benchmark does not end; or
    `at_once`, when it has begun its first fresh process.
    """
    (here / "program.py").write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, "-W", "error", "program.py", how, str(after)],
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:

        def spawned() -> bool:
            return any("spawn_main" in " ".join(child.cmdline()) for child in psutil.Process(process.pid).children())

        try:
            wait(process, spawned if at_once else (here / "stuck").exists)
            os.killpg(process.pid, signal.SIGINT)
            printed, complaints = process.communicate(timeout=PATIENCE_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert complaints == ""
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(printed)
    return found


class TestInterrupted:
    """Not a word on stderr; the report has the processes that were through."""

    @pytest.mark.parametrize("at_once", [False, True], ids=["in a call", "when a process begins"])
    def test_before_the_first_process_is_through(self, tmp_path: Path, at_once: bool) -> None:
        """An empty report, which says so."""
        (report,) = interrupted(tmp_path, "function", at_once=at_once).values()
        assert (report["metrics"], report["interrupted"], report["complete"]) == (0, True, False)
        assert report["sentence"] == "interrupted"
        assert "Interrupted after 0 of 12 iterations." in report["notes"]
        assert report["summary"]["avg_execution_time"] is None

    def test_in_the_third_process(self, tmp_path: Path) -> None:
        (report,) = interrupted(tmp_path, "function", after=6).values()
        assert (report["metrics"], report["interrupted"], report["complete"]) == (6, True, False)
        assert report["summary"]["process_means"]["processes"] == 2
        assert "Interrupted after 6 of 12 iterations." in report["notes"]

    def test_a_grid_ends_there(self, tmp_path: Path) -> None:
        assert [one["interrupted"] for one in interrupted(tmp_path, "grid", after=14).values()] == [False, True]

    def test_a_comparison_before_anything_is_measured(self, tmp_path: Path) -> None:
        reports = interrupted(tmp_path, "compare")
        assert set(reports) == {"work", "other"}
        for report in reports.values():
            assert (report["metrics"], report["interrupted"], report["complete"]) == (0, True, False)
            assert report["comparison"]["verdict"] == "not compared"
            assert "interrupted" in report["comparison"]["sentence"]

    def test_a_comparison_of_what_was_measured(self, tmp_path: Path) -> None:
        """Two processes of each: too few to tell, and incomplete."""
        reports = interrupted(tmp_path, "compare", after=12)
        assert {report["metrics"] for report in reports.values()} == {6}
        assert {report["interrupted"] for report in reports.values()} == {True}
        assert {report["complete"] for report in reports.values()} == {False}
        assert sorted(report["comparison"]["place"] for report in reports.values()) == [1, 1]


def test_a_parent_that_is_gone_is_no_traceback(tmp_path: Path) -> None:
    """A fresh process has nobody to answer to: it ends, and says nothing."""
    (tmp_path / "program.py").write_text(PROGRAM.replace("time.sleep(600)", "time.sleep(1)"))
    with subprocess.Popen(
        [sys.executable, "program.py", "function", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait(process, (tmp_path / "stuck").exists)
        process.kill()
        _, complaints = process.communicate(timeout=PATIENCE_S)  # until the fresh process has closed its end, too
    assert "BrokenPipe" not in complaints


def ran(here: Path, program: str, how: str, after: int) -> dict[str, Any]:
    """What a program prints that is left alone."""
    (here / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py", how, str(after)],
        cwd=here,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("how", ["function", "compare"])
def test_a_process_that_crashes_takes_nothing_with_it(tmp_path: Path, how: str) -> None:
    """Those before it were through; the report is that of these, and says how it ended."""
    reports = ran(tmp_path, PROGRAM.replace("time.sleep(600)", "os._exit(3)"), how, after=7)
    assert sum(report["metrics"] for report in reports.values()) == 6
    for report in reports.values():
        assert not report["complete"]
        assert any("The run ended when a process for" in note and "status 3" in note for note in report["notes"])


@pytest.mark.parametrize(("how", "seconds"), [("function", 4.0), ("compare", 8.0)])
def test_all_processes_share_the_time(tmp_path: Path, how: str, seconds: float) -> None:
    """Calls of a second, of which a process would make three: there is no time for four processes of each."""
    program = PROGRAM.replace("time.sleep(600)", "time.sleep(1)").replace("isolate=4", "isolate=4, timeout=4.0")
    begun = time.monotonic()
    reports = ran(tmp_path, program, how, after=0)
    assert time.monotonic() - begun < 3.0 * seconds
    for report in reports.values():
        assert not report["complete"]
        assert f"the time budget of {seconds:g} s for all processes is spent" in report["sentence"]
