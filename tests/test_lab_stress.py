"""STRESS: a ramp of users. What a lock, a pool and independent calls do under more and more of them is known."""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from hotlap import PerformanceBenchmarker
from hotlap.errors import OptionError
from hotlap.lab.config import BenchmarkConfig, DebugLevel
from hotlap.lab.kinds import stress as module
from hotlap.lab.kinds.stress import ramp, stressed
from hotlap.stats.capacity import Scaling, capacity
from load import fail, said, stress


@contextmanager
def pool(size, release):
    """So many at once; who comes while they are all taken is refused."""
    if not release.acquire(blocking=False):
        raise ConnectionError(f"all {size} connections are taken")
    try:
        yield
    finally:
        release.release()


def levels(outcome):
    return {level["users"]: level for level in outcome.examination.details["levels"]}


# -- the plan -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "users"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (20, [1, 2, 4, 8, 16, 20])],
)
def test_users_double_up_to_the_most(most, users):
    assert [level for level, _ in ramp(most, 10_000)] == users


@pytest.mark.parametrize("iterations", [1, 7, 100, 1000, 12_345])
def test_all_iterations_are_planned_and_each_level_has_four_calls_of_each_user(iterations):
    planned = ramp(64, iterations)
    assert sum(calls for _, calls in planned) == iterations
    assert all(calls >= 4 * users for users, calls in planned[1:])


def test_levels_that_iterations_are_too_few_for_are_not_tried():
    assert ramp(64, 3) == [(1, 3)]
    assert max(users for users, _ in ramp(64, 100)) < 64


def test_stress_is_ten_times_the_iterations_and_twice_the_users_and_the_time(monkeypatch):
    monkeypatch.setattr(module, "cpus", lambda: 8)
    made = stressed(BenchmarkConfig(iterations=50, concurrent_users=3, timeout=10.0, confidence=0.9))
    assert (made.iterations, made.concurrent_users, made.timeout, made.confidence) == (500, 6, 20.0, 0.9)


def test_twice_the_users_are_no_more_than_the_cpus_and_never_fewer_than_asked_for(monkeypatch):
    monkeypatch.setattr(module, "cpus", lambda: 4)
    assert stressed(BenchmarkConfig(concurrent_users=3)).concurrent_users == 4
    assert stressed(BenchmarkConfig(concurrent_users=50)).concurrent_users == 50
    assert stressed(BenchmarkConfig(iterations=10**7, timeout=1e7)).iterations == 10**7


def test_arrivals_are_no_ramp():
    with pytest.raises(OptionError, match=r"arrival_rate=5\.0 is not allowed here"):
        stress(time.sleep, 0.001, arrival_rate=5.0)


# -- where it stops scaling ---------------------------------------------------------------------------------


def test_a_lock_stops_scaling_at_one_user():
    """5 ms under one lock are at most 200 calls/s, at every level."""
    lock = threading.Lock()

    def subject():
        with lock:
            time.sleep(0.005)

    outcome = stress(subject, iterations=200, concurrent_users=8)
    found = levels(outcome)
    assert list(found) == [1, 2, 4, 8]
    assert all(0.0 < level["throughput"] <= 200.0 for level in found.values())
    assert all(level["steady_throughput"] <= 200.0 for level in found.values())
    bend = outcome.examination.details["capacity"]
    assert bend["bends"] is not False
    assert bend["knee"] < 2.0  # the lowest level gets more than half of what the others get
    assert found[8]["latency"]["mean_s"] > found[1]["latency"]["mean_s"]
    assert bend["sentence"] in said(outcome)


def test_calls_that_do_not_meet_scale():
    """8 who sleep for 10 ms: more than three ever could, and no knee below that."""
    outcome = stress(time.sleep, 0.01, iterations=320, concurrent_users=8)
    found, bend = levels(outcome), outcome.examination.details["capacity"]
    assert 300.0 < found[8]["steady_throughput"] <= 800.0
    assert bend["knee"] > 3.0
    assert bend["bends"] is not True
    assert found[8]["in_flight_peak"] == 8
    assert outcome.throughput == max(level["steady_throughput"] for level in found.values())


