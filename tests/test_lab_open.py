"""The open model: calls are due at a rate of their own. Durations are checked by what must hold on any machine; what is
said of overload and lateness, on numbers that are given.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from hotlap import BenchmarkConfig, PerformanceBenchmarker, core
from hotlap.lab.config import DebugLevel
from hotlap.lab.load import arrivals as module
from hotlap.lab.load.arrivals import arrivals, backlog, lateness, remedy
from load import concurrent, said

# -- the open model ------------------------------------------------------------------------------------------


def test_arrivals_are_even():
    assert arrivals(4, 1000.0).tolist() == [0, 1_000_000, 2_000_000, 3_000_000]
    assert arrivals(10**5, 3.0)[-1] == pytest.approx((10**5 - 1) / 3 * 1e9, rel=1e-12)


def test_poisson_arrivals_wait_as_long_as_pollaczek_and_khinchine_say():
    """M/D/1: one server, calls of 1 s, half of its capacity asked for: 0.5 s of waiting on average."""
    load, calls = 0.5, 400_000
    due = arrivals(calls, load, poisson=True, seed=3) / 1e9
    # Lindley's recursion: the wait is how far the work that came lies above its lowest point so far.
    work = np.arange(calls) - due
    waits = work - np.minimum.accumulate(work)
    assert np.diff(due).mean() == pytest.approx(2.0, rel=0.01)
    assert waits.mean() == pytest.approx(load / (2 * (1 - load)), rel=0.03)


def test_poisson_arrivals_are_the_same_for_the_same_seed():
    assert (arrivals(100, 5.0, True, seed=1) == arrivals(100, 5.0, True, seed=1)).all()
    assert (arrivals(100, 5.0, True, seed=1) != arrivals(100, 5.0, True, seed=2)).any()


def test_no_call_begins_before_it_is_due_or_before_a_user_is_free():
    """One user, calls of 5 ms: each call begins at the earliest as Lindley's recursion says."""
    poisson = {"arrival_rate": 100.0, "arrivals": "poisson", "seed": 5}
    outcome = concurrent(time.sleep, 0.005, iterations=60, concurrent_users=1, **poisson)
    due = arrivals(60, 100.0, True, seed=5) / 1e9
    least, free = [], 0.0
    for at in due.tolist():
        least.append(max(at, free) - at)
        free = max(at, free) + 0.005
    begun_after = outcome.latency_s - outcome.series.time_s
    assert (begun_after >= np.array(least) - 1e-6).all()
    assert np.max(least) > 0.005  # some did have to wait
    assert outcome.in_flight.max() == 1


def test_latency_is_the_wait_for_a_user_the_generators_lateness_and_the_call():
    outcome = concurrent(time.sleep, 0.004, iterations=80, concurrent_users=2, arrival_rate=700.0)
    assert outcome.latency_s == pytest.approx(outcome.wait_s + outcome.lag_s + outcome.series.time_s, abs=1e-9)
    assert (outcome.lag_s >= 0).all()
    assert outcome.wait_s.max() > 0.01  # 700 * 4 ms is more than two can do


def test_a_stall_shows_in_all_the_calls_that_were_due_meanwhile():
    """One call of 300 stalls for 100 intervals. A closed loop would show one slow call; who asked for the others had to
    wait, too: a call due j ms after the stall began has a latency of at least 100 - j ms.
    """
    calls = itertools.count()

    def subject():
        if next(calls) == 100:
            time.sleep(0.1)

    outcome = concurrent(subject, iterations=300, concurrent_users=1, arrival_rate=1000.0)
    latency_ms = 1e3 * outcome.latency_s
    assert len(latency_ms) == 300
    for behind in range(100):
        assert latency_ms[100 + behind] >= 100 - behind - 0.01
    for limit in (90, 50, 10):  # so the percentiles are at least those of HdrHistogram's corrected case
        assert np.count_nonzero(latency_ms >= limit) >= 100 - limit
    assert np.percentile(latency_ms, 99) >= 96.0
    assert np.median(outcome.series.time_s) < 0.1 < outcome.series.time_s.max()


def test_calls_that_were_due_and_not_begun_are_counted():
    outcome = concurrent(time.sleep, 0.05, iterations=1000, concurrent_users=1, arrival_rate=1000.0, timeout=0.5)
    details = outcome.examination.details
    assert outcome.ended.limit == "timeout"
    assert details["not_begun"] > 100
    assert details["due"] <= 1000
    assert "had not begun" in said(outcome)


