"""Whether a level that is read after each block of calls goes up with the calls, and on to the end.

A level is what is in use: bytes, or blocks of memory. A leak adds to it for as long as calls are made; a cache adds to
it until it is full; and many programs add nothing, or add and take away.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

import numpy as np

from .relation import rank_correlation
from .sample import quantiles, robust_std

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["FILLING", "LEAK", "LEAST_BLOCKS", "NONE", "NOT_JUDGED", "PLATEAU", "Growth", "growth"]

LEAK = "leak"  # it goes up steadily, to the end
FILLING = "cache filling"  # it goes up, more and more slowly
PLATEAU = "plateau"  # it went up, and does no more
NONE = "none"
NOT_JUDGED = "not judged"

LEAST_BLOCKS = 12
_HEAD = 1 / 3  # of the blocks: what is made once is made in the first calls
_LEAST = 32  # quanta: what keeps less in all may be chance, or ours
_OUTLIER = 5.0  # standard deviations
_SLOWING = 0.02  # two-sided p value
_SLOWED = 0.8  # of the growth at first
_ENDS = 0.25  # of the mean growth, which there must be at the end
_SETTLED = 0.95  # of the whole growth
_DRAWS = 8_000
_SEEN = 1.8  # times half the interval: a growth of that size is seen in four of five series or more


@dataclass(frozen=True, slots=True)
class Growth:
    """What a series of levels shows. The unit is that of the levels; NaN where nothing is judged."""

    kind: str  # LEAK, FILLING, PLATEAU, NONE or NOT_JUDGED
    reason: str  # for NOT_JUDGED: why
    per_call: float  # growth in the judged blocks, with its interval
    low: float
    high: float
    at_end: float  # growth per call in the last third of the judged blocks
    detectable: float  # growth per call that would have been seen in four of five such series, or more
    grown: float  # from the first level to the last ones
    settled_after_calls: int  # when 95 % of that was there
    blocks: int  # that were judged: the last ones
    calls: int  # in them


def growth(
    levels: ArrayLike,
    calls: int,
    *,
    quantum: float = 32.0,
    least: float = 1024.0,
    confidence: float = 0.95,
    seed: int = 0,
) -> Growth:
    """Judge levels of shape (blocks + 1,): one before the first block, then one after each, of `calls` calls.

    `quantum` is the least that can be kept at once (for bytes: a small object), `least` the growth that a plateau must
    show to be spoken of. The first third of the blocks is taken for warm-up. What grows in the others is a leak when
    the interval of the growth per call lies above that of 32 quanta in all of them, without its outliers or with them,
    the growth does not become slower (Spearman's rank correlation of the growth with the order of the blocks), and
    there is some at the end.
    """
    read = np.asarray(levels, np.float64)
    count = len(read) - 1
    head = int(count * _HEAD)
    if count < LEAST_BLOCKS:
        why = f"{max(count, 0)} blocks of calls, needs {LEAST_BLOCKS}"
        return Growth(NOT_JUDGED, why, nan, nan, nan, nan, nan, nan, 0, 0, 0)
    steps = np.diff(read)[head:] / calls
    judged = len(steps)
    # Outliers on the upper side alone: a table that is doubled now and then must not hide that each call adds to it,
    # while the one big release of a buffer that is flushed must be seen.
    usual = np.minimum(steps, _upper(steps))
    drift, steady = _drift(steps, confidence, seed), _drift(usual, confidence, seed)
    low = max(drift.low, steady.low)
    floor = _LEAST * quantum / (judged * calls)
    told = usual if steady.low > 0.0 else steps  # by which it is told how the growth goes on
    at_end = float(told[-(judged // 3) :].mean())

    ending = read[-max(count // 3, 4) :]
    half = len(ending) // 2
    end = float(np.median(ending))
    noise = robust_std(ending)
    moves = abs(float(np.median(ending[-half:])) - float(np.median(ending[:half])))
    grown = end - float(read[0])
    settled = int(np.argmax(read >= read[0] + _SETTLED * grown)) * calls if grown > 0 else 0

    reason = ""
    if low > floor and at_end > _ENDS * float(told.mean()):
        kind = FILLING if _slowing(told) else LEAK
    elif grown <= max(least, _OUTLIER * noise):
        kind = NONE
    elif moves <= max((1.0 - _SETTLED) * grown, 2.0 * noise / half**0.5):
        kind = PLATEAU
    else:
        kind = NOT_JUDGED
        reason = "it has grown by fits and starts: growth that goes on cannot be told from what is made once"
    return Growth(
        kind=kind,
        reason=reason,
        per_call=drift.middle,
        low=min(low, drift.middle),
        high=max(drift.high, steady.middle),
        at_end=at_end,
        detectable=max(0.5 * _SEEN * (drift.high - drift.low), floor),
        grown=grown,
        settled_after_calls=settled,
        blocks=judged,
        calls=judged * calls,
    )


def _upper(steps: Floats) -> float:
    """The largest step that is no outlier."""
    return float(np.median(steps)) + _OUTLIER * robust_std(steps)


def _slowing(steps: Floats) -> bool:
    """Whether the steps become smaller: for certain, and by an amount that matters."""
    related = rank_correlation(np.arange(len(steps)), steps)
    if related is None or related[0] >= 0.0 or related[1] >= _SLOWING:
        return False
    third = len(steps) // 3
    return float(steps[-third:].mean()) < _SLOWED * float(steps[:third].mean())


@dataclass(frozen=True, slots=True)
class _Drift:
    low: float
    middle: float
    high: float


# Share of the steps' variance that is theirs, and not the levels': how likely each is before anything is seen.
_SHARES = np.concatenate(([0.0], np.linspace(0.02, 0.98, 49), [1.0]))
_PRIOR = np.concatenate(([0.2], np.full(49, 0.3 / 49), [0.5]))


def _drift(steps: Floats, confidence: float, seed: int) -> _Drift:
    """The mean step of a local level model with drift (Harvey 1989, 2.3.6), with an interval.

    Two things make steps differ: that a level is what it is by chance, which the next step takes back, and that calls
    keep more or less by chance, which stays. What share each has is not known; it is averaged over, with the restricted
    likelihood as weight. For the first alone this is the slope of a straight line through the levels, for the second
    Student's interval of the mean.
    """
    count = len(steps)
    if float(np.ptp(steps)) == 0.0:
        return _Drift(float(steps[0]), float(steps[0]), float(steps[0]))
    # The covariance is tridiagonal with equal diagonals: its eigenvectors are sines, whatever the share.
    order = np.arange(1, count + 1)
    turn = np.sqrt(2.0 / (count + 1)) * np.sin(np.outer(order, order) * np.pi / (count + 1))
    shares = _SHARES[:, None]
    variances = (1.0 - shares) * (1.0 - np.cos(order * np.pi / (count + 1))) + shares
    scale = float(np.abs(steps).max())
    seen, ones = turn @ (steps / scale), turn.sum(axis=1)
    information = (ones**2 / variances).sum(axis=1)
    means = (ones * seen / variances).sum(axis=1) / information
    residual = ((seen - means[:, None] * ones) ** 2 / variances).sum(axis=1) / (count - 1)
    likelihood = np.log(_PRIOR) - 0.5 * (
        (count - 1) * np.log(residual) + np.log(variances).sum(axis=1) + np.log(information)
    )
    weights = np.exp(likelihood - likelihood.max())
    random = np.random.default_rng(seed)
    model = random.choice(len(weights), _DRAWS, p=weights / weights.sum())
    draws = means[model] + np.sqrt(residual / information)[model] * random.standard_t(count - 1, _DRAWS)
    tail = (1.0 - confidence) / 2.0
    low, middle, high = (scale * quantiles(draws, (tail, 0.5, 1.0 - tail))).tolist()
    return _Drift(low, middle, high)