def test_rows_know_their_level():
    outcome = stress(time.sleep, 0.001, iterations=120, concurrent_users=4)
    planned = dict(ramp(4, 120))
    assert {users: int(np.count_nonzero(outcome.users == users)) for users in planned} == planned
    assert len(outcome.series.time_s) == outcome.planned == 120
    assert (np.diff(outcome.users) >= 0).all()
    assert (outcome.in_flight <= outcome.users).all()
    assert json.loads(json.dumps(outcome.examination.details)) == outcome.examination.details


def test_each_level_is_compared_with_an_empty_function():
    outcome = stress(time.sleep, 0.001, iterations=60, concurrent_users=2)
    for level in levels(outcome).values():
        assert level["generator"] > level["throughput"]


def test_a_law_that_fits_says_why_and_one_that_does_not_says_nothing():
    users = [1, 2, 4, 8, 16]
    law = Scaling(100.0, 0.25, 0.02, 0.0)
    throughputs = [law.at(count) for count in users]
    found = capacity(users, throughputs, [0.99 * x for x in throughputs], [1.01 * x for x in throughputs])
    (sentence,) = module._why(found)
    assert "25 % of a call excludes other calls" in sentence
    assert "throughput is highest with 6 users" in sentence
    steps = [100.0, 200.0, 400.0, 400.0, 400.0]
    assert module._why(capacity(users, steps, [0.99 * x for x in steps], [1.01 * x for x in steps])) == []
    straight = [100.0, 200.0, 400.0, 800.0, 1600.0]
    assert module._why(capacity(users, straight, straight, straight)) == []


def test_a_lock_is_not_said_to_slow_its_users_down():
    """What 1, 2, 4 and 8 users get through 10 ms under a lock: half a per cent less in the end is within noise."""
    throughputs = [98.7, 98.7, 98.4, 98.2]
    found = capacity([1, 2, 4, 8], throughputs, [0.995 * x for x in throughputs], [1.005 * x for x in throughputs])
    assert found.law.peak < 8  # the best fit, for what it is worth
    (sentence,) = module._why(found)
    assert sentence.endswith("of a call excludes other calls, as a lock does.")


def test_the_price_of_more_users_is_that_of_the_level_which_is_named():
    """Throughput is known up to 4 users, and times up to 16."""
    mean_ms = {1: 0.6, 2: 1.12, 4: 1.57, 8: 2.28, 16: 3.42}
    levels = [SimpleNamespace(users=users, mean_s=mean / 1e3) for users, mean in mean_ms.items()]
    found = capacity([1, 2, 4], [1600.0, 1610.0, 1590.0])
    assert module._price(found, levels) == ["A call takes 600 us alone, and 1.57 ms beside 3 others."]
    two = capacity([1, 2], [1600.0, 1000.0])
    assert module._price(two, levels) == ["A call takes 600 us alone, and 1.12 ms beside 1 other."]


def test_the_first_level_at_which_the_generator_is_the_limit_is_named():
    levels = [SimpleNamespace(users=1, rate=1000.0), SimpleNamespace(users=2, rate=180_000.0)]
    assert "2 users make" in module._generator_limits(levels, {1: 200_000.0, 2: 200_000.0})[0]
    assert module._generator_limits(levels[:1], {1: 200_000.0}) == []
    assert module._generator_limits(levels, {}) == []


def test_too_few_iterations_for_the_users_are_said():
    outcome = stress(time.sleep, 0.0, iterations=20, concurrent_users=64)
    assert "64 users were not tried: 20 iterations are too few" in said(outcome)


# -- how it fails -------------------------------------------------------------------------------------------


