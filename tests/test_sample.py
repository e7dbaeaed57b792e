"""stats.sample: one sample in numbers, against certified and published ones."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotlap.errors import OptionError
from hotlap.stats.sample import correct_omission, describe, quantiles, robust_std

NIST = json.loads((Path(__file__).parent / "data" / "nist.json").read_text())
numbers = st.floats(-1e300, 1e300)


def digits(value: float | None, certified: float) -> float:
    """To how many digits a value is the certified one (NIST's log relative error), 15 at most."""
    assert value is not None
    error = abs(value - certified) / abs(certified)
    return 15.0 if error == 0.0 else min(15.0, -math.log10(error))


@pytest.mark.parametrize("name", ["Lew", "Michelson"])
def test_certified_statistics_of_real_data(name: str) -> None:
    """Mean, standard deviation and lag-1 autocorrelation to 13 of the 15 digits that NIST certifies."""
    certified = NIST[name]
    ours = describe(certified["values"])
    assert digits(ours.mean, certified["mean"]) >= 14
    assert digits(ours.std, certified["std"]) >= 13
    assert digits(ours.lag1, certified["lag1"]) >= 13


# Name, values, certified mean, std, lag-1, and the digits of std that are left when the decimal fractions of the
# values are rounded to floating point: 10000000.2 - 10000000.1 is 0.0999999996.
NUM_ACC = [
    ("NumAcc1", [10000001, 10000003, 10000002], 10000002, 1.0, -0.5, 15),
    ("NumAcc2", [1.2] + [1.1, 1.3] * 500, 1.2, 0.1, -0.999, 14),
    ("NumAcc3", [1000000.2] + [1000000.1, 1000000.3] * 500, 1000000.2, 0.1, -0.999, 9),
    ("NumAcc4", [10000000.2] + [10000000.1, 10000000.3] * 500, 10000000.2, 0.1, -0.999, 8),
]


@pytest.mark.parametrize(("name", "values", "mean", "std", "lag1", "left"), NUM_ACC, ids=[row[0] for row in NUM_ACC])
def test_numerical_accuracy(name: str, values: list[float], mean: float, std: float, lag1: float, left: int) -> None:
    """NIST's NumAcc1-4 are made to break the one-pass formula: a tiny spread on a large mean."""
    ours = describe(values)
    assert digits(ours.mean, mean) == 15
    assert digits(ours.std, std) >= left
    assert digits(ours.lag1, lag1) >= left


def test_one_sample_in_numbers() -> None:
    """All of it by hand: mean 5, squares 9+1+1+1+0+0+4+16, the deviations from the median 4.5."""
    ours = describe([2, 4, 4, 4, 5, 5, 7, 9], probabilities=(0.25, 0.9))
    assert (ours.n, ours.min, ours.max, ours.mean, ours.median) == (8, 2, 9, 5, 4.5)
    assert ours.std == pytest.approx(math.sqrt(32 / 7))
    assert ours.mad == 0.5
    assert ours.quantiles == {0.25: 4.0, 0.9: 7.6}


@pytest.mark.parametrize("seed", range(3))
def test_moments_are_scipys(seed: int) -> None:
    """Skewness as scipy has it when it corrects for the bias."""
    stats = pytest.importorskip("scipy.stats")
    x = np.random.default_rng(seed).lognormal(0, 1, 57)
    assert describe(x).skewness == pytest.approx(stats.skew(x, bias=False), rel=1e-12)
    assert describe(x).mad == pytest.approx(stats.median_abs_deviation(x), rel=1e-12)


def test_what_needs_more_values_is_none() -> None:
    """One value has no spread, two no skewness, equal ones no correlation: None, not 0 and not NaN."""
    one = describe([3.0])
    assert (one.mean, one.median, one.std, one.skewness, one.lag1) == (3.0, 3.0, None, None, None)
    assert describe([1.0, 2.0]).skewness is None
    equal = describe([0.1] * 49)  # 49 * 0.1 / 49 is not 0.1 in floating point
    assert (equal.mean, equal.std, equal.mad, equal.skewness, equal.lag1) == (0.1, 0.0, 0.0, None, None)


@given(st.lists(numbers, min_size=1, max_size=30))
@example([1e300, -1e300, 1e300])
@example([5e-324, 1e-323, 0.0])
def test_no_value_is_too_large_or_too_small(values: list[float]) -> None:
    """The mean lies between the extremes and nothing overflows to infinity or NaN, over all of floating point."""
    ours = describe(values)
    assert ours.min <= ours.mean <= ours.max
    assert ours.min <= ours.median <= ours.max
    assert ours.lag1 is None or -1.0 - 1e-9 <= ours.lag1 <= 1.0 + 1e-9
    assert ours.std is None or ours.std >= 0.0


@pytest.mark.parametrize("method", ["linear", "inverted_cdf"])
@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_quantiles_are_numpys(method: str, n: int) -> None:
    """Definitions 7 and 1 of Hyndman and Fan. At 64ths, which are exact: numpy takes 0.07 * 100 for more than 7."""
    x = np.random.default_rng(n).lognormal(0, 1, n)
    wanted = np.linspace(0, 1, 65)
    assert quantiles(x, wanted, method) == pytest.approx(np.quantile(x, wanted, method=method), rel=1e-12)


def test_the_statistics_of_a_sample_do_not_import_masked_arrays() -> None:
    """np.quantile, np.median and np.unique import numpy.ma, which a process that forks meanwhile cannot bear."""
    code = """
import sys, numpy
before = "numpy.ma" in sys.modules
from hotlap.stats import bootstrap, comparison, modality, outliers, sample
x = numpy.array([1.0, 2.0, 3.0, 9.0] * 5)
sample.describe(x), outliers.outliers(x), modality.modality(x), bootstrap.interval(x), bootstrap.interval(x, "p90")
comparison.rank({"a": x, "b": x + 1.0})
assert ("numpy.ma" in sys.modules) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_coordinated_omission_as_hdrhistogram_corrects_it() -> None:
    """The case of HdrHistogram's own tests: 10,000 calls of 1 ms and one of 100 s, due every 10 ms."""
    corrected = correct_omission(np.array([1_000.0] * 10_000 + [100_000_000.0]), 10_000.0)
    assert len(corrected) == 20_000
    wanted = (0.3, 0.5, 0.75, 0.9, 0.99, 0.99999)
    published = [1_000.0, 1_000.0, 50e6, 80e6, 98e6, 100e6]
    assert quantiles(corrected, wanted, "inverted_cdf") == pytest.approx(published, rel=1e-3)
    assert quantiles(corrected, wanted[2:]) == pytest.approx(published[2:], rel=1e-3)
    # p50 falls between 1 ms and the first missing call, 10 ms: only a measured value is HdrHistogram's.
    assert quantiles(corrected, (0.5,))[0] == 5_500.0


def test_corrected_values_follow_the_measured_ones() -> None:
    """First what was measured, in its order; of 45 due every 10, three calls are missing; 19 hid none."""
    assert correct_omission([5, 45, 19, 20], 10).tolist() == [5, 45, 19, 20, 35, 25, 15, 10]
    assert correct_omission([0.3], 0.1) == pytest.approx([0.3, 0.2, 0.1])  # 0.3 / 0.1 < 3 in floating point


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "no values"),
        ([1.0, math.nan], r"values\[1\] is nan"),
        ([math.inf], r"values\[0\] is inf"),
        ([1e301], "beyond 1e"),
        ([[1.0, 2.0]], r"shape \(1, 2\)"),
        (["a"], "not numbers"),
        ([None], "not numbers|is nan"),
    ],
)
def test_what_is_no_sample_is_refused(values: list[float], message: str) -> None:
    """With the value, and what to do."""
    with pytest.raises(OptionError, match=message):
        describe(values)


def test_bad_options_are_refused() -> None:
    """A probability in percent, an unknown definition, an interval in another unit or none at all."""
    with pytest.raises(OptionError, match=r"p99 is 0\.99"):
        quantiles([1.0], (99,))
    with pytest.raises(OptionError, match="'nearest' is not known"):
        quantiles([1.0], (0.5,), "nearest")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="same unit"):
        correct_omission([100.0], 1e-9)
    for interval in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(OptionError, match="must be positive"):
            correct_omission([1.0], interval)


def test_the_robust_deviation_is_that_of_normal_values_and_blind_to_outliers() -> None:
    """As scipy has it; a third of the values may be anything."""
    stats = pytest.importorskip("scipy.stats")
    x = np.random.default_rng(0).normal(10.0, 2.0, 999)
    assert robust_std(x) == pytest.approx(stats.median_abs_deviation(x, scale="normal"), rel=1e-4)
    spoilt = np.concatenate([x, np.full(300, 1e9)])
    assert robust_std(x) == pytest.approx(2.0, rel=0.1)
    assert robust_std(spoilt) < 4.0
    assert robust_std(np.array([3.0])) == 0.0
