"""Cycles as tables and paragraphs for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..model import BenchmarkResult, Cycle, Finding, Report, Score
from ..rules import Rules
from .output import count, digits, duration, near, number, share, table

_SHOWN_FROM = 25.0  # severity: a rule's info limit
_STYLES = {
    BenchmarkResult.EXCELLENT: "green",
    BenchmarkResult.GOOD: "green",
    BenchmarkResult.AVERAGE: "yellow",
    BenchmarkResult.POOR: "red",
    BenchmarkResult.CRITICAL: "bold red",
}


@dataclass(frozen=True, slots=True)
class Lasting:
    """A finding that came back: the median one, and in how many of the judged windows there was one."""

    finding: Finding
    windows: int
    judged: int


def lasting(cycles: Iterable[Cycle]) -> list[Lasting]:
    """The findings that hold in at least half of the windows in which their rule could judge, worst first.

    One window's finding may be chance (a pause of the machine, a round of the garbage collector): it counts only where
    the site has no other window. Of several the median by severity is kept, not the worst; of those that are alike the
    one with the highest confidence. One that yields to another about its site is left out.
    """
    judged: dict[tuple[str, str], int] = {}
    found: dict[tuple[str, str], list[Finding]] = {}
    windows: dict[str, int] = {}
    for cycle in cycles:
        for report in cycle.reports:
            windows[report.site] = windows.get(report.site, 0) + 1
            for verdict in report.verdicts:
                key = (verdict.rule, report.site)
                judged[key] = judged.get(key, 0) + verdict.judged
                if verdict.finding is not None and verdict.finding.severity >= _SHOWN_FROM:
                    found.setdefault(key, []).append(verdict.finding)
    came_back = [
        _median(findings)
        for key, findings in found.items()
        if 2 * len(findings) >= judged[key] and len(findings) >= min(2, windows[key[1]])
    ]
    kept = [
        Lasting(finding, len(found[finding.rule, finding.site]), judged[finding.rule, finding.site])
        for finding in Rules().standing(came_back)
    ]
    return sorted(kept, key=lambda one: (-one.finding.severity, one.finding.site, one.finding.rule))


def _median(findings: list[Finding]) -> Finding:
    severity = sorted(finding.severity for finding in findings)[len(findings) // 2]
    return max((one for one in findings if one.severity == severity), key=lambda finding: finding.confidence)


def latest(cycles: Iterable[Cycle]) -> dict[str, Report]:
    """Each site's report in the last window in which it was called."""
    return {report.site: report for cycle in cycles for report in cycle.reports}


def fullest(cycles: Sequence[Cycle]) -> Cycle:
    """The cycle that says the most: with the most sites, of these the one with the most calls."""
    return max(cycles, key=lambda cycle: (len(cycle.reports), sum(report.stats.calls for report in cycle.reports)))


def scores(cycles: Sequence[Cycle]) -> Table:
    """All sites: counts over all windows, the rest from the site's last window; the most time first."""
    numbers = ("calls", "errors", "time", "p50", "p99", "CPU", "score")
    result = table("site", *numbers, "", right=numbers)
    result.columns[-1].max_width = 14  # a caveat is wrapped before the names of the sites are
    calls: dict[str, int] = {}
    errors: dict[str, int] = {}
    total_s: dict[str, float] = {}
    for cycle in cycles:
        for report in cycle.reports:
            stats = report.stats
            calls[stats.site] = calls.get(stats.site, 0) + stats.calls
            errors[stats.site] = errors.get(stats.site, 0) + stats.errors
            total_s[stats.site] = total_s.get(stats.site, 0.0) + (stats.total_s or 0.0)
    for site, report in sorted(latest(cycles).items(), key=lambda item: -total_s[item[0]]):
        stats, score = report.stats, report.score
        result.add_row(
            site,
            f"{calls[site]:,}",
            f"{errors[site]:,}",
            duration(total_s[site]),
            duration(stats.p50_s),
            duration(stats.p99_s),
            "-" if stats.cpu_percent is None else f"{digits(stats.cpu_percent)} %",
            "-" if score.value is None else f"{score.value:.0f}",
            _category(score),
        )
    return result


def _category(score: Score) -> Text:
    """The category with its caveats, which take away the green."""
    if score.category is None:
        return Text("-")
    style = _STYLES[score.category]
    return Text(score.summary, style=_STYLES[BenchmarkResult.AVERAGE] if score.caveats and style == "green" else style)


def findings(found: Sequence[Lasting]) -> Iterator[Text | Padding]:
    """Each finding as a heading and an indented paragraph."""
    if not found:
        yield Text("no findings")
    for one in found:
        finding = one.finding
        style = "bold red" if finding.level == "warning" else "bold yellow"
        yield Text.assemble(
            (f"{finding.level} {finding.severity:.0f}", style),
            f"  {finding.rule}  ",
            (finding.site, "bold"),
            (f"  {near(finding.location)}" if finding.location else "", "dim"),
        )
        evidence = ", ".join(f"{name} {number(value)}" for name, value in finding.evidence.items())
        lines = [finding.summary, finding.advice, f"Evidence: {evidence}" if evidence else "", finding.gain]
        which = ", of which this is the median" if one.windows > 1 else ""
        lines.append(
            f"Confidence {share(finding.confidence)}; in {one.windows} of {count(one.judged, 'window')}{which}."
        )
        yield Padding(Text("\n".join(line for line in lines if line)), (0, 0, 1, 2), expand=False)


def cost(cycles: Sequence[Cycle]) -> list[str]:
    """What the recorder itself took, as it measured it."""
    if not cycles:
        return ["nothing was measured: there was no cycle"]
    context = cycles[-1].context
    # A last window of a few milliseconds says little about a share of time: it weighs little, is no maximum.
    longest = max(cycle.window_s for cycle in cycles)
    measured = [
        (cycle.context.overhead_fraction, cycle.window_s)
        for cycle in cycles
        if cycle.context.overhead_fraction is not None
    ]
    seconds = sum(window_s for _, window_s in measured)
    mean = sum(fraction * window_s for fraction, window_s in measured) / seconds if seconds else None
    most = max((fraction for fraction, window_s in measured if 2 * window_s >= longest), default=None)
    records = sum(cycle.context.records for cycle in cycles)
    lost = sum(cycle.context.records_lost for cycle in cycles)
    slowest = max(cycle.cost_s for cycle in cycles)
    counting = sorted({report.site for cycle in cycles for report in cycle.reports if report.stats.counting})
    lines = [
        f"{share(mean)} of one core on average, {share(most)} in the worst window (budget {share(context.budget)})",
        f"{count(len(cycles), 'cycle')}, the longest {duration(slowest)}; "
        f"{count(records, 'record')} read, {lost:,} lost",
    ]
    if counting:
        lines.append(f"to stay within the budget, these were counted and not timed for a while: {', '.join(counting)}")
    return lines
