"""The rules: what they find, what they leave alone, and why."""

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
from hotlap.model import Context, Exemplar, Finding, Stats, Verdict
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
    words,
)
from hotlap.rules.base import check_limits, confidence, per_hour
from hotlap.rules.errors import wilson_lower

# A busy, healthy function: 100 calls a second of 2 ms, half of it computing, all evidence there.
HEALTHY = Stats(
    site="app.search",
    location="app.py:12",
    window_s=10.0,
    calls=1000,
    timed=1000,
    throughput=100.0,
    error_rate=0.0,
    success_rate=1.0,
    mean_s=0.002,
    std_s=0.001,
    min_s=0.001,
    max_s=0.02,
    p50_s=0.002,
    p90_s=0.003,
    p95_s=0.004,
    p99_s=0.008,
    p999_s=0.015,
    total_s=2.0,
    in_flight_peak=4,
    samples=200,
    cpu_s=0.0012,
    cpu_fraction=0.6,
    cpu_percent=12.0,
    own_s=0.0018,
    own_fraction=0.9,
    gc_s=0.0,
    voluntary=0.5,
    involuntary=0.1,
    minor_faults=10.0,
    major_faults=0.0,
    memory_mb=0.04,
    memory_mb_std=0.01,
    in_flight_slope=0.01,
    in_flight_correlation=0.05,
    in_flight_p=0.4,
    size_exponent=1.0,
    parents={"app.main": 1.0},
)
CALM = Context(
    rss_mb=200.0,
    rss_windows=12,
    process_cpu_percent=30.0,
    cpus=4,
    records=2000,
    overhead_fraction=0.002,
    site_memory_share={"app.search": 0.5},
    site_calls={"app.search": 1000, "app.main": 1000},
    site_total_s={"app.search": 2.0, "app.main": 4.0},
)

# rule -> what turns HEALTHY and CALM into a case for it
SLOW = {"slo_s": 0.001}
LONG = {"p95_s": 3.0}
TAIL = {"p99_s": 0.9, "mean_s": 0.012}
COMPUTING = {"cpu_fraction": 0.95, "cpu_percent": 60.0}
WAITING = {"cpu_fraction": 0.05, "voluntary": 2.0}
CONTENDED = {
    "in_flight_slope": 0.8,
    "in_flight_correlation": 0.7,
    "in_flight_p": 1e-9,
    "total_s": 30.0,
    "mean_s": 0.03,
    "cpu_fraction": 0.1,
}
GROWING = {"rss_slope_mb_s": 0.5, "rss_growth_mb": 60.0}
FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "time.slow": (SLOW, {}),
    "time.tail": (TAIL, {}),
    "cpu.bound": (COMPUTING, {}),
    "io.waiting": (WAITING, {}),
    "io.n_plus_one": ({}, {"site_calls": {"app.main": 20}, "site_total_s": {"app.main": 2.5}}),
    "memory.heavy": ({"memory_mb": 300.0}, {}),
    "memory.growing": ({}, GROWING),
    "memory.variance": ({"memory_mb": 20.0, "memory_mb_std": 50.0}, {}),
    "errors.rate": ({"errors": 100}, {}),
    "concurrency.contention": (CONTENDED, {}),
    "algorithm.growth": ({"size_exponent": 1.95}, {}),
    "recorder.lost": ({}, {"records_lost": 1000}),
}


def verdict_of(
    rule: str, stats: dict[str, Any] | None = None, context: dict[str, Any] | None = None
) -> Verdict:
    """What one rule says about HEALTHY with some changes."""
    ours = dataclasses.replace(CALM, **(context or {}))
    if rule.startswith("recorder."):
        judgement = Rules().judge_process(ours)
    else:
        judgement = Rules().judge(dataclasses.replace(HEALTHY, **(stats or {})), ours)
    assert judgement.failed == ()
    return next(verdict for verdict in judgement.verdicts if verdict.rule == rule)


def found(rule: str, stats: dict[str, Any] | None = None, context: dict[str, Any] | None = None) -> Finding:
    verdict = verdict_of(rule, stats, context)
    assert verdict.finding is not None, verdict.reason
    assert verdict.judged
    return verdict.finding


