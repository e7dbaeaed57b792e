"""The score: its borders, its shape, and what it says about itself."""

from __future__ import annotations

import contextlib
import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hotlap
from hotlap.config import Config, load
from hotlap.model import BenchmarkResult, Score, Stats
from hotlap.score import WEIGHTS, Scorer, Thresholds, category, for_slo, points, score
from hotlap.testing import capture, fake_clock

THROUGHPUT = (400.0, 200.0, 100.0, 50.0)
ALL = Thresholds(throughput=THROUGHPUT)
LIMITS = dict(zip(WEIGHTS, ALL, strict=True))
BORDERS = (90.0, 75.0, 60.0, 40.0)
RESULTS = list(BenchmarkResult)

parts = st.sampled_from(list(WEIGHTS))
values = st.floats(0.0, 1e9)


def all_at(index: int) -> Stats:
    """Stats with every part exactly at one threshold: 0 excellent, 1 good, 2 average, 3 poor."""
    assert ALL.throughput is not None
    return Stats(
        site="f",
        p95_s=ALL.time[index],
        memory_mb=ALL.memory[index],
        cpu_percent=ALL.cpu[index],
        success_rate=ALL.success[index],
        throughput=ALL.throughput[index],
    )


def test_the_weights_are_the_documented_ones() -> None:
    """The five weights sum to 1."""
    assert WEIGHTS == {
        "execution_time": 0.30,
        "memory_usage": 0.25,
        "cpu_usage": 0.20,
        "success_rate": 0.15,
        "throughput": 0.10,
    }
    assert math.fsum(WEIGHTS.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("index", range(4))
def test_every_part_at_a_threshold_scores_its_border(index: int) -> None:
    """All parts exactly at good score 75 and are good; likewise 90, 60, 40."""
    result = score(all_at(index), ALL)
    assert result.value == pytest.approx(BORDERS[index], abs=1e-9)
    assert result.category is RESULTS[index]
    assert [part.points for part in result.parts] == [BORDERS[index]] * 5


@pytest.mark.parametrize("name", list(WEIGHTS))
def test_each_part_alone_meets_its_borders_exactly(name: str) -> None:
    """A value equal to a threshold gives exactly its points, free of rounding."""
    assert [points(name, limit, LIMITS[name]) for limit in LIMITS[name]] == list(BORDERS)


@given(parts, values, values)
def test_points_are_monotone_and_between_0_and_100(name: str, one: float, other: float) -> None:
    """A better value never gives fewer points."""
    low, high = sorted((one, other))
    at_low, at_high = points(name, low, LIMITS[name]), points(name, high, LIMITS[name])
    assert min(at_low, at_high) >= 0.0
    assert max(at_low, at_high) <= 100.0
    if name in ("success_rate", "throughput"):
        at_low, at_high = at_high, at_low
    assert at_low >= at_high - 1e-9


@given(parts, st.floats(1e-6, 1e6))
def test_points_are_continuous(name: str, value: float) -> None:
    """A relative change of 1e-6 changes the points by less than 0.01."""
    assert abs(points(name, value, LIMITS[name]) - points(name, value * (1 + 1e-6), LIMITS[name])) < 0.01


@given(st.lists(st.floats(1e-6, 1e6), min_size=4, max_size=4, unique=True))
def test_any_thresholds_are_met(limits: list[float]) -> None:
    """Thresholds that are not the defaults are met just as exactly."""
    a, b, c, d = sorted(limits)
    assert [points("memory_usage", limit, (a, b, c, d)) for limit in (a, b, c, d)] == list(BORDERS)


def test_the_ends_are_as_documented() -> None:
    """100 points at a tenth of excellent; beyond poor towards 0; success is linear to 0 and 100."""
    assert points("execution_time", 0.0, ALL.time) == points("execution_time", 0.01, ALL.time) == 100.0
    assert points("execution_time", 0.011, ALL.time) < 100.0
    assert points("execution_time", 4.0, ALL.time) == 20.0
    assert points("success_rate", 1.0, ALL.success) == 100.0
    assert points("success_rate", 0.0, ALL.success) == 0.0
    assert points("success_rate", 0.4, ALL.success) == pytest.approx(20.0)
    assert points("throughput", 800.0, THROUGHPUT) == 100.0
    assert points("throughput", 25.0, THROUGHPUT) == 20.0
    assert points("throughput", 0.0, THROUGHPUT) == 0.0


@given(st.lists(st.booleans(), min_size=5, max_size=5), st.floats(1e-3, 1e3))
def test_missing_parts_share_their_weight(present: list[bool], scale: float) -> None:
    """Effective weights sum to 1 in the nominal proportions, and the missing parts are named."""
    stats = Stats(
        site="f",
        p95_s=0.1 * scale if present[0] else None,
        memory_mb=30.0 * scale if present[1] else None,
        cpu_percent=10.0 * scale if present[2] else None,
        success_rate=min(1.0, scale) if present[3] else None,
        throughput=100.0 * scale,
    )
    result = score(stats, ALL if present[4] else Thresholds())
    assert set(result.missing) | {part.name for part in result.parts} == set(WEIGHTS)
    assert {part.name for part in result.parts} == {n for n, there in zip(WEIGHTS, present, strict=True) if there}
    if not result.parts:
        assert result.value is None
        assert result.category is None
        return
    assert math.fsum(part.effective_weight for part in result.parts) == pytest.approx(1.0)
    whole = math.fsum(part.weight for part in result.parts)
    for part in result.parts:
        assert part.effective_weight == pytest.approx(part.weight / whole)
    assert result.value == pytest.approx(math.fsum(p.points * p.effective_weight for p in result.parts))


def test_throughput_counts_only_where_something_was_asked() -> None:
    """Without thresholds for it the throughput of a live site is left out."""
    assert "throughput" in score(Stats(site="f", p95_s=0.1, throughput=5.0)).missing


def test_a_value_that_is_not_a_number_is_no_evidence() -> None:
    """NaN is left out rather than spoiling the score."""
    result = score(Stats(site="f", p95_s=0.5, memory_mb=math.nan))
    assert result.value == 75.0
    assert "memory_usage" in result.missing


@given(st.floats(1e-6, 1e3))
def test_an_slo_replaces_the_time_thresholds(slo: float) -> None:
    """A p95 exactly at the SLO is good; a fifth is excellent, twice is average, four times poor."""
    assert for_slo(slo)[1] == slo
    for ratio, expected in ((0.2, 90.0), (1.0, 75.0), (2.0, 60.0), (4.0, 40.0)):
        result = score(Stats(site="f", slo_s=slo, p95_s=slo * ratio))
        assert result.value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(100.0, "excellent"), (90.0, "excellent"), (89.99, "good"), (75.0, "good"), (74.999999999999, "good"),
     (74.99, "average"), (60.0, "average"), (40.0, "poor"), (39.99, "critical"), (0.0, "critical")],
)  # fmt: skip
def test_categories_begin_at_their_borders(value: float, expected: str) -> None:
    """A border belongs to the better category, also when it is missed by rounding alone."""
    assert category(value) == expected


