"""Rules about waiting: for somebody else, for each other, and one by one."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from hotlap.config import load
from hotlap.model import BenchmarkType
from hotlap.rules import Rules
from verdicts import CALM, CONTENDED, FAULTS, HEALTHY, WAITING, found, reason

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


@pytest.mark.parametrize(
    ("voluntary", "involuntary", "waits"),
    [(0.5, 2.0, True), (0.3, 0.1, True), (0.1, 0.6, False), (0.02, 0.0, False), (None, None, True)],
)
def test_a_call_that_lost_its_cpu_does_not_wait(
    voluntary: float | None, involuntary: float | None, waits: bool
) -> None:
    """Few calls of a site may do all its waiting; a busy machine takes the CPU away from each."""
    stats = {**WAITING, "voluntary": voluntary, "involuntary": involuntary}
    if waits:
        assert found("io.waiting", stats).level == "info"
    else:
        assert "others taking the CPU" in reason("io.waiting", stats)


def test_async_waiting_is_exact() -> None:
    """The suspended time of a coroutine counts, not the CPU time of the thread that it shares."""
    finding = found("io.waiting", {"suspended_s": 0.0019, "suspensions": 3.0, "cpu_fraction": None})
    assert finding.evidence["waiting_share"] == pytest.approx(0.95)
    assert "awaits 3 times" in finding.advice


IDLE, BUSY = {"process_cpu_percent": 1.0}, {"process_cpu_percent": 98.0}
CAUSES = "a query, a request, a file, a queue, a sleep"


def test_what_a_call_waits_for_is_not_guessed() -> None:
    """The causes that fit are named together, with how to tell them apart; no lock is singled out."""
    advice = found("io.waiting", WAITING, IDLE).advice
    assert advice.startswith(
        f"What for cannot be told from outside; it may be {CAUSES} or a lock. Measure the steps inside it"
    )
    for change in ({"in_flight_correlation": 0.9, "in_flight_p": 1e-9}, {"in_flight_slope": 5.0}, {"samples": 25}):
        assert found("io.waiting", {**WAITING, **change}, IDLE).advice == advice


@pytest.mark.parametrize(
    ("peak", "busy", "named"),
    [(4, 98.0, True), (4, 30.0, True), (1, 98.0, True), (4, 1.0, False), (1, 5.0, False), (4, None, False)],
)
def test_the_interpreters_lock_is_a_cause_only_where_enough_is_computed(
    peak: int, busy: float | None, named: bool
) -> None:
    """0.19 s waited in each second: threads that compute must be able to hold up calls for half of that."""
    advice = found("io.waiting", {**WAITING, "in_flight_peak": peak}, {"process_cpu_percent": busy}).advice
    assert ("or the interpreter's own lock" in advice) is named


def test_a_task_may_wait_for_its_turn() -> None:
    """An async call does not wait for the interpreter's lock, but for the tasks that compute before it."""
    suspended = {"suspended_s": 0.0019, "suspensions": 1.0, "cpu_fraction": None}
    assert "a lock or its turn while other tasks compute" in found("io.waiting", suspended, BUSY).advice
    assert "its turn" not in found("io.waiting", suspended, IDLE).advice


def test_pages_from_disk_explain_a_wait_that_they_can_fill() -> None:
    """Two pages of a slow disk for 2 ms of waiting, yes; for a second, no."""
    assert "2 pages a call come from disk" in found("io.waiting", {**WAITING, "major_faults": 2.0}).advice
    assert "disk" not in found("io.waiting", {**WAITING, "major_faults": 2.0, "mean_s": 1.0}).advice


def test_waiting_together_is_advice_for_calls_that_come_one_by_one() -> None:
    """Calls that run at once do so already."""
    assert "can wait together" in found("io.waiting", {**WAITING, "in_flight_peak": 1}, IDLE).advice
    assert "can wait together" not in found("io.waiting", WAITING, IDLE).advice


def test_more_waiting_than_there_is_time_is_explained() -> None:
    """Eight threads wait eight hours in one: the gain says that it is a sum."""
    assert found("io.waiting", WAITING).gain == "At most 11.4 min of waiting per hour, at 100 calls/s."
    gain = found("io.waiting", {**WAITING, "mean_s": 0.08}).gain
    assert gain == "At most 7.6 h of waiting per hour (summed over threads and tasks), at 100 calls/s."


def test_n_plus_one_counts_calls_in_each_call_of_the_parent() -> None:
    """50 calls in each of 20 calls of the parent, and 80 % of its time."""
    finding = found("io.n_plus_one", *FAULTS["io.n_plus_one"])
    assert "app.main calls app.search 50 times in each of its calls" in finding.summary
    assert finding.evidence["parent"] == "app.main"
    assert found(
        "io.n_plus_one", {"total_s": 9.0}, {"site_calls": {"app.main": 4}, "site_total_s": {"app.main": 9.5}}
    ).level == "warning"  # fmt: skip


COMPUTES = "It computes for 97 % of that time: keep results that repeat (functools.cache)"


