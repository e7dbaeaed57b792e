"""Reports as files: whole or not at all, unrounded, and refused when damaged."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap import PerformanceBenchmarker
from hotlap.lab import export
from hotlap.lab.config import BenchmarkConfig, DebugLevel
from hotlap.lab.profiler import PerformanceProfiler
from hotlap.lab.report import BenchmarkMetrics, BenchmarkReport, Failure, Mark, RunVerdict
from hotlap.model import BenchmarkResult, Finding
from hotlap.options import BenchmarkType

SUMMARY: dict[str, Any] = {
    **{f"{key}_execution_time": 0.1 + 0.2 for key in ("avg", "min", "max", "p50", "p95")},
    **{f"{key}_memory_usage": 1 / 3 for key in ("avg", "min", "max", "std")},
    **{f"{key}_cpu_usage": None for key in ("avg", "min", "max", "std")},
    "std_execution_time": 0.0,
    "p99_execution_time": None,
    "avg_throughput": 3.0,
    "avg_latency": 4.0,
    "success_rate": 1.0,
    "error_rate": 0.0,
    "iterations": 1,
    "loops": 7,
    "calls": 7,
    "seconds": 2.5,
    "outliers": {"count": 0},
    "confidence_intervals": {"level": 0.95, "avg_execution_time": [-0.1, 0.31], "p99_execution_time": None},
    "process_means": {"processes": 2, "means_s": [0.29, 0.31], "mean_s": 0.3, "interval_s": None},
}
REPORT = BenchmarkReport(
    benchmark_name="parse",
    benchmark_type=BenchmarkType.FUNCTION,
    config=BenchmarkConfig(iterations=2, arrival_rate=3.5),
    metrics=[BenchmarkMetrics(0.1 + 0.2, 1 / 3, None, 3.0, 4.0, 0.0, 100.0, 7, 1, 1.7e9 + 1 / 7)],
    summary=SUMMARY,
    recommendations=["Do less."],
    performance_score=87.3,
    result_category=BenchmarkResult.GOOD,
    timestamp=1_795_450_521.873402,
    findings=[
        Finding(
            rule="time.slow",
            topic="time",
            site="parse",
            severity=80.0,
            summary="Slow.",
            advice="Fast.",
            evidence={"a": 1},
        )
    ],
    environment={"cpus": 2},
    verdict=RunVerdict(False, (Mark("timeout", 31.0, 30.0, "spent", True),), ("a note",)),
    failures=[Failure("ValueError", "a.py:1 in f", "bad", 2, 0, 0.25, "Traceback", ("bursts",))],
    overhead={"timer_s": 1e-8},
    details={"bytes": [1, 2]},
    parameters={"n": 10},
)


def test_a_report_comes_back_as_it_was(tmp_path: Path) -> None:
    path = export.export(REPORT, tmp_path / "report.json")
    assert export.load(path) == REPORT


def test_numbers_are_not_rounded(tmp_path: Path) -> None:
    path = export.export(REPORT, tmp_path / "report.json")
    document = json.loads(path.read_text())
    assert document["summary"]["avg_execution_time"] == 0.1 + 0.2
    assert (document["format"], document["version"]) == ("hotlap.benchmark", 1)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0.0, allow_infinity=False))
def test_any_number_comes_back(first: float, second: float) -> None:
    """No time is below 0; what else a summary or the details say may be."""
    summary = {**SUMMARY, "a": first, "avg_execution_time": second}
    report = replace(REPORT, summary=summary, metrics=[BenchmarkMetrics(second, timestamp=second)])
    assert export.loads(export.dumps(report)) == report


def test_what_is_not_finite_is_null() -> None:
    report = replace(REPORT, details={"a": math.nan, "b": math.inf})
    assert export.loads(export.dumps(report)).details == {"a": None, "b": None}


def test_functions_in_a_config_are_named() -> None:
    def prepare() -> None:
        pass

    report = replace(REPORT, config=BenchmarkConfig(setup=prepare))
    assert "prepare" in json.loads(export.dumps(report))["config"]["setup"]
    assert export.loads(export.dumps(report)).config.setup is None


def test_without_a_path_it_goes_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a name of its own, made of the benchmark's and the time; never over another report."""
    monkeypatch.chdir(tmp_path)
    odd = replace(REPORT, benchmark_name="<lambda> ../x")
    first, second = export.export(odd), export.export(odd)
    assert first != second
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([first.name, second.name])


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = export.export(REPORT, tmp_path / "report.json")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        export.export(replace(REPORT, benchmark_name="other"), path)
    assert export.load(path) == REPORT
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-40], "is damaged, or no report"),
        (lambda text: "[]", "its format is 'list', not 'hotlap.benchmark'"),
        (lambda text: text.replace("hotlap.benchmark", "hotlap.cycle"), "its format is 'hotlap.cycle'"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "has version 2 of the format, this hotlap reads 1"),
        (lambda text: text.replace('"metrics"', '"metric"'), "it has no metrics"),
        (
            lambda text: text.replace('"benchmark_type": "function"', '"benchmark_type": "fast"'),
            "benchmark_type='fast' must be one of function, memory, cpu",
        ),
        (lambda text: text.replace('"iterations": 2', '"iterations": -2'), "config.iterations=-2 is not allowed"),
        (lambda text: text.replace('"execution_time"', '"execution_times"', 1), "metrics[0] has no execution_time;"),
        (lambda text: "\x00", "is damaged"),
        (lambda text: "[" * 100_000, "is damaged, or no report: it is nested too deeply"),
        (lambda text: text.replace("87.3", "NaN"), "NaN is no number of JSON"),
    ],
)
def test_a_damaged_file_is_refused_with_what_is_wrong(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(change(export.dumps(REPORT)))
    with pytest.raises(ValueError, match=r"report\.json") as error:
        export.load(path)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("metrics", 0, "execution_time"), "fast", "metrics[0].execution_time='fast' must be a number of at least 0"),
        (("metrics", 0, "execution_time"), -5, "metrics[0].execution_time=-5 must be a number of at least 0"),
        (("metrics", 0, "execution_time"), True, "metrics[0].execution_time=True must be a number"),
        (("metrics", 0, "iterations"), 1.5, "metrics[0].iterations=1.5 must be a whole number of at least 0"),
        (("metrics", 0), "fast", "metrics[0]='fast' must be an object"),
        (("metrics",), {}, "metrics={} must be a list"),
        (("metrics",), [], "summary.iterations=1 must be the number of metrics, which is 0"),
        (("summary",), {}, "summary has no avg_cpu_usage, avg_execution_time"),
        (("summary", "avg_execution_time"), "abc", "summary.avg_execution_time='abc' must be a number of at least 0"),
        (("summary", "confidence_intervals"), 7, "summary.confidence_intervals=7 must be an object"),
        (
            ("summary", "confidence_intervals", "avg_execution_time"),
            [1.0],
            "summary.confidence_intervals.avg_execution_time=[1.0] must be a list of 2",
        ),
        (
            ("summary", "confidence_intervals", "avg_execution_time"),
            [1.0, "x"],
            "summary.confidence_intervals.avg_execution_time[1]='x' must be a number;",
        ),
        (("summary", "process_means", "means_s"), ["x"], "summary.process_means.means_s[0]='x' must be a number"),
        (("config", "users"), 7, "config has 'users', which no BenchmarkConfig has"),
        (("config",), [], "config must be an object"),
        (("findings", 0, "severity"), None, "findings[0].severity=None must be a number"),
        (("failures", 0, "patterns"), "bursts", "failures[0].patterns='bursts' must be a list"),
        (("verdict", "complete"), 1, "verdict.complete=1 must be true or false"),
        (("verdict", "marks", 0, "sentence"), 1, "verdict.marks[0].sentence=1 must be a text"),
        (("verdict", "notes", 0), {}, "verdict.notes[0]={} must be a text"),
        (("result_category",), "fair", "result_category='fair' must be one of excellent"),
        (("timestamp",), 10**400, "timestamp=1000"),
        (("benchmark_name",), None, "benchmark_name=None must be a text"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(place: tuple[Any, ...], value: Any, message: str) -> None:
    document = json.loads(export.dumps(REPORT))
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(ValueError, match="the text is damaged") as error:
        export.loads(json.dumps(document))
    assert message in str(error.value)
    assert "measure again" in str(error.value)


def test_what_an_older_hotlap_did_not_know_is_filled_in() -> None:
    """A plain default is; but a run without a verdict did not pass, and one without failures may have had some."""
    document = json.loads(export.dumps(REPORT))
    del document["verdict"]["notes"], document["config"]["gc"]
    assert export.loads(json.dumps(document)).verdict == replace(REPORT.verdict, notes=())
    for name in ("verdict", "failures"):
        with pytest.raises(ValueError, match=f"it has no {name}"):
            export.loads(json.dumps({key: value for key, value in document.items() if key != name}))


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is no report: it is not text"):
        export.load(path)


def test_a_missing_file_and_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        export.load(tmp_path / "none.json")
    with pytest.raises(ValueError, match="is in no existing directory"):
        export.export(REPORT, tmp_path / "none" / "report.json")
    with pytest.raises(ValueError, match="is a directory"):
        export.export(REPORT, tmp_path)
    with pytest.raises(TypeError, match="is no BenchmarkReport"):
        export.export("report")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [3, b"x", ["x"]])
