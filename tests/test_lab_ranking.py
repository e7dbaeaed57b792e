"""What the reports of a comparison say of each other: always by the same keys, and why when there is nothing."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Any

import pytest

from hotlap import BenchmarkConfig, BenchmarkReport, PerformanceBenchmarker
from lab_subjects import fail, more_work, work

KEYS = {
    "compared_by",
    "rounds",
    "place",
    "of",
    "reference",
    "mean_s",
    "mean_interval_s",
    "verdict",
    "ratio",
    "ratio_interval",
    "p",
    "smallest_detectable",
    "sentence",
}


def compared(report: BenchmarkReport) -> dict[str, Any]:
    found: dict[str, Any] = report.details["comparison"]
    return found


def test_the_keys_are_always_the_same() -> None:
    config = BenchmarkConfig(iterations=20, warmup_iterations=1)
    lab = PerformanceBenchmarker()
    good = lab.compare_functions([(work, "work"), (more_work, "more")], config=config)
    bad = lab.compare_functions([(work, "work"), (fail, "fail")], config=config)
    for report in (*good.values(), *bad.values()):
        assert set(compared(report)) == KEYS
    assert compared(good["work"])["sentence"] == "the reference"


def test_a_competitor_that_fails_is_named_as_the_reason() -> None:
    config = BenchmarkConfig(iterations=10, warmup_iterations=1)
    reports = PerformanceBenchmarker().compare_functions([(work, "work"), (fail, "fail")], config=config)
    for report in reports.values():
        assert compared(report)["verdict"] == "not compared"
        assert compared(report)["sentence"] == "not compared: every call of fail failed"
    assert compared(reports["work"])["mean_s"] == pytest.approx(reports["work"].summary["avg_execution_time"])
    assert compared(reports["fail"])["mean_s"] is None


def test_the_others_are_compared_without_one_that_fails() -> None:
    """It has no times; that is no reason to know nothing of the rest. As the base there is nothing to hold them to."""
    functions = [(work, "work"), (fail, "fail"), (more_work, "more")]
    config = BenchmarkConfig(iterations=40, warmup_iterations=1)
    reports = PerformanceBenchmarker().compare_functions(functions, config=config)
    assert list(reports) == ["work", "more", "fail"]
    assert compared(reports["more"])["ratio"] > 1.5
    assert compared(reports["more"])["place"] == 2
    assert compared(reports["fail"])["sentence"] == "not compared: every call of fail failed"
    reports = PerformanceBenchmarker().compare_functions(functions, config=config, base="fail")
    assert {compared(report)["verdict"] for report in reports.values()} == {"not compared"}


def test_a_limit_is_the_reason_where_it_was() -> None:
    import time

    config = BenchmarkConfig(iterations=10, warmup_iterations=0, timeout=0.1, loops=1)
    reports = PerformanceBenchmarker().compare_functions(
        [(lambda: time.sleep(0.5), "a"), (lambda: time.sleep(0.5), "b")], config=config
    )
    assert {compared(report)["sentence"] for report in reports.values()} == {
        "not compared: a limit was reached before each function had been measured in a round"
    }
    assert not any(report.verdict.interrupted for report in reports.values())


class TestInterrupted:
    """Ctrl-C ends all of them, at once."""

    @staticmethod
    def subjects(at: int, calls: list[str]) -> list[tuple[Callable[[], None], str]]:
        def call(name: str) -> None:
            calls.append(name)
            if len(calls) == at:
                signal.raise_signal(signal.SIGINT)

        return [(lambda: call("a"), "a"), (lambda: call("b"), "b")]

    def reports(self, at: int, calls: list[str], warmup: int = 0) -> dict[str, BenchmarkReport]:
        config = BenchmarkConfig(iterations=40, warmup_iterations=warmup, loops=1)
        return PerformanceBenchmarker().compare_functions(self.subjects(at, calls), config=config)

    def test_no_further_call_is_made(self) -> None:
        calls: list[str] = []
        reports = self.reports(30, calls)
        assert len(calls) == 30
        assert [report.verdict.interrupted for report in reports.values()] == [True, True]
        assert not any(report.verdict.complete for report in reports.values())
        assert sum(len(report.metrics) for report in reports.values()) == 29
        assert all("Interrupted after " in " ".join(report.verdict.notes) for report in reports.values())

    def test_what_was_measured_is_compared(self) -> None:
        """The rounds that were through: 7 of 20, in which each made two calls."""
        reports = self.reports(30, [])
        assert {compared(report)["rounds"] for report in reports.values()} == {7}
        assert {compared(report)["place"] for report in reports.values()} <= {1, 2}

    @pytest.mark.parametrize(("at", "warmup"), [(1, 0), (2, 5), (7, 5)], ids=["measuring", "first warm-up", "second"])
    def test_before_a_round_is_through_nothing_is_compared(self, at: int, warmup: int) -> None:
        calls: list[str] = []
        reports = self.reports(at, calls, warmup)
        assert len(calls) == at
        assert set(reports) == {"a", "b"}
        for report in reports.values():
            assert report.verdict.interrupted
            assert compared(report)["verdict"] == "not compared"
            assert compared(report)["sentence"] == (
                "not compared: interrupted before each function had been measured in a round"
            )


@pytest.mark.parametrize(
    ("count", "options", "needed"),
    [
        (2, {"isolate": 3}, "give isolate=4 or more"),
        (3, {"isolate": 4}, "give isolate=5 or more"),
        (2, {"iterations": 5}, "give iterations=6 or more"),
        (2, {"iterations": 6}, None),
        (1, {"iterations": 1}, None),
        (2, {"iterations": 6, "confidence": 0.99}, "give iterations=8 or more"),
    ],
)
def test_what_cannot_be_told_is_said_before_the_run(
    count: int,
    options: dict[str, Any],
    needed: str | None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A warning, because ratios are measured nevertheless; none where a verdict is possible."""

    def ended(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt  # what comes then is not the subject here

    monkeypatch.setattr("hotlap.lab.isolation.run_apart", ended)
    with caplog.at_level(logging.WARNING, "hotlap"):
        PerformanceBenchmarker().compare_functions(
            [(work, str(number)) for number in range(count)],
            config=BenchmarkConfig(**{"warmup_iterations": 0, "iterations": 1, **options}),
        )
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (needed is not None)
    assert needed is None or needed in said[0]
