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

from hotlap.lab import export
from hotlap.lab.config import BenchmarkConfig
from hotlap.lab.report import BenchmarkMetrics, BenchmarkReport, Failure, Mark, RunVerdict
from hotlap.model import BenchmarkResult, Finding
from hotlap.options import BenchmarkType

REPORT = BenchmarkReport(
    benchmark_name="parse",
    benchmark_type=BenchmarkType.FUNCTION,
    config=BenchmarkConfig(iterations=2, arrival_rate=3.5),
    metrics=[BenchmarkMetrics(0.1 + 0.2, 1 / 3, None, 3.0, 4.0, 0.0, 100.0, 7, 1, 1.7e9 + 1 / 7)],
    summary={"avg_execution_time": 0.1 + 0.2, "outliers": {"count": 0}, "p99_execution_time": None},
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


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_comes_back(first: float, second: float) -> None:
    report = replace(REPORT, summary={"a": first}, metrics=[BenchmarkMetrics(second, timestamp=first)])
    assert export.loads(export.dumps(report)) == report


def test_what_is_not_finite_is_null() -> None:
    report = replace(REPORT, summary={"a": math.nan, "b": math.inf})
    assert export.loads(export.dumps(report)).summary == {"a": None, "b": None}


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
            "'fast' is not a valid",
        ),
        (lambda text: text.replace('"iterations": 2', '"iterations": -2'), "iterations=-2 is not allowed"),
        (lambda text: text.replace('"execution_time"', '"execution_times"', 1), "execution_times"),
        (lambda text: "\x00", "is damaged"),
    ],
)
def test_a_damaged_file_is_refused_with_what_is_wrong(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(change(export.dumps(REPORT)))
    with pytest.raises(ValueError, match=r"report\.json") as error:
        export.load(path)
    assert message in str(error.value)


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
