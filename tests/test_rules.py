"""The rules as a whole: what holds for each of them, severity and limits, and the registry."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.config import load
from hotlap.errors import OptionError, OptionTypeError
from hotlap.model import Context, Stats, Verdict
from hotlap.rules import (
    PROCESS_SITE,
    Limits,
    Rule,
    RuleFailure,
    Rules,
    judge,
    judge_process,
    register,
    registered,
    severity,
    unregister,
)
from hotlap.rules.base import check_limits, confidence, per_hour
from verdicts import CALM, FAULTS, GROWING, HEALTHY, TAIL, found, verdict_of

# --- all rules -------------------------------------------------------------------------------------


def test_a_healthy_site_gets_no_finding() -> None:
    """Every rule judges a healthy site with full evidence, and says why it has nothing to say."""
    for verdict in (*judge(HEALTHY, CALM).verdicts, *judge_process(CALM).verdicts):
        assert verdict.finding is None
        assert verdict.judged, verdict
        assert verdict.reason.startswith("within limits: ")


def test_without_evidence_no_rule_judges() -> None:
    """Stats of a site that was hardly called are not judged: no verdict is made from nothing."""
    for verdict in judge(Stats(site="f", window_s=10.0), Context()).verdicts:
        assert verdict.finding is None
        if verdict.rule != "concurrency.contention":  # never two at once: that much is known
            assert not verdict.judged
            assert verdict.reason.startswith("not judged: ")


@pytest.mark.parametrize("rule", [rule.id for rule in registered()])
def test_each_rule_finds_its_fault_and_says_it_well(rule: str) -> None:
    """A finding has a site, numbers, sentences that end, a severity and a confidence in their ranges."""
    finding = found(rule, *FAULTS[rule])
    assert finding.rule == rule
    assert finding.topic == rule.split(".", maxsplit=1)[0]
    assert finding.site == (PROCESS_SITE if rule.startswith("recorder.") else "app.search")
    assert 25.0 <= finding.severity < 100.0
    assert 0.0 < finding.confidence < 1.0
    assert finding.evidence
    for sentence in (finding.summary, finding.advice, finding.gain):
        assert sentence.endswith((".", ")."))
        assert sentence[0].isupper() or sentence[0].isdigit() or sentence.startswith("app.")
        assert "  " not in sentence
        assert "nan" not in sentence
        assert "None" not in sentence
    if finding.gain_s_per_hour is not None:
        assert finding.gain_s_per_hour > 0.0
    assert finding.location == (None if rule.startswith("recorder.") else "app.py:12")


@pytest.mark.parametrize("rule", [rule.id for rule in registered()])
def test_few_samples_are_not_judged(rule: str) -> None:
    """With one call and one sample there is no finding, whatever the numbers are."""
    if rule.startswith(("recorder.", "memory.growing")):
        pytest.skip("rests on the process, not on samples")
    stats, context = FAULTS[rule]
    few = {**stats, "samples": 1, "calls": 1, "timed": 1, "errors": min(1, stats.get("errors", 0))}
    assert verdict_of(rule, few, context).finding is None


@pytest.mark.parametrize("rule", [rule.id for rule in registered()])
def test_rules_describe_themselves(rule: str) -> None:
    """Each rule says what it looks for, what it needs and what is compared with its limits."""
    ours = next(one for one in registered() if one.id == rule)
    assert ours.title
    assert ours.needs
    assert ours.measure
    assert ours.scope in ("site", "process")
    assert 0 < ours.limits.info < ours.limits.warning
    assert type(ours).__doc__


def test_ids_are_unique() -> None:
    """No two rules share an id."""
    ids = [rule.id for rule in registered()]
    assert len(ids) == len(set(ids))
    assert set(ids) == set(FAULTS)


# --- severity, confidence, limits ------------------------------------------------------------------

limits_ = st.tuples(st.floats(1e-6, 1e6), st.floats(1.001, 1e3)).map(lambda p: Limits(p[0], p[0] * p[1]))


@given(limits_)
def test_severity_is_25_and_75_at_the_limits(limits: Limits) -> None:
    """The limits mean the same for every rule."""
    assert severity(limits.info, limits) == pytest.approx(25.0)
    assert severity(limits.warning, limits) == pytest.approx(75.0)
    assert severity(0.0, limits) == severity(-1.0, limits) == 0.0


@given(limits_, st.floats(0.0, 1e12), st.floats(0.0, 1e12))
def test_severity_is_monotone_and_saturates(limits: Limits, one: float, other: float) -> None:
    """A larger number is never less severe, and nothing reaches 100."""
    low, high = sorted((one, other))
    assert severity(low, limits) <= severity(high, limits) + 1e-9
    assert 0.0 <= severity(high, limits) < 100.0


@given(limits_, st.floats(1e-3, 1e3))
def test_severity_is_continuous(limits: Limits, factor: float) -> None:
    """A small change of the number is a small change of the severity, at the limits too."""
    for value in (limits.info * factor, limits.info, limits.warning):
        step = (limits.warning - limits.info) * 1e-6
        assert abs(severity(value, limits) - severity(value + step, limits)) < 0.1


def test_confidence_grows_with_the_evidence() -> None:
    """Half with just what is needed, three quarters with three times as much."""
    assert confidence(0, 10) == 0.0
    assert confidence(10, 10) == 0.5
    assert confidence(30, 10) == 0.75


def test_sums_per_hour_need_a_window() -> None:
    """Without a window nothing can be said per hour."""
    assert per_hour(HEALTHY) == 360.0
    assert per_hour(Stats(site="f")) == 0.0


@pytest.mark.parametrize(
    ("info", "warning", "error"),
    [(2, 1, OptionError), (1, 1, OptionError), (0, 1, OptionError), (1, float("inf"), OptionError),
     (float("nan"), 1, OptionError), ("1", 2, OptionTypeError), (True, 2, OptionTypeError)],
)  # fmt: skip
def test_limits_that_make_no_sense_are_refused(info: Any, warning: Any, error: type[Exception]) -> None:
    """A note comes before a warning, and both are finite numbers above 0."""
    with pytest.raises(error, match=r"a\.b"):
        check_limits(Limits(info, warning), "a.b")


# --- the registry ----------------------------------------------------------------------------------


class Always(Rule):
    """Finds something in every site."""

    id = "mine.always"
    title = "a rule of the user's"
    needs = "nothing"
    measure = "1"
    limits = Limits(1.0, 2.0)

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        return self.found(stats, severity(1.0, limits), "Here.", "Look.", {"one": 1}, confidence=0.5)


@pytest.fixture
def mine() -> Iterator[Rule]:
    yield register(Always())
    unregister("mine.always")


def test_a_users_rule_is_judged_like_any_other(mine: Rule) -> None:
    """It comes last, with its limits configurable."""
    assert registered()[-1] is mine
    rules = Rules(load({"rules": {"mine.always": {"info": 0.5}}}, {}, "/"))
    verdict = rules.judge(HEALTHY, CALM).verdicts[-1]
    assert verdict.finding is not None
    assert verdict.finding.topic == "mine"
    assert verdict.finding.severity > 25.0
    assert pickle.loads(pickle.dumps(verdict)) == verdict


def test_bad_rules_are_refused(mine: Rule) -> None:
    """No rule, a taken id, no topic, an unknown scope, limits out of order: refused at once."""

    def made(**fields: Any) -> Rule:
        return type("Made", (Always,), {"id": "mine.other", **fields})()  # type: ignore[no-any-return]

    with pytest.raises(OptionTypeError, match="no rule"):
        register(Always)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="is taken"):
        register(Always())
    with pytest.raises(OptionError, match="is taken"):
        register(made(id="time.slow"))
    for id_ in ("", "mine", "mine.", ".other"):
        with pytest.raises(OptionError, match=r"topic\.name"):
            register(made(id=id_))
    with pytest.raises(OptionError, match="scope"):
        register(made(scope="machine"))
    with pytest.raises(OptionError, match="before a warning"):
        register(made(limits=Limits(2.0, 1.0)))
    with pytest.raises(OptionError, match=r"mine\.always"):
        unregister("time.slow")


def test_a_rule_that_raises_does_not_stop_the_others() -> None:
    """It is reported with its error, its verdict says so, and every other rule still judges."""

    class Broken(Always):
        id = "mine.broken"

        def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
            raise ZeroDivisionError("oops")

    class Silent(Always):
        id = "mine.silent"

        def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
            return None  # type: ignore[return-value]

    rules = Rules(rules=(Broken(), Silent(), Always()))
    verdicts, failed = rules.judge(HEALTHY, CALM)
    assert [failure.rule for failure in failed] == ["mine.broken", "mine.silent"]
    assert isinstance(failed[0].error, ZeroDivisionError)
    assert "raised ZeroDivisionError('oops')" in verdicts[0].reason
    assert verdicts[2].finding is not None

    after = rules.without(failed)
    verdicts, failed = after.judge(HEALTHY, CALM)
    assert failed == ()
    assert "switched off, it raised ZeroDivisionError" in verdicts[0].reason
    assert not verdicts[0].judged
    assert set(after.off) == {"mine.broken", "mine.silent"}
    assert rules.off == {}


def test_a_rule_without_a_check_fails_like_any_other() -> None:
    """Forgetting `check` is an error of the rule, not of the host."""
    failed = Rules(rules=(Rule(),)).judge(HEALTHY, CALM).failed
    assert isinstance(failed[0], RuleFailure)
    assert isinstance(failed[0].error, NotImplementedError)


def test_limits_and_switches_come_from_the_configuration() -> None:
    """A rule's limits can be moved, and a rule can be switched off; its verdict says so."""
    options = {"time.tail": {"info": 2.0}, "errors.rate": {"enabled": False}}
    rules = Rules(load({"rules": options}, {}, "/"))
    assert rules.limits["time.tail"] == Limits(2.0, 30.0)
    by_rule = {v.rule: v for v in rules.judge(dataclasses.replace(HEALTHY, errors=900), CALM).verdicts}
    assert by_rule["errors.rate"].reason == "not judged: switched off in the configuration"
    assert by_rule["time.tail"].reason == "within limits: the slowest 1 % take 4 % of the time"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"time.slo": {}}, "did you mean 'time.slow'?"),
        ({"time.slow": {"info": 5.0}}, "not below warning=1.5"),
    ],
)
def test_bad_rule_options_are_refused(options: dict[str, Any], says: str) -> None:
    """Unknown ids and limits out of order are errors when the rules are put together."""
    with pytest.raises(OptionError) as caught:
        Rules(load({"rules": options}, {}, "/"))
    assert says in str(caught.value)


