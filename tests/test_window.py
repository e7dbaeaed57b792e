"""window: records reduced per site, and what is kept of them."""

from __future__ import annotations

import numpy as np
import pytest

from hotlap import core, window
from hotlap.window import CHUNK, SLOWEST, SUMS, TAIL_CALLS, Tally, deltas
from live import records

TAIL = core.FLAG_TAIL


def total(tally: Tally, name: str) -> list[float]:
    return tally.sums[SUMS.index(name)].tolist()


# -- sums ----------------------------------------------------------------------------------


def test_sums_are_weighted_and_by_site() -> None:
    """Each sampled call stands for as many as its weight says, and only for its own site."""
    tally = Tally()
    tally.add(
        records(
            3,
            site=[2, 0, 2],
            weight=[1, 4, 10],
            wall_ns=[100, 200, 300],
            run_ns=[100, 200, 300],
            cpu_ns=[10, 20, 30],
            own_ns=[1, 2, 3],
            gc_ns=[5, 0, 7],
            voluntary=[0, 1, 0],
            involuntary=[1, 0, 1],
            minor_faults=[2, 0, 3],
            major_faults=[0, 0, 1],
        )
    )
    assert total(tally, "samples") == [1, 0, 2]
    assert total(tally, "weight") == [4, 0, 11]
    assert total(tally, "cpu_ns") == [80, 0, 310]
    assert total(tally, "cpu_of") == [800, 0, 3100]
    assert total(tally, "own_ns") == [8, 0, 31]
    assert total(tally, "gc_ns") == [0, 0, 75]
    assert total(tally, "voluntary") == [4, 0, 0]
    assert total(tally, "involuntary") == [0, 0, 11]
    assert total(tally, "minor_faults") == [0, 0, 32]
    assert total(tally, "minor_faults_squared") == [0, 0, 94]
    assert total(tally, "major_faults") == [0, 0, 10]
    assert tally.longest_ns.tolist() == [200, 0, 300]
    assert tally.count == 3


def test_unknown_times_leave_their_calls_out_of_the_comparison() -> None:
    """A call without CPU time adds to the calls, but not to what CPU time is compared with."""
    tally = Tally()
    tally.add(records(3, wall_ns=100, run_ns=100, cpu_ns=[50, -1, 50], own_ns=[-1, -1, 40]))
    assert (total(tally, "cpu_ns"), total(tally, "cpu_of"), total(tally, "cpu_weight")) == ([100], [200], [2])
    assert (total(tally, "own_ns"), total(tally, "own_of"), total(tally, "own_weight")) == ([40], [100], [1])
    assert total(tally, "weight") == [3]


def test_slow_calls_are_kept_out_of_the_sums() -> None:
    """A record that exists only because its call was slow is counted as such, and enters no estimate."""
    tally = Tally()
    tally.add(records(4, wall_ns=[10, 999, 20, 500], cpu_ns=5, flags=[0, TAIL, 0, TAIL], weight=[1, 0, 1, 0]))
    assert total(tally, "samples") == [2]
    assert total(tally, "weight") == [2]
    assert total(tally, "cpu_of") == [30]
    assert tally.tails().tolist() == [[2], [1499]]
    assert tally.longest_ns.tolist() == [999]
    assert len(tally.kept()) == 2
    only_tails = Tally()
    only_tails.add(records(2, flags=TAIL))
    assert total(only_tails, "samples") == [0]
    assert len(only_tails.kept()) == 0
    assert only_tails.count == 2


def test_tails_are_a_copy() -> None:
    """What was read before a drain does not change with it."""
    tally = Tally()
    before = tally.tails()
    tally.add(records(3, flags=TAIL))
    assert before.shape == (2, 0)
    assert tally.tails()[0].tolist() == [3]


def test_the_longest_run_is_known_for_calls_that_suspend() -> None:
    """Plain calls have no runs; a slow coroutine's counts too."""
    tally = Tally()
    tally.add(records(1, longest_ns=900))
    assert tally.longest_run_ns.tolist() == [0]
    tally.add(records(2, site=[0, 1], longest_ns=[70, 80], flags=[core.FLAG_ASYNC, core.FLAG_ASYNC | TAIL]))
    assert tally.longest_run_ns.tolist() == [70, 80]