def test_the_scorer_takes_thresholds_from_the_configuration() -> None:
    """A site's own thresholds come first, then its SLO, then the common ones."""
    config = load(
        {
            "slo": "2s",
            "memory_thresholds": [1, 2, 3, 4],
            "sites": {
                "exact": {"time": ["1ms", "2ms", "3ms", "4ms"], "throughput": [8, 4, 2, 1]},
                "app.*": {"slo": "10ms", "cpu": [1, 2, 3, 4]},
            },
        },
        {},
        "/",
    )
    scorer = Scorer(config)
    assert scorer.thresholds("exact", 9.0).time == (0.001, 0.002, 0.003, 0.004)
    assert scorer.thresholds("exact").throughput == (8.0, 4.0, 2.0, 1.0)
    assert scorer.thresholds("app.f", 9.0).time == for_slo(0.01)
    assert scorer.thresholds("app.f").cpu == (1.0, 2.0, 3.0, 4.0)
    assert scorer.thresholds("other", 0.1).time == for_slo(0.1)
    assert scorer.thresholds("other").time == for_slo(2.0)
    assert scorer.thresholds("other").memory == (1.0, 2.0, 3.0, 4.0)


def test_many_scores_are_the_scores_of_each() -> None:
    """score_many gives what score gives, in order, and remembers nothing that changes a later score."""
    stats = [Stats(site=f"s{i}", p95_s=0.01 * i, memory_mb=float(i), cpu_percent=1.0) for i in range(1, 20)]
    scorer = Scorer()
    assert scorer.score_many(stats) == [score(one) for one in stats] == scorer.score_many(stats)


# --- what a mean forgives ------------------------------------------------------------------------------


def test_a_good_score_says_that_calls_fail() -> None:
    """30 % errors leave value and category what the weights make of them; the category does not stand alone."""
    result = score(Stats(site="f", p95_s=0.001, memory_mb=0.1, cpu_percent=1.0, success_rate=0.7))
    assert result.value == pytest.approx((100 * 0.75 + 35 * 0.15) / 0.9)
    assert result.category is BenchmarkResult.GOOD
    assert result.caveats == ("30 % of its calls fail",)
    assert result.explain().splitlines()[0] == "score: 89.2 of 100, good, but 30 % of its calls fail"