numbers = st.one_of(st.none(), st.floats(0.0, 1e9), st.sampled_from([0.0, 1e-12, 0.5, 1.0]))
counts = st.integers(0, 10_000)
EVIDENCE = [
    f.name for f in dataclasses.fields(Stats) if f.type == "float | None" and f.name not in ("slo_s", "in_flight_p")
]


@given(
    st.fixed_dictionaries(dict.fromkeys(EVIDENCE, numbers)),
    st.fixed_dictionaries(dict.fromkeys(("calls", "timed", "errors", "samples", "in_flight_peak"), counts)),
    st.one_of(st.none(), st.floats(1e-9, 1e3)),
    st.sampled_from([0.0, 1e-3, 10.0]),
)
def test_no_stats_make_a_rule_raise(
    evidence: dict[str, Any], amounts: dict[str, int], slo: float | None, window: float
) -> None:
    """Whatever the numbers are, each rule answers, in range, and its reason can be read."""
    stats = dataclasses.replace(HEALTHY, **evidence, **amounts, slo_s=slo, window_s=window, in_flight_p=1e-9)
    context = dataclasses.replace(CALM, **GROWING, site_calls={"app.main": 5})
    rules = Rules()
    judgement = rules.judge(stats, context)
    assert judgement.failed == ()
    spared = rules.find(stats, context)
    assert spared.failed == ()
    assert list(spared.verdicts.findings) == [v.finding for v in judgement.verdicts if v.finding is not None]
    for verdict in judgement.verdicts:
        assert verdict.reason
        if verdict.finding is not None:
            assert 25.0 <= verdict.finding.severity < 100.0
            assert 0.0 <= verdict.finding.confidence <= 1.0


