"""Rules about memory, errors, and the recorder itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.rules import judge
from hotlap.rules.errors import wilson_lower
from verdicts import CALM, GROWING, HEALTHY, found, reason

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


def test_growth_is_a_note_where_most_is_freed() -> None:
    """What a function frees is given to others, who may be those that keep it: it is no more than a suspect.

    Calls touch 4 MB/s or 2 GB/s, and the process grows by 5 MB/s.
    """
    grown = {**GROWING, "rss_slope_mb_s": 5.0, "rss_growth_mb": 100.0}
    kept, freed = found("memory.growing", {}, grown), found("memory.growing", {"memory_mb": 20.0}, grown)
    assert (kept.level, freed.level) == ("warning", "info")
    assert kept.evidence["kept_share"] == 1.0
    assert freed.evidence["kept_share"] == pytest.approx(5.0 / 2000.0)
    assert freed.confidence == pytest.approx(kept.confidence / 2)
    assert "At most 0.25 % of what it touches can stay" in freed.advice
    assert "can stay" not in kept.advice


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


# --- recorder --------------------------------------------------------------------------------------


def test_lost_records_belong_to_the_process() -> None:
    """One finding for the process, not one for each site; a few lost records are no matter."""
    assert all(verdict.rule != "recorder.lost" for verdict in judge(HEALTHY, CALM).verdicts)
    assert "1,000 of 3,000" in found("recorder.lost", {}, {"records_lost": 1000}).summary
    assert "limit 1 %" in reason("recorder.lost", {}, {"records_lost": 10})
    assert "no record was lost" in reason("recorder.lost")