def reason(rule: str, stats: dict[str, Any] | None = None, context: dict[str, Any] | None = None) -> str:
    verdict = verdict_of(rule, stats, context)
    assert verdict.finding is None
    assert verdict.judged is verdict.reason.startswith("within limits: ")
    assert verdict.judged is not verdict.reason.startswith("not judged: ")
    return verdict.reason


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


# --- time ------------------------------------------------------------------------------------------


def test_slow_is_measured_against_the_slo() -> None:
    """Twice the SLO is a warning; at 80 % of it there is nothing to say."""
    finding = found("time.slow", {"slo_s": 0.002})
    assert finding.level == "warning"
    assert "SLO of 2 ms" in finding.summary
    assert "its p95 is 4 ms, 2 times as long" in finding.summary
    assert finding.gain_s_per_hour == pytest.approx(0.05 * 0.002 * 1000 * 360)
    assert reason("time.slow", {"slo_s": 0.005}) == "within limits: p95 is 4 ms, SLO 5 ms"


def test_slow_without_an_slo_is_a_note_at_most() -> None:
    """Nobody said how long a batch job may take: however long it is, it gets no warning."""
    for p95 in (2.0, 60.0, 1e5):
        finding = found("time.slow", {"p95_s": p95})
        assert finding.level == "info"
        assert "slo=" in finding.advice
    assert reason("time.slow", {"p95_s": 1.9}).endswith("there is no SLO")


def test_slow_takes_the_median_of_a_few_calls() -> None:
    """One hiccup in ten calls is not the p95; half of them too slow is a fact."""
    few = {"timed": 10, "calls": 10, "slo_s": 0.003, "p95_s": 1.0}
    assert "median" in reason("time.slow", few)
    assert "its median is 9 ms" in found("time.slow", {**few, "p50_s": 0.009}).summary
    assert reason("time.slow", {"timed": 2}) == "not judged: 2 timed calls, needs 3"
    assert reason("time.slow", {"p95_s": None}) == "not judged: no timed calls"


@pytest.mark.parametrize(
    ("stats", "says"),
    [
        ({"own_fraction": 0.1}, "functions that it calls"),
        ({"cpu_fraction": None}, "is not known"),
        ({"cpu_fraction": 0.9}, "profile it"),
        ({"cpu_fraction": 0.1}, "waits for 90 %"),
        ({"cpu_fraction": 0.5}, "either is worth a look"),
    ],
)
def test_slow_says_where_to_look_first(stats: dict[str, Any], says: str) -> None:
    """The advice follows the evidence of this site."""
    assert says in found("time.slow", {**SLOW, **stats}).advice


def test_a_tail_needs_size_share_and_calls() -> None:
    """A high ratio alone is nobody's problem."""
    assert found("time.tail", TAIL).level == "warning"
    tiny = {"p50_s": 2e-6, "mean_s": 3e-6, "p99_s": 1e-4}
    assert "only 98 us more" in reason("time.tail", tiny)
    assert "take" in reason("time.tail", {"p99_s": 0.02, "mean_s": 0.005, "p50_s": 0.001})
    assert reason("time.tail", {"timed": 59}) == "not judged: 59 timed calls, needs 60"
    assert "p95/median is 2" in reason("time.tail", {"timed": 100})
    assert reason("time.tail", {"p99_s": None}) == "not judged: no p99"


def test_a_tail_inside_the_slo_is_left_alone() -> None:
    """Who said that a second is fine is not told that 0.9 s is rare."""
    assert "inside the SLO" in reason("time.tail", {**TAIL, "slo_s": 1.0})
    assert found("time.tail", {**TAIL, "slo_s": 0.5}).level == "warning"


def test_a_tail_that_nobody_notices_is_a_note() -> None:
    """Without an SLO a warning needs calls of half a second."""
    assert found("time.tail", {"p99_s": 0.2, "mean_s": 0.005}).level == "info"


