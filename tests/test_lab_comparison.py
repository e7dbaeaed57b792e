"""Functions against each other: measured in turn, or in fresh processes, and never called different by chance."""

from __future__ import annotations

import os
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hotlap import BenchmarkConfig, BenchmarkReport, DebugLevel, HotlapError, PerformanceBenchmarker
from hotlap.lab.baseline import judged
from lab_subjects import die, fail, more_work, note_process, sleep_long, work, work_async

QUICK = BenchmarkConfig(iterations=40, warmup_iterations=2)
APART = BenchmarkConfig(iterations=5, warmup_iterations=1, isolate=2, progress=False)


def compared(report: BenchmarkReport) -> dict[str, Any]:
    found: dict[str, Any] = report.details["comparison"]
    return found


class TestInTurn:
    def test_the_fastest_comes_first(self) -> None:
        reports = PerformanceBenchmarker().compare_functions([(more_work, "more"), (work, "less")], config=QUICK)
        assert list(reports) == ["less", "more"]
        less, more = reports.values()
        assert compared(less)["verdict"] == "reference"
        assert compared(more)["verdict"] == "slower"
        low, high = compared(more)["ratio_interval"]
        assert 1.0 < low <= compared(more)["ratio"] <= high
        assert compared(more)["sentence"].startswith("slower by")
        assert [report.benchmark_name for report in reports.values()] == ["less", "more"]
        assert {report.benchmark_type.value for report in reports.values()} == {"comparison"}

    def test_against_a_named_base(self) -> None:
        reports = PerformanceBenchmarker().compare_functions(
            [(more_work, "more"), (work, "less")], config=QUICK, base="more"
        )
        assert compared(reports["more"])["verdict"] == "reference"
        assert compared(reports["less"])["verdict"] == "faster"
        assert compared(reports["less"])["ratio"] < 1.0

    def test_they_take_turns(self) -> None:
        """Neither has a part of the run to itself."""
        turns: list[str] = []
        config = BenchmarkConfig(iterations=40, warmup_iterations=0, loops=1)
        PerformanceBenchmarker().compare_functions(
            [(lambda: turns.append("a"), "a"), (lambda: turns.append("b"), "b")], config=config
        )
        changes = sum(one != other for one, other in pairwise(turns))
        assert (turns.count("a"), turns.count("b")) == (40, 40)
        assert changes >= 19  # twenty rounds, each with both of them

    def test_sync_and_async_ones_together(self) -> None:
        reports = PerformanceBenchmarker().compare_functions([(work, "sync"), (work_async, "async")], config=QUICK)
        assert all(report.verdict.complete for report in reports.values())

    def test_one_that_always_fails_is_not_compared(self) -> None:
        reports = PerformanceBenchmarker().compare_functions([(work, "work"), (fail, "fail")], config=QUICK)
        assert "not compared" in compared(reports["work"])["verdict"]
        assert reports["fail"].failures[0].type == "LookupError"


class TestApart:
    def test_each_in_processes_of_its_own(self, tmp_path: Path) -> None:
        """isolate=2: two processes for each, none of them this one."""
        path = tmp_path / "processes"
        PerformanceBenchmarker().benchmark_function(note_process, str(path), config=APART)
        processes = set(path.read_text().split())
        assert len(processes) == 2
        assert str(os.getpid()) not in processes

    def test_the_report_has_the_means_of_the_processes(self) -> None:
        report = PerformanceBenchmarker().benchmark_function(work, config=APART)
        assert len(report.metrics) == 10
        assert report.verdict.complete
        found = report.summary["process_means"]
        assert found["processes"] == len(found["means_s"]) == 2
        assert found["mean_s"] == pytest.approx(sum(found["means_s"]) / 2)

    def test_profiling_is_in_the_report_of_processes_too(self) -> None:
        """The hottest line is the subject's, whichever process was profiled."""
        report = PerformanceBenchmarker(DebugLevel.PROFILING).benchmark_function(more_work, config=APART)
        assert len(report.metrics) == 10
        assert "lab_subjects.py" in report.details["profile"]["lines"][0]["file"]

    def test_comparisons_are_of_processes(self) -> None:
        reports = PerformanceBenchmarker().compare_functions([(more_work, "more"), (work, "less")], config=APART)
        assert compared(reports["more"])["compared_by"] == "processes"
        assert compared(reports["more"])["processes"] == 2
        assert "cannot give p" in compared(reports["more"])["sentence"]

    def test_failures_come_back(self) -> None:
        report = PerformanceBenchmarker().benchmark_function(fail, config=APART)
        assert report.failures[0].count == 10
        assert report.summary["success_rate"] == 0.0

    def test_a_crash_is_said(self) -> None:
        with pytest.raises(HotlapError, match=r"the fresh process for die ended with status -9"):
            PerformanceBenchmarker().benchmark_function(die, config=APART)

    def test_the_time_budget_holds_there(self) -> None:
        config = BenchmarkConfig(iterations=3, isolate=2, timeout=0.3, progress=False)
        report = PerformanceBenchmarker().benchmark_function(sleep_long, config=config)
        assert report.verdict.marks[0].limit == "timeout"
        assert report.metrics == []

    @pytest.mark.parametrize("argument", [lambda: None, threading.Lock()])
    def test_what_cannot_be_sent_is_refused(self, argument: Any) -> None:
        with pytest.raises(TypeError, match=r"cannot be sent to a fresh process .* isolate needs a function"):
            PerformanceBenchmarker().benchmark_function(work, argument, config=APART)


class TestBaseline:
    def report(self, mean: float, spread: float, processes: list[float] | None = None) -> BenchmarkReport:
        report = PerformanceBenchmarker().benchmark_function(work, config=BenchmarkConfig(iterations=2))
        report.summary["avg_execution_time"] = mean
        report.summary["confidence_intervals"] = {"avg_execution_time": [mean - spread, mean + spread]}
        if processes is not None:
            report.summary["process_means"] = {"processes": len(processes), "means_s": processes}
        return report

    def test_a_regression_is_beyond_chance_and_beyond_what_is_allowed(self) -> None:
        before = self.report(1.0, 0.01)
        assert judged(before, self.report(1.3, 0.01), 0.1).regressed
        assert not judged(before, self.report(1.05, 0.01), 0.1).regressed  # allowed
        assert not judged(before, self.report(1.3, 0.5), 0.1).regressed  # chance
        assert not judged(before, self.report(0.7, 0.01), 0.1).regressed  # faster
        assert "faster by 30.0%" in judged(before, self.report(0.7, 0.01), 0.1).sentence

    def test_process_means_are_compared_when_both_have_them(self) -> None:
        before = self.report(1.0, 0.001, [1.0, 1.01, 0.99, 1.0, 1.01, 0.99])
        slower = self.report(1.3, 0.001, [1.3, 1.31, 1.29, 1.3, 1.28, 1.31])
        same = self.report(1.02, 0.001, [1.0, 1.05, 0.97, 1.02, 1.04, 0.99])
        assert judged(before, slower, 0.1).regressed
        assert "fresh processes" in judged(before, slower, 0.1).sentence
        assert not judged(before, same, 0.1).regressed
