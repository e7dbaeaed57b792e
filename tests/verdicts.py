"""A healthy site, what turns it into a case for each rule, and what a rule says: what the tests of the rules share."""

from __future__ import annotations

import dataclasses
from typing import Any

from hotlap.model import Context, Finding, Stats, Verdict
from hotlap.rules import Rules

# A busy, healthy function: 100 calls a second of 2 ms, half of it computing, all evidence there.
HEALTHY = Stats(
    site="app.search",
    location="app.py:12",
    window_s=10.0,
    calls=1000,
    timed=1000,
    throughput=100.0,
    error_rate=0.0,
    success_rate=1.0,
    mean_s=0.002,
    std_s=0.001,
    min_s=0.001,
    max_s=0.02,
    p50_s=0.002,
    p90_s=0.003,
    p95_s=0.004,
    p99_s=0.008,
    p999_s=0.015,
    total_s=2.0,
    in_flight_peak=4,
    samples=200,
    cpu_s=0.0012,
    cpu_fraction=0.6,
    cpu_percent=12.0,
    own_s=0.0018,
    own_fraction=0.9,
    gc_s=0.0,
    voluntary=0.5,
    involuntary=0.1,
    minor_faults=10.0,
    major_faults=0.0,
    memory_mb=0.04,
    memory_mb_std=0.01,
    in_flight_slope=0.01,
    in_flight_correlation=0.05,
    in_flight_p=0.4,
    size_exponent=1.0,
    parents={"app.main": 1.0},
)
CALM = Context(
    rss_mb=200.0,
    rss_windows=12,
    process_cpu_percent=30.0,
    cpus=4,
    records=2000,
    overhead_fraction=0.002,
    site_memory_share={"app.search": 0.5},
    site_calls={"app.search": 1000, "app.main": 1000},
    site_total_s={"app.search": 2.0, "app.main": 4.0},
)

# rule -> what turns HEALTHY and CALM into a case for it
SLOW = {"slo_s": 0.001}
LONG = {"p95_s": 3.0}
TAIL = {"p99_s": 0.9, "mean_s": 0.012}
COMPUTING = {"cpu_fraction": 0.95, "cpu_percent": 60.0}
WAITING = {"cpu_fraction": 0.05, "voluntary": 2.0}
CONTENDED = {
    "in_flight_slope": 0.8,
    "in_flight_correlation": 0.7,
    "in_flight_p": 1e-9,
    "total_s": 30.0,
    "mean_s": 0.03,
    "cpu_fraction": 0.1,
}
GROWING = {"rss_slope_mb_s": 0.5, "rss_growth_mb": 60.0}
FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "time.slow": (SLOW, {}),
    "time.tail": (TAIL, {}),
    "cpu.bound": (COMPUTING, {}),
    "io.waiting": (WAITING, {}),
    "io.n_plus_one": ({}, {"site_calls": {"app.main": 20}, "site_total_s": {"app.main": 2.5}}),
    "memory.heavy": ({"memory_mb": 300.0}, {}),
    "memory.growing": ({}, GROWING),
    "memory.variance": ({"memory_mb": 20.0, "memory_mb_std": 50.0}, {}),
    "errors.rate": ({"errors": 100}, {}),
    "concurrency.contention": (CONTENDED, {}),
    "algorithm.growth": ({"size_exponent": 1.95}, {}),
    "recorder.lost": ({}, {"records_lost": 1000}),
}


def verdict_of(rule: str, stats: dict[str, Any] | None = None, context: dict[str, Any] | None = None) -> Verdict:
    """What one rule says about HEALTHY with some changes."""
    ours = dataclasses.replace(CALM, **(context or {}))
    if rule.startswith("recorder."):
        judgement = Rules().judge_process(ours)
    else:
        judgement = Rules().judge(dataclasses.replace(HEALTHY, **(stats or {})), ours)
    assert judgement.failed == ()
    return next(verdict for verdict in judgement.verdicts if verdict.rule == rule)


def found(rule: str, stats: dict[str, Any] | None = None, context: dict[str, Any] | None = None) -> Finding:
    verdict = verdict_of(rule, stats, context)
    assert verdict.finding is not None, verdict.reason
    assert verdict.judged
    return verdict.finding


def reason(rule: str, stats: dict[str, Any] | None = None, context: dict[str, Any] | None = None) -> str:
    verdict = verdict_of(rule, stats, context)
    assert verdict.finding is None
    assert verdict.judged is verdict.reason.startswith("within limits: ")
    assert verdict.judged is not verdict.reason.startswith("not judged: ")
    return verdict.reason
