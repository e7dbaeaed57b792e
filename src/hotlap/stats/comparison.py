"""Whether one thing is faster than another: comparisons of process means, and rankings of many.

What one process measures is one draw: the layout of its memory, its hash seed and its core stay the same for all
its iterations (Kalibera and Jones, 2013). So the mean of a process, or of an interleaved round, is the unit here.
Iterations are never pooled: a thousand of them from one process are one value.

Everything is done on the logarithms of the means, where a ratio is a difference and a half is as far off as a
double. Tests and intervals come from one permutation distribution, so they never contradict each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ..errors import OptionError
from .bootstrap import Interval, interval
from .change import in_words, percent
from .distributions import student_quantile
from .sample import finite, fraction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Side: TypeAlias = ArrayLike | Sequence[ArrayLike]

__all__ = ["Comparison", "Ranked", "Ranking", "compare", "fewest", "holm", "process_means", "rank"]

_ENUMERATED = 33_000  # so many arrangements are all tried; of more, random ones
_MOST_MEANS = 1_000  # on one side
_POWER = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the process means say about `new` beside `base`; see `compare`.

    A ratio is time of new / time of base, below 1 is faster. Fractions, p values and levels lie in 0 .. 1.
    """

    verdict: Literal["faster", "slower", "equivalent", "no evidence"]
    ratio: float  # of the geometric means of the process means
    low: float | None  # the ratio's interval; None when so few processes cannot give one
    high: float | None
    p: float  # of "no difference", two-sided
    p_equivalent: float  # of "a difference of the margin or more"
    level: float  # of the interval; a difference is claimed when p <= 1 - level
    margin: float  # differences within this fraction do not matter
    smallest_detectable: float | None  # fraction that is found with 80 % power; None where none would be
    smallest_p: float  # that so many processes can give
    tests: int  # comparisons that share the level
    n: tuple[int, int]  # processes of base and of new
    paired: bool
    method: str

    def sentence(self) -> str:
        """The verdict in words: by how much, with the interval; or what could have been seen."""
        if self.verdict == "equivalent":
            return f"equivalent within {percent(self.margin)}"
        if self.verdict == "no evidence":
            if self.smallest_detectable is None:
                return f"no evidence: {self._too_few()}"
            return f"no evidence, could have seen {percent(self.smallest_detectable)}"
        return in_words(self.ratio, self.low, self.high)

    def _too_few(self) -> str:
        needed = fewest(self.level, self.tests, paired=self.paired)
        have = f"{self.n[0]} rounds" if self.paired else f"{self.n[0]} and {self.n[1]} processes"
        shared = f" in {self.tests} comparisons" if self.tests > 1 else ""
        return f"{have} cannot give p <= {1.0 - self.level:.3g}{shared}, take {needed} or more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One of the compared, in its place."""

    place: int  # 1 for the fastest and all that cannot be told from it
    name: str
    n: int  # processes
    mean: float  # of the process means, in their unit
    interval: Interval | None  # of that mean; None for one process
    comparison: Comparison | None  # with the reference as base; None for the reference itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The compared from the fastest to the slowest; see `rank`."""

    reference: str  # what the ratios are to
    rows: tuple[Ranked, ...]

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The names that share a place, from the first place on."""
        places = sorted({row.place for row in self.rows})
        return tuple(tuple(row.name for row in self.rows if row.place == place) for place in places)


def process_means(side: Side, what: str = "times") -> Floats:
    """The mean of each process, shape (processes,), in the unit of the times.

    `side` gives for each process its mean, or the times of its iterations: a sequence of numbers, a sequence of
    arrays that may differ in length, or one array of shape (processes, iterations). OptionError for a mean that
    is not positive, for more than 1000 of them, and as in `finite`.
    """
    try:
        processes = list(side)  # type: ignore[arg-type]
    except TypeError:
        raise OptionError(f"{what} is {side!r}; give a sequence with the mean of each process") from None
    means = finite([_mean(one, f"{what}[{i}]") for i, one in enumerate(processes)], what)
    if len(means) > _MOST_MEANS:
        raise OptionError(
            f"{what} has {len(means):,} process means, more than {_MOST_MEANS:,}: these look like single "
            "iterations; give one array for each process"
        )
    if (bad := np.flatnonzero(means <= 0.0)).size:
        raise OptionError(f"{what}[{bad[0]}] has the mean {means[bad[0]]}; a ratio needs positive times")
    return means


def _mean(times: ArrayLike, what: str) -> float:
    if isinstance(times, (int, float, np.number)):
        return float(times)
    x = finite(times, what)
    return math.fsum(x.tolist()) / len(x)


def compare(
    base: Side,
    new: Side,
    *,
    paired: bool = False,
    level: float = 0.95,
    margin: float = 0.01,
    resamples: int = 9999,
    seed: int = 0,
) -> Comparison:
    """Whether `new` takes less or more time than `base`: a permutation test of their process means.

    Both sides: see `process_means`. `paired` when they were measured in turn, round i of the one next to round i
    of the other: what the rounds share then cancels.

    The verdict is "equivalent" when both one-sided tests refuse a difference of `margin` or more at 1 - level
    (Schuirmann, 1987; between 1/(1 + margin) and 1 + margin); otherwise "faster" or "slower" when p <= 1 - level;
    otherwise "no evidence", and `smallest_detectable` says what would have been found with 80 % power
    (Bloom, 1995). So a difference that is certain but within the margin counts as equivalent.

    The test: all arrangements of the means on the two sides, or `resamples` random ones beside the observed when
    there are more than 33,000 (Fisher, 1935; Pitman, 1937). It is exact when nothing distinguishes the sides. The
    statistic is studentised, which keeps it valid for many processes whose spread differs between the sides
    (Janssen, 1997); few and unequal numbers of them are the exception (5 beside 20 with half the spread: 9 % of
    false claims), so take as many of each. Paired: all sign flips of the differences (Fisher, 1935). The interval
    holds the ratios that the test does not refuse (Garthwaite, 1996); p is twice the smaller tail.

    OptionError for sides of different length when paired, for a level outside 0 .. 1, a margin that is not
    positive, fewer than 99 resamples, and as in `process_means`.
    """
    evidence = _evidence(
        np.log(process_means(base, "base")), np.log(process_means(new, "new")), paired, resamples, seed
    )
    return _judged(evidence, level, margin)


def rank(
    samples: Mapping[str, Side],
    base: str | None = None,
    *,
    paired: bool = False,
    level: float = 0.95,
    margin: float = 0.01,
    resamples: int = 9999,
    seed: int = 0,
) -> Ranking:
    """Ranks many by their process means, each compared with the fastest, or with `base`.

    Every pair is tested, and all p values are adjusted together (Holm, 1979): whichever turns out the fastest,
    the chance that any claim of a difference is wrong stays 1 - level. The p values of the claims of equivalence
    are adjusted likewise. Down the ranking a new place begins with the first that is significantly slower than
    one of the group before it. Intervals hold at `level` each by itself.

    Parameters and errors as in `compare`; OptionError for no samples or an unknown `base`.
    """
    if not samples:
        raise OptionError("there is nothing to rank; give at least one name with its times")
    if base is not None and base not in samples:
        raise OptionError(f"the base {base!r} is not among {', '.join(map(repr, samples))}")
    means = {name: process_means(side, name) for name, side in samples.items()}
    logs = {name: np.log(values) for name, values in means.items()}
    order = sorted(means, key=lambda name: float(logs[name].mean()))
    reference = order[0] if base is None else base
    pairs = list(combinations([reference, *(name for name in order if name != reference)], 2))
    all_evidence = [_evidence(logs[a], logs[b], paired, resamples, seed) for a, b in pairs]
    judged = [_judged(evidence, level, margin, tests=len(pairs)) for evidence in all_evidence]
    ps, ps_equivalent = holm([one.p for one in judged]), holm([one.p_equivalent for one in judged])
    comparisons = {
        frozenset(pair): _with_verdict(replace(one, p=p, p_equivalent=p_equivalent))
        for pair, one, p, p_equivalent in zip(pairs, judged, ps, ps_equivalent, strict=True)
    }
    rows: list[Ranked] = []
    group: list[str] = []
    for name in order:
        if any(comparisons[frozenset((name, other))].verdict in ("faster", "slower") for other in group):
            group = []
        group.append(name)
        rows.append(
            Ranked(
                place=len(rows) + 2 - len(group),
                name=name,
                n=len(means[name]),
                mean=math.fsum(means[name].tolist()) / len(means[name]),
                interval=interval(means[name], level=fraction(level, "level"), seed=seed),
                comparison=None if name == reference else comparisons[frozenset((reference, name))],
            )
        )
    return Ranking(reference=reference, rows=tuple(rows))


def fewest(level: float, tests: int = 1, *, paired: bool = False) -> int:
    """Processes on each side, or rounds when paired, below which no difference can be claimed at this level in any of
    so many tests.
    """
    alpha = _alpha(level) / tests
    arrangements = (lambda n: 2**n) if paired else (lambda n: math.comb(2 * n, n))
    return next(n for n in range(2, 2000) if 2 / arrangements(n) <= alpha)


def holm(ps: Sequence[float]) -> list[float]:
    """The p values of tests that are read together, adjusted so that any of them is wrong with at most that chance.

    In the order given; Holm (1979): the smallest counts for all tests, the next for one test fewer, and so on.
    """
    adjusted = [1.0] * len(ps)
    least = 0.0
    for done, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        least = max(least, min(1.0, ps[i] * (len(ps) - done)))
        adjusted[i] = least
    return adjusted


def _judged(evidence: _Evidence, level: float, margin: float, tests: int = 1) -> Comparison:
    alpha = _alpha(fraction(level, "level"))
    if not 0.0 < margin < math.inf:
        raise OptionError(f"margin is {margin!r}; it must be positive, for instance 0.01 for 1 %")
    least = min(1.0, 2.0 / evidence.arrangements)
    limits = (None, None) if least > alpha else (_limit(evidence, alpha / 2.0, -1), _limit(evidence, alpha / 2.0, 1))
    low, high = (None if limit is None else _exp(limit) for limit in limits)
    effect = evidence.effect
    within = math.log1p(margin)
    return _with_verdict(
        Comparison(
            verdict="no evidence",
            ratio=_exp(effect),
            low=low,
            high=high,
            p=min(1.0, 2.0 * min(_tail(evidence, effect, -1), _tail(evidence, effect, 1))),
            p_equivalent=max(_tail(evidence, effect + within, -1), _tail(evidence, effect - within, 1)),
            level=level,
            margin=margin,
            smallest_detectable=_detectable(evidence, alpha / tests, least),
            smallest_p=least,
            tests=tests,
            n=evidence.n,
            paired=isinstance(evidence, _Pairs),
            method=evidence.method,
        )
    )


def _with_verdict(one: Comparison) -> Comparison:
    alpha = _alpha(one.level)
    if one.p_equivalent <= alpha:
        return replace(one, verdict="equivalent")
    if one.p <= alpha:
        return replace(one, verdict="faster" if one.ratio < 1.0 else "slower")
    return replace(one, verdict="no evidence")


def _alpha(level: float) -> float:
    """The chance of error, a hair more than 1 - level: 1 - 0.9 is 0.09999999999999998 in floating point."""
    return 1.0 - level + 1e-12


def _detectable(evidence: _Evidence, alpha: float, least: float) -> float | None:
    """The ratio - 1 that a t test tells from 0 with 80 % power, at the level that the arrangements can reach.

    Half an arrangement less, because p values come in steps: without it the power is 71 to 75 % where a single
    arrangement decides (4 and 4 processes, 6 rounds); with it, 79 to 84 %.
    """
    reached = (math.floor(alpha / least) - 0.5) * least
    if reached < 0.0 or not math.isfinite(evidence.error):
        return None
    quantiles = student_quantile(1.0 - reached / 2.0, evidence.freedom) + student_quantile(_POWER, evidence.freedom)
    return _exp(quantiles * evidence.error) - 1.0


class _Evidence(Protocol):
    """The permutation distribution of a difference of mean logarithms."""

    effect: float  # the observed difference, new - base
    error: float  # its standard error; infinite when there is nothing to estimate it from
    freedom: int  # degrees of freedom of that error
    n: tuple[int, int]
    arrangements: int
    method: str

    def scores(self, excess: float) -> Floats:
        """The statistic of each arrangement, the observed one first, when the true effect is `excess` lower
        than the observed; shape (arrangements,).
        """


def _tail(evidence: _Evidence, excess: float, side: int) -> float:
    """The chance of an effect that exceeds the true one by `excess` or more (side -1: the true effect is refused
    from below), or falls as far below it (side 1).
    """
    scores = evidence.scores(excess) * -side
    # Arrangements that give the same in exact arithmetic count as ties.
    return float(np.mean(scores >= scores[0] - 1e-7 * abs(scores[0])))


def _limit(evidence: _Evidence, tail: float, side: int) -> float | None:
    """The end of the interval on one side: the effect farthest from the observed that is not refused at `tail`."""
    inner, outer = 0.0, evidence.error
    for _ in range(60):
        if outer == 0.0 or _tail(evidence, -side * outer, side) <= tail:
            break
        inner, outer = outer, 2.0 * outer
    else:
        return None
    while outer - inner > 1e-3 * evidence.error:  # far below what random arrangements leave open
        middle = 0.5 * (inner + outer)
        inner, outer = (inner, middle) if _tail(evidence, -side * middle, side) <= tail else (middle, outer)
    return evidence.effect + side * outer


def _evidence(base: Floats, new: Floats, paired: bool, resamples: int, seed: int) -> _Evidence:
    if resamples < 99:
        raise OptionError(f"resamples is {resamples!r}; at least 99 are needed, and some thousands are usual")
    if not paired:
        return _Groups(base, new, resamples, seed)
    if len(base) != len(new):
        raise OptionError(
            f"paired sides need the same rounds: there are {len(base)} and {len(new)}; leave out the odd ones"
        )
    return _Pairs(new - base, resamples, seed)


class _Groups:
    """Two independent sides: every arrangement deals the means to them anew."""

    def __init__(self, base: Floats, new: Floats, resamples: int, seed: int) -> None:
        self.n = len(base), len(new)
        self.freedom = max(1, len(base) + len(new) - 2)
        self.effect = float(new.mean() - base.mean())
        # Around the mean of each side: the effect comes back as an excess, and costs no digits of the spread.
        z = np.concatenate((new - new.mean(), base - base.mean()))
        is_new = np.arange(len(z)) < len(new)
        dealt = _deals(len(z), len(new), resamples, seed).astype(np.float64)
        self.arrangements = len(dealt)
        total = math.comb(len(z), len(new))
        self.method = _method("permutation test", len(dealt), total)
        columns = np.stack((z, z * z, is_new, z * is_new), axis=1)
        self._sums, self._squares, self._new, self._cross = (dealt @ columns).T
        self._square = float(z @ z)
        squares = z * z
        self.error = (
            math.sqrt(float(self._variances(squares[is_new].sum(), squares[~is_new].sum()))) if len(z) > 2 else math.inf
        )

    def _variances(self, new: Any, base: Any) -> Any:
        """Of the difference, from the sums of squares on both sides (Welch, 1947)."""
        a, b = self.n
        if min(a, b) == 1:  # one value has no spread: that of the others
            return (new + base) / self.freedom * (1.0 / a + 1.0 / b)
        return new / (b - 1.0) / b + base / (a - 1.0) / a

    def scores(self, excess: float) -> Floats:
        a, b = self.n
        new = self._sums + excess * self._new
        base = excess * b - new
        squares = self._squares + 2.0 * excess * self._cross + excess * excess * self._new
        rest = self._square + excess * excess * b - squares
        variances = self._variances(squares - new * new / b, rest - base * base / a)
        smallest = 1e-14 * (self._square + excess * excess) + 1e-300  # what rounding leaves of none
        scores: Floats = (new / b - base / a) / np.sqrt(np.maximum(variances, smallest))
        return scores


class _Pairs:
    """Rounds: every arrangement exchanges the two sides in some of them."""

    def __init__(self, differences: Floats, resamples: int, seed: int) -> None:
        n = len(differences)
        self.n = n, n
        self.freedom = max(1, n - 1)
        self.effect = float(differences.mean())
        self.error = float(differences.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
        flips = _flips(n, resamples, seed).astype(np.float64)
        self.arrangements = len(flips)
        self.method = _method("paired permutation test", len(flips), 2**n)
        self._means, self._signs = (flips @ np.stack((differences - self.effect, np.ones(n)), axis=1)).T / n

    def scores(self, excess: float) -> Floats:
        scores: Floats = self._means + excess * self._signs
        return scores


def _method(name: str, tried: int, total: int) -> str:
    return f"{name}, all {total:,} arrangements" if tried == total else f"{name}, {tried - 1:,} random arrangements"


@lru_cache(maxsize=4)
def _deals(n: int, new: int, resamples: int, seed: int) -> NDArray[np.int8]:
    """1 where a value is dealt to the new side, else 0; the first `new` of the n in row 0; (arrangements, n)."""
    if (total := math.comb(n, new)) <= _ENUMERATED:
        dealt = np.zeros((total, n), np.int8)
        dealt[np.arange(total)[:, None], np.array(list(combinations(range(n), new)))] = 1
        return dealt
    dealt = np.zeros((resamples + 1, n), np.int8)
    dealt[:, :new] = 1
    dealt[1:] = np.random.default_rng(seed).permuted(dealt[1:], axis=1)
    return dealt


@lru_cache(maxsize=4)
def _flips(n: int, resamples: int, seed: int) -> NDArray[np.int8]:
    """Signs 1 or -1, all 1 in row 0; shape (arrangements, n)."""
    if (total := 2**n) <= _ENUMERATED:
        bits = (np.arange(total)[:, None] >> np.arange(n)) & 1
    else:
        bits = np.random.default_rng(seed).integers(0, 2, (resamples + 1, n))
        bits[0] = 0
    return (1 - 2 * bits).astype(np.int8)


def _exp(logarithm: float) -> float:
    return math.exp(min(logarithm, 700.0))
