"""A report's numbers as rows of text, for people: numbers are formatted here, and nowhere before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ..rules.words import duration, megabytes, number, rate, share

if TYPE_CHECKING:
    from .report import BenchmarkReport

__all__ = ["Row", "lines", "rows"]

_TIMES = {"avg": "mean time", "p50": "median", "p95": "p95", "p99": "p99", "min": "fastest", "max": "slowest"}
_NONE = "-"


class Row(NamedTuple):
    """One number of a report."""

    label: str
    value: str  # "-" where there is none
    around: str = ""  # its interval, or what it is of


def rows(report: BenchmarkReport) -> Iterator[Row]:
    """Times, throughput, memory, CPU, failures, iterations, what measuring cost, score and verdict."""
    summary = report.summary
    intervals = summary.get("confidence_intervals", {})
    level = f"{100 * intervals.get('level', report.config.confidence):g} % interval"
    for key, label in _TIMES.items():
        value, ends = summary.get(f"{key}_execution_time"), intervals.get(f"{key}_execution_time")
        around = f"{level}: {duration(ends[0])} to {duration(ends[1])}" if ends else ""
        yield Row(label, _NONE if value is None else duration(value), around)
    throughput, memory, cpu = (summary.get(f"avg_{name}") for name in ("throughput", "memory_usage", "cpu_usage"))
    yield Row("throughput", _NONE if throughput is None else rate(throughput))
    if memory is not None:
        yield Row("memory", megabytes(memory), f"at most {megabytes(summary['max_memory_usage'])}")
    if cpu is not None:
        yield Row("CPU", f"{number(cpu)} %", f"of {report.environment.get('cpus', '?')} CPUs")
    failed, calls = summary.get("error_rate"), summary.get("calls", 0)
    yield Row("failures", _NONE if failed is None else share(failed), f"of {_count(calls, 'call')}")
    loops, seconds = summary.get("loops", 1), summary.get("seconds", 0.0)
    made = f"of {_count(loops, 'call')} each, in {duration(seconds)}; garbage collector {report.config.gc}"
    yield Row("iterations", f"{len(report.metrics):,}", made)
    cost = report.overhead
    if report.metrics and cost.get("subtracted_s") is not None:
        around = f"subtracted from each call; {duration(cost['recording_s'])} beside each iteration ({cost['level']})"
        yield Row("overhead", duration(cost["subtracted_s"]), around)
    if cost.get("profiling_slowdown"):
        yield Row("profiling", f"{number(cost['profiling_slowdown'])} times", "as long, in calls that are not timed")
    processes = summary.get("process_means")
    if processes is not None:
        ends = processes["interval_s"]
        around = f"{level}: {duration(ends[0])} to {duration(ends[1])}" if ends else ""
        label = f"mean of {_count(processes['processes'], 'process', 'processes')}"
        yield Row(label, duration(processes["mean_s"]), around)
    score, category = report.performance_score, report.result_category
    yield Row("score", _NONE if score is None else f"{score:.0f} of 100", category.value if category else "")
    yield Row("verdict", report.verdict.sentence)


def lines(report: BenchmarkReport) -> Iterator[str]:
    """The rows below the report's name, what must be known of them, and the recommendations."""
    yield f"{report.benchmark_name} ({report.benchmark_type.value})"
    found = list(rows(report))
    label = max(len(row.label) for row in found)
    value = max(len(row.value) for row in found if row.around)
    for row in found:
        yield f"  {row.label:{label}}  {row.value:{value}}  {row.around}".rstrip()
    for title, texts in (("notes", report.verdict.notes), ("recommendations", report.recommendations)):
        if texts:
            yield f"{title}:"
            yield from (f"  {text}" for text in texts)


def _count(count: int, noun: str, nouns: str = "") -> str:
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
