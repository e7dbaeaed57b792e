"""Rules about time: slow calls, tails, computing, growth with size."""

from __future__ import annotations

from typing import Any

import pytest

from hotlap.model import Exemplar
from verdicts import COMPUTING, SLOW, TAIL, found, reason

# --- slow, tail ------------------------------------------------------------------------------------


def test_slow_is_measured_against_the_slo() -> None:
    """Twice the SLO is a warning; at 80 % of it there is nothing to say."""
    finding = found("time.slow", {"slo_s": 0.002})
    assert finding.level == "warning"
    assert "SLO of 2 ms" in finding.summary
    assert "its p95 is 4 ms, 2 times as long" in finding.summary
    assert finding.gain_s_per_hour == pytest.approx(0.05 * 0.002 * 1000 * 360)
    assert reason("time.slow", {"slo_s": 0.005}) == "within limits: p95 is 4 ms, SLO 5 ms"


def test_an_slo_that_is_met_is_not_called_missed() -> None:
    """At the SLO, and with limits that warn before it, the summary says how things are."""
    met = found("time.slow", {"slo_s": 0.004})
    assert met.summary == "app.search comes close to its SLO of 4 ms: its p95 is 4 ms."
    assert met.level == "info"
    assert met.gain == ""


def test_large_ratios_are_plain_numbers() -> None:
    """No reader has to work out what 1.5e+02 times is."""
    assert "1,500 times as long" in found("time.slow", {"slo_s": 0.001, "p95_s": 1.5}).summary
    assert "1,250 times as long" in found("time.tail", {**TAIL, "p99_s": 2.5, "mean_s": 0.03}).summary


def test_more_than_an_hour_in_each_hour_is_explained() -> None:
    """Calls that run at once wait more than there is time: the gain says what was summed."""
    assert found("time.slow", SLOW).gain == ("At least 6 min per hour if those calls kept to the SLO, at 100 calls/s.")
    gain = found("time.slow", {**SLOW, "mean_s": 0.05}).gain
    assert gain.startswith("At least 4.9 h per hour (summed over threads and tasks) if those calls kept to the SLO")


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
        ({"cpu_fraction": 0.5, "voluntary": 0.0}, "for the rest other threads or processes had the CPU"),
        ({"cpu_fraction": None, "suspended_s": 0.0018}, "waits for 90 %"),
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
        ({"size_exponent": 1.0}, "mostly the big ones"),
        ({"size_exponent": None, "gc_s": 0.006}, "Garbage collection takes 50 %"),
        ({"size_exponent": None, "in_flight_correlation": 0.6, "in_flight_p": 1e-6}, "have more to do, or wait"),
        ({"size_exponent": None, "slowest": (Exemplar(1, 2, 3, 0.9),)}, "traces of the slowest"),
        ({"size_exponent": None}, "cache that misses"),
    ],
)
def test_a_tail_names_its_likely_cause(stats: dict[str, Any], says: str) -> None:
    """Sizes, collection, calls at once and traces are used where there are any."""
    assert says in found("time.tail", {**TAIL, **stats}).advice


# --- cpu -------------------------------------------------------------------------------------------


def test_computing_is_a_note_unless_it_hurts() -> None:
    """A warning needs a missed SLO or a machine without CPU left."""
    hot, busy = {**COMPUTING, "cpu_percent": 300.0}, {"process_cpu_percent": 310.0}
    assert found("cpu.bound", hot, busy).level == "info"
    assert found("cpu.bound", {**hot, "slo_s": 0.001}, busy).level == "warning"
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
    busy = {"process_cpu_percent": 95.0}
    finding = found("cpu.bound", {**COMPUTING, "size_exponent": 2.0}, busy)
    assert "grows as size**2" in finding.advice
    assert "threads do not speed it up" in finding.advice
    bare = {**COMPUTING, "own_fraction": None, "in_flight_peak": 1}
    assert "threads" not in found("cpu.bound", bare, {"process_cpu_percent": None}).advice


def test_threads_that_do_compute_side_by_side_are_not_called_useless() -> None:
    """A process that uses three cores has code that releases the interpreter's lock."""
    assert "threads" not in found("cpu.bound", COMPUTING, {"process_cpu_percent": 300.0}).advice


def test_a_site_takes_no_more_cpu_than_its_process() -> None:
    """What a few samples estimate is held against what the kernel has counted; the sums of the gain agree."""
    finding = found("cpu.bound", {**COMPUTING, "cpu_percent": 260.0}, {"process_cpu_percent": 100.0})
    assert "takes 100 % of one core" in finding.summary
    assert (
        finding.gain
        == "Each 10 % less computing gives back 6 min of CPU per hour: it takes 10 ms a call, at 100 calls/s."
    )
    assert finding.gain_s_per_hour == pytest.approx(360.0)
    assert "takes 20 % of a core" in reason("cpu.bound", COMPUTING, {"process_cpu_percent": 20.0})


# --- algorithm -------------------------------------------------------------------------------------


def test_growth_with_size_needs_time_that_matters() -> None:
    """A quadratic loop over little data is no problem yet."""
    assert found("algorithm.growth", {"size_exponent": 2.0}).level == "info"
    assert found("algorithm.growth", {"size_exponent": 2.0, "p95_s": 0.5}).level == "warning"
    assert "of the time" in reason("algorithm.growth", {"size_exponent": 2.0, "total_s": 0.01})
    assert "size**1.1" in reason("algorithm.growth", {"size_exponent": 1.1})
    assert "no credible fit" in reason("algorithm.growth", {"size_exponent": 40.0})
    assert "no sizes" in reason("algorithm.growth", {"size_exponent": None})
    assert "needs 30" in reason("algorithm.growth", {"samples": 29})
