"""What is said of users under load: how much they get done, whether they are served alike, and what holds them back."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from hotlap.lab.kinds import concurrent as module
from hotlap.lab.kinds.concurrent import generator_limits, interpreter_lock

# -- what is said of the users ------------------------------------------------------------------------------


def served(fairness, speed_up=1.0, interval=(0.9, 1.1)):
    return {
        "speed_up": speed_up,
        "speed_up_interval": list(interval),
        "fairness": fairness,
        "most_calls_of_a_user": 90,
        "fewest_calls_of_a_user": 10,
    }


def at_work(users=4, calls=100, seconds=1.0):
    return SimpleNamespace(
        users=users, waiting_share=0.75, mean_s=0.004, calls=calls, part=SimpleNamespace(seconds=seconds)
    )


ALONE = SimpleNamespace(mean_s=0.001)


def test_users_who_wait_for_each_other_and_are_not_served_alike_are_said_to():
    slow, unfair = module._scaling("threads", at_work(), ALONE, served(0.5))
    assert slow == (
        "4 threads get no more done than one (0.9 to 1.1 times as much): a call takes 4 ms beside others, 75 % of it "
        "without a CPU, and 1 ms alone."
    )
    assert "the busiest made 90 calls, another 10" in unfair
    assert len(module._scaling("threads", at_work(), ALONE, served(1.0))) == 1


@pytest.mark.parametrize(
    ("speed_up", "interval", "words"),
    [
        (2.5, (2.2, 2.7), "get 2.5 times (2.2 to 2.7) as much done as one: "),
        (1.05, (1.02, 1.09), "get hardly more done than one (1.02 to 1.09 times as much): "),
        (1.5, (0.9, 2.1), "get no more done than one (0.9 to 2.1 times as much): "),
        (0.985, (0.98, 0.99), "get no more done than one (0.98 to 0.99 times as much): "),
        (0.7, (0.6, 0.8), "get less done than one (0.6 to 0.8 times as much): "),
    ],
)
def test_a_speed_up_is_said_as_people_say_it(speed_up, interval, words):
    (sentence,) = module._scaling("threads", at_work(), ALONE, served(1.0, speed_up, interval))
    assert words in sentence


def test_users_who_scale_need_no_word():
    assert module._scaling("threads", at_work(), ALONE, served(1.0, 3.8, (3.6, 3.9))) == []


@pytest.mark.parametrize(
    "short",
    [
        {"calls": 79},  # fewer than ten of each user
        {"seconds": 0.06},  # in 60 ms the interpreter's lock changes hands a dozen times
    ],
)
def test_users_who_did_not_have_their_turns_yet_are_not_called_served_unlike(short):
    enough = {"users": 8, "calls": 100, "seconds": 1.0}
    unfair = served(0.25, 7.9, (7.8, 8.0))
    assert len(module._scaling("threads", at_work(**enough), ALONE, unfair)) == 1
    assert module._scaling("threads", at_work(**{**enough, **short}), ALONE, unfair) == []


# -- the generator itself, and the interpreter's lock --------------------------------------------------------


def test_a_run_that_is_as_fast_as_nothing_is_said_to_be_the_generator():
    fast = SimpleNamespace(rate=200_000.0, users=4)
    assert (
        "The generator was the limit: 4 users make 200,000 calls/s, and 250,000" in generator_limits(fast, 250_000.0)[0]
    )
    assert "no more of an empty function" in generator_limits(fast, 180_000.0)[0]
    assert generator_limits(SimpleNamespace(rate=1000.0, users=1), 250_000.0) == []
    assert generator_limits(SimpleNamespace(rate=None, users=1), 250_000.0) == []


def looked(late_s, users=4, cores_used=1.0):
    return SimpleNamespace(users=users, cores_used=cores_used, part=SimpleNamespace(late_s=np.full(20, late_s)))


def test_threads_that_take_turns_at_the_interpreters_lock_are_said_to(monkeypatch):
    monkeypatch.setattr(module, "cpus", lambda: 4)
    found, sentences = interpreter_lock("threads", looked(sys.getswitchinterval()))
    if found is None:
        pytest.skip("this interpreter has no such lock")
    assert found["held_share"] == 1.0
    assert "4 threads used 1 of 4 CPUs" in sentences[0]
    for other in (looked(1e-4), looked(0.005, users=1), looked(0.005, cores_used=0.1), looked(0.005, cores_used=3.0)):
        assert interpreter_lock("threads", other)[1] == []
    assert interpreter_lock("processes", looked(0.005)) == (None, [])
    monkeypatch.setattr(module, "cpus", lambda: 1)  # then there is only one to use
    assert interpreter_lock("threads", looked(0.005))[1] == []