@pytest.mark.parametrize(
    ("stats", "says"),
    [
        ({"in_flight_correlation": 0.6, "in_flight_p": 1e-6}, "a lock, a pool"),
        ({"gc_s": 0.006}, "Garbage collection takes 50 %"),
        ({"size_exponent": 1.0}, "mostly the big ones"),
        ({"size_exponent": None, "slowest": (Exemplar(1, 2, 3, 0.9),)}, "traces of the slowest"),
        ({"size_exponent": None}, "cache that misses"),
    ],
)
def test_a_tail_names_its_likely_cause(stats: dict[str, Any], says: str) -> None:
    """Contention, collection, sizes and traces are used where there are any."""
    assert says in found("time.tail", {**TAIL, **stats}).advice


# --- cpu -------------------------------------------------------------------------------------------


def test_computing_is_a_note_unless_it_hurts() -> None:
    """A warning needs a missed SLO or a machine without CPU left."""
    hot = {**COMPUTING, "cpu_percent": 300.0}
    assert found("cpu.bound", hot).level == "info"
    assert found("cpu.bound", {**hot, "slo_s": 0.001}).level == "warning"
    full = found("cpu.bound", hot, {"process_cpu_percent": 395.0})
    assert full.level == "warning"
    assert "no CPU left" in full.advice


def test_computing_needs_a_share_of_a_core_of_its_own() -> None:
    """Little CPU, much waiting, or callees that compute: nothing to say here."""
    assert "of a core" in reason("cpu.bound", {**COMPUTING, "cpu_percent": 5.0})
    assert "computes for 50 %" in reason("cpu.bound", {**COMPUTING, "cpu_fraction": 0.5})
    assert "functions it calls" in reason("cpu.bound", {**COMPUTING, "own_fraction": 0.1})
    assert reason("cpu.bound", {"samples": 4}) == "not judged: 4 samples, needs 5"
    assert "no CPU time" in reason("cpu.bound", {"cpu_fraction": None})


def test_computing_mentions_growth_and_threads() -> None:
    """The size exponent and calls at once change the advice; missing evidence is not made up."""
    finding = found("cpu.bound", {**COMPUTING, "size_exponent": 2.0})
    assert "power of the size" in finding.advice
    assert "Threads do not help" in finding.advice
    bare = {**COMPUTING, "own_fraction": None, "in_flight_peak": 1}
    assert "Threads" not in found("cpu.bound", bare, {"process_cpu_percent": None}).advice


# --- io --------------------------------------------------------------------------------------------


def test_waiting_is_a_note_unless_the_slo_is_missed() -> None:
    """A poll or a queue waits by design."""
    assert found("io.waiting", WAITING).level == "info"
    assert found("io.waiting", {**WAITING, "slo_s": 0.001}).level == "warning"


def test_waiting_needs_size_and_evidence() -> None:
    """Short or rare waits, waits of callees and lost CPU are not its waiting."""
    assert "a call" in reason("io.waiting", {**WAITING, "mean_s": 1e-4})
    assert "a call" in reason("io.waiting", {**WAITING, "calls": 5})
    assert "functions that it calls" in reason("io.waiting", {**WAITING, "own_fraction": 0.1})
    assert "hardly ever gave up" in reason("io.waiting", {**WAITING, "voluntary": 0.0})
    assert "40 %" in reason("io.waiting")
    assert reason("io.waiting", {"samples": 4}) == "not judged: 4 samples, needs 5"
    assert "no CPU time" in reason("io.waiting", {"cpu_fraction": None})
    assert reason("io.waiting", {"mean_s": None}) == "not judged: no timed calls"
    assert found("io.waiting", {**WAITING, "voluntary": None}).severity > 25.0


def test_async_waiting_is_exact() -> None:
    """The suspended time of a coroutine counts, not the CPU time of the thread that it shares."""
    finding = found("io.waiting", {"suspended_s": 0.0019, "suspensions": 3.0, "cpu_fraction": None})
    assert finding.evidence["waiting_share"] == pytest.approx(0.95)
    assert "awaits 3 times" in finding.advice


