"""Baseline: whether a report shows a regression against an earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import OptionError
from ..stats.comparison import compare
from .report import BenchmarkReport

__all__ = ["Judged", "judged"]


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict about the time of a call."""

    regressed: bool
    change: float  # of the mean time, as a fraction
    sentence: str


def judged(before: BenchmarkReport, now: BenchmarkReport, allowed: float) -> Judged:
    """Whether the mean time has grown by more than `allowed` (a fraction), and not by chance.

    Reports with the means of fresh processes are compared by these (stats/comparison.py). Others by the intervals of
    their means: it has regressed when the lower end of the new one is above the upper end of the old one, and the
    means differ by more than is allowed. Raises OptionError for a report without a successful call.
    """
    old, new = (_mean(report, name) for report, name in ((before, "baseline"), (now, "report")))
    change = new / old - 1.0
    groups = _processes(before), _processes(now)
    if groups[0] is not None and groups[1] is not None:
        found = compare(groups[0], groups[1], level=now.config.confidence, margin=allowed, seed=now.config.seed)
        regressed = found.verdict == "slower" and found.ratio > 1.0 + allowed
        return Judged(regressed, found.ratio - 1.0, f"{found.sentence()}, by the means of fresh processes")
    was, is_now = _interval(before), _interval(now)
    if was is None or is_now is None:
        said = f"{change:+.1%}, but with too few iterations to tell it from chance"
        return Judged(False, change, said)
    apart = is_now[0] > was[1] or is_now[1] < was[0]
    if not apart:
        return Judged(False, change, f"no evidence of a change: {change:+.1%}, and the intervals of the means overlap")
    regressed = change > allowed
    within = "" if abs(change) > allowed else f", within the {allowed:.0%} that are allowed"
    return Judged(
        regressed,
        change,
        f"{'slower' if change > 0 else 'faster'} by {abs(change):.1%}{within}; one process each: what processes differ "
        "by is not covered (isolate=N does)",
    )


def _mean(report: BenchmarkReport, name: str) -> float:
    mean = report.summary["avg_execution_time"]
    if not mean:
        raise OptionError(f"the {name} of {report.benchmark_name} has no successful call: nothing to compare")
    return float(mean)


def _processes(report: BenchmarkReport) -> Sequence[float] | None:
    found: dict[str, Any] | None = report.summary.get("process_means")
    return None if found is None or found["processes"] < 2 else found["means_s"]


def _interval(report: BenchmarkReport) -> Sequence[float] | None:
    intervals: dict[str, Any] = report.summary.get("confidence_intervals", {})
    found: Sequence[float] | None = intervals.get("avg_execution_time")
    return found