def test_what_is_no_path_is_refused(path: Any) -> None:
    for call in (lambda: export.export(REPORT, path), lambda: export.check(path), lambda: export.load(path)):
        with pytest.raises(TypeError, match=r"path=.* has the wrong type: give the path of a file"):
            call()


@pytest.mark.parametrize("name", ["no\0name", "n" * 250])
def test_where_nothing_can_be_written_the_path_is_named(tmp_path: Path, name: str) -> None:
    """The path that was given, not that of the file which would have become it."""
    path = str(tmp_path / name)
    for call in (lambda: export.export(REPORT, path), lambda: export.check(path, "--json")):
        with pytest.raises(ValueError, match=r"cannot be written \(.*: give the path of a file that can") as error:
            call()
        assert f"={path!r}" in str(error.value)


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """As /dev/stdout would be, for all who write there later."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is no regular file, and would be replaced"):
        export.export(REPORT, tmp_path / "pipe")


def test_a_check_before_the_run_leaves_nothing(tmp_path: Path) -> None:
    path = export.export(REPORT, tmp_path / "report.json")
    export.check(path)
    export.check(tmp_path / "new.json")
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]
    assert export.load(path) == REPORT
    with pytest.raises(ValueError, match=r"--json='none/x\.json' is in no existing directory: create none first"):
        export.check("none/x.json", "--json")


@pytest.mark.parametrize("level", [DebugLevel.DETAILED, DebugLevel.PROFILING])
@pytest.mark.parametrize("kind", ["function", "memory", "cpu", "io", "network", "concurrent", "stress"])
def test_what_is_read_is_what_was_reported(kind: str, level: DebugLevel) -> None:
    """Of every kind, to the last detail: in the report, too, what is not known is None, and lists are lists."""
    lab = PerformanceBenchmarker(level)
    lab.profiler = PerformanceProfiler(seconds=0.1)
    config = BenchmarkConfig(iterations=20, progress=False, timeout=10.0)
    report = getattr(lab, f"benchmark_{kind}")(sum, range(100), config=config)
    assert export.loads(export.dumps(report)) == report