@pytest.mark.parametrize(
    ("stats", "context", "says"),
    [
        ({"major_faults": 2.0}, {}, "come from disk"),
        ({"in_flight_correlation": 0.6, "in_flight_p": 1e-6}, {}, "for each other"),
        ({}, {"process_cpu_percent": 99.0}, "interpreter's lock"),
        ({}, {}, "a query, a request"),
    ],
)
def test_waiting_names_what_it_may_wait_for(
    stats: dict[str, Any], context: dict[str, Any], says: str
) -> None:
    """Page-ins, contention and the interpreter's lock show in the evidence."""
    assert says in found("io.waiting", {**WAITING, **stats}, context).advice


def test_n_plus_one_counts_calls_in_each_call_of_the_parent() -> None:
    """50 calls in each of 20 calls of the parent, and 80 % of its time."""
    finding = found("io.n_plus_one", *FAULTS["io.n_plus_one"])
    assert "app.main calls app.search 50 times in each of its calls" in finding.summary
    assert finding.evidence["parent"] == "app.main"
    assert found(
        "io.n_plus_one", {"total_s": 9.0}, {"site_calls": {"app.main": 4}, "site_total_s": {"app.main": 9.5}}
    ).level == "warning"  # fmt: skip


def test_n_plus_one_needs_a_parent_whose_time_it_takes() -> None:
    """No parent, few calls of it, or little of its time: nothing to say."""
    many = {"app.main": 20}
    assert "no measured function calls it" in reason("io.n_plus_one", {"parents": {}})
    assert "2 calls of its parent app.main" in reason("io.n_plus_one", {}, {"site_calls": {"app.main": 2}})
    assert "1 calls in each call" in reason("io.n_plus_one")
    assert "of its time" in reason(
        "io.n_plus_one", {}, {"site_calls": many, "site_total_s": {"app.main": 40.0}}
    )
    assert reason("io.n_plus_one", {}, {"site_calls": many, "site_total_s": {}}) == "not judged: no times"
    assert reason("io.n_plus_one", {"samples": 19}) == "not judged: 19 samples, needs 20"


# --- memory ----------------------------------------------------------------------------------------


def test_heavy_needs_several_calls() -> None:
    """One big load at the start is what memory is for."""
    assert "300 MB" in found("memory.heavy", {"memory_mb": 300.0}).summary
    assert reason("memory.heavy", {"memory_mb": 900.0, "samples": 4}) == "not judged: 4 samples, needs 5"
    assert "no page faults" in reason("memory.heavy", {"memory_mb": None})
    assert "40 kB" in reason("memory.heavy")


def test_growth_is_charged_to_who_touches_the_memory() -> None:
    """30 MB a minute, half of it here; a site with little of it is not accused."""
    finding = found("memory.growing", {}, GROWING)
    assert "grows by 30 MB a minute" in finding.summary
    assert "twice as big in" in finding.gain
    assert finding.confidence < 0.5
    assert "2 % of the fresh memory" in reason(
        "memory.growing", {}, {**GROWING, "site_memory_share": {"app.search": 0.02}}
    )
    assert "not judged" in reason("memory.growing", {}, {**GROWING, "site_memory_share": {}})


def test_growth_needs_windows_size_and_significance() -> None:
    """Start-up, the allocator's noise and a slope that may be none are no leak."""
    assert "5 windows, needs 6" in reason("memory.growing", {}, {**GROWING, "rss_windows": 5})
    assert "does not grow" in reason("memory.growing", {}, {**GROWING, "rss_slope_mb_s": None})
    assert "grown by 5 MB" in reason("memory.growing", {}, {**GROWING, "rss_growth_mb": 5.0})
    slow = {**GROWING, "rss_slope_mb_s": 0.01}
    assert "a minute, limit" in reason("memory.growing", {}, slow)


def test_growth_is_a_note_until_the_process_has_grown_much() -> None:
    """A cache that fills grows too."""
    fast = {**GROWING, "rss_slope_mb_s": 5.0}
    assert found("memory.growing", {}, {**fast, "rss_growth_mb": 20.0}).level == "info"
    assert found("memory.growing", {}, {**fast, "rss_growth_mb": 100.0}).level == "warning"


