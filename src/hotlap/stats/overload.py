"""Overload: work that arrives faster than it gets done, so that a backlog grows for as long as it arrives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OptionError
from .distributions import student_cdf
from .sample import finite

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["Overload", "overload"]

_PARTS = 20  # of the run: delays of single calls resemble their neighbours' too much
_FEWEST = 8
_CHANCE = 0.001  # of a backlog that grows as steadily though the capacity is as large as the load
_SHORT = 0.02  # of the rate: what gets done may be that much less, which takes long to be felt
_LONGER = 2.0  # times that the delay grows at least: a run that is too short for that has not shown a queue


@dataclass(frozen=True, slots=True)
class Overload:
    """What arrived and what got done, in calls per second; delays are from arrival to end, in seconds."""

    asked: float
    got: float  # that ended per second, failed or not: the capacity, if calls waited from the start
    first_s: float  # mean delay in the first part of the run, of 20
    last_s: float  # and in the last one
    p: float  # the chance of such growth at the most that is no overload


def overload(due_s: ArrayLike, end_s: ArrayLike, rate: float) -> Overload | None:
    """Whether calls that were due at these times, and ended at those, were more than could be done; shape (n,) each,
    row by row or not. `rate` is what was to arrive per second.

    Delay is the distance of the cumulative curves of arrivals and of ends (Newell, 1971): of the k-th call that was due
    and the k-th that ended, whichever that was. Where the load is no more than the capacity, delays come and go; at
    the same as the capacity they are a random walk that cannot go below zero (Kingman, 1961). So growth from part to
    part is tested against its own spread by Student's t. None unless it is shown at 0.1 %, the ends fall behind the
    rate by 2 %, and the delay has doubled; and for fewer than 8 calls.

    Simulated queues with Poisson arrivals at 95 % of their capacity are called overloaded in fewer than 1 of 100 runs,
    at 150 % in nearly all of 400 calls or more; see tests/test_overload.py. OptionError as in `sample.finite`, for a
    rate that is not positive, and for columns of different length.
    """
    if not 0.0 < rate < math.inf:
        raise OptionError(f"the rate is {rate!r}; give calls per second, more than 0")
    if np.size(due_s) == 0 == np.size(end_s):
        return None
    due, ends = np.sort(finite(due_s, "due_s")), np.sort(finite(end_s, "end_s"))
    if len(due) != len(ends):
        raise OptionError(f"{len(due)} calls were due and {len(ends)} ended: give both times of each call")
    parts = min(_PARTS, len(due))
    if parts < _FEWEST:
        return None
    borders = np.arange(parts + 1) * len(due) // parts
    arrived, ended = (np.add.reduceat(times, borders[:-1]) / np.diff(borders) for times in (due, ends))
    delays = ended - arrived
    first, last = float(delays[0]), float(delays[-1])
    calls = (borders[-1] + borders[-2] - borders[1]) / 2.0  # between the middles of the first part and of the last
    got = float(calls / (ended[-1] - ended[0])) if ended[-1] > ended[0] else math.inf
    if got >= (1.0 - _SHORT) * rate or last < _LONGER * first:
        return None
    p = _chance(np.diff(delays))
    return Overload(rate, got, first, last, p) if p <= _CHANCE else None


def _chance(steps: Floats) -> float:
    """One-sided, of a mean as far above zero."""
    mean, error = float(steps.mean()), float(steps.std(ddof=1)) / math.sqrt(len(steps))
    if error <= 1e-9 * abs(mean):  # nothing varies, but for rounding
        return 0.0 if mean > 0.0 else 1.0
    return 1.0 - student_cdf(mean / error, len(steps) - 1)
