"""A leak is told from a cache that fills, from what is made once, and from noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.stats.leak import FILLING, LEAK, LEAST_BLOCKS, NONE, NOT_JUDGED, PLATEAU, Growth, growth

BLOCKS = 30
CALLS = 50  # in a block
T = np.arange(BLOCKS + 1) * CALLS

Levels = np.ndarray


def judged(levels: Levels, **options: float) -> Growth:
    return growth(levels, CALLS, **options)


def kinds(make: Callable[[np.random.Generator], Levels], times: int = 200) -> dict[str, float]:
    """How often each verdict is given, as a share."""
    rng = np.random.default_rng(7)
    seen = [judged(make(rng)).kind for _ in range(times)]
    return {kind: seen.count(kind) / times for kind in set(seen)}


def appended(start: int, bytes_each: int = 0) -> Levels:
    """A list that each call appends to: it asks for an eighth more whenever it is full."""
    levels, room = [], 0
    for call in range(start + BLOCKS * CALLS + 1):
        if call >= room:
            room = (call + 1 + ((call + 1) >> 3) + 6) & ~3
        if call >= start and (call - start) % CALLS == 0:
            levels.append(8 * room + bytes_each * call)
    return np.array(levels, float)


def tabled(start: int, bytes_each: int) -> Levels:
    """A dict that each call adds to: it doubles its table whenever that is full."""
    levels, size = [], 8
    for call in range(start + BLOCKS * CALLS + 1):
        while call > size * 2 // 3:
            size *= 2
        if call >= start and (call - start) % CALLS == 0:
            levels.append(size * 17 + bytes_each * call)
    return np.array(levels, float)


def stepped(rng: np.random.Generator, steps: int) -> Levels:
    return np.sum([1e5 * (rng.integers(0, T[-1]) < T) for _ in range(steps)], axis=0)


# -- leaks --------------------------------------------------------------------------------------------------------


def test_what_each_call_keeps_is_a_leak_of_that_size() -> None:
    found = judged(5000.0 + 100.0 * T)
    assert found.kind == LEAK
    assert found.low == pytest.approx(100) == pytest.approx(found.high)
    assert found.per_call == pytest.approx(100)
    assert found.calls == CALLS * found.blocks


def test_an_object_in_each_tenth_call_is_a_leak() -> None:
    """One of 1 kB, kept at random or by the clock."""
    random = kinds(lambda rng: 1057.0 * np.cumsum(np.r_[0, rng.binomial(CALLS, 0.1, BLOCKS)]))
    assert random[LEAK] >= 0.95
    assert judged(1057.0 * (T // 10)).kind == LEAK


def test_the_interval_holds_the_true_size_as_often_as_it_says() -> None:
    """At 95 %, where calls keep an object at random and where the levels themselves are noisy."""
    rng = np.random.default_rng(3)
    kept = [judged(1057.0 * np.cumsum(np.r_[0, rng.binomial(CALLS, 0.1, BLOCKS)])) for _ in range(300)]
    assert np.mean([one.low <= 105.7 <= one.high for one in kept]) >= 0.92
    noisy = [judged(100.0 * T + rng.normal(0, 3000, BLOCKS + 1)) for _ in range(300)]
    assert np.mean([one.low <= 100 <= one.high for one in noisy]) >= 0.92


def test_a_container_that_grows_by_leaps_is_a_leak() -> None:
    """Its memory goes up in steps that become larger and rarer."""
    for levels in (appended(0), appended(1000), appended(1000, 100)):
        assert judged(levels).kind == LEAK
    for start, size in ((0, 100), (1000, 60), (3000, 28)):
        found = judged(tabled(start, size))
        assert found.kind == LEAK
        assert found.low <= size * 1.01
        assert found.high >= size


def test_a_leak_behind_a_cache_that_fills_at_first_is_found() -> None:
    found = judged(100.0 * T + 1e6 * (1 - np.exp(-T / (0.05 * T[-1]))))
    assert found.kind == LEAK
    assert found.per_call == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize("wanders", [False, True])
def test_what_it_says_it_could_have_seen_it_sees(wanders: bool) -> None:
    """In four of five such runs."""
    rng = np.random.default_rng(11)

    def noise() -> Levels:
        drawn = rng.normal(0, 5000, BLOCKS + 1)
        return np.cumsum(drawn) if wanders else drawn

    smallest = float(np.median([judged(noise()).detectable for _ in range(50)]))
    assert np.mean([judged(smallest * T + noise()).kind == LEAK for _ in range(300)]) >= 0.8


# -- no leaks -----------------------------------------------------------------------------------------------------


def test_nothing_kept_is_none_and_says_what_would_have_been_seen() -> None:
    found = judged(np.full(BLOCKS + 1, 12345.0))
    assert (found.kind, found.per_call, found.low, found.high) == (NONE, 0, 0, 0)
    assert 0 < found.detectable < 2  # 32 objects of 32 bytes in 1,000 calls
    assert judged(np.zeros(BLOCKS + 1), quantum=4096).detectable > 10 * found.detectable


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: rng.normal(0, 1e4, BLOCKS + 1),
        lambda rng: rng.exponential(1e4, BLOCKS + 1),
        lambda rng: 1e4 * rng.standard_t(2, BLOCKS + 1),
        lambda rng: 100.0 * ((T + rng.integers(0, 400)) % rng.integers(60, 700)),
        lambda rng: stepped(rng, 1),
        lambda rng: stepped(rng, 2),
    ],
    ids=["normal", "exponential", "heavy tails", "buffer that is flushed", "one step", "two steps"],
)
def test_noise_and_single_steps_are_no_leak(make: Callable[[np.random.Generator], Levels]) -> None:
    assert kinds(make, 400).get(LEAK, 0.0) <= 0.01


def test_a_wandering_level_is_rarely_a_leak() -> None:
    """The interval is one of 95 %, so that one in forty goes up by chance alone."""
    walk = kinds(lambda rng: np.cumsum(rng.normal(0, 1e4, BLOCKS + 1)), 400)
    assert walk.get(LEAK, 0.0) <= 0.06


@pytest.mark.parametrize("part", [0.05, 0.2, 0.5, 0.8])
def test_a_cache_that_is_full_is_a_plateau(part: float) -> None:
    found = judged(100.0 * np.minimum(T, part * T[-1]))
    assert found.kind == PLATEAU
    assert found.grown == pytest.approx(100 * part * T[-1])
    assert found.settled_after_calls == pytest.approx(part * T[-1], abs=2 * CALLS)


@pytest.mark.parametrize("part", [0.3, 0.4, 0.5])
def test_a_cache_that_fills_more_and_more_slowly_is_filling(part: float) -> None:
    """As one does whose keys come at random from a limited number."""
    found = judged(1e5 * (1 - np.exp(-T / (part * T[-1]))))
    assert found.kind == FILLING
    assert found.at_end < found.per_call


def test_a_growth_too_small_to_matter_is_no_plateau() -> None:
    assert judged(np.r_[0.0, np.full(BLOCKS, 500.0)]).kind == NONE
    assert judged(np.r_[0.0, np.full(BLOCKS, 500.0)], least=100).kind == PLATEAU


def test_too_few_blocks_are_not_judged() -> None:
    for count in (0, 1, LEAST_BLOCKS - 1):
        found = growth(np.arange(count + 1.0) * 1000, 1)
        assert found.kind == NOT_JUDGED
        assert str(LEAST_BLOCKS) in found.reason
        assert np.isnan(found.per_call)
    assert growth(np.arange(LEAST_BLOCKS + 1.0) * 1000, 1).kind == LEAK


# -- what holds for all -------------------------------------------------------------------------------------------

series = st.lists(st.integers(-(10**6), 10**6), min_size=LEAST_BLOCKS + 1, max_size=60)


@given(series, st.integers(1, 1000))
def test_the_interval_holds_the_estimate(levels: list[int], calls: int) -> None:
    found = growth(levels, calls)
    assert found.low <= found.per_call <= found.high
    assert found.detectable > 0
    assert (found.kind == NOT_JUDGED) == bool(found.reason)


@given(series, st.integers(-(10**9), 10**9))
def test_where_the_levels_begin_does_not_matter(levels: list[int], offset: int) -> None:
    assert growth(levels, 10) == growth([level + offset for level in levels], 10)


@given(series)
def test_the_unit_does_not_matter(levels: list[int]) -> None:
    """1,024 times the levels, quantum and least give the same verdict, in the other unit."""
    small = growth(levels, 10, quantum=1, least=64)
    large = growth([1024 * level for level in levels], 10, quantum=1024, least=65536)
    assert small.kind == large.kind
    assert large.per_call == pytest.approx(1024 * small.per_call)
    assert large.detectable == pytest.approx(1024 * small.detectable)


@given(series)
def test_more_memory_at_the_end_never_makes_a_leak_of_less(levels: list[int]) -> None:
    """What goes down from one end to the other is no leak."""
    if levels[-1] < levels[len(levels) // 3]:
        falling = sorted(levels, reverse=True)
        assert growth(falling, 10).kind in (NONE, PLATEAU)