def test_variance_is_a_note_unless_it_is_large() -> None:
    """Calls that differ by a few MB are ordinary."""
    assert "little" in reason("memory.variance", {"memory_mb": 1.0, "memory_mb_std": 9.0})
    assert "limit 1" in reason("memory.variance", {"memory_mb": 100.0, "memory_mb_std": 50.0})
    assert found("memory.variance", {"memory_mb": 10.0, "memory_mb_std": 90.0}).level == "info"
    assert found("memory.variance", {"memory_mb": 100.0, "memory_mb_std": 900.0}).level == "warning"
    assert "needs 20" in reason("memory.variance", {"samples": 19})
    assert "no page faults" in reason("memory.variance", {"memory_mb": None})


# --- errors ----------------------------------------------------------------------------------------


def test_errors_are_judged_by_what_is_certain() -> None:
    """One failure in three calls is no rate; 100 in 1,000 is."""
    assert found("errors.rate", {"errors": 100}).level == "warning"
    assert "100 of 1,000 calls" in found("errors.rate", {"errors": 100}).summary
    assert "too few" in reason("errors.rate", {"calls": 3, "errors": 1})
    assert "certain" in reason("errors.rate", {"errors": 11})
    assert reason("errors.rate") == "within limits: no call failed"
    assert reason("errors.rate", {"calls": 0}) == "not judged: no calls"
    assert found("errors.rate", {"errors": 3, "calls": 3, "mean_s": None}).gain_s_per_hour is None


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_certain_rate_is_below_the_measured_one(hits: int, others: int) -> None:
    """The lower end of Wilson's interval lies in [0, hits / trials]."""
    trials = hits + others
    assert 0.0 <= wilson_lower(hits, trials) <= (hits / trials if trials else 0.0)


def test_wilson_agrees_with_the_literature() -> None:
    """Newcombe (1998), table I: 81 of 263 gives 0.2553, 15 of 148 gives 0.0624."""
    assert wilson_lower(81, 263) == pytest.approx(0.2553, abs=5e-5)
    assert wilson_lower(15, 148) == pytest.approx(0.0624, abs=5e-5)


# --- concurrency -----------------------------------------------------------------------------------


def test_contention_needs_a_clear_and_costly_relation() -> None:
    """Chance, tiny calls, small slopes and lone calls are no contention."""
    assert found("concurrency.contention", CONTENDED).level == "warning"
    for change, says in (
        ({"in_flight_peak": 1}, "never more than one"),
        ({"samples": 29}, "29 samples, needs 30"),
        ({"in_flight_slope": None}, "hardly varied"),
        ({"in_flight_p": 0.05}, "no clear relation"),
        ({"in_flight_correlation": 0.2}, "no clear relation"),
        ({"in_flight_slope": 0.05}, "limit 10 %"),
        ({"mean_s": 1e-4}, "too short"),
        ({"total_s": 10.5}, "is lost so"),
    ):
        assert says in reason("concurrency.contention", {**CONTENDED, **change})


def test_contention_inside_the_slo_is_a_note() -> None:
    """While the SLO holds there is no hurry."""
    assert found("concurrency.contention", {**CONTENDED, "slo_s": 1.0}).level == "info"


@pytest.mark.parametrize(
    ("stats", "busy", "says"),
    [
        ({}, 390.0, "No CPU is left"),
        ({}, 98.0, "interpreter's lock"),
        ({}, 20.0, "wait for each other"),
        ({"cpu_fraction": None}, None, "what the calls share"),
    ],
)
def test_contention_names_what_is_shared(stats: dict[str, Any], busy: float | None, says: str) -> None:
    """CPU, the interpreter's lock, or a lock and a pool."""
    context = {"process_cpu_percent": busy}
    assert says in found("concurrency.contention", {**CONTENDED, **stats}, context).advice


# --- algorithm, recorder ---------------------------------------------------------------------------


