"""cli.report: which findings are shown at the end of a run, and how a score is called."""

from __future__ import annotations

import dataclasses
from typing import Any

from rich.console import Console

from hotlap.cli import report
from hotlap.model import Context, Cycle, Finding, Report, Stats, Verdict
from hotlap.score import score


def finding(rule: str, severity: float = 50.0, confidence: float = 0.5, **changes: Any) -> Finding:
    made = Finding(rule=rule, topic="t", site="shop.pay", severity=severity, summary="S.", advice="A.")
    return dataclasses.replace(made, confidence=confidence, **changes)


def cycle(*verdicts: Verdict | Finding, number: int = 1, **stats: Any) -> Cycle:
    made = Stats(**{"site": "shop.pay", "window_s": 1.0, "calls": 40, "total_s": 1.0, **stats})
    given = tuple(Verdict(one.rule, one) if isinstance(one, Finding) else one for one in verdicts)
    return Cycle(
        number=number,
        started_at=0.0,
        window_s=1.0,
        reports=(Report(made, score(made), given),),
        context=Context(),
    )


def text(*shown: Any) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as captured:
        console.print(*shown)
    return captured.get()


def test_the_median_finding_is_shown() -> None:
    """Not the worst window's: its numbers are chance more than the others'."""
    cycles = [
        cycle(finding("a.b", 99.0, 0.9)),
        cycle(finding("a.b", 30.0, 0.9)),
        cycle(finding("a.b", 70.0, 0.5)),
        cycle(finding("a.b", 70.0, 0.8, summary="Sure.")),
    ]
    (one,) = report.lasting(cycles)
    assert (one.finding.summary, one.windows, one.judged) == ("Sure.", 4, 4)
    assert "Confidence 80 %; in 4 of 4 windows, of which this is the median." in text(*report.findings([one]))


def test_a_finding_of_the_only_window_that_could_be_judged_is_chance() -> None:
    """Unless the site has no other window."""
    thin = Verdict("a.b", None, "not judged: 9 samples, needs 30", False)
    assert report.lasting([cycle(finding("a.b")), cycle(thin), cycle(thin)]) == []
    assert [one.windows for one in report.lasting([cycle(finding("a.b"))])] == [1]


def test_a_run_says_one_thing_about_the_waiting_of_a_site() -> None:
    """Contention in most windows that could judge it, waiting in the others: one finding at the end."""
    waiting, contention = finding("io.waiting"), finding("concurrency.contention")
    silent = Verdict("io.waiting", None, "not judged: concurrency.contention says it", False)
    thin = Verdict("concurrency.contention", None, "not judged: 9 samples, needs 30", False)
    both = [cycle(silent, contention)] * 2 + [cycle(waiting, thin)] * 3
    assert [one.finding.rule for one in report.lasting(both)] == ["concurrency.contention"]
    assert [one.finding.rule for one in report.lasting(both[1:])] == ["io.waiting"]


def test_a_broken_promise_stands_beside_the_category() -> None:
    """A reader of the table alone sees what the mean forgave."""
    shown = text(report.scores([cycle(p95_s=0.001, success_rate=0.7, error_rate=0.3)]))
    assert "good, but 30 % of its calls fail" in " ".join(shown.split())
    assert "excellent" in text(report.scores([cycle(p95_s=0.001, success_rate=1.0)]))
    assert "but" not in text(report.scores([cycle(p95_s=0.001, success_rate=1.0)]))
