"""What so many users get done, and where more of them stop helping; against published numbers where there are any."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from hotlap.errors import OptionError
from hotlap.stats.capacity import capacity, chance_of_excess, fairness, scaling, throughput

# Gunther's examples of the universal scalability law, and what the R package usl 3.0 fits to them.
PUBLISHED = {
    "specsdm91": (
        [1, 18, 36, 72, 108, 144, 216],
        [64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2],
        (89.9952382, 0.0277285, 0.0001044),
    ),
    "raytracer": (
        [1, 4, 8, 12, 16, 20, 24, 28, 32, 48, 64],
        [20, 78, 130, 170, 190, 200, 210, 230, 260, 280, 310],
        (21.848843, 0.057771, 0.0),
    ),
    "exact": (
        [1, 2, 4, 6, 8, 10],
        [1, 1.8868, 3.0769, 3.5294, 3.5398, 3.3557],
        (1.0, 0.02, 0.02),
    ),
}


# -- the universal scalability law --------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_law_has_the_published_parameters(name):
    """The nonlinear least squares of R's usl, to the digits that are published."""
    users, throughputs, (per_user, contention, coherency) = PUBLISHED[name]
    law = scaling(users, throughputs)
    assert law.per_user == pytest.approx(per_user, rel=1e-5)
    assert law.contention == pytest.approx(contention, rel=3e-4)
    assert law.coherency == pytest.approx(coherency, rel=5e-4, abs=1e-12)


def test_peak_of_the_law_is_where_throughput_is_highest():
    law = scaling(*PUBLISHED["specsdm91"][:2])
    users = np.arange(1, 400)
    assert users[np.argmax([law.at(n) for n in users])] == round(law.peak) == 97  # 96.5


def test_law_without_coherency_has_no_peak():
    assert scaling(*PUBLISHED["raytracer"][:2]).peak is None


def test_law_of_a_lock_is_all_contention():
    law = scaling([1, 2, 4, 8], [200.0, 200.0, 200.0, 200.0])
    assert law.contention == pytest.approx(1.0)
    assert law.coherency == pytest.approx(0.0, abs=1e-12)
    assert law.error < 1e-9


def test_law_of_independent_users_has_no_losses():
    """More than linear growth gives no negative loss."""
    law = scaling([1, 2, 4, 8], [100.0, 202.0, 407.0, 820.0])
    assert (law.contention, law.coherency) == (0.0, 0.0)
    assert law.per_user == pytest.approx(102.0, rel=0.01)


def test_law_goes_by_the_better_known_levels():
    """A level with a large error hardly moves the parameters."""
    users, throughputs = [1, 2, 4, 8, 16], [100.0, 190.0, 340.0, 560.0, 100.0]
    law = scaling(users, throughputs, [1.0, 1.0, 1.0, 1.0, 1e6])
    assert law.at(8) == pytest.approx(560.0, rel=0.01)
    assert law.error > 1.0  # and the odd one is not hidden


def test_law_needs_four_levels_and_throughput():
    assert scaling([1, 2, 4], [1.0, 2.0, 3.0]) is None
    assert scaling([1, 2, 4, 8], [1.0, 2.0, 0.0, 3.0]) is None


def test_law_refuses_levels_without_throughput():
    with pytest.raises(OptionError, match="4 levels and 3 throughputs"):
        scaling([1, 2, 4, 8], [1.0, 2.0, 3.0])


# -- the knee -----------------------------------------------------------------------------------------------


def test_a_lock_stops_scaling_at_one_user():
    found = capacity([1, 2, 4, 8], [199.0, 198.0, 200.0, 199.0], [197.0] * 4, [201.0] * 4)
    assert found.bends is True
    assert found.knee == pytest.approx(200 / 199)
    assert found.sentence.startswith("Throughput stops scaling at 1 user: one gets 199 calls/s")


def test_a_pool_of_four_stops_scaling_at_four_users():
    found = capacity([1, 2, 4, 8, 16], [100.0, 200.0, 400.0, 402.0, 399.0], [98.0, 197.0, 395.0, 398.0, 396.0], [
        102.0, 203.0, 405.0, 406.0, 402.0
    ])  # fmt: skip
    assert found.bends is True
    assert round(found.knee) == 4
    assert found.knee_low < 4.02 < found.knee_high
    assert found.falls is False


def test_throughput_that_grows_with_the_users_does_not_bend_within_what_was_tried():
    found = capacity(
        [1, 2, 4, 8], [100.0, 199.0, 395.0, 780.0], [99.0, 197.0, 390.0, 770.0], [101.0, 201.0, 400.0, 790.0]
    )
    assert found.bends is False
    assert found.sentence == (
        "Throughput does not bend within what was tried: 8 users get 780 calls/s, 98% of 8 times what one gets."
    )


def test_a_knee_that_the_intervals_do_not_settle_cannot_be_told():
    found = capacity(
        [1, 2, 4, 8], [100.0, 195.0, 380.0, 640.0], [80.0, 150.0, 300.0, 500.0], [120.0, 240.0, 460.0, 800.0]
    )
    assert found.bends is None
    assert "cannot be told" in found.sentence
    assert "from 4.17 up to 10" in found.sentence


def test_a_throughput_that_falls_is_said():
    found = capacity(
        [1, 2, 4, 8], [100.0, 180.0, 200.0, 120.0], [98.0, 176.0, 196.0, 117.0], [102.0, 184.0, 204.0, 123.0]
    )
    assert found.bends is True
    assert found.falls is True
    assert found.sentence.endswith("With 8 it falls to 120 calls/s.")


