"""stats.growth: whether time goes with a power of a size, and with which."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hotlap.stats.growth import Growth, growth
from hotlap.stats.relation import exponent

DECADES = [10.0, 100.0, 1_000.0, 10_000.0]


def measured(sizes: list[float], law: Callable[[float], float], seed: int = 0, **options: Any) -> Growth:
    """30 times at each size: the law, 1 % that each point has of its own, and 3 % of noise."""
    random = np.random.default_rng(seed)
    times = [law(size) * math.exp(random.normal(0, 0.01)) * random.lognormal(0, 0.03, 30) for size in sizes]
    return growth(sizes, times, name="n", **options)


@pytest.mark.parametrize("power", [-1.0, 0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("sizes", [DECADES, DECADES[:3], [16.0, 32.0, 64.0, 128.0, 256.0]])
def test_a_power_law_is_found_with_its_interval(power: float, sizes: list[float]) -> None:
    found = measured(sizes, lambda n: 1e-6 * n**power)
    assert found.fits
    assert found.exponent is not None
    assert found.low is not None
    assert found.high is not None
    assert found.exponent == pytest.approx(power, abs=0.05)
    assert found.low < found.exponent < found.high
    assert found.values == len(sizes)
    assert float(found) == found.exponent


def test_it_is_the_exponent_of_the_live_rules() -> None:
    """Least squares on the logarithms, as there."""
    sizes, times = np.repeat(DECADES, 5), np.repeat([1.0, 7.0, 130.0, 900.0], 5)
    found = growth(DECADES, [[1.0] * 5, [7.0] * 5, [130.0] * 5, [900.0] * 5])
    assert found.exponent == pytest.approx(exponent(sizes, times))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """95 % of 400 times, when each point has a deviation of its own, which its iterations share."""
    random = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        found = growth(DECADES, [np.full(8, size**1.5 * math.exp(random.normal(0, 0.03))) for size in DECADES])
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1.5 <= found.high
    assert 0.91 <= held / 400 <= 0.985


@pytest.mark.parametrize(
    ("law", "sizes"),
    [
        (lambda n: 1e-6 * 2.0**n, [4.0, 8.0, 12.0, 16.0, 20.0]),
        (lambda n: 1e-3 if n < 500 else 1e-2, DECADES),
        (lambda n: 2e-3 + 5e-8 * n, DECADES),
        (lambda n: 2e-3 + 5e-6 * n, DECADES),
    ],
    ids=["exponential", "a step", "a fixed cost, and little else", "a fixed cost, and more"],
)
def test_what_is_no_power_law_is_said_to_be_none(law: Callable[[float], float], sizes: list[float]) -> None:
    """With how far off it is, and what it is at both ends."""
    found = measured(sizes, law)
    assert not found.fits
    assert found.exponent is not None
    assert found.residual is not None
    assert found.residual > 0.05
    assert found.sentence().startswith("no power law fits: times are up to ")
    assert "between the smallest two values" in found.sentence()


def test_the_ends_show_the_bend() -> None:
    """A fixed cost: nothing at first, and linear in the end."""
    found = measured([1.0, 10.0, 1e4, 1e5], lambda n: 1.0 + 0.01 * n)
    assert found.first == pytest.approx(0.0, abs=0.1)
    assert found.last == pytest.approx(1.0, abs=0.1)


def test_n_log_n_is_near_enough_to_a_power() -> None:
    found = measured([100.0, 1e3, 1e4, 1e5], lambda n: n * math.log(n))
    assert found.fits
    assert 1.0 < float(found) < 1.25


def test_what_does_not_grow_has_no_evidence_of_it() -> None:
    found = measured(DECADES, lambda _: 1e-3)
    assert found.fits
    assert found.sentence().startswith("no evidence that time depends on n: n**")


def test_noise_alone_is_no_misfit() -> None:
    """Few and noisy times lie far from any law, and say nothing against it."""
    random = np.random.default_rng(3)
    fits = [growth(DECADES, [n * random.lognormal(0, 0.5, 12) for n in DECADES]).fits for _ in range(50)]
    assert np.mean(fits) > 0.7


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ([], "0 values, needs 3"),
        ([5.0], "1 value, needs 3"),
        ([10.0, 1000.0], "2 values, needs 3"),
        ([10.0, 20.0, 30.0], "its values are within a factor of 3, needs 4"),
        ([0.0, -1.0, math.nan, math.inf, 3.0], "1 value, needs 3 (without 4 points: no positive n, or no time)"),
    ],
)
def test_where_there_is_none_the_reason_is_said(sizes: list[float], reason: str) -> None:
    found = growth(sizes, [[1.0, 2.0]] * len(sizes), name="n")
    assert (found.exponent, found.fits) == (None, False)
    assert math.isnan(float(found))
    assert found.sentence() == f"no power of n: {reason}"


def test_points_without_a_time_are_left_out() -> None:
    found = growth([10.0, 100.0, 1000.0, 5.0], [[1.0], [10.0], [100.0], []], name="n")
    assert (found.values, found.left_out) == (3, 1)
    assert float(found) == pytest.approx(1.0)
    assert "without 1 point: no positive n, or no time" in found.sentence()


class TestGroups:
    """Points that differ in something else, too."""

    def test_each_group_has_a_factor_of_its_own(self) -> None:
        sizes, groups = DECADES * 2, ["quick"] * 4 + ["slow"] * 4
        times = [[n**2 * (1.0 if group == "quick" else 50.0)] * 9 for n, group in zip(sizes, groups, strict=True)]
        assert growth(sizes, times, groups, name="n").sentence().startswith("time grows as n**2 [")
        assert not growth(sizes, times, name="n").fits

    def test_groups_that_grow_differently_share_no_power(self) -> None:
        sizes, groups = DECADES * 2, ["linear"] * 4 + ["quadratic"] * 4
        times = [[n if group == "linear" else n**2] * 9 for n, group in zip(sizes, groups, strict=True)]
        assert not growth(sizes, times, groups, name="n").fits

    def test_a_size_that_never_varies_within_a_group_says_nothing(self) -> None:
        found = growth([1.0, 10.0, 100.0], [[1.0], [2.0], [3.0]], ["a", "b", "c"], name="n")
        assert found.sentence() == "no power of n: 3 points that differ in more than n are too few"
