"""Summary: from the columns of a run to the numbers of its report, and to the Stats that are scored and judged."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..model import Stats
from ..stats.bootstrap import interval
from ..stats.modality import modality
from ..stats.outliers import outliers
from ..stats.sample import describe, quantiles
from ..stats.steady import steady_state
from .environment import cpus
from .load.level import LoadOutcome
from .report import BenchmarkMetrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..options import BenchmarkType
    from .config import BenchmarkConfig
    from .runs.run import Outcome
    from .runs.series import Series
    from .runs.subject import Subject

    Floats = NDArray[np.float64]

__all__ = ["as_waited_for", "cpu_percent", "memory_mb", "metrics_of", "process_means", "stats_of", "summarise"]

_CERTAIN = 0.99  # of several modes: each report is looked at for them
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_MB_PER_PAGE = os.sysconf("SC_PAGE_SIZE") / 1e6


def memory_mb(series: Series, examined: Floats | None) -> Floats:
    """MB of a call in each iteration: what the kind has found, or else what the call touched anew; shape (n,)."""
    if examined is None:
        fresh: Floats = series.minor_faults * _MB_PER_PAGE
        return fresh
    spread: Floats = np.resize(examined, len(series.time_s)) if len(examined) else np.full(len(series.time_s), np.nan)
    return spread


def cpu_percent(series: Series, count: int) -> Floats:
    """CPU time of the process as a percentage of what its CPUs could have given; shape (n,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        percent: Floats = 100.0 * series.cpu_s * np.maximum(series.calls, 1) / series.raw_s / count
    return np.where(np.isfinite(percent), np.clip(percent, 0.0, 100.0), np.nan)


def metrics_of(outcome: Outcome, memory: Floats, config: BenchmarkConfig) -> list[BenchmarkMetrics]:
    """One for each iteration, in their order."""
    series = outcome.series
    load = outcome if isinstance(outcome, LoadOutcome) else None
    percent = cpu_percent(series, cpus())
    made = []
    for index in range(len(series.time_s)):
        calls, failed = int(series.calls[index]), int(series.failed[index])
        time_s = float(series.time_s[index])
        whole = time_s if np.isfinite(time_s) else float(series.raw_s[index]) / max(calls, 1)
        made.append(
            BenchmarkMetrics(
                execution_time=whole,
                memory_usage=_or_none(memory[index]),
                cpu_usage=_or_none(percent[index]),
                throughput=(calls - failed) / (whole * calls) if whole > 0.0 and calls else 0.0,
                latency=1e3 * (whole if load is None else float(load.latency_s[index])),
                error_rate=100.0 * failed / calls if calls else 0.0,
                success_rate=100.0 * (calls - failed) / calls if calls else 0.0,
                iterations=calls,
                concurrent_users=config.concurrent_users if load is None else int(load.users[index]),
                timestamp=float(series.started[index]),
            )
        )
    return made


def _or_none(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def summarise(outcome: Outcome, memory: Floats, config: BenchmarkConfig) -> dict[str, Any]:
    """The summary of a report. Times in s, latency in ms, memory in MB, CPU in percent; None without evidence.

    avg_, min_, max_, std_, p50_, p95_ and p99_execution_time are of the iterations without a failure, all of them.
    Under load, latency counts from when a call was due, and throughput is that of all users together.
    """
    series = outcome.series
    times = series.good
    calls, failed = int(series.calls.sum()), int(series.failed.sum())
    summary: dict[str, Any] = {}
    summary.update(_described("execution_time", times, quantiles=True))
    summary.update(_described("memory_usage", memory[np.isfinite(memory)]))
    percent = cpu_percent(series, cpus())
    summary.update(_described("cpu_usage", percent[np.isfinite(percent)]))
    if isinstance(outcome, LoadOutcome):
        latencies = outcome.latency_s[series.failed == 0]
        summary["avg_throughput"] = outcome.throughput
        summary["avg_latency"] = 1e3 * float(latencies.mean()) if len(latencies) else None
        summary.update(_described("latency_s", latencies, quantiles=True))
    else:
        spent = float((series.time_s * series.calls)[series.failed == 0].sum())
        summary["avg_throughput"] = float(series.calls[series.failed == 0].sum()) / spent if spent > 0.0 else None
        summary["avg_latency"] = None if len(times) == 0 else 1e3 * summary["avg_execution_time"]
    summary["success_rate"] = (calls - failed) / calls if calls else None
    summary["error_rate"] = failed / calls if calls else None
    summary["iterations"] = len(series.time_s)
    summary["loops"] = series.loops
    summary["calls"] = calls
    summary["seconds"] = outcome.seconds
    if len(times):
        summary["confidence_intervals"] = _intervals(times, "execution_time", config)
        summary["outliers"] = _outliers(times)
        if not isinstance(outcome, LoadOutcome):
            summary["modes"] = _modes(times)
            summary["steady_state"] = _steady(times, config)
        else:
            latency = _intervals(outcome.latency_s[series.failed == 0], "latency_s", config)
            summary["confidence_intervals"] = latency | summary["confidence_intervals"]
            if len(np.unique(outcome.users)) == 1:  # else levels, which differ on purpose
                between = series.time_s[outcome.all_at_work & (series.failed == 0)]
                summary["steady_state"] = _steady(between if len(between) else times, config)
    return summary


def _described(name: str, values: Floats, quantiles: bool = False) -> dict[str, Any]:
    keys = ("avg", "min", "max", "std", *(_QUANTILES if quantiles else ()))
    if len(values) == 0:
        return {f"{key}_{name}": None for key in keys}
    described = describe(values, tuple(_QUANTILES.values()))
    found = {
        "avg": described.mean,
        "min": described.min,
        "max": described.max,
        "std": described.std,
        **{key: described.quantiles[probability] for key, probability in _QUANTILES.items()},
    }
    return {f"{key}_{name}": found[key] for key in keys}


def _intervals(times: Floats, name: str, config: BenchmarkConfig) -> dict[str, Any]:
    """[low, high] of the true value of what the summary has of the times, where the sample is large enough."""
    found: dict[str, Any] = {"level": config.confidence}
    for key, statistic in (("avg", "mean"), ("p50", "median"), ("p95", "p95"), ("p99", "p99")):
        one = interval(times, statistic, config.confidence, seed=config.seed)
        found[f"{key}_{name}"] = None if one is None else [one.low, one.high]
        if key == "avg" and one is not None:
            found["method"] = one.method
    return found


def stats_of(subject: Subject, kind: BenchmarkType, summary: dict[str, Any], outcome: Outcome, memory: Floats) -> Stats:
    """The run as the Stats of a site, for the score and the rules that serve the live recorder.

    As there, with these differences: quantiles are of the iterations; `cpu_percent` is of all CPUs that the process
    may use, because in the lab it is the benchmark's own loop, and no demand, that keeps one of them busy.
    """
    series = outcome.series
    times = series.good
    weights = np.maximum(series.calls, 1)
    calls, failed = int(series.calls.sum()), int(series.failed.sum())
    mean = summary["avg_execution_time"]
    cpu = _mean(series.cpu_s, weights)
    run = _mean(series.run_s, weights) if subject.asynchronous else None
    quantile = dict(zip((0.9, 0.999), quantiles(times, (0.9, 0.999)).tolist(), strict=True)) if len(times) else {}
    known = memory[np.isfinite(memory)]
    return Stats(
        site=subject.name,
        type=kind,
        location=subject.location,
        started_at=float(series.started[0]) if len(series.started) else 0.0,
        window_s=outcome.seconds,
        calls=calls,
        timed=calls,
        errors=failed,
        throughput=summary["avg_throughput"] or 0.0,
        error_rate=summary["error_rate"],
        success_rate=summary["success_rate"],
        mean_s=mean,
        std_s=summary["std_execution_time"],
        min_s=summary["min_execution_time"],
        max_s=summary["max_execution_time"],
        p50_s=summary["p50_execution_time"],
        p90_s=quantile.get(0.9),
        p95_s=summary["p95_execution_time"],
        p99_s=summary["p99_execution_time"],
        p999_s=quantile.get(0.999),
        total_s=float(series.raw_s.sum()) if len(series.raw_s) else None,
        in_flight_peak=_peak(outcome),
        run_s=run,
        suspended_s=None if run is None or mean is None else max(mean - run, 0.0),
        suspensions=_mean(series.suspensions, weights) if subject.asynchronous else None,
        samples=len(series.time_s),
        cpu_s=cpu,
        cpu_fraction=None if cpu is None or not mean else min(cpu / mean, 1.0),
        cpu_percent=summary["avg_cpu_usage"],
        gc_s=_mean(series.gc_s, weights),
        voluntary=_mean(series.voluntary, weights),
        involuntary=_mean(series.involuntary, weights),
        minor_faults=_mean(series.minor_faults, weights),
        major_faults=_mean(series.major_faults, weights),
        memory_mb=float(known.mean()) if len(known) else None,
        memory_mb_std=summary["std_memory_usage"],
    )


def as_waited_for(stats: Stats, summary: dict[str, Any]) -> Stats:
    """The same under load, with latencies for times: they count from when a call was due, as does who waits for it."""
    if "avg_latency_s" not in summary:
        return stats
    return replace(
        stats,
        mean_s=summary["avg_latency_s"],
        std_s=summary["std_latency_s"],
        min_s=summary["min_latency_s"],
        max_s=summary["max_latency_s"],
        p50_s=summary["p50_latency_s"],
        p95_s=summary["p95_latency_s"],
        p99_s=summary["p99_latency_s"],
    )


def _peak(outcome: Outcome) -> int:
    """The most calls at once."""
    if isinstance(outcome, LoadOutcome):
        return int(outcome.in_flight.max(initial=0))
    return 1 if len(outcome.series.calls) else 0


def _mean(values: Floats, weights: NDArray[Any]) -> float | None:
    """Per call, over the iterations that have a value."""
    known = np.isfinite(values)
    return float(np.average(values[known], weights=weights[known])) if known.any() else None


def _outliers(times: Floats) -> dict[str, Any]:
    """Counted in their classes; none is left out of anything."""
    found = outliers(times)
    counts = {name: getattr(found, name) for name in ("low_severe", "low_mild", "high_mild", "high_severe")}
    return {
        **counts,
        "count": found.count,
        "variance_fraction": found.variance_fraction,
        "effect": found.effect,
        "sentence": found.sentence(),
    }


def _modes(times: Floats) -> dict[str, Any]:
    """Several modes are several ways of running, such as a cache that is hit or missed: a mean hides them."""
    found = modality(times, level=_CERTAIN)
    return {
        "count": len(found.modes),
        "at_s": [mode.place for mode in found.modes],
        "shares": [mode.share for mode in found.modes],
        "dip": found.dip,
        "p": found.p,
        "sentence": found.sentence(),
    }


def _steady(times: Floats, config: BenchmarkConfig) -> dict[str, Any]:
    """Whether and from where on the iterations are steady, and their mean from there."""
    found = steady_state(times)
    steady = times[found.start :] if found.start is not None else times[:0]
    mean = interval(steady, "mean", config.confidence, seed=config.seed) if len(steady) > 1 else None
    return {
        "reached": found.reached,
        "start": found.start,
        "mean_s": float(steady.mean()) if len(steady) else None,
        "interval_s": None if mean is None else [mean.low, mean.high],
        "reason": found.reason,
    }


def process_means(means_s: Sequence[float], config: BenchmarkConfig) -> dict[str, Any]:
    """What fresh processes differ by, which no number of iterations within one of them shows."""
    found = interval(means_s, "mean", config.confidence, seed=config.seed) if len(means_s) > 1 else None
    described = describe(means_s)
    return {
        "processes": len(means_s),
        "means_s": list(means_s),
        "mean_s": described.mean,
        "std_s": described.std,
        "interval_s": None if found is None else [found.low, found.high],
    }
