"""stats.outliers: classed by Tukey's fences, kept, and weighed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hotlap.errors import OptionError
from hotlap.stats.outliers import classes, outliers


def test_the_classes_are_tukeys() -> None:
    """Quartiles 3 and 7, fences at -3 and 13, far ones at -9 and 19; on a fence is inside."""
    inside = [2.0, 3, 3, 3, 4, 4.5, 5, 5.5, 6, 7, 7, 7, 8]
    assert classes(inside).tolist() == [0] * 13
    values = [-9.1, -9.0, -3.1, -3.0, *inside, 13.0, 13.1, 19.0, 19.1]
    assert classes(values).tolist() == [-2, -1, -1, 0, *[0] * 13, 0, 1, 1, 2]
    found = outliers(values)
    assert (found.low_severe, found.low_mild, found.high_mild, found.high_severe) == (1, 2, 2, 1)
    assert (found.n, found.count) == (21, 6)
    assert (found.low_fence, found.high_fence) == (-3.0, 13.0)


def test_what_the_outliers_do_to_the_variance() -> None:
    """99 values of variance 1 and one 30 away: 8.91 of the variance of 9.9 are its doing, and 0 without it."""
    values = np.array([-1.0, 1.0] * 49 + [0.0, 30.0])
    found = outliers(values)
    without = values[:-1].var()
    assert found.variance_fraction == pytest.approx(1.0 - without / values.var())
    assert found.effect == "severe"
    assert found.sentence() == "1 outlier among 100 (1 %): 1 high severe; severe effect, 90 % of the variance"


@pytest.mark.parametrize(("farthest", "effect"), [(4.1, "no"), (10.0, "slight"), (25.0, "moderate"), (60.0, "severe")])
def test_the_effect_has_criterions_words(farthest: float, effect: str) -> None:
    """No below 1 % of the variance, slight below 10 %, moderate below 50 %, else severe."""
    values = np.concatenate((np.linspace(-2.0, 2.0, 1999), [farthest]))
    found = outliers(values)
    share = found.variance_fraction
    assert (found.count, found.effect) == (1, effect)
    assert (share < 0.01, share < 0.1, share < 0.5) == (effect == "no", effect in ("no", "slight"), effect != "severe")


def test_of_normal_values_few_are_outliers() -> None:
    """0.7 % lie outside (Tukey), all of them mild, with 6 % of the variance."""
    found = outliers(np.random.default_rng(0).normal(0.0, 1.0, 200_000))
    assert found.count / found.n == pytest.approx(0.00698, abs=0.0006)
    assert found.low_severe + found.high_severe <= 2
    assert found.variance_fraction == pytest.approx(0.057, abs=0.005)


def test_scattered_values_are_no_outliers() -> None:
    """Haskell's criterion gives 2 % of even spread a moderate effect; without outliers there is none."""
    found = outliers(1.0 + 0.02 * np.linspace(-1.7, 1.7, 100))
    assert (found.count, found.variance_fraction, found.effect) == (0, 0.0, "no")
    assert found.sentence() == "no outliers among 100"


def test_equal_values_and_one_other() -> None:
    """With no spread in the middle every other value is severe, and all of the variance is its."""
    found = outliers([5.0] * 9 + [5.1])
    assert (found.high_severe, found.count, found.variance_fraction, found.effect) == (1, 1, 1.0, "severe")
    assert outliers([5.0]).count == 0
    assert outliers([5.0] * 4).effect == "no"


def test_what_is_no_sample_is_refused() -> None:
    """As everywhere in stats."""
    with pytest.raises(OptionError, match="no values"):
        outliers([])
    with pytest.raises(OptionError, match=r"values\[0\] is nan"):
        classes([math.nan])
