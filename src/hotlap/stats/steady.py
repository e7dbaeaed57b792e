"""From which iteration on a benchmark's times are steady, if they ever are.

A steady state is what a series ends in: its last segment between change points, and all segments right before it whose
mean is not shown to differ from the last one's by more than a tolerance (Barrett et al. 2017; Traini et al. 2023). It
has to have lasted, must not drift, and must not be one of several levels that come and go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OptionError
from .changepoint import Segment, change_penalty, change_points, clip_outliers, segments
from .distributions import student_quantile
from .sample import finite, fraction, quantiles

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Positions = NDArray[np.intp]

__all__ = ["LEAST", "Steady", "steady_state"]

LEAST = 20  # iterations: in fewer of them warm-up and chance look alike
_RESOLUTION = 0.002  # of a time: what lies closer together is the same
_LEVEL = 0.05  # at which a difference is shown
_MANY = 200  # degrees of freedom: more of them make no difference
_CENTRAL = 0.95  # share of the steady values among which the first one has to be
_HALF = 0.5  # the last part of the series: where it drifts, it has no steady state, whatever its end looks like
_SLOPE = 0.5  # what a slope costs, where a change costs 1
_FADED = 0.25  # of the mean slope, at the end: what is slower is about to stop
_NOTHING = 1e-30  # of the longest time
_RETURNS = 2  # times that a level was left, and come back to, before it is one of several
_AWAY = 0.2  # share of the time since the level was first seen: less than that are disturbances


@dataclass(frozen=True)
class Steady:
    """The verdict on a series; `segments` are of the times with isolated outliers clipped."""

    reached: bool
    start: int | None  # the first steady iteration, from 0; None if there is none
    segments: tuple[Segment, ...]
    reason: str  # one sentence


def steady_state(times: ArrayLike, *, tolerance: float = 0.05, tail: float = 1 / 6) -> Steady:
    """Whether and from where on the iteration times of shape (n,), in any unit, are steady.

    "Not reached" is said of a series that is too short (fewer than 20), that drifts by more than `tolerance` (a
    fraction of its level) over its second half or longer, whose level changed by more than that so late that less than
    `tail` (a fraction of the series) is left, or that switches between levels. Pauses now and then are part of a steady
    state. Nothing is said about changes yet to come: who asks while the series still grows should ask for a tail of a
    half or more. What to expect was measured on 3,860 public series of 3,000 iterations, see
    tests/stress/test_steady_series.py. OptionError for times that are negative or as in `sample.finite`, and for
    fractions outside 0 .. 1.
    """
    tolerance, tail = fraction(tolerance, "tolerance"), fraction(tail, "tail")
    series = _times(times)
    count = len(series)
    if count < LEAST:
        return Steady(False, None, (), f"Too few iterations to tell a steady state: {count}, and {LEAST} are needed.")
    unit = float(series.max()) or 1.0  # a verdict has no unit, and squares of ratios stay in range
    clipped = clip_outliers(np.where(series < _NOTHING * unit, 0.0, series / unit))
    levels = _logarithms(clipped)
    points = change_points(levels, resolution=_RESOLUTION)
    parts = segments(clipped, points)
    last = parts[-1]
    same = [_same(part, last, tolerance) for part in parts]
    first = len(parts) - 1
    while first > 0 and same[first - 1]:
        first -= 1
    start = _first_within(clipped, parts[first].start)
    left = count - start
    shown = tuple(Segment(one.start, one.stop, one.mean * unit, one.var * unit * unit) for one in parts)

    def never(why: str) -> Steady:
        return Steady(False, None, shown, f"Did not reach a steady state: {why}.")

    begin = min(start, int(_HALF * count))
    drift = math.expm1(_drift(levels, points, begin))
    if abs(drift) > tolerance:
        return never(f"the times drift, by {drift:+.1%} over the last {count - begin} iterations")
    if left < tail * count:
        before = parts[first - 1].mean
        change = f" by {last.mean / before - 1.0:+.1%}" if first and before else ""
        return never(f"the level changed{change} at iteration {start}, and only {left} of {count} are left")
    visits, away = _visits(parts[:first], same)
    if len(visits) >= _RETURNS and away >= _AWAY and left < max(visits):
        return never(f"the times switch between levels, and left the last one {len(visits)} times before")
    return Steady(True, start, shown, f"Steady from iteration {start} on, for {left} of {count} iterations.")


def _times(times: ArrayLike) -> Floats:
    if np.size(times) == 0:
        return np.empty(0)
    series = finite(times, "times")
    negative = np.flatnonzero(series < 0.0)
    if len(negative):
        raise OptionError(f"times[{negative[0]}] is {series[negative[0]]}: a time cannot be negative")
    return series


def _logarithms(series: Floats) -> Floats:
    """Of times up to 1: their noise is multiplicative and skewed, which logarithms mend. 0 is taken for very little."""
    little = max(1e-6 * float(quantiles(series, (0.5,))[0]), 1e-12)
    result: Floats = np.log(np.maximum(series, little))
    return result


def _same(one: Segment, last: Segment, tolerance: float) -> bool:
    """The ratio of the means is not shown to be further from 1 than the tolerance (delta method, Welch's test).

    The first segment has to be shown nothing of: warm-up is to be expected there, and often short.
    """
    if one.mean == 0.0 or last.mean == 0.0:
        return one.mean == last.mean
    ratio = last.mean / one.mean
    beyond = abs(ratio - 1.0) - tolerance
    if beyond <= 0.0 or one.start == 0:
        return beyond <= 0.0
    errors = [ratio**2 * part.var / part.mean**2 / (part.size - 1) for part in (one, last)]
    total = sum(errors)
    if total == 0.0:
        return False
    freedom = total**2 / sum(error**2 / (part.size - 1) for error, part in zip(errors, (one, last), strict=True))
    # Rounded down, so that few quantiles have to be computed.
    quantile = student_quantile(1.0 - _LEVEL / 2.0, float(min(max(1, int(freedom)), _MANY)))
    return beyond <= quantile * math.sqrt(total)


def _first_within(series: Floats, start: int) -> int:
    """The first iteration from `start` on that lies in the central range of those that follow.

    What is left of the warm-up when it is too short to be a segment.
    """
    part = series[start:]
    ordered = np.sort(part)
    aside = max(1, int(len(part) * (1.0 - _CENTRAL) / 2.0))
    return start + int(((part >= ordered[aside]) & (part <= ordered[-1 - aside])).argmax())


def _drift(levels: Floats, points: Positions, begin: int) -> float:
    """By how much the logarithms of times rise or fall from `begin` to the end; 0.0 unless a curve shows it.

    It has to explain them better than constant levels between the change points, into which a drift is cut, too, but
    into many: compared by the cost of the residuals and a penalty for what is fitted. And the curve, a parabola, has
    to be on its way still at the end: one that flattens is a warm-up that fades.
    """
    part = levels[begin:]
    count = len(part)
    x = np.arange(count) - (count - 1) / 2.0
    square = x * x - (x @ x) / count
    slope, bend = float(x @ part) / float(x @ x), float(square @ part) / float(square @ square)
    if (slope + bend * (count - 1)) / (slope or 1.0) < _FADED:
        return 0.0
    steps = points[points > begin]
    borders = pairwise([begin, *steps.tolist(), len(levels)])
    by_levels = sum(float(levels[i:j].var()) * (j - i) for i, j in borders) / count
    by_curve = float(np.var(part - slope * x - bend * square))
    gain = count * math.log((by_levels + _RESOLUTION**2) / (by_curve + _RESOLUTION**2))
    return slope * count if gain > (1 - len(steps) if len(steps) else _SLOPE) * change_penalty(len(levels)) else 0.0


def _visits(parts: tuple[Segment, ...], same: list[bool]) -> tuple[list[int], float]:
    """How long each earlier visit to the last level was, and for what share of the time since it was away."""
    visits: list[int] = []
    away = 0
    inside = False
    for part, here in zip(parts, same, strict=False):
        if here and inside:
            visits[-1] += part.size
        elif here:
            visits.append(part.size)
        elif visits:
            away += part.size
        inside = here
    return visits, away / max(1, away + sum(visits))
