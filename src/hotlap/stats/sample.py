"""What one sample of times looks like: its moments and quantiles, and the times that a stall hid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "PROBABILITIES",
    "Description",
    "correct_omission",
    "describe",
    "finite",
    "fraction",
    "quantiles",
    "robust_std",
]

PROBABILITIES = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_LARGEST = 1e300  # differences and sums of a few such values still are numbers
_MOST_ADDED = 50_000_000  # values that a correction may add: 400 MB of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """One sample in numbers, in the unit of its values; None where a number needs more or other values."""

    n: int
    mean: float
    std: float | None  # of the sample, divided by n - 1; None for one value
    min: float
    max: float
    median: float
    quantiles: Mapping[float, float]  # probability -> value
    mad: float  # median absolute deviation from the median, not scaled
    skewness: float | None  # adjusted Fisher-Pearson G1, without unit; None below three values or no spread
    lag1: float | None  # autocorrelation of neighbours, -1 .. 1; None without spread


def finite(values: ArrayLike, what: str = "values") -> Floats:
    """`values` as float64 of shape (n,), n >= 1. OptionError for other shapes, no values, NaN, infinity."""
    try:
        array: Floats = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{what}: not numbers ({error}); give one for each measurement") from None
    if array.ndim != 1:
        raise OptionError(f"{what}: an array of shape {array.shape}; give one dimension, a number for each measurement")
    if len(array) == 0:
        raise OptionError(f"{what}: no values; at least one is needed")
    bad = np.flatnonzero(~(np.abs(array) <= _LARGEST))
    if len(bad):
        raise OptionError(
            f"{what}[{bad[0]}] is {array[bad[0]]}, and {len(bad)} in all are not finite or beyond {_LARGEST:g}; "
            "leave failed measurements out"
        )
    return array


def fraction(value: float, what: str) -> float:
    """`value`, which lies between 0 and 1, both excluded; OptionError otherwise."""
    if not 0.0 < value < 1.0:
        raise OptionError(f"{what} is {value!r}; it must lie between 0 and 1, for instance 0.95")
    return float(value)


def describe(
    values: ArrayLike,
    probabilities: Sequence[float] = PROBABILITIES,
    method: Literal["linear", "inverted_cdf"] = "linear",
) -> Description:
    """The sample in numbers, as exact as its values are: shape (n,), in the order in which they were measured.

    Sums are rounded once (Shewchuk, 1997) and deviations are taken from the mean, with what the rounding of the
    mean leaves corrected (Chan, Golub and LeVeque, 1983): a large mean costs no digits of a small spread.
    Skewness is G1 of Joanes and Gill (1998), quantiles see `quantiles`. OptionError as in `finite`.
    """
    x = finite(values)
    n = len(x)
    low, high = float(x.min()), float(x.max())
    # Powers of two scale without rounding, and keep the squares of very large and very small values in range.
    exponent = math.frexp(max(abs(low), abs(high)))[1]
    mean = math.ldexp(math.fsum(np.ldexp(x, -exponent).tolist()) / n, exponent)
    mean = min(max(mean, low), high)
    deviations = np.ldexp(x, -exponent) - math.ldexp(mean, -exponent)
    spread = math.frexp(float(np.abs(deviations).max()))[1]
    deviations = np.ldexp(deviations, -spread)
    squares = math.fsum((deviations**2).tolist()) - math.fsum(deviations.tolist()) ** 2 / n
    std = skewness = lag1 = None
    if n > 1:
        std = math.ldexp(math.sqrt(squares / (n - 1)), exponent + spread)
    if squares > 0.0:
        lag1 = math.fsum((deviations[1:] * deviations[:-1]).tolist()) / squares
        if n > 2:
            cubes = math.fsum((deviations**3).tolist()) / n
            skewness = cubes / (squares / n) ** 1.5 * math.sqrt(n * (n - 1.0)) / (n - 2.0)
    ordered = np.sort(x)
    middle = float(_at(ordered, (0.5,), method)[0])
    return Description(
        n=n,
        mean=mean,
        std=std,
        min=low,
        max=high,
        median=middle,
        quantiles=dict(zip(map(float, probabilities), _at(ordered, probabilities, method).tolist(), strict=True)),
        mad=float(_at(np.sort(np.abs(x - middle)), (0.5,), method)[0]),
        skewness=skewness,
        lag1=lag1,
    )


def quantiles(
    values: ArrayLike,
    probabilities: Sequence[float],
    method: Literal["linear", "inverted_cdf"] = "linear",
) -> Floats:
    """The quantiles of `values` (n,) at `probabilities` (k,): shape (k,), in the unit of the values.

    "linear" is definition 7 of Hyndman and Fan (1996), what numpy and R give unasked. "inverted_cdf" is their
    definition 1, the value of rank ceil(p*n), always a value that was measured: what the recorder's histograms
    and HdrHistogram give. OptionError for a probability outside 0 .. 1, another method, and as in `finite`.

    Not np.quantile: that imports numpy.ma (see `distinct`).
    """
    return _at(np.sort(finite(values)), probabilities, method)


def robust_std(values: Floats) -> float:
    """The median absolute deviation of values (n,), n >= 1, as the standard deviation of a normal distribution with it:
    times 1.4826 (Hampel, 1974). Up to half of the values may be anything.
    """
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _at(ordered: Floats, probabilities: Sequence[float], method: str) -> Floats:
    wanted: Floats = np.asarray(probabilities, np.float64)
    for probability in wanted[~((wanted >= 0.0) & (wanted <= 1.0))]:
        raise OptionError(f"the probability {probability} is outside 0 .. 1; p99 is 0.99")
    if method == "inverted_cdf":
        # The product is rounded before ceil: 0.99 * 100 is 99.00000000000001 in floating point.
        ranks = np.ceil(np.round(wanted * len(ordered), 9)).clip(1, len(ordered)).astype(np.intp)
        return ordered[ranks - 1]
    if method != "linear":
        raise OptionError(f"the quantile method {method!r} is not known; use 'linear' or 'inverted_cdf'")
    position = wanted * (len(ordered) - 1)
    below = np.floor(position).astype(np.intp)
    above = np.minimum(below + 1, len(ordered) - 1)
    part = position - below
    result: Floats = ordered[below] * (1.0 - part) + ordered[above] * part
    return result.clip(ordered[below], ordered[above])  # rounding must not leave the two neighbours


def correct_omission(values: ArrayLike, interval: float) -> Floats:
    """`values` (n,) followed by those that calls at a steady `interval` would have measured during the slow ones.

    A call that took longer than the interval between calls kept the next ones from starting: each of them would
    have waited, too, and is missing. For each value v > interval this adds v - interval, v - 2*interval, ... as
    long as they are >= interval: HdrHistogram's correction for coordinated omission (Tene, 2013). Shape (m,) with
    m >= n, in the unit of both. An open load that measures from the intended start needs no correction.

    OptionError for an interval that is not positive, or so short that more than 50 million values would be added.
    """
    x = finite(values)
    if not 0.0 < interval < math.inf:
        raise OptionError(f"the interval is {interval!r}; it must be positive, in the unit of the values")
    # A hair more than the quotient: 0.3 / 0.1 is 2.9999999999999996 in floating point.
    missing = np.maximum(np.floor(x / interval * (1.0 + 1e-12)) - 1.0, 0.0)
    total = float(missing.sum())
    if total > _MOST_ADDED:
        raise OptionError(
            f"an interval of {interval!r} would add {total:.3g} values, more than {_MOST_ADDED:,}: "
            f"the longest value is {x.max()!r}; check that both have the same unit"
        )
    counts: NDArray[Any] = missing.astype(np.intp)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    return np.concatenate((x, np.repeat(x, counts) - number * interval))