def test_sums_do_not_depend_on_how_the_records_are_cut() -> None:
    """One chunk or many, and sites that appear later, give the same."""
    random = np.random.default_rng(3)
    some = records(
        5000,
        site=np.sort(random.integers(0, 40, 5000)),
        wall_ns=random.integers(1, 10**9, 5000),
        weight=random.integers(1, 50, 5000),
        cpu_ns=random.integers(-1, 10**6, 5000),
        minor_faults=random.integers(0, 3, 5000),
        flags=np.where(random.random(5000) < 0.1, TAIL, core.FLAG_EVIDENCE),
    )
    whole, cut = Tally(), Tally()
    whole.add(some)
    for start in range(0, 5000, 700):
        cut.add(some[start : start + 700])
    assert np.allclose(whole.sums, cut.sums)
    assert np.array_equal(whole.longest_ns, cut.longest_ns)
    assert whole.kept().tobytes() == cut.kept().tobytes()


# -- what is kept --------------------------------------------------------------------------


def test_records_are_copied() -> None:
    """The memory that they were drained into may be gone afterwards."""
    block = records(2, wall_ns=[1, 2], span=1)
    tally = Tally()
    tally.add(block)
    block["wall_ns"] = 0
    assert tally.kept()["wall_ns"].tolist() == [1, 2]
    assert tally.traced()["wall_ns"].tolist() == [1, 2]


def test_few_records_are_all_kept_however_long_the_window() -> None:
    """A hundred drains with three records each: three hundred records, from the first to the last."""
    tally = Tally()
    for number in range(100):
        tally.add(records(3, wall_ns=number))
    assert sorted(set(tally.kept()["wall_ns"].tolist())) == list(range(100))
    assert len(tally.kept()) == 300


def test_of_very_many_records_an_even_choice_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded memory, spread over the whole window; the sums have seen all of them."""
    monkeypatch.setattr(window, "_KEPT", 10 * CHUNK)
    tally = Tally()
    for number in range(100):
        tally.add(records(CHUNK, wall_ns=number, cpu_ns=1))
    kept = np.unique(tally.kept()["wall_ns"])
    assert 5 <= len(kept) <= 10
    assert set(np.diff(kept).tolist()) == {16}
    assert kept[0] == 0
    assert total(tally, "samples") == [100 * CHUNK]


def test_each_site_keeps_its_slowest_traced_calls() -> None:
    """A fast site next to a slow one has its own, in any number; no call without a trace is there."""
    random = np.random.default_rng(5)
    tally = Tally()
    for _ in range(8):
        site = random.integers(0, 2, CHUNK)
        wall = random.integers(1, 10**6, CHUNK) * np.where(site == 1, 1000, 1)
        tally.add(records(CHUNK, site=site, wall_ns=wall, span=random.integers(0, 2, CHUNK)))
    traced = tally.traced()
    assert (traced["span"] != 0).all()
    assert np.bincount(traced["site"]).tolist() == [SLOWEST, SLOWEST]
    assert traced["wall_ns"][traced["site"] == 0].min() > 0.99e6


def test_failed_and_slow_traced_calls_are_kept_up_to_a_bound() -> None:
    """Those that can become spans: a quick failure, too, and of very many the slowest."""
    tally = Tally()
    flags = np.zeros(CHUNK, np.uint16)
    flags[7] = core.FLAG_ERROR
    for _ in range(4):
        tally.add(records(CHUNK, wall_ns=np.arange(CHUNK), span=1, flags=flags))
    traced = tally.traced()
    assert np.count_nonzero(traced["flags"] & core.FLAG_ERROR) == 4
    for _ in range(4):
        tally.add(records(CHUNK, wall_ns=np.arange(CHUNK), span=1, flags=core.FLAG_TAIL))
    traced = tally.traced()
    assert len(traced) <= TAIL_CALLS + SLOWEST
    assert traced["wall_ns"].max() == CHUNK - 1


# -- deltas --------------------------------------------------------------------------------


def test_deltas_are_differences_but_for_the_levels() -> None:
    """In flight, peak, min and max are as they are now; the longest run only when it is a new one."""
    names = core.COUNTERS
    before = np.full((2, len(names)), 5, np.uint64)
    after = np.full((2, len(names)), 8, np.uint64)
    after[1, names.index("longest_ns")] = 5
    after[0, names.index("min_ns")] = 2**64 - 1
    delta = dict(zip(names, deltas(before, after).T.tolist(), strict=True))
    assert delta["calls"] == delta["total_ns"] == delta["suspensions"] == [3, 3]
    assert delta["in_flight"] == delta["in_flight_peak"] == delta["max_ns"] == [8, 8]
    assert delta["min_ns"] == [2**64 - 1, 8]
    assert delta["longest_ns"] == [8, 0]
