"""Lab reports as tables and lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..lab.report import BenchmarkReport
from ..rules.words import megabytes, rate
from .output import count, digits, duration, near, number, share, table

__all__ = ["comparison", "lines", "measured"]

_LINES = 8
_SHOWN = ("profile", "comparison", "levels")  # details with a table of their own


def measured(report: BenchmarkReport) -> Table:
    """The numbers of one report."""
    summary, rows = report.summary, table("", "", "")
    intervals = summary.get("confidence_intervals", {})
    level = f"{100 * intervals.get('level', report.config.confidence):g} % interval"
    for key, label in (
        ("avg", "mean time"),
        ("p50", "median"),
        ("p95", "p95"),
        ("p99", "p99"),
        ("min", "fastest"),
        ("max", "slowest"),
    ):
        value = summary[f"{key}_execution_time"]
        interval = intervals.get(f"{key}_execution_time")
        around = f"{level}: {duration(interval[0])} to {duration(interval[1])}" if interval else ""
        rows.add_row(label, duration(value), around)
    rows.add_row("throughput", "-" if summary["avg_throughput"] is None else rate(summary["avg_throughput"]), "")
    if summary["avg_memory_usage"] is not None:
        rows.add_row(
            "memory", megabytes(summary["avg_memory_usage"]), f"at most {megabytes(summary['max_memory_usage'])}"
        )
    if summary["avg_cpu_usage"] is not None:
        rows.add_row("CPU", f"{digits(summary['avg_cpu_usage'])} %", f"of {report.environment.get('cpus', '?')} CPUs")
    failed = summary["error_rate"]
    rows.add_row("failures", share(failed), count(summary["calls"], "call"))
    loops = count(summary["loops"], "call")
    rows.add_row("iterations", f"{summary['iterations']:,}", f"of {loops} each, in {duration(summary['seconds'])}")
    processes = summary.get("process_means")
    if processes is not None:
        spread = processes["interval_s"]
        around = f"{level}: {duration(spread[0])} to {duration(spread[1])}" if spread else ""
        rows.add_row(
            f"mean of {count(processes['processes'], 'process', 'processes')}", duration(processes["mean_s"]), around
        )
    score = "-" if report.performance_score is None else f"{report.performance_score:.0f} of 100"
    rows.add_row("score", score, report.result_category.value if report.result_category else "")
    return rows


def lines(report: BenchmarkReport) -> Iterator[Text | Table]:
    """What the report says beyond its numbers: kind, verdict, notes, advice, failures, profile."""
    yield from _details(report.details)
    if "profile" in report.details:
        yield _hottest(report.details["profile"])
    verdict = report.verdict
    yield Text.assemble(("verdict: ", "bold"), (verdict.sentence, "green" if verdict.passed else "red"))
    for key in ("steady_state", "outliers"):
        found = report.summary.get(key)
        if found is not None:
            yield Text(f"  {found.get('reason') or found.get('sentence')}")
    for note in verdict.notes:
        yield Text(f"  {note}")
    if report.recommendations:
        yield Text("recommendations:", style="bold")
        for advice in report.recommendations:
            yield Text(f"  {advice}")
    for failure in report.failures[:1]:
        yield Text(f"the first {failure.type}:", style="bold")
        yield Text(failure.traceback.rstrip(), style="dim")


def _details(details: Mapping[str, Any]) -> Iterator[Text | Table]:
    shown = {key: value for key, value in _flat(details) if value is not None}
    if not shown:
        return
    rows = table("measured", "")
    for key, value in shown.items():
        rows.add_row(escape(key), number(value) if isinstance(value, (int, float, str)) else str(value))
    yield rows


def _hottest(profile: Mapping[str, Any]) -> Table:
    """The lines that take the most time."""
    rows = table("hottest lines", "function", "time", "share", right=("time", "share"))
    for line in profile["lines"][:_LINES]:
        where = f"{near(line['file'])}:{line['line']}"
        rows.add_row(where, line["function"], duration(line["seconds"]), share(line["share"]))
    return rows


def _flat(details: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in details.items():
        if not prefix and key in _SHOWN:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif not isinstance(value, (list, tuple)):
            yield f"{prefix}{key}", value
        elif value and all(isinstance(each, (int, float)) for each in value) and len(value) <= 4:
            yield f"{prefix}{key}", ", ".join(number(each) for each in value)


def comparison(reports: Mapping[str, BenchmarkReport]) -> Table:
    """The competitors in their order: place, mean time, ratio and verdict."""
    rows = table("", "function", "mean time", "ratio", "interval", "verdict", right=("mean time", "ratio"))
    for name, report in reports.items():
        found = report.details["comparison"]
        ratio, interval = found.get("ratio"), found.get("ratio_interval")
        rows.add_row(
            str(found.get("place", "-")),
            name,
            duration(found.get("mean_s", report.summary["avg_execution_time"])),
            "-" if ratio is None else f"{ratio:.3g}",
            "" if not interval or None in interval else f"{interval[0]:.3g} to {interval[1]:.3g}",
            found.get("sentence", found["verdict"]),
        )
    return rows