def test_a_fall_that_may_be_chance_is_not_said():
    found = capacity([1, 2, 4], [100.0, 120.0, 100.0], [90.0, 95.0, 85.0], [110.0, 140.0, 115.0])
    assert found.falls is False


def test_without_intervals_the_knee_has_none():
    found = capacity([1, 2, 4], [100.0, 100.0, 100.0])
    assert found.knee_low is found.knee_high is None
    assert found.bends is True


def test_one_level_says_nothing_of_scaling():
    found = capacity([1], [100.0])
    assert found.bends is None
    assert "says nothing" in found.sentence


def test_no_throughput_no_capacity():
    assert capacity([1, 2], [0.0, 0.0]) is None


@pytest.mark.parametrize("users", [[2, 1], [1, 1], [0, 1]])
def test_levels_must_ascend(users):
    with pytest.raises(OptionError, match="ascending"):
        capacity(users, [1.0, 2.0])


def test_columns_of_different_length_are_refused():
    with pytest.raises(OptionError, match="2 levels and 3 throughputs"):
        capacity([1, 2], [1.0, 2.0, 3.0])


def test_large_numbers_are_readable():
    assert "12,346 calls/s" in capacity([1, 2], [12345.6, 12345.6]).sentence


def test_capacity_is_plain_numbers():
    json.dumps(asdict(capacity([1, 2, 4, 8], [100.0, 180.0, 200.0, 120.0])))


# -- throughput ---------------------------------------------------------------------------------------------


def users_in_step(users: int, rounds: int, call_s: float = 0.01):
    """Each user calls again as soon as its call is over, and all calls take the same."""
    starts = np.repeat(np.arange(rounds) * call_s, users)
    return {
        "start_s": starts,
        "end_s": starts + call_s,
        "good": np.ones(len(starts), bool),
        "user": np.tile(np.arange(users), rounds),
        "users": users,
    }


def test_users_in_step_have_their_exact_throughput():
    found = throughput(**users_in_step(8, 50))
    assert found.whole == pytest.approx(800.0)
    assert found.steady == pytest.approx(800.0)
    assert found.low == pytest.approx(800.0)  # nothing varies
    assert found.high == pytest.approx(800.0)


def test_start_and_end_are_not_part_of_the_steady_throughput():
    """The last user comes late, and one call goes on alone at the end."""
    calls = users_in_step(2, 50)
    calls["start_s"] = np.append(calls["start_s"] + np.where(calls["user"] == 1, 0.1, 0.0), 0.6)
    calls["end_s"] = np.append(calls["end_s"] + np.where(calls["user"] == 1, 0.1, 0.0), 5.0)
    calls["good"] = np.append(calls["good"], True)
    calls["user"] = np.append(calls["user"], 0)
    found = throughput(**calls)
    assert found.whole == pytest.approx(101 / 5.0)
    assert found.steady > 100.0


def test_failed_calls_are_no_throughput():
    calls = users_in_step(4, 50)
    calls["good"][::2] = False
    found = throughput(**calls)
    assert found.calls == 100
    assert found.whole == pytest.approx(200.0)
    assert found.steady == pytest.approx(200.0)


def test_interval_holds_the_truth_as_often_as_it_says():
    """One user with exponential calls of 1 ms on average: 1,000 calls/s. 300 trials at 90 %."""
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        ends = np.cumsum(random.exponential(1e-3, 200))
        starts = np.concatenate(([0.0], ends[:-1]))
        found = throughput(
            start_s=starts, end_s=ends, good=np.ones(200, bool), user=np.zeros(200, int), users=1, level=0.9
        )
        hits += found.low <= 1000.0 <= found.high
    assert 255 <= hits <= 285  # 270 expected, sd 5.2


def test_too_few_calls_have_no_steady_throughput_and_that_is_said():
    found = throughput(**users_in_step(8, 2))
    assert found.whole == pytest.approx(800.0)
    assert found.steady is None
    assert "while all users were at work" in found.note


def test_users_who_got_no_call_are_said():
    calls = users_in_step(2, 20)
    calls["users"] = 5
    found = throughput(**calls)
    assert found.steady is None
    assert "only 2 of 5 users" in found.note


def test_no_call_no_throughput():
    nothing = np.zeros(0)
    found = throughput(start_s=nothing, end_s=nothing, good=nothing, user=np.zeros(0, int), users=3)
    assert (found.calls, found.whole, found.steady) == (0, None, None)


# -- fairness and chance ------------------------------------------------------------------------------------


def test_fairness_is_jains_index():
    assert fairness([5, 5, 5, 5]) == 1.0
    assert fairness([7, 0, 0, 0]) == 0.25
    assert fairness([1, 2, 3]) == pytest.approx(36 / 42)
    assert fairness([0, 0]) is None


def test_chance_is_that_of_fishers_exact_test():
    """Fisher's tea: all four cups found of eight have a chance of 1 in 70, three or more 17 in 70."""
    assert chance_of_excess(4, 4, 0, 4) == pytest.approx(1 / 70)
    assert chance_of_excess(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert chance_of_excess(0, 4, 0, 4) == pytest.approx(1.0)


def test_chance_of_many_calls_is_not_lost_in_rounding():
    """One failure among a million calls beside a million others: one half."""
    assert chance_of_excess(1, 10**6, 0, 10**6) == pytest.approx(0.5, rel=1e-6)
    assert chance_of_excess(400_000, 10**6, 0, 10**6) == 0.0
