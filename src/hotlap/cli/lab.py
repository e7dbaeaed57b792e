"""Lab reports as tables and lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..lab.report import BenchmarkReport
from ..lab.rows import rows
from ..rules.words import rate
from . import kinds
from .output import digits, duration, fitted, near, share, table

__all__ = ["comparison", "lines", "measured"]

_LINES = 8


def measured(report: BenchmarkReport, screen: Console) -> Table:
    """The numbers of one report, those of every kind first."""
    shown = table("", "", "")
    shown.show_header = False
    shown.columns[0].no_wrap = shown.columns[1].no_wrap = True
    every = (row for row in rows(report) if row.label != "verdict")  # which has a line of its own
    for label, value, note in (*every, *kinds.rows(report.benchmark_type, report.details)):
        shown.add_row(Text(label), Text(value), Text(note))
    return fitted(shown, screen, 2)


def lines(report: BenchmarkReport, screen: Console) -> Iterator[RenderableType]:
    """What the report says beyond its numbers: levels, profile, verdict, notes, advice, failures."""
    if "levels" in report.details:
        yield Padding(_levels(report.details["levels"], screen), (1, 0))
    if "profile" in report.details:
        yield Padding(_hottest(report.details["profile"], screen), (1, 0))
    verdict = report.verdict
    yield Text.assemble(("verdict: ", "bold"), (verdict.sentence, "green" if verdict.passed else "red"))
    found = (report.summary.get(key) for key in ("steady_state", "outliers"))
    said = [one.get("reason") or one.get("sentence") for one in found if one is not None]
    said += [*verdict.notes, *kinds.sentences(report.details)]
    for sentence in dict.fromkeys(said):
        if not any(sentence in advice for advice in report.recommendations):
            yield _indented(sentence)
    if report.recommendations:
        yield Text("recommendations:", style="bold")
        yield from map(_indented, report.recommendations)
    for failure in report.failures[:1]:
        yield Text(f"the first {failure.type}:", style="bold")
        yield Text(failure.traceback.rstrip(), style="dim")


def _indented(sentence: str) -> Padding:
    return Padding(Text(sentence), (0, 0, 0, 2), expand=False)


def _levels(levels: list[Mapping[str, Any]], screen: Console) -> Table:
    """Of a ramp of users: what each level got done."""
    numbers = ("users", "throughput", "median", "p99", "waits", "failures")
    shown = table(*numbers, right=numbers)
    for level in levels:
        latency, throughput = level["latency"], level["steady_throughput"] or level["throughput"]
        shown.add_row(
            f"{level['users']:,}",
            "-" if throughput is None else rate(throughput),
            duration(latency["p50_s"]),
            duration(latency["p99_s"]),
            share(level["waiting_share"]),
            share(level["error_rate"]),
        )
    return fitted(shown, screen, 4, 2, 3, 5)


def _hottest(profile: Mapping[str, Any], screen: Console) -> Table:
    """The lines that take the most time."""
    shown = table("hottest lines", "function", "time", "share", right=("hottest lines", "time", "share"))
    shown.columns[0].justify = "left"
    for line in profile["lines"][:_LINES]:
        where = f"{near(line['file'])}:{line['line']}"
        shown.add_row(Text(where), Text(line["function"]), duration(line["seconds"]), share(line["share"]))
    return fitted(shown, screen, 1, 2)


def comparison(reports: Mapping[str, BenchmarkReport], screen: Console) -> Table:
    """The competitors in their order: place, mean time, ratio and verdict."""
    shown = table("", "function", "mean time", "ratio", "interval", "verdict", right=("mean time", "ratio"))
    shown.columns[0].no_wrap = shown.columns[1].no_wrap = shown.columns[4].no_wrap = True
    for name, report in reports.items():
        found = report.details["comparison"]
        ratio, interval = found.get("ratio"), found.get("ratio_interval")
        shown.add_row(
            str(found.get("place") or "-"),
            Text(name),
            duration(found.get("mean_s", report.summary["avg_execution_time"])),
            "-" if ratio is None else digits(ratio),
            "" if not interval or None in interval else f"{digits(interval[0])} to {digits(interval[1])}",
            Text(found.get("sentence", found["verdict"])),
        )
    return fitted(shown, screen, 4, 3, 0, 2, 5)
