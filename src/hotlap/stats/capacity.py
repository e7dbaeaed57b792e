"""Capacity: what so many users get done at once, and where more of them stop helping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OptionError
from .bootstrap import interval
from .sample import finite

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "FITS",
    "Capacity",
    "Scaling",
    "Throughput",
    "capacity",
    "chance_of_excess",
    "fairness",
    "scaling",
    "throughput",
]

_STRAIGHT = 0.8  # of the users at work for the highest throughput: from here on it has not bent yet
_FEWEST_LEVELS = 4  # three parameters fit three levels whatever they are
FITS = 0.1  # largest relative deviation of a law that describes the levels
_RESAMPLES = 999
_FALLEN = 0.95  # of the highest throughput: a smaller loss is not worth a word
_MISFIT = 0.02  # no law is truer than that: however small its error, a level does not outweigh the others
_WIDTH = 4.0  # standard errors in an interval, near enough for weights
_STEPS = 200


@dataclass(frozen=True, slots=True)
class Throughput:
    """Successful calls per second. None where there are too few calls to tell; `note` says so."""

    calls: int
    whole: float | None  # from the first start to the last end
    steady: float | None  # while all users were at work: from the last user's first start to the last start of all
    low: float | None  # the confidence interval of `steady`
    high: float | None
    steady_s: float
    note: str = ""


def throughput(
    *,
    start_s: ArrayLike,
    end_s: ArrayLike,
    good: ArrayLike,
    user: ArrayLike,
    users: int,
    level: float = 0.95,
    seed: int = 0,
) -> Throughput:
    """What `users` users got done; one value for each call, shape (n,): its start and end, whether it succeeded, and
    the number of the user who made it, from 0.

    The steady throughput and its interval come from the times of as many calls as there are users, one after the
    other: users who work in step end together, and single gaps between ends would show a spread that is none.
    """
    starts, ends = np.asarray(start_s, np.float64), np.asarray(end_s, np.float64)
    who, kept = np.asarray(user), np.asarray(good, np.bool_)
    count = int(np.count_nonzero(kept))
    if len(starts) == 0:
        return Throughput(0, None, None, None, None, 0.0, "no call has ended")
    wall = float(ends.max() - starts.min())
    whole = count / wall if wall > 0.0 else None
    first = np.full(users, np.inf)
    np.minimum.at(first, who, starts)
    active = int(np.count_nonzero(np.isfinite(first)))
    if active < users:
        note = f"only {active} of {users} users made a call that ended: more iterations give each some"
        return Throughput(count, whole, None, None, None, 0.0, note)
    begin, end = float(first.max()), float(starts.max())
    done = np.sort(ends[kept & (ends > begin) & (ends <= end)])
    if len(done) <= 2 * users or end <= begin:
        note = f"only {len(done)} calls ended while all users were at work: more iterations tell more"
        return Throughput(count, whole, None, None, None, max(0.0, end - begin), note)
    rounds = np.diff(done[::users]) / users
    mean = float(rounds.mean())
    if mean <= 0.0:
        return Throughput(count, whole, None, None, None, end - begin, "the clock did not tell the calls' ends apart")
    found = interval(rounds, level=level, resamples=_RESAMPLES, seed=seed)
    low = high = None
    if found is not None and found.low > 0.0:
        low, high = 1.0 / found.high, 1.0 / found.low
    return Throughput(count, whole, 1.0 / mean, low, high, end - begin)


def fairness(shares: ArrayLike) -> float | None:
    """1 when all users get the same, 1/n when one gets all (Jain, Chiu and Hawe, 1984); None without any."""
    x = np.asarray(shares, np.float64)
    squares = float(x @ x)
    return float(x.sum()) ** 2 / (len(x) * squares) if squares > 0.0 else None


def chance_of_excess(failed: int, calls: int, failed_before: int, calls_before: int) -> float:
    """The chance that `calls` have `failed` failures or more, when all these failures fall on any call alike.

    Fisher's exact test (1935), one-sided: small when failures come more often than in `calls_before` others.
    """
    total = failed + failed_before

    def ways(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    of_all = ways(calls + calls_before, total)
    terms = (
        math.exp(ways(calls, total - others) + ways(calls_before, others) - of_all)
        for others in range(max(0, total - calls), min(failed_before, calls_before) + 1)
    )
    return min(1.0, math.fsum(terms))


@dataclass(frozen=True, slots=True)
class Scaling:
    """The universal scalability law: throughput = per_user * n / (1 + contention*(n-1) + coherency*n*(n-1))."""

    per_user: float  # calls/s of a user without others
    contention: float  # share of a call that excludes others, as a lock does: throughput levels off
    coherency: float  # what each pair of users costs each other: throughput falls again
    error: float  # largest relative deviation of a level

    def at(self, users: float) -> float:
        """Throughput that the law gives for so many users."""
        beside = users - 1.0
        return self.per_user * users / (1.0 + self.contention * beside + self.coherency * users * beside)

    @property
    def peak(self) -> float | None:
        """Users with the highest throughput; None when it never falls."""
        if self.coherency <= 0.0:
            return None
        return max(1.0, math.sqrt(max(0.0, 1.0 - self.contention) / self.coherency))


def scaling(users: ArrayLike, throughputs: ArrayLike, errors: ArrayLike | None = None) -> Scaling | None:
    """The law of Gunther (2007) by least squares, its parameters not below zero; levels of shape (n,), n >= 4.

    `errors` are the standard errors of the throughputs: a level counts the more the smaller its error. Without
    them all levels count alike. None for fewer levels, or for a throughput that is not positive.
    """
    n, x = finite(users, "users"), finite(throughputs, "throughputs")
    if len(n) != len(x):
        raise OptionError(f"there are {len(n)} levels and {len(x)} throughputs: give one for each")
    if len(n) < _FEWEST_LEVELS or (x <= 0.0).any() or (n < 1.0).any():
        return None
    scale = np.ones(len(x)) if errors is None else finite(errors, "errors")
    weights = 1.0 / np.maximum(scale, 1e-6 * scale.max())  # an error of nothing would take all the weight
    columns = np.stack((np.ones(len(n)), n - 1.0, n * (n - 1.0)), axis=1)
    # Each parameter that is best below zero is held at zero: of all such choices the one that fits best.
    best: tuple[float, Floats] | None = None
    for free in ((0, 1, 2), (0, 1), (0, 2), (0,)):
        found = _fitted(n, x, weights, columns, free)
        if found is not None and (best is None or found[0] < best[0] * (1.0 - 1e-9)):
            best = found
    if best is None:
        return None
    a = best[1]
    law = Scaling(1.0 / float(a[0]), float(a[1] / a[0]), float(a[2] / a[0]), 0.0)
    deviation = max(abs(law.at(users_) / x_ - 1.0) for users_, x_ in zip(n.tolist(), x.tolist(), strict=True))
    return Scaling(law.per_user, law.contention, law.coherency, deviation)


def _fitted(
    n: Floats, x: Floats, weights: Floats, columns: Floats, free: tuple[int, ...]
) -> tuple[float, Floats] | None:
    """Weighted squares that are left, and a of x = n / (a0 + a1*(n-1) + a2*n*(n-1)); None when an a is negative.

    Gauss and Newton's steps with the damping of Levenberg (1944), from the linear fit of n/x.
    """
    used = columns[:, free]
    # n/x is linear in a; its error is that of x, times n/x**2.
    linear = (weights * x * x / n)[:, None]
    a: Floats = np.linalg.lstsq(used * linear, n / x * linear[:, 0], rcond=None)[0].astype(np.float64)
    if a[0] <= 0.0 or (used @ a <= 0.0).any():
        a = np.zeros(len(free))
        a[0] = float(n[0] / x[0])

    def left(a: Floats) -> tuple[float, Floats]:
        below = used @ a
        if (below <= 0.0).any():
            return math.inf, x
        apart = (n / below - x) * weights
        return float(apart @ apart), apart

    squares, apart = left(a)
    damping = 1e-3
    for _ in range(_STEPS):
        below = used @ a
        slope = used * (-n / below**2 * weights)[:, None]
        normal = slope.T @ slope
        step = np.linalg.lstsq(normal + damping * np.diag(np.diag(normal)), -slope.T @ apart, rcond=None)[0]
        tried, tried_apart = left(a + step)
        if tried < squares:
            gained = squares - tried
            a, squares, apart, damping = a + step, tried, tried_apart, damping / 10.0
            if gained <= 1e-12 * squares:
                break
        else:
            damping *= 10.0
            if damping > 1e12:
                break
    if (a < 0.0).any():
        return None
    whole = np.zeros(3)
    whole[list(free)] = a
    return squares, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Where throughput stops growing with the users."""

    tried: int  # the most users
    levels: int
    per_user: float  # calls/s of a user at the lowest level
    highest: float  # calls/s, of all levels
    highest_at: int  # users
    last: float  # calls/s of the most users
    knee: float  # users who would be enough for the highest throughput if none of them waited
    knee_low: float | None  # its confidence interval; None where that is not known
    knee_high: float | None
    bends: bool | None  # the knee lies well below what was tried; None: cannot be told
    falls: bool  # the most users get less done than fewer, and not by chance
    law: Scaling | None

    @property
    def efficiency(self) -> float:
        """What the most users get done, as a share of that many times what one does."""
        return self.last / (self.per_user * self.tried)

    @property
    def sentence(self) -> str:
        """Where throughput stops scaling, or that it does not, with the numbers that say so."""
        if self.levels == 1:
            tried = "1 user was" if self.tried == 1 else f"{self.tried} users were"
            return f"Only {tried} tried, or can be judged: that says nothing of how throughput scales."
        if self.bends is None:
            low = "" if self.knee_low is None else f" from {self.knee_low:.3g}"
            high = "" if self.knee_high is None else f" up to {self.knee_high:.3g}"
            return (
                f"Where throughput stops scaling cannot be told: it may be at any number of users{low}{high}, and "
                f"{self.tried} were tried. More iterations narrow it down."
            )
        if not self.bends:
            return (
                f"Throughput does not bend within what was tried: {self.tried} users get {_rate(self.last)}, "
                f"{self.efficiency:.0%} of {self.tried} times what one gets."
            )
        said = (
            f"Throughput stops scaling at {_users(round(self.knee))}: one gets {_rate(self.per_user)}, and the "
            f"most is {_rate(self.highest)}, with {_users(self.highest_at)}."
        )
        return f"{said} With {self.tried} it falls to {_rate(self.last)}." if self.falls else said


