"""Growth: whether time goes with a power of a size, and with which."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .bootstrap import interval
from .distributions import student_quantile
from .relation import LEAST_FACTOR, distinct, slope
from .sample import quantiles

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["Growth", "growth"]

_FEWEST_VALUES = 3  # any two lie on a power law
_CONDITIONS = 0.05  # no two points are measured under the same conditions: what is this near needs no explanation
_MISFIT = 0.1  # a law that is this far off describes nothing
_EXPLAINED = 0.95  # of the variance of log time, by a law that is worth its name


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What times measured at several sizes say of time ~ size**exponent; see `growth`.

    name       of the size
    values     distinct sizes that were measured
    exponent   the power by least squares; None where there is none: `reason` says why
    low, high  its confidence interval at `level`; None without an exponent
    level      of the interval, a fraction
    residual   largest distance of a median time from the law, as a fraction of the law's time
    r2         fraction of the variance of log time that the law explains
    first      exponent between the smallest two sizes alone, and
    last       between the largest two: far apart where it is no power law
    fits       whether a power law describes the times; the exponent of one that does not is no complexity
    left_out   points that have no positive size, or no positive time
    reason     why there is no exponent, else empty
    """

    name: str
    values: int
    exponent: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    residual: float | None = None
    r2: float | None = None
    first: float | None = None
    last: float | None = None
    fits: bool = False
    left_out: int = 0
    reason: str = ""

    def __float__(self) -> float:
        """The exponent, whether it fits or not; NaN where there is none."""
        return math.nan if self.exponent is None else self.exponent

    def sentence(self) -> str:
        """The power with its interval, or how far off a power law is, or why there is none."""
        points = "1 point" if self.left_out == 1 else f"{self.left_out} points"
        without = f" (without {points}: no positive {self.name}, or no time)" if self.left_out else ""
        return self._said() + without

    def _said(self) -> str:
        name = self.name
        if self.exponent is None or self.low is None or self.high is None:
            return f"no power of {name}: {self.reason}"
        power = f"{name}**{self.exponent:.3g}"
        if not self.fits:
            return (
                f"no power law fits: times are up to {_percent(self.residual or 0.0)} off {power} (it is "
                f"{name}**{self.first:.2g} between the smallest two values, {name}**{self.last:.2g} between the "
                "largest two)"
            )
        around = f"{power} [{self.low:.3g}, {self.high:.3g}]"
        if self.low <= 0.0 <= self.high:
            return f"no evidence that time depends on {name}: {around}"
        return f"time {'grows' if self.exponent > 0.0 else 'falls'} as {around}"


def growth(
    sizes: Sequence[float],
    times: Sequence[ArrayLike],
    groups: Sequence[Hashable] | None = None,
    *,
    name: str = "size",
    level: float = 0.95,
) -> Growth:
    """The power law through the median times of n points: at each a size, and a sample of times in any unit.

    Points of one group differ in size alone. Each group has a factor of its own, and all share the exponent: that of
    least squares on the logarithms, within groups. Its interval is Student's t from the scatter of the points around
    the law, which covers what differs from point to point, and no number of iterations at one of them shows.

    The law fits when each of its times lies in the interval of that point's median, or within 5 % of it; or when all
    lie within 10 % and it explains 95 % of the variance of log time. So n log n is a power of n where many values
    are far from 1; a fixed cost beside a small growing one, a step, and 2**n are not.

    Points without a positive size, or without positive times, are left out. No exponent below 3 distinct sizes, or
    with sizes within a factor of 4. OptionError as in `interval`.
    """
    named = list(groups) if groups is not None else [None] * len(sizes)
    number = {group: at for at, group in enumerate(dict.fromkeys(named))}
    points = [
        (math.log(size), number[group], *_median(positive, level))
        for size, sample, group in zip(sizes, times, named, strict=True)
        if 0.0 < size < math.inf and len(positive := _positive(sample))
    ]
    x, group_of, y, low, high = np.array(points, np.float64).reshape(-1, 5).T
    values, where, _ = distinct(x)
    none = Growth(name=name, values=len(values), level=level, left_out=len(sizes) - len(points))
    if len(values) < _FEWEST_VALUES:
        return replace(none, reason=f"{len(values)} value{'s' if len(values) != 1 else ''}, needs {_FEWEST_VALUES}")
    if values[-1] - values[0] < math.log(LEAST_FACTOR) - 1e-9:
        factor = math.exp(values[-1] - values[0])
        return replace(none, reason=f"its values are within a factor of {factor:.2g}, needs {LEAST_FACTOR:g}")
    _, group, counts = distinct(group_of)
    x = x - (np.bincount(group, x) / counts)[group]
    centred = y - (np.bincount(group, y) / counts)[group]
    freedom = len(x) - len(counts) - 1
    spread = float(x @ x)
    if freedom < 1 or spread == 0.0:
        return replace(none, reason=f"{len(x)} points that differ in more than {name} are too few")
    exponent = slope(x, centred)
    off = centred - exponent * x  # log(median / law)
    squares, total = float(off @ off), float(centred @ centred)
    width = student_quantile(0.5 + level / 2.0, freedom) * math.sqrt(squares / freedom / spread)
    r2 = 1.0 - squares / total if total > 0.0 else 1.0
    distance = np.abs(np.expm1(off))
    law = y - off
    plausible = (distance <= _CONDITIONS) | ((low <= law) & (law <= high))
    close = plausible | (distance <= _MISFIT)
    bend = np.bincount(where, off) / np.bincount(where)  # of the curve from the law, at each size
    first, last = (exponent + float((bend[b] - bend[a]) / (values[b] - values[a])) for a, b in ((0, 1), (-2, -1)))
    return replace(
        none,
        exponent=exponent,
        low=exponent - width,
        high=exponent + width,
        residual=float(distance.max()),
        r2=r2,
        first=first,
        last=last,
        fits=bool(plausible.all() or (close.all() and r2 >= _EXPLAINED)),
    )


def _percent(fraction: float) -> str:
    return f"{100.0 * fraction:,.0f} %" if fraction >= 0.1 else f"{100.0 * fraction:.2g} %"


def _positive(times: ArrayLike) -> Floats:
    sample = np.asarray(times, np.float64).ravel()
    return sample[np.isfinite(sample) & (sample > 0.0)]


def _median(times: Floats, level: float) -> tuple[float, float, float]:
    """Logarithms of the median and of the ends of its interval: of all times where they are too few for one."""
    found = interval(times, "median", level)
    low, high = (float(times.min()), float(times.max())) if found is None else (found.low, found.high)
    return math.log(float(quantiles(times, (0.5,))[0])), math.log(low), math.log(high)