def test_growth_with_size_needs_time_that_matters() -> None:
    """A quadratic loop over little data is no problem yet."""
    assert found("algorithm.growth", {"size_exponent": 2.0}).level == "info"
    assert found("algorithm.growth", {"size_exponent": 2.0, "p95_s": 0.5}).level == "warning"
    assert "of the time" in reason("algorithm.growth", {"size_exponent": 2.0, "total_s": 0.01})
    assert "size**1.1" in reason("algorithm.growth", {"size_exponent": 1.1})
    assert "no credible fit" in reason("algorithm.growth", {"size_exponent": 40.0})
    assert "no sizes" in reason("algorithm.growth", {"size_exponent": None})
    assert "needs 30" in reason("algorithm.growth", {"samples": 29})


def test_lost_records_belong_to_the_process() -> None:
    """One finding for the process, not one for each site; a few lost records are no matter."""
    assert all(verdict.rule != "recorder.lost" for verdict in judge(HEALTHY, CALM).verdicts)
    assert "1,000 of 3,000" in found("recorder.lost", {}, {"records_lost": 1000}).summary
    assert "limit 1 %" in reason("recorder.lost", {}, {"records_lost": 10})
    assert "no record was lost" in reason("recorder.lost")


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
    f.name
    for f in dataclasses.fields(Stats)
    if f.type == "float | None" and f.name not in ("slo_s", "in_flight_p")
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
    judgement = judge(stats, context)
    assert judgement.failed == ()
    for verdict in judgement.verdicts:
        assert verdict.reason
        if verdict.finding is not None:
            assert 25.0 <= verdict.finding.severity < 100.0
            assert 0.0 <= verdict.finding.confidence <= 1.0


# --- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (words.duration(0), "0 s"),
        (words.duration(3.4e-7), "340 ns"),
        (words.duration(0.00034), "340 us"),
        (words.duration(0.0123), "12.3 ms"),
        (words.duration(0.9999), "1 s"),
        (words.duration(2.5), "2.5 s"),
        (words.duration(119), "119 s"),
        (words.duration(190), "3.17 min"),
        (words.duration(36000), "10 h"),
        (words.share(0.0), "0 %"),
        (words.share(0.0001), "under 0.1 %"),
        (words.share(0.004), "0.4 %"),
        (words.share(0.34), "34 %"),
        (words.share(0.999), "over 99 %"),
        (words.share(1.0), "100 %"),
        (words.megabytes(0.04), "40 kB"),
        (words.megabytes(12.5), "12.5 MB"),
        (words.megabytes(1300), "1.3 GB"),
        (words.megabytes(2.5e6), "2.5 TB"),
        (words.count(1, "call"), "1 call"),
        (words.count(1200, "call"), "1,200 calls"),
        (words.rate(340), "340 calls/s"),
        (words.rate(0.2), "12 calls/min"),
        (words.rate(0.001), "3.6 calls/h"),
        (f"{words.Duration(0.002)} {words.Share(0.5)} {words.Megabytes(3)}", "2 ms 50 % 3 MB"),
    ],
)
def test_numbers_are_said_in_human_units(text: str, expected: str) -> None:
    """Three significant digits, in the unit that a person would use."""
    assert text == expected


def test_finding_is_judging_without_keeping_what_is_fine() -> None:
    """find() has the findings of judge() at once, and its verdicts when they are read."""
    rules = Rules(load({"rules": {"errors.rate": {"enabled": False}}}, {}, "/"))
    bad = dataclasses.replace(HEALTHY, **TAIL)
    judged, found_ = rules.judge(bad, CALM), rules.find(bad, CALM)
    assert [v.finding for v in judged.verdicts if v.finding] == list(found_.verdicts.findings)
    assert tuple(found_.verdicts) == tuple(judged.verdicts)
    assert found_.failed == judged.failed == ()


def test_a_rule_that_raises_is_told_by_find_too() -> None:
    """The rule that failed is named, and the others go on."""

    class Broken(Rule):
        id = "my.broken"

        def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
            raise ZeroDivisionError

    found_ = Rules(rules=(Broken(),)).find(HEALTHY, CALM)
    assert [failure.rule for failure in found_.failed] == ["my.broken"]
    assert "raised" in found_.verdicts[0].reason