def test_a_good_score_says_that_its_slo_is_missed() -> None:
    """Also when the thresholds of time are the site's own."""
    stats = Stats(site="f", slo_s=0.1, p95_s=0.15, memory_mb=0.1, cpu_percent=1.0, success_rate=1.0)
    says = "good, but misses its SLO of 100 ms (p95 150 ms)"
    assert Scorer().score(stats).summary == score(stats).summary == says
    own = Scorer(load({"sites": {"f": {"slo": "100ms", "time": [1, 2, 3, 4]}}}, {}, "/"))
    assert own.score(stats).summary == says.replace("good", "excellent")
    assert Scorer(load({"slo": "100ms"}, {}, "/")).score(dataclasses.replace(stats, slo_s=None)).summary == says


def test_promises_that_are_kept_need_no_caveat() -> None:
    """At the SLO, at the threshold `good` of success, or with no promise at all, the category says it all."""
    kept = score(Stats(site="f", slo_s=0.1, p95_s=0.1, success_rate=0.95))
    assert (kept.caveats, kept.summary) == ((), "good")
    assert score(Stats(site="f", p95_s=60.0, memory_mb=4000.0, cpu_percent=400.0)).summary == "critical"


def test_bad_categories_and_all_caveats_read_as_a_sentence() -> None:
    """ "poor" contradicts nothing; two broken promises are both named; no score is none."""
    stats = Stats(site="f", slo_s=0.1, p95_s=0.9, memory_mb=1.0, success_rate=0.06)
    result = score(stats, Thresholds(memory=(0.1, 0.2, 0.4, 0.8)))
    assert result.summary == "critical: misses its SLO of 100 ms (p95 900 ms) and 94 % of its calls fail"
    assert Score(None, None).summary == "none"


def test_what_success_means_is_configurable() -> None:
    """A site that may fail often is no worse for it."""
    stats = Stats(site="f", p95_s=0.01, success_rate=0.7)
    lenient = Scorer(load({"sites": {"f": {"success": [0.8, 0.6, 0.4, 0.2]}}}, {}, "/"))
    assert Scorer().score(stats).caveats
    assert lenient.score(stats).caveats == ()


def test_a_live_site_is_not_called_good_while_it_breaks_its_promises() -> None:
    """From the calls to the words: an SLO that is missed and calls that fail stand beside the score."""
    with fake_clock() as clock, capture() as captured:

        @hotlap.benchmark(name="score.shaky", slo="50ms")
        def shaky(number: int) -> None:
            clock.advance(0.06)
            if number % 10 < 3:
                raise LookupError(number)

        for number in range(100):
            with contextlib.suppress(LookupError):
                shaky(number)
    result = captured["score.shaky"].score
    assert result.category is not None
    assert result.summary.startswith(result.category.value)
    assert "misses its SLO of 50 ms (p95 60 ms) and 30 % of its calls fail" in result.summary


# --- explain -------------------------------------------------------------------------------------------


def test_explain_shows_each_part_and_what_is_missing() -> None:
    """Value, thresholds, weight and points stand in aligned columns; the missing parts are named."""
    text = score(Stats(site="f", p95_s=0.25, memory_mb=1500.0, success_rate=0.999)).explain()
    lines = text.splitlines()
    assert lines[0].startswith("score: ")
    assert lines[0].endswith(", average")
    assert "250 ms" in text
    assert "1,500 MB" in text
    assert "99.9 %" in text
    assert "0.30 -> 0.429" in text
    assert len({len(line) for line in lines[1:5]}) == 1
    assert lines[-1] == "  no evidence: cpu_usage, throughput; their weight is shared among the other parts"


def test_explain_says_when_there_is_no_score() -> None:
    """Without any evidence there is no number that could be misread."""
    text = score(Stats(site="f")).explain()
    assert text.splitlines()[0] == "score: none, no part had evidence"
    assert "execution_time" in text


def test_explain_needs_no_arrow_when_all_parts_are_there() -> None:
    """With every part present the effective weight is the nominal one."""
    assert "->" not in score(all_at(1), ALL).explain()
    assert "no evidence" not in score(all_at(1), ALL).explain()
    assert "50 us" in score(Stats(site="f", p95_s=5e-5)).explain()


def test_the_thresholds_are_the_documented_ones() -> None:
    """Seconds, MB per call and percent of a core for 90, 75, 60 and 40 points, here and in the configuration."""
    documented = {"time": (0.1, 0.5, 1.0, 2.0), "memory": (50, 100, 200, 500), "cpu": (20, 40, 60, 80)}
    for name, limits in documented.items():
        assert getattr(Thresholds(), name) == getattr(Config(), f"{name}_thresholds") == limits