def test_tasks_have_an_open_model_too():
    async def subject():
        await asyncio.sleep(0.02)

    outcome = concurrent(subject, iterations=60, concurrent_users=50, arrival_rate=500.0)
    assert len(outcome.series.time_s) == 60
    assert outcome.in_flight.max() >= 5  # 20 ms hold ten intervals
    assert outcome.examination.details["arrivals"] == "constant"


# -- overload -----------------------------------------------------------------------------------------------


def test_asking_for_more_than_the_users_can_do_is_said():
    outcome = concurrent(time.sleep, 0.01, iterations=200, concurrent_users=2, arrival_rate=1000.0)
    details = outcome.examination.details
    assert details["model"] == "open"
    assert details["offered_load"] >= 10.0
    assert details["utilisation"] >= 5.0
    assert details["wait"]["max_s"] >= 0.01 * 200 / 2 - 0.21
    assert details["overload"]["asked"] == 1000.0
    assert 0.0 < details["overload"]["got"] <= 200.0
    assert "Overloaded: 1,000 calls/s were asked for" in said(outcome)
    assert "and there are 2: allow more concurrent_users, or ask for a lower arrival_rate" in said(outcome)
    assert details["not_begun"] == 0
    assert json.loads(json.dumps(details)) == details


@pytest.mark.parametrize("users", [4, 64])
def test_a_lock_that_lets_too_few_through_is_overloaded_whatever_the_users(users):
    """5 ms under one lock are at most 200 calls/s: more users only wait for it."""
    lock = threading.Lock()

    def subject():
        with lock:
            time.sleep(0.005)

    asked = {"iterations": 200, "concurrent_users": users, "arrival_rate": 1000.0, "warmup_iterations": 0}
    report = PerformanceBenchmarker().benchmark_concurrent(subject, config=BenchmarkConfig(**asked, progress=False))
    assert report.details["overload"]["got"] <= 200.0
    assert any(note.startswith("Overloaded: 1,000 calls/s were asked for") for note in report.verdict.notes)
    (advice,) = (said for said in report.recommendations if said.startswith("Overloaded"))
    assert "missing is capacity of the subject, not users" in advice
    assert "concurrent_users" not in advice


@pytest.mark.parametrize("kind", ["constant", "poisson"])
def test_a_subject_that_has_time_left_is_not_overloaded(kind):
    """A tenth of what two users can do."""
    asked = {"arrival_rate": 200.0, "arrivals": kind, "seed": 1}
    outcome = concurrent(time.sleep, 0.001, iterations=60, concurrent_users=2, **asked)
    assert outcome.examination.details["overload"] is None
    assert "Overloaded" not in said(outcome)


def found(**others):
    return {
        "overload": {"asked": 150.0, "got": 98.4, "first_s": 0.034, "last_s": 1.02, "p": 1e-9},
        "not_begun": 0,
        "offered_load": 11.7,
        "utilisation": 1.46,
        **others,
    }


def test_overload_is_said_with_both_rates_and_what_became_of_latency():
    (note,) = backlog(found())
    assert note == (
        "Overloaded: 150 calls/s were asked for, and 98.4 calls/s ended. The backlog grew, and latency with it, from "
        "34 ms in the first twentieth of the run to 1.02 s in the last: latencies are a matter of how long the run is."
    )
    assert backlog(found(overload=None)) == []


def test_what_is_missing_is_users_only_where_they_do_not_slow_each_other_down():
    level = SimpleNamespace(mean_s=0.078, users=8)
    assert (
        "78 ms beside others and 10 ms alone, so what is missing is capacity" in remedy(level, found(), 0.01, False)[0]
    )
    assert "keep 11.7 users at work at all times, and there are 8: allow" in remedy(level, found(), 0.07, False)[0]
    assert "there is 1: allow" in remedy(SimpleNamespace(mean_s=0.078, users=1), found(), None, False)[0]
    assert "it is the generator" in remedy(level, found(), 0.01, True)[0]
    idle = remedy(level, found(utilisation=0.5), 0.07, False)
    assert idle == ["Overloaded: of 150 calls/s, 98.4 get done: ask for a lower arrival_rate."]
    assert remedy(level, found(overload=None), 0.01, False) == []
    assert remedy(SimpleNamespace(mean_s=None, users=8), found(), 0.01, False) == []  # every call failed


# -- calls that begin later than they could have ------------------------------------------------------------


def late(late_s, held_up_s):
    return {
        "lag": {"mean_s": late_s, "p99_s": 0.01, "held_up_s": held_up_s},
        "latency": {"mean_s": 0.003},
        "kind_of_users": "threads",
    }


