"""The types that the stages hand to each other, and durations."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from hotlap.errors import HotlapError, OptionError, OptionTypeError
from hotlap.model import (
    BenchmarkResult,
    BenchmarkType,
    Context,
    Finding,
    Metric,
    Report,
    Score,
    SiteOptions,
    Stats,
    Verdict,
    Verdicts,
    seconds,
)


def finding(severity: float) -> Finding:
    return Finding(rule="time.slow", topic="time", site="f", severity=severity, summary="slow", advice="x")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2, 2.0),
        (0.05, 0.05),
        ("50ms", 0.05),
        ("2s", 2.0),
        ("1.5 s", 1.5),
        ("100us", 1e-4),
        ("100 µs", 1e-4),
        ("1e3 ns", 1e-6),
        ("0.25", 0.25),
        (" 2min ", 120.0),
        ("1h", 3600.0),
    ],
)
def test_durations_are_read_with_their_units(value: object, expected: float) -> None:
    """Numbers are seconds; texts have a unit, with or without a space, and seconds when they have none."""
    assert seconds(value) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "value", ["", "fast", "50 parsec", "ms", "nan", "inf", "--1s", "1,5s", 0, -1, "-5ms", float("nan"), 1e300]
)
def test_impossible_durations_are_refused_by_value(value: object) -> None:
    """What is no duration, not positive or not finite is refused with the value and the option's name."""
    with pytest.raises(OptionError) as caught:
        seconds(value, "slo")
    assert f"slo={value!r}" in str(caught.value)
    assert isinstance(caught.value, HotlapError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("value", [None, True, [1], b"50ms", 1j, 10**400])
def test_durations_of_a_wrong_type_are_refused(value: object) -> None:
    """Anything but a number or a text is an OptionTypeError; an int beyond float is an OptionError."""
    with pytest.raises(OptionError if isinstance(value, int) and value is not True else OptionTypeError):
        seconds(value)


def test_types_and_results_are_plain_strings_outside() -> None:
    """Enum members compare, format and serialise as their lower-case values."""
    assert [kind.value for kind in BenchmarkType] == [
        "function", "memory", "cpu", "i_o", "network", "concurrent", "stress", "comparison",
    ]  # fmt: skip
    assert f"{BenchmarkType.I_O}" == str(BenchmarkType.I_O) == "i_o"
    assert [str(result) for result in BenchmarkResult] == ["excellent", "good", "average", "poor", "critical"]


def test_site_options_can_be_hashed_and_compared() -> None:
    """Two sites with the same options have equal options."""
    options = SiteOptions(slo_s=0.1, tags=(("team", "search"),))
    assert options == SiteOptions(slo_s=0.1, tags=(("team", "search"),))
    assert len({options, SiteOptions()}) == 2


def test_stats_start_without_evidence_and_cannot_be_changed() -> None:
    """What was not measured is None, not zero; stats are immutable."""
    stats = Stats(site="f")
    assert stats.p95_s is None
    assert stats.memory_mb is None
    assert stats.calls == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.calls = 1  # type: ignore[misc]
    assert Stats(site="g").tags is not stats.tags


def test_a_metric_has_a_mean_when_it_has_values() -> None:
    """The mean of no values is None."""
    assert Metric(4, 10.0, 1.0, 4.0).mean == 2.5
    assert Metric(0, 0.0, 0.0, 0.0).mean is None


def test_a_verdict_formats_its_reason_when_it_is_read() -> None:
    """The template and its numbers are kept apart; without numbers braces are text."""
    assert Verdict("a.b", None, "{} samples, needs {}", False, (3, 30)).reason == "3 samples, needs 30"
    assert Verdict("a.b", None, "{plain}", False).reason == "{plain}"
    assert Verdict("a.b", finding(30.0)).reason == "slow"


def test_a_wrong_template_still_gives_a_reason() -> None:
    """A slip in a rule's template does not raise in the sink that reads it."""
    assert Verdict("a.b", None, "{} {} {}", True, (1,)).reason == "{} {} {} (1,)"


def test_verdicts_compare_by_what_they_say() -> None:
    """Equal rule, finding, judgement and text make equal verdicts, however the text is kept."""
    verdict = Verdict("a.b", None, "{} calls", False, (3,))
    assert verdict == Verdict("a.b", None, "3 calls", False)
    assert verdict != Verdict("a.b", None, "3 calls", True)
    assert verdict != "3 calls"
    assert "reason='3 calls'" in repr(verdict)
    assert pickle.loads(pickle.dumps(verdict)) == verdict


def test_a_report_gives_findings_most_severe_first() -> None:
    """Verdicts without a finding are left out."""
    verdicts = (Verdict("a.a"), Verdict("a.b", finding(30.0)), Verdict("a.c", finding(80.0)))
    report = Report(Stats(site="f"), Score(None, None), verdicts)
    assert [found.severity for found in report.findings] == [80.0, 30.0]
    assert report.site == "f"


@pytest.mark.parametrize(
    ("severity", "level"),
    [(99.0, "warning"), (75.0, "warning"), (74.9, "info"), (25.0, "info"), (24.9, "ok")],
)
def test_the_level_of_a_finding_follows_its_severity(severity: float, level: str) -> None:
    """75 and more is a warning, 25 and more a note."""
    assert finding(severity).level == level


def test_verdicts_are_worked_out_when_they_are_read() -> None:
    """Findings are there at once; the rest costs nothing until somebody asks, and is worked out once."""
    asked = []
    fine = Verdict("time.slow", None, "within limits: {}", True, (1,))
    bad = Finding(rule="time.tail", topic="time", site="a", severity=80.0, summary="s", advice="a")

    def judge(stats: Stats, context: Context) -> tuple[Verdict, ...]:
        asked.append(stats.site)
        return fine, Verdict("time.tail", bad)

    stats, context = Stats(site="a"), Context()
    verdicts = Verdicts((bad,), judge, stats, context)
    report = Report(stats, Score(None, None), verdicts)
    assert report.findings == (bad,)
    assert asked == []
    assert len(verdicts) == 2
    assert verdicts[0] is fine
    assert verdicts[:1] == (fine,)
    assert verdicts == (fine, Verdict("time.tail", bad))
    assert verdicts == Verdicts((bad,), judge, stats, context)
    assert verdicts != 1
    assert "within limits: 1" in repr(verdicts)
    assert asked == ["a", "a"]  # once each
