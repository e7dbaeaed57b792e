"""Baseline: whether a report shows a regression against an earlier one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import OptionError
from ..options import BenchmarkType
from ..readers import number
from ..rules.words import duration, share
from ..stats.change import in_words
from ..stats.comparison import compare
from .report import BenchmarkReport

__all__ = ["Judged", "check", "judged"]

_TAKEN = 0.05  # of the machine's CPU time, from which on others are spoken of
_MOST = 1e6  # that may be allowed: a million times as long
_SMALLEST = 1e-9  # margin of a comparison: nothing that is certain is too small to count
_PLACE = ("python", "cpu", "cpus")  # of the environment: what times depend on


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict about the time of a call.

    It is neither `regressed` nor fine when it is `doubtful`: slower by more than is allowed, and not by chance, but no
    more so than the other work on the machine explains.
    """

    regressed: bool
    change: float | None  # of the mean time, as a fraction; None when no call succeeded
    sentence: str
    doubtful: bool = False


def check(before: BenchmarkReport, kind: BenchmarkType) -> None:
    """Whether a report of that kind can be held against this one. Raises OptionError for another kind of benchmark, and
    for a baseline without a successful call.
    """
    if before.benchmark_type is not kind:
        raise OptionError(
            f"the baseline of {before.benchmark_name} is of type {before.benchmark_type}, this is of type {kind}: "
            "they time different things; measure both alike"
        )
    if not before.summary["avg_execution_time"]:
        raise OptionError(
            f"the baseline of {before.benchmark_name} has no successful call: there is nothing to compare with; "
            "measure it again"
        )


def judged(before: BenchmarkReport, now: BenchmarkReport, allowed: float) -> Judged:
    """Whether the mean time has grown by more than `allowed` (a fraction), and not by chance.

    Reports with the means of fresh processes are compared by these (stats/comparison.py). Others by the intervals of
    their means: these must be apart. Where other processes, or other machines of its host, took a share of the
    machine's CPU time meanwhile, calls may take up to 1/(1 - share) as long: what that explains is doubtful, and no
    regression. A function of which no call succeeds any more has regressed.

    `allowed` is a fraction: 0.1 allows 10 % more time, 1.0 twice the time. (--max-slower of the command line is in
    percent: 10 there is 0.1 here.)

    Raises OptionError for an `allowed` below 0 or NaN, and as `check`.
    """
    allowed = number(0.0, _MOST, f"a fraction from 0 to {_MOST:,.0f}")(allowed, "allowed", False)
    check(before, now.benchmark_type)
    old, new = before.summary["avg_execution_time"], now.summary["avg_execution_time"]
    if not new:
        return Judged(True, None, f"no call succeeded: there is no time to hold against the {duration(old)} before")
    ratio, slower, said = _by_processes(before, now, allowed) or _by_intervals(before, now)
    over, taken = slower and ratio > 1.0 + allowed, _taken(now)
    doubtful = over and ratio * (1.0 - taken) <= 1.0 + allowed
    if slower and not over:
        said += f", within the {share(allowed)} that is allowed"
    if doubtful:
        said += f", but {_others(now)} meanwhile, which can make calls take {1.0 / (1.0 - taken):.2g} times as long"
        said += ": run it again on a quiet machine"
    return Judged(over and not doubtful, ratio - 1.0, "; ".join([said, *_caveats(before, now, doubtful)]), doubtful)


def _by_processes(before: BenchmarkReport, now: BenchmarkReport, allowed: float) -> tuple[float, bool, str] | None:
    """Ratio of the times, whether that is slower beyond chance, and a sentence; None without several processes each."""
    old, new = _processes(before), _processes(now)
    if old is None or new is None:
        return None
    found = compare(old, new, level=now.config.confidence, margin=max(allowed, _SMALLEST), seed=now.config.seed)
    return found.ratio, found.verdict == "slower", f"{found.sentence()}, by the means of fresh processes"


def _by_intervals(before: BenchmarkReport, now: BenchmarkReport) -> tuple[float, bool, str]:
    """The same, by the intervals of the means. That of the ratio lies between what their ends give."""
    ratio: float = now.summary["avg_execution_time"] / before.summary["avg_execution_time"]
    old, new = _interval(before), _interval(now)
    if old is None or new is None:
        return ratio, False, f"{in_words(ratio)}, but with too few iterations to tell it from chance"
    if new[0] <= old[1] and new[1] >= old[0]:
        return ratio, False, f"no evidence of a change: {in_words(ratio)}, and the intervals of the means overlap"
    low, high = max(new[0], 0.0) / old[1], new[1] / old[0] if old[0] > 0.0 else None
    return ratio, ratio > 1.0, in_words(ratio, low, high)


def _caveats(before: BenchmarkReport, now: BenchmarkReport, doubtful: bool) -> Iterator[str]:
    """What a reader must know of the comparison."""
    if not doubtful and _taken(now):
        yield f"{_others(now)} meanwhile"
    if _taken(before):
        yield f"{_others(before)} while the baseline was measured, which may be too slow: measure it again"
    if _processes(before) is None or _processes(now) is None:
        yield "one process is one throw of the dice: what processes differ by is not covered (isolate=10 does, in both)"
    if not before.verdict.complete:
        yield "the baseline's run was not complete"
    for name in _PLACE:
        old, new = before.environment.get(name), now.environment.get(name)
        if old is not None and new is not None and old != new:
            yield f"measured elsewhere: {name} is {new}, and was {old} for the baseline"


def _taken(report: BenchmarkReport) -> float:
    """Share of the machine's CPU time that others took during a run; 0 where it is not known, or not worth a word."""
    taken = sum(report.environment.get(name) or 0.0 for name in ("others", "stolen"))
    return min(taken, 0.99) if taken >= _TAKEN else 0.0


def _others(report: BenchmarkReport) -> str:
    return f"others took {share(_taken(report))} of the machine's CPU time"


def _processes(report: BenchmarkReport) -> Sequence[float] | None:
    found: dict[str, Any] | None = report.summary.get("process_means")
    return None if found is None or found["processes"] < 2 else found["means_s"]


def _interval(report: BenchmarkReport) -> Sequence[float] | None:
    intervals: dict[str, Any] = report.summary.get("confidence_intervals", {})
    found: Sequence[float] | None = intervals.get("avg_execution_time")
    return found