def test_a_late_generator_is_said():
    (note,) = lateness(late(0.002, 0.0))
    assert note == (
        "The generator itself was late: it began a call 2 ms after it could have, on average, and that is 67 % of the "
        "latency."
    )
    assert lateness(late(0.0001, 0.0)) == []
    assert "which this debug level does not tell" in lateness(late(0.002, None))[0]
    assert lateness(late(None, None)) == []


def test_calls_that_are_held_up_by_others_are_no_fault_of_the_generator():
    (note,) = lateness(late(0.002, 0.0019))
    assert "others that kept the interpreter's lock (GIL) or the CPUs busy: by 1.9 ms on average, 63 %" in note
    assert "the subject's doing, not the generator's" in note
    held, own = sorted(lateness(late(0.002, 0.001)))
    assert held.startswith("Calls that were due")
    assert own.startswith("The generator itself was late: it began a call 1 ms")


def with_calls(calls):
    """A level of (due, begun, ended, on a CPU) each, in ms; there is always a user free."""
    due, begun, ended, computed = (np.array(column, np.int64) * 1_000_000 for column in zip(*calls, strict=True))
    records = np.zeros(len(calls), core.record_dtype())
    records["start_ns"] = 7_000_000 + begun
    return SimpleNamespace(
        part=SimpleNamespace(records=records, start_ns=7_000_000, called_ns=7_000_000 + begun),
        series=SimpleNamespace(raw_s=(ended - begun) / 1e9, run_s=(ended - begun) / 1e9, thread_cpu_s=computed / 1e9),
        lag_s=(begun - due) / 1e9,
    )


def test_a_call_is_held_up_for_as_long_as_others_compute():
    """The second one is due at 4 ms and begins at 10, when the first is over."""
    computing = with_calls([(0, 0, 10, 10), (4, 10, 12, 2)])
    assert module._held_up_s("threads", computing) == pytest.approx(0.006 / 2)
    half = with_calls([(0, 0, 10, 5), (4, 10, 12, 2)])
    assert module._held_up_s("threads", half) == pytest.approx(0.003 / 2)
    asleep = with_calls([(0, 0, 10, 0), (4, 10, 12, 2)])
    assert module._held_up_s("threads", asleep) == 0.0
    assert module._held_up_s("tasks", asleep) == pytest.approx(0.006 / 2)  # who sleeps without await holds the loop


def test_no_call_is_held_up_for_longer_than_it_was_late():
    """Three compute at once, where that can be."""
    busy = with_calls([(0, 0, 10, 10), (0, 0, 10, 10), (0, 0, 10, 10), (4, 10, 12, 2)])
    assert module._held_up_s("threads", busy) == pytest.approx(0.006 / 4)


def test_without_evidence_it_is_not_known_who_was_late():
    outcome = concurrent(
        time.sleep, 0.001, iterations=20, concurrent_users=2, arrival_rate=500.0, level=DebugLevel.BASIC
    )
    assert outcome.examination.details["lag"]["held_up_s"] is None


def test_who_waits_is_who_judges():
    """Calls of 10 ms, twice as many as one user can make: limit, score and intervals are of latency."""
    options = {"iterations": 100, "concurrent_users": 1, "performance_threshold": 0.1, "progress": False}
    lab = PerformanceBenchmarker(DebugLevel.BASIC)
    report = lab.benchmark_concurrent(time.sleep, 0.01, config=BenchmarkConfig(**options, arrival_rate=200.0))
    closed = lab.benchmark_concurrent(time.sleep, 0.01, config=BenchmarkConfig(**options))
    assert [mark.limit for mark in report.verdict.marks] == ["performance_threshold"]
    assert closed.verdict.passed
    assert report.performance_score < closed.performance_score
    low, high = report.summary["confidence_intervals"]["avg_latency_s"]
    assert low <= report.summary["avg_latency_s"] <= high
    assert low > 5 * report.summary["avg_execution_time"]
    assert report.summary["steady_state"]["reason"]


def test_the_begin_and_the_end_are_not_taken_for_what_is_not_steady():
    """Four users begin one by one and end one by one: in between all of them are at work."""
    outcome = concurrent(time.sleep, 0.002, iterations=200, concurrent_users=4)
    between = outcome.all_at_work
    starts = outcome.series.started
    assert 100 < between.sum() < 200
    assert starts[between].min() >= max(starts[outcome.user == user].min() for user in range(4))