def test_finding_is_judging_without_keeping_what_is_fine() -> None:
    """find() has the findings of judge() at once, and its verdicts when they are read."""
    rules = Rules(load({"rules": {"errors.rate": {"enabled": False}}}, {}, "/"))
    bad = dataclasses.replace(HEALTHY, **TAIL)
    judged, found_ = rules.judge(bad, CALM), rules.find(bad, CALM)
    assert [v.finding for v in judged.verdicts if v.finding] == list(found_.verdicts.findings)
    assert tuple(found_.verdicts) == tuple(judged.verdicts)
    assert found_.failed == judged.failed == ()


def test_find_asks_only_where_something_can_be_found(mine: Rule) -> None:
    """Less than a rule's `least` in the stats spares its check; a rule without one is always asked."""
    asked: list[str] = []

    class Counting(Always):
        id = "mine.counting"

        def least(self, limits: Limits) -> tuple[str, float]:
            return "memory_mb", 10.0 * limits.info

        def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
            asked.append(stats.site)
            return super().check(stats, context, limits)

    rules = Rules(rules=(Counting(), mine))
    for site, mb in (("without", None), ("less", 9.9), ("enough", 10.0)):
        found_ = rules.find(dataclasses.replace(HEALTHY, site=site, memory_mb=mb), CALM)
        assert len(found_.verdicts.findings) == (2 if site == "enough" else 1)
    assert asked == ["enough"]


