"""Functions against each other: measured in turn, or in fresh processes, and never called different by chance."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hotlap import BenchmarkConfig, BenchmarkReport, BenchmarkType, DebugLevel, HotlapError, PerformanceBenchmarker
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

    def test_the_order_of_each_round_is_drawn(self) -> None:
        """Who is always first meets another machine than who is always second."""
        turns: list[str] = []
        config = BenchmarkConfig(iterations=20, warmup_iterations=0, loops=1)
        PerformanceBenchmarker(DebugLevel.BASIC).compare_functions(
            [(lambda: turns.append("a"), "a"), (lambda: turns.append("b"), "b")], config=config
        )
        rounds = [tuple(turns[start : start + 2]) for start in range(0, len(turns), 2)]
        assert len(rounds) == 20
        assert set(rounds) == {("a", "b"), ("b", "a")}

    def test_each_round_has_a_loop_of_its_own(self) -> None:
        """Where its code lies in memory is chance, which is to be in the interval, and not in the difference."""
        loops: dict[int, Any] = {}  # kept, so that none takes another's place

        def look() -> None:
            code = sys._getframe(1).f_code
            loops[id(code)] = code

        config = BenchmarkConfig(iterations=20, warmup_iterations=0, loops=1)
        PerformanceBenchmarker(DebugLevel.BASIC).compare_functions([(look, "a"), (work, "b")], config=config)
        assert len(loops) == 20

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
    def report(
        self, mean: float | None, spread: float = 0.01, processes: list[float] | None = None, **environment: Any
    ) -> BenchmarkReport:
        """With these numbers, measured on a machine where nothing else ran."""
        report = PerformanceBenchmarker().benchmark_function(work, config=BenchmarkConfig(iterations=2))
        report.environment.update({"others": 0.0, "stolen": None, **environment})
        report.summary["avg_execution_time"] = mean
        report.summary["confidence_intervals"] = (
            {} if mean is None else {"avg_execution_time": [mean - spread, mean + spread]}
        )
        if processes is not None:
            report.summary["process_means"] = {"processes": len(processes), "means_s": processes}
        return report

    def test_a_regression_is_beyond_chance_and_beyond_what_is_allowed(self) -> None:
        before = self.report(1.0)
        assert judged(before, self.report(1.3), 0.1).regressed
        assert not judged(before, self.report(1.05), 0.1).regressed  # allowed
        assert not judged(before, self.report(1.3, 0.5), 0.1).regressed  # chance
        assert not judged(before, self.report(0.7), 0.1).regressed  # faster
        assert judged(before, self.report(0.7), 0.1).sentence.startswith("faster by 30 % [28.3 %, 31.7 %]; one process")
        assert "slower by 5 % [3 %, 7.1 %], within the 10 % that is allowed" in (
            judged(before, self.report(1.05), 0.1).sentence
        )
        assert judged(before, self.report(1276.0), 0.1).sentence.startswith(
            "slower by a factor of 1,276 [1,263, 1,289]"
        )

    def test_nothing_may_be_allowed(self) -> None:
        """Then what is certain is a regression, however small; but never what is chance."""
        before = self.report(1.0, 0.001, [1.0, 1.001, 0.999, 1.0, 1.001, 0.999])
        slower = self.report(1.02, 0.001, [1.02, 1.021, 1.019, 1.02, 1.018, 1.021])
        assert judged(before, slower, 0.0).regressed
        assert judged(self.report(1.0), self.report(1.03), 0.0).regressed
        assert not judged(self.report(1.0), self.report(1.01), 0.0).regressed

    def test_process_means_are_compared_when_both_have_them(self) -> None:
        before = self.report(1.0, 0.001, [1.0, 1.01, 0.99, 1.0, 1.01, 0.99])
        slower = self.report(1.3, 0.001, [1.3, 1.31, 1.29, 1.3, 1.28, 1.31])
        same = self.report(1.02, 0.001, [1.0, 1.05, 0.97, 1.02, 1.04, 0.99])
        assert judged(before, slower, 0.1).regressed
        assert judged(before, slower, 0.1).sentence.endswith("fresh processes")
        assert not judged(before, same, 0.1).regressed

    def test_one_process_is_said_to_be_one(self) -> None:
        said = judged(self.report(1.0), self.report(1.3), 0.1).sentence
        assert "one process is one throw of the dice" in said
        assert "isolate=10" in said

    def test_what_other_work_on_the_machine_explains_is_doubtful(self) -> None:
        """With half of the CPU time, calls take up to twice as long: 1.7 times says nothing, 2.3 times does."""
        before = self.report(1.0)
        some, much = (judged(before, self.report(mean, others=0.5), 0.1) for mean in (1.708, 2.3))
        assert (some.regressed, some.doubtful) == (False, True)
        assert some.sentence.startswith(
            "slower by 70.8 % [68.1 %, 73.5 %], but others took 50 % of the machine's CPU time meanwhile, which can "
            "make calls take 2 times as long: run it again on a quiet machine; "
        )
        assert (much.regressed, much.doubtful) == (True, False)
        assert "others took 50 % of the machine's CPU time meanwhile" in much.sentence
        assert judged(before, self.report(1.2, others=0.06, stolen=0.06), 0.1).doubtful
        assert judged(before, self.report(1.2, others=0.01, stolen=0.01), 0.1).regressed

    def test_a_noisy_baseline_is_said(self) -> None:
        """It makes a regression look small, and is no excuse for one."""
        noisy = self.report(1.0, others=0.4)
        assert judged(noisy, self.report(1.3), 0.1).regressed
        for mean in (0.7, 1.0, 1.3):
            assert (
                "while the baseline was measured, which may be too slow"
                in judged(noisy, self.report(mean), 0.1).sentence
            )

    def test_another_machine_is_said(self) -> None:
        said = judged(self.report(1.0, cpu="A"), self.report(1.3, cpu="B"), 0.1).sentence
        assert "measured elsewhere: cpu is B, and was A for the baseline" in said

    def test_a_run_without_a_success_has_regressed(self) -> None:
        found = judged(self.report(1.0), self.report(None), 0.1)
        assert found.regressed
        assert found.change is None
        assert found.sentence == "no call succeeded: there is no time to hold against the 1 s before"

    def test_what_cannot_be_compared_is_refused(self) -> None:
        before, now = self.report(1.0), self.report(1.0)
        with pytest.raises(ValueError, match="the baseline of work has no successful call"):
            judged(self.report(None), now, 0.1)
        other = replace(before, benchmark_type=BenchmarkType.MEMORY)
        with pytest.raises(ValueError, match="is of type memory, this is of type function"):
            judged(other, now, 0.1)
        for allowed in (-0.1, float("nan")):
            with pytest.raises(ValueError, match=r"allowed=.* is not allowed: give a fraction from 0"):
                judged(before, now, allowed)

    def test_the_noise_of_a_run_is_in_its_report(self) -> None:
        report = PerformanceBenchmarker().benchmark_function(work, config=BenchmarkConfig(iterations=500))
        assert {"load", "others", "stolen"} <= set(report.environment)