def _users(count: int) -> str:
    return "1 user" if count == 1 else f"{count} users"


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f} calls/s" if per_second >= 1000.0 else f"{per_second:.4g} calls/s"


def capacity(
    users: ArrayLike,
    throughputs: ArrayLike,
    lows: ArrayLike | None = None,
    highs: ArrayLike | None = None,
) -> Capacity | None:
    """Where throughput stops scaling, from levels of users in ascending order, shape (n,), n >= 1.

    The knee is where the two bounds of throughput meet (Denning and Buzen, 1978): what the users get when nobody
    waits, in proportion to their number, and the highest throughput that was seen. Beyond it, they wait for one
    another. Throughput bends when the knee lies below 0.8 of the users that were tried. `lows` and `highs` are the
    throughputs' confidence intervals: a knee whose interval lies on both sides of that "cannot be told".

    None when the lowest level got nothing done. OptionError for levels that do not ascend from 1 or more, and for
    columns of different length.
    """
    n, x = finite(users, "users"), finite(throughputs, "throughputs")
    low, high = (x if ends is None else finite(ends, "intervals") for ends in (lows, highs))
    if not len(n) == len(x) == len(low) == len(high):
        raise OptionError(f"there are {len(n)} levels and {len(x)} throughputs: give one for each")
    if (np.diff(n) <= 0.0).any() or n[0] < 1.0:
        raise OptionError(f"users are {n.tolist()}; give levels in ascending order, from 1 on")
    if x[0] <= 0.0:
        return None
    best = int(np.argmax(x))
    knee_low = max(1.0, float(low[best] / high[0] * n[0]))
    knee_high = max(1.0, float(high[best] / low[0] * n[0])) if low[0] > 0.0 else math.inf
    straight = _STRAIGHT * float(n[-1])
    bends = True if knee_high < straight else False if knee_low >= straight else None
    known = lows is not None and highs is not None
    return Capacity(
        tried=int(n[-1]),
        levels=len(n),
        per_user=float(x[0] / n[0]),
        highest=float(x[best]),
        highest_at=int(n[best]),
        last=float(x[-1]),
        knee=max(1.0, float(x[best] / x[0] * n[0])),
        knee_low=knee_low if known else None,
        knee_high=knee_high if known and math.isfinite(knee_high) else None,
        bends=bends if len(n) > 1 else None,
        falls=best < len(n) - 1 and bool(high[-1] < low[best] and x[-1] < _FALLEN * x[best]),
        law=scaling(n, x, np.maximum((high - low) / _WIDTH, _MISFIT * x)),
    )