@pytest.mark.parametrize("slip", [("memory", 1.0), ("site", 1.0), ("parents", 1), ("calls", None)])
def test_least_must_be_a_number_in_the_stats(slip: Any) -> None:
    """A slip in a rule of one's own is an error when the rules are put together, not in the first cycle."""

    class Slip(Always):
        def least(self, limits: Limits) -> tuple[str, float]:
            return slip  # type: ignore[no-any-return]

    with pytest.raises(OptionError, match=rf"least\(\)='{slip[0]}', {slip[1]} of rule 'mine.always' is not allowed"):
        Rules(rules=(Slip(),))


def test_a_rule_yields_to_those_it_names() -> None:
    """Also along a chain: who is silenced by one that is silent itself."""

    def made(name: str, *others: str) -> Rule:
        return type(name, (Always,), {"id": f"mine.{name}", "yields_to": others})()  # type: ignore[no-any-return]

    rules = Rules(rules=(made("a", "mine.b", "mine.x"), made("b", "mine.c"), made("c", "time.slow")))
    verdicts = rules.judge(HEALTHY, CALM).verdicts
    assert [verdict.reason for verdict in verdicts] == [
        "not judged: mine.b says it",
        "not judged: mine.c says it",
        "Here.",
    ]
    assert [finding.rule for finding in rules.find(HEALTHY, CALM).verdicts.findings] == ["mine.c"]


def test_a_rule_that_raises_is_told_by_find_too() -> None:
    """The rule that failed is named, and the others go on."""

    class Broken(Rule):
        id = "my.broken"

        def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
            raise ZeroDivisionError

    found_ = Rules(rules=(Broken(),)).find(HEALTHY, CALM)
    assert [failure.rule for failure in found_.failed] == ["my.broken"]
    assert "raised" in found_.verdicts[0].reason