def test_the_first_level_that_fails_is_named():
    """Two connections, no waiting: one and two users never fail, four do at once."""
    free = threading.Semaphore(2)

    def subject():
        with pool(2, free):
            time.sleep(0.003)

    outcome = stress(subject, iterations=200, concurrent_users=8)
    found, details = levels(outcome), outcome.examination.details
    assert [found[users]["failed"] for users in (1, 2)] == [0, 0]
    assert details["first_failing_level"] == 4
    assert found[4]["errors"] == {"ConnectionError": found[4]["failed"]}
    assert found[4]["timeouts"] == 0
    assert "It fails from 4 users on" in said(outcome)
    assert "none with fewer" in said(outcome)
    (failure,) = outcome.failures.failures(outcome.series.time_s, None)
    assert failure.count == outcome.series.failed.sum()
    assert outcome.users[failure.first_iteration] == 4
    assert any("only under concurrency" in pattern for pattern in failure.patterns)
    assert not any("It begins with iteration" in pattern for pattern in failure.patterns)  # the ramp does


def test_timeouts_are_counted_apart():
    free = threading.Semaphore(1)

    def subject():
        if not free.acquire(timeout=0.001):
            raise TimeoutError("nobody answered")
        try:
            time.sleep(0.01)
        finally:
            free.release()

    outcome = stress(subject, iterations=60, concurrent_users=2)
    found = levels(outcome)
    assert found[1]["timeouts"] == 0
    assert found[2]["timeouts"] == found[2]["failed"] > 0


def test_the_ramp_ends_where_every_call_fails():
    outcome = stress(fail, iterations=200, concurrent_users=8)
    assert list(levels(outcome)) == [1]
    assert outcome.examination.details["first_failing_level"] == 1
    assert outcome.examination.details["capacity"] is None
    assert "The ramp ended at 1 user of 8: every call failed." in said(outcome)


# -- limits -------------------------------------------------------------------------------------------------


def test_a_level_takes_no_more_than_its_part_of_the_time():
    """1,000 calls of 20 ms do not fit into a second: each level gives what it got done."""
    outcome = stress(time.sleep, 0.02, iterations=1000, concurrent_users=2, timeout=2.0)
    found = levels(outcome)
    assert outcome.ended is None
    assert list(found) == [1, 2]
    assert all(0 < level["calls"] < level["planned"] for level in found.values())
    assert "calls in their part of the time" in said(outcome)


def test_a_deadlock_at_one_level_leaves_what_the_levels_before_it_gave():
    gate, release = threading.Lock(), threading.Event()
    inside = itertools.count()

    def subject():
        with gate:
            if next(inside) >= 40:  # some calls into the second level
                release.wait()

    try:
        outcome = stress(subject, iterations=80, concurrent_users=2, timeout=1.0)
    finally:
        release.set()
    assert outcome.ended.limit == "timeout"
    found = levels(outcome)
    assert found[1]["calls"] == found[1]["planned"] == 33
    assert found[2]["calls"] == 7
    assert found[2]["still_running"] == 2
    assert "2 calls were still running" in said(outcome)


def test_the_users_interrupt_gives_the_levels_so_far():
    calls = itertools.count(1)

    def subject():
        time.sleep(0.001)
        if next(calls) == 150:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    outcome = stress(subject, iterations=1000, concurrent_users=4)
    assert outcome.interrupted
    assert 100 < len(outcome.series.time_s) < 1000
    assert levels(outcome)[1]["calls"] > 0


def test_a_level_whose_throughput_is_not_known_is_said():
    """Too few calls for an interval: that it was left out of the judgement is no secret."""
    report = PerformanceBenchmarker(DebugLevel.BASIC).benchmark_stress(
        time.sleep, 0.15, config=BenchmarkConfig(timeout=0.5, warmup_iterations=0, concurrent_users=1, progress=False)
    )
    unknown = [one["users"] for one in report.details["levels"] if one["steady_throughput_interval"] is None]
    assert unknown
    for users in unknown:
        assert any(
            f"Throughput with {users} user" in note and "is not judged: only" in note for note in report.verdict.notes
        )
