"""Whether a queue is overloaded, checked on queues that are simulated: their load is known, and no clock is asked."""

from __future__ import annotations

import heapq
import json
from dataclasses import asdict

import numpy as np
import pytest

from hotlap.errors import OptionError
from hotlap.stats.overload import overload


def served(due, service_s, servers=1):
    """Ends of calls that are served in the order in which they are due, each by the server who is free first."""
    free = [0.0] * servers
    ends = []
    for at, takes in zip(due, service_s, strict=True):
        ends.append(max(at, heapq.heappop(free)) + takes)
        heapq.heappush(free, ends[-1])
    return np.array(ends)


def queue(load, calls, *, seed=0, poisson=True, exponential=False, servers=1):
    """A queue whose calls take 1 s on average: Kendall's M/D/m, M/M/m, D/D/m, D/M/m."""
    random = np.random.default_rng(seed)
    rate = load * servers
    due = np.cumsum(random.exponential(1 / rate, calls)) if poisson else np.arange(calls) / rate
    service = random.exponential(1.0, calls) if exponential else np.ones(calls)
    return due, served(due, service, servers), rate


def share_of_overloads(load, calls, runs=200, **kind):
    return sum(overload(*queue(load, calls, seed=seed, **kind)) is not None for seed in range(runs)) / runs


def test_a_clockwork_queue_at_150_percent_gets_done_what_its_server_can():
    """D/D/1: 1.5 calls/s are due, 1 ends each second; each call waits a third of a second longer than the last."""
    found = overload(*queue(1.5, 300, poisson=False))
    assert found.asked == 1.5
    assert found.got == pytest.approx(1.0)
    assert found.first_s == pytest.approx(1.0 + 7 / 3)  # the mean of the first 15 of 300
    assert found.last_s == pytest.approx(1.0 + 292 / 3)
    assert found.p < 1e-6
    json.dumps(asdict(found))


@pytest.mark.parametrize("load", [0.5, 0.9, 1.0])
def test_a_clockwork_queue_within_its_capacity_is_never_overloaded(load):
    for calls in (8, 20, 60, 1000):
        assert overload(*queue(load, calls, poisson=False)) is None


@pytest.mark.parametrize("calls", [60, 400, 2000])
@pytest.mark.parametrize("servers", [1, 4, 16])
def test_half_of_the_capacity_is_never_called_overload(calls, servers):
    assert share_of_overloads(0.5, calls, servers=servers, exponential=True) == 0.0


@pytest.mark.parametrize("kind", [{}, {"exponential": True}, {"poisson": False, "exponential": True}])
@pytest.mark.parametrize("load", [0.85, 0.9, 0.95])
def test_a_busy_queue_is_hardly_ever_called_overloaded(load, kind):
    """Its delays are long, and come in waves."""
    for calls in (60, 400):
        assert share_of_overloads(load, calls, **kind) <= 0.01


@pytest.mark.parametrize("exponential", [False, True])
def test_the_most_that_is_no_overload_is_called_so_seldom(exponential):
    """Load and capacity are the same: a random walk, whose delays grow without end, but not steadily."""
    assert share_of_overloads(1.0, 400, exponential=exponential) <= 0.02


@pytest.mark.parametrize("kind", [{}, {"exponential": True}, {"servers": 16}])
def test_overload_is_recognised(kind):
    assert share_of_overloads(1.5, 400, **kind) >= 0.97


def test_what_gets_done_is_the_capacity():
    """M/D/4 at 150 %: four servers do 4 calls/s, whatever is asked."""
    found = overload(*queue(1.5, 400, servers=4))
    assert found.got == pytest.approx(4.0, rel=0.03)


def test_order_of_the_ends_does_not_matter():
    """Threads that take turns end in another order than they began."""
    due, ends, rate = queue(1.5, 200)
    order = np.random.default_rng(0).permutation(200)
    assert overload(due[order], ends, rate) == overload(due, ends, rate)


def test_a_stall_that_is_caught_up_with_is_no_overload():
    for at in (0, 100, 280):  # so late that the run ends before
        due = np.arange(300.0)
        service = np.full(300, 0.1)
        service[at] = 100.0
        assert overload(due, served(due, service), 1.0) is None


def test_a_drift_that_no_queue_makes_is_no_overload():
    """Calls that take longer and longer, but end as often as they are due: 1 ms at first and 3 ms at the end."""
    due = np.arange(1000) / 100.0
    assert overload(due, due + np.linspace(1e-3, 3e-3, 1000), 100.0) is None


def test_a_run_that_is_shorter_than_its_calls_shows_no_queue():
    """60 calls of 1 s at 1,000/s, for all of which there is a server: they end later than due, each a bit more."""
    due = np.arange(60) / 1000.0
    assert overload(due, due + 1.0 + 0.1 * due, 1000.0) is None


def test_few_calls_say_nothing():
    assert overload([], [], 5.0) is None
    assert overload(*queue(3.0, 7, poisson=False)) is None
    assert overload(*queue(3.0, 8, poisson=False)) is not None


def test_what_makes_no_sense_is_refused():
    with pytest.raises(OptionError, match="2 calls were due and 3 ended"):
        overload([1.0, 2.0], [1.0, 2.0, 3.0], 1.0)
    with pytest.raises(OptionError, match=r"the rate is 0\.0; give calls per second"):
        overload([1.0], [1.0], 0.0)
    with pytest.raises(OptionError, match=r"end_s\[0\] is nan"):
        overload([1.0], [np.nan], 1.0)