@pytest.mark.parametrize(
    ("stats", "says"),
    [
        ({"cpu_fraction": 0.97}, COMPUTES),
        ({"cpu_fraction": 0.1}, "Ask for all of it in one call before the loop (one query with IN or a join"),
        ({"cpu_fraction": 0.97, "type": BenchmarkType.I_O}, "Ask for all of it in one call before the loop"),
        ({"cpu_fraction": 0.5}, "If it asks somebody else, ask for all of it in one call"),
        ({"cpu_fraction": None}, "if it computes, keep results that repeat"),
    ],
)
def test_n_plus_one_advises_by_what_the_calls_do(stats: dict[str, Any], says: str) -> None:
    """A query is asked for many at once, a computation kept. A local database computes: its type is what tells."""
    assert says in found("io.n_plus_one", stats, FAULTS["io.n_plus_one"][1]).advice


def test_a_computation_gets_no_advice_about_queries() -> None:
    """A function that only computes asks nobody."""
    advice = found("io.n_plus_one", {"cpu_fraction": 0.97}, FAULTS["io.n_plus_one"][1]).advice
    assert "query" not in advice
    assert "request" not in advice


def test_n_plus_one_needs_a_parent_whose_time_it_takes() -> None:
    """No parent, few calls of it, or little of its time: nothing to say."""
    many = {"app.main": 20}
    assert "no measured function calls it" in reason("io.n_plus_one", {"parents": {}})
    assert "2 calls of its parent app.main" in reason("io.n_plus_one", {}, {"site_calls": {"app.main": 2}})
    assert "1 calls in each call" in reason("io.n_plus_one")
    assert "of its time" in reason("io.n_plus_one", {}, {"site_calls": many, "site_total_s": {"app.main": 40.0}})
    assert reason("io.n_plus_one", {}, {"site_calls": many, "site_total_s": {}}) == "not judged: no times"
    assert reason("io.n_plus_one", {"samples": 19}) == "not judged: 19 samples, needs 20"


def test_calls_beside_each_other_are_no_n_plus_one() -> None:
    """What asyncio.gather makes wait at once takes more time than the parent has."""
    context = {"site_calls": {"app.main": 20}, "site_total_s": {"app.main": 0.5}}
    assert "50 calls in each call of app.main, but beside each other" in reason("io.n_plus_one", {}, context)


# --- concurrency -----------------------------------------------------------------------------------


def test_contention_needs_a_clear_and_costly_relation() -> None:
    """Chance, tiny calls, small slopes and lone calls are no contention."""
    assert found("concurrency.contention", CONTENDED).severity == 74.0
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


def test_calls_that_differ_are_no_contention() -> None:
    """Calls that wait for each other take one more call's time each: ten times that are other calls."""
    assert "the calls that run at once are other ones" in reason(
        "concurrency.contention", {**CONTENDED, "in_flight_slope": 10.0}
    )


def test_contention_is_a_note_unless_the_slo_is_missed() -> None:
    """A relation proves no fault: the calls that run at once may have more to do."""
    assert found("concurrency.contention", {**CONTENDED, "in_flight_slope": 1.5}).level == "info"
    assert found("concurrency.contention", {**CONTENDED, "slo_s": 1.0}).level == "info"
    assert found("concurrency.contention", {**CONTENDED, "slo_s": 0.001}).level == "warning"


@pytest.mark.parametrize(
    ("busy", "says"),
    [
        (390.0, "the interpreter's own lock or the CPU, of which none is left (390 % of 400 %)."),
        (98.0, "a server or disk that takes one at a time or the interpreter's own lock."),
        (4.0, "a lock, a pool, a connection or a server or disk that takes one at a time."),
        (None, "a lock, a pool, a connection or a server or disk that takes one at a time."),
    ],
)
def test_contention_names_what_may_be_shared(busy: float | None, says: str) -> None:
    """All that fits, and that those calls may just have more to do."""
    finding = found("concurrency.contention", CONTENDED, {"process_cpu_percent": busy})
    assert finding.summary == (
        "app.search: calls take longer the more of them run at once, 80 % for each further call (up to 4 at once)."
    )
    assert says in finding.advice
    assert "just have more to do" in finding.advice


def test_calls_that_compute_do_not_wait_for_each_other() -> None:
    """With CPU time for all of it there is no lock to look for."""
    advice = found("concurrency.contention", {**CONTENDED, "cpu_fraction": 0.9}).advice
    assert advice.startswith("They do not wait, they compute longer")
    assert "lock" not in advice
    assert "a lock" in found("concurrency.contention", {**CONTENDED, "cpu_fraction": None}).advice


def test_one_site_is_told_one_thing_about_its_waiting() -> None:
    """Where contention says why it waits, waiting is silent, in judge() and find() alike, and says who speaks."""
    stats = dataclasses.replace(HEALTHY, **CONTENDED, voluntary=2.0)
    for rules in (Rules(), Rules(load({"rules": {"time.tail": {"enabled": False}}}, {}, "/"))):
        verdicts = {verdict.rule: verdict for verdict in rules.judge(stats, CALM).verdicts}
        assert verdicts["concurrency.contention"].finding is not None
        assert verdicts["io.waiting"].reason == "not judged: concurrency.contention says it"
        found_ = rules.find(stats, CALM).verdicts
        assert [finding.rule for finding in found_.findings] == ["concurrency.contention"]
        assert tuple(found_) == tuple(verdicts.values())
    alone = Rules(load({"rules": {"concurrency.contention": {"enabled": False}}}, {}, "/"))
    assert [finding.rule for finding in alone.find(stats, CALM).verdicts.findings] == ["io.waiting"]
