"""Where a series changes its level or its spread: the best segmentation under a penalty for each change."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OptionError
from .sample import finite, quantiles

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Positions = NDArray[np.intp]

__all__ = ["Segment", "change_penalty", "change_points", "clip_outliers", "segments"]

_GRID = 300  # places at which a change is looked for at first; then its neighbourhood is searched
_SHORTEST = 3  # values in a segment: two have hardly a variance
_PENALTY = 1.25  # tuned with the fence, see tests/stress/test_steady_series.py
_RESOLUTION = 0.002  # of the median: what lies closer together is the same value, as quantised times are
_FARTHEST = 5e5  # resolutions from the median: beyond it squares would cost the small values their digits
_TINY = 1e-300
_WINDOW = 200  # values that decide what is an outlier among them
_ASIDE = 0.15  # share of a window, at either end, that may be outliers: more of them are a level
_FENCE = 5.0  # ranges of the others, from the median: 10 standard deviations of a normal distribution
_QUIET = 0.02  # of the median: no smaller range is used, for quantised values may have none at all


@dataclass(frozen=True)
class Segment:
    """values[start:stop] between two changes; mean and variance are those of these values."""

    start: int
    stop: int
    mean: float
    var: float

    @property
    def size(self) -> int:
        return self.stop - self.start


def segments(values: ArrayLike, points: Positions) -> tuple[Segment, ...]:
    """The series of shape (n,) cut at its change points of shape (k,): k + 1 segments."""
    series = finite(values)
    return tuple(
        Segment(start, stop, float(series[start:stop].mean()), float(series[start:stop].var()))
        for start, stop in pairwise([0, *points.tolist(), len(series)])
    )


def change_penalty(count: int) -> float:
    """What a change costs in a series of so many values: 1.25 (ln n)^2.

    A power of ln n above 1, as in the strengthened Schwarz criterion (Fryzlewicz 2014), since times are heavy-tailed
    and correlated: a penalty as small as that of BIC sees changes everywhere in them.
    """
    return _PENALTY * math.log(count) ** 2


def change_points(values: ArrayLike, *, penalty: float | None = None, resolution: float | None = None) -> Positions:
    """First index of each new segment, ascending; shape (k,). Quick: some ms for 3,000 values.

    Optimal partitioning (Jackson et al. 2005) with the normal cost for a change in mean and variance (Killick,
    Fearnhead and Eckley 2012), exact for up to 300 values. In a longer series changes are found on a grid of 300
    places, then moved to the best value nearby; of two changes within one step of the grid one is found. Noise alone
    has hardly ever one in a hundred values and more, but of series of 20 lognormal values every fifth.

    Each change costs `penalty`, `change_penalty` unless it is given. Spread below `resolution`, in the unit of the
    values, is none: 0.2 % of the median unless it is given. OptionError for a negative penalty, a resolution that is
    not positive, and as in `sample.finite`.
    """
    series = finite(values)
    count = len(series)
    if penalty is not None and not penalty >= 0.0:
        raise OptionError(f"penalty is {penalty!r}; a change cannot cost less than nothing, give a number >= 0")
    if resolution is not None and not resolution > 0.0:
        raise OptionError(f"resolution is {resolution!r}; it must be positive, in the unit of the values")
    if count < 2 * _SHORTEST:
        return np.empty(0, np.intp)
    cost = _Cost(series, resolution or _RESOLUTION * _size(series))
    price = change_penalty(count) if penalty is None else penalty
    steps = min(count, _GRID)
    grid = np.round(np.linspace(0, count, steps + 1)).astype(np.intp)
    borders = np.array([0, *_partition(cost, grid, price), count], np.intp)
    step = math.ceil(count / steps)
    if step > 1:
        borders = _pruned(cost, _refined(cost, borders, step), price)
    return borders[1:-1]


def clip_outliers(values: ArrayLike) -> Floats:
    """The series of shape (n,) with far outliers brought back to a fence around their neighbours.

    The fence is the median of a window of 200 values plus and minus five times the range from its 15th to its 85th
    percentile, and at least 10 %. Pauses that come now and then are outliers, be they rare or as many as one value in
    ten; a level that has more of the window is none. A mean of clipped values is that of what is usual, as a
    winsorised mean is.
    """
    series = finite(values)
    count = len(series)
    width = min(_WINDOW, count)
    aside = math.ceil(_ASIDE * width)
    if width <= 2 * aside:
        return series.copy()
    starts = np.append(np.arange(0, count - width, width // 4 or 1), count - width)
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(series, width)[starts], axis=1)
    middle = windows[:, width // 2]
    reach = _FENCE * np.maximum(windows[:, -1 - aside] - windows[:, aside], _QUIET * np.abs(middle))
    # each value is judged by the window in whose middle it is
    own = np.searchsorted((starts[1:] + starts[:-1] + width) / 2.0, np.arange(count))
    clipped: Floats = np.clip(series, (middle - reach)[own], (middle + reach)[own])
    return clipped


def _size(series: Floats) -> float:
    """What the values are like in size: the median of their magnitudes, or where that is 0 the largest."""
    magnitudes = np.abs(series)
    return float(quantiles(magnitudes, (0.5,))[0]) or float(magnitudes.max()) or 1.0


class _Cost:
    """n ln(variance) of any part of a series, -2 times its normal log-likelihood but for a constant."""

    def __init__(self, series: Floats, resolution: float) -> None:
        middle = float(quantiles(series, (0.5,))[0])
        with np.errstate(over="ignore"):  # infinitely far is far
            values = np.clip((series - middle) / max(resolution, _TINY), -_FARTHEST, _FARTHEST)
        self._sums = np.concatenate(([0.0], np.cumsum(values)))
        self._squares = np.concatenate(([0.0], np.cumsum(values * values)))

    def __call__(self, start: Any, stop: Any) -> Floats:
        """Of series[start:stop], element by element; infinite where that is too short."""
        size = np.maximum(stop - start, 1)
        mean = (self._sums[stop] - self._sums[start]) / size
        variance = (self._squares[stop] - self._squares[start]) / size - mean * mean
        cost = size * np.log1p(np.maximum(variance, 0.0))
        result: Floats = np.where(stop - start >= _SHORTEST, cost, np.inf)
        return result


def _partition(cost: _Cost, grid: Positions, penalty: float) -> list[int]:
    """The change points on the grid whose costs and penalties have the least sum."""
    costs = cost(grid[None, :], grid[:, None])  # [stop, start]
    least = np.full(len(grid), np.inf)
    least[0] = 0.0
    before = np.zeros(len(grid), np.intp)
    for stop in range(1, len(grid)):
        sums = least[:stop] + costs[stop, :stop]
        before[stop] = best = sums.argmin()
        least[stop] = sums[best] + penalty
    found: list[int] = []
    place = int(before[-1])
    while place > 0:
        found.append(int(grid[place]))
        place = int(before[place])
    return found[::-1]


def _refined(cost: _Cost, borders: Positions, step: int) -> Positions:
    """Each border moved to the best place between its neighbours, at most a step away."""
    moved = borders.copy()
    for index in range(1, len(moved) - 1):
        before, place, after = moved[index - 1 : index + 2]
        near = np.arange(max(before + _SHORTEST, place - step), min(after - _SHORTEST, place + step) + 1)
        moved[index] = near[np.argmin(cost(before, near) + cost(near, after))]
    return moved


def _pruned(cost: _Cost, borders: Positions, penalty: float) -> Positions:
    """Without the borders that no longer pay: of two around a change between places of the grid, one is left."""
    while len(borders) > 2:
        apart = cost(borders[:-1], borders[1:])
        gains = cost(borders[:-2], borders[2:]) - apart[:-1] - apart[1:]
        weakest = int(np.argmin(gains))
        if gains[weakest] >= penalty:
            break
        borders = np.delete(borders, weakest + 1)
    return borders
