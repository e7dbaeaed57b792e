"""Cycles as the aggregator hands them to the sinks: what the tests of the ways out share."""

from __future__ import annotations

from hotlap.model import (
    BenchmarkResult,
    BenchmarkType,
    Context,
    Cycle,
    Finding,
    Part,
    Report,
    Score,
    Stats,
    Verdict,
)


def finding(severity: float = 80.0, **changes) -> Finding:
    values = {
        "rule": "slow",
        "topic": "time",
        "site": "app.search",
        "severity": severity,
        "summary": "p95 is 0.8 s",
        "advice": "look at the query",
        "evidence": {"p95_s": 0.8, "samples": 40, "kind": "cpu"},
        "gain": "half of the time",
        "gain_s_per_hour": 12.5,
        "confidence": 0.9,
        "location": "app.py:12",
    }
    return Finding(**{**values, **changes})


def report(site: str = "app.search", findings: tuple[Finding, ...] = (), **stats) -> Report:
    values = {"calls": 40, "timed": 40, "errors": 2, "p95_s": 0.8, "total_s": 20.0, "type": BenchmarkType.CPU}
    part = Part("execution_time", 0.8, "s", 0.3, 0.5, 66.0, (0.1, 0.5, 1.0, 2.0))
    verdicts = (
        *(Verdict(found.rule, found) for found in findings),
        Verdict("tail", reason="not judged: {} samples, needs {}", judged=False, numbers=(3, 30)),
    )
    return Report(
        Stats(site=site, **{**values, **stats}),
        Score(66.0, BenchmarkResult.AVERAGE, (part,), ("memory_usage",)),
        verdicts,
    )


def cycle(*reports: Report, number: int = 7, **changes) -> Cycle:
    context = Context(rss_mb=120.0, records=50, sinks_failed=("otel",), rules_failed=("slow", "waiting"))
    values = {"started_at": 1_700_000_000.0, "window_s": 10.0, "context": context, "cost_s": 0.004}
    return Cycle(number=number, reports=reports, **{**values, **changes})
