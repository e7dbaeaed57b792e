"""Stats -> Score: 0 to 100, from five weighted parts. Pure.

Each part has four thresholds, the values that give exactly 90, 75, 60 and 40 points: the borders of the
categories. So a site with every part at `good` scores 75, and is good. Between them the points follow a curve
that is continuous and strictly monotone:

- less is better (time, memory, CPU): linear in the logarithm of the value, because 10 to 20 ms matters as
  much as 1 to 2 s; 100 points at a tenth of `excellent` and below; beyond `poor` 40 * poor / value.
- success rate: linear, 100 points at 1.0 and 0 at 0.0.
- throughput: linear in the logarithm; 100 points at twice `excellent`; below `poor` 40 * value / poor.

A part without evidence is left out and its weight shared among the rest. Throughput has evidence only where
thresholds for it are configured: a live site's throughput says how much is asked of it, not how good it is.

A mean forgives: with everything else perfect, a site that fails 30 % of its calls scores 89. Value and category
stay that mean, with the meaning above; the promises that it forgave, a missed SLO and a success rate below
`good`, are in `Score.caveats`, and stand beside the category wherever it is shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import lru_cache
from math import isnan, log
from operator import attrgetter
from typing import NamedTuple

from .config import Config, Limits4, SiteConfig
from .model import Part, Score, Stats, category

__all__ = ["WEIGHTS", "Scorer", "Thresholds", "category", "for_slo", "points", "score"]

WEIGHTS = {
    "execution_time": 0.30,
    "memory_usage": 0.25,
    "cpu_usage": 0.20,
    "success_rate": 0.15,
    "throughput": 0.10,
}
_UNITS = ("s", "MB", "%", "fraction", "calls/s")
_values = attrgetter("p95_s", "memory_mb", "cpu_percent", "success_rate", "throughput")
_BORDERS = (90.0, 75.0, 60.0, 40.0)


class Thresholds(NamedTuple):
    """The values that give 90, 75, 60 and 40 points, for each part."""

    time: Limits4 = (0.1, 0.5, 1.0, 2.0)  # p95, seconds
    memory: Limits4 = (50.0, 100.0, 200.0, 500.0)  # fresh MB per call
    cpu: Limits4 = (20.0, 40.0, 60.0, 80.0)  # percent of one core
    success: Limits4 = (0.99, 0.95, 0.90, 0.80)
    throughput: Limits4 | None = None  # calls per second


DEFAULT = Thresholds()


def for_slo(slo_s: float) -> Limits4:
    """The time thresholds that an SLO stands for: `good` is the SLO, the others in the usual ratio to it."""
    return slo_s / 5.0, slo_s, 2.0 * slo_s, 4.0 * slo_s


Curve = Callable[[float], float]


def _logarithmic(xs: tuple[float, ...], ys: tuple[float, ...]) -> Curve:
    """Linear in log x between the knots, exact at them; flat beyond 100 points, else towards 0."""
    slopes = [0.0]
    slopes += [(ys[i] - ys[i - 1]) / log(xs[i] / xs[i - 1]) for i in range(1, len(xs))]
    first, last, rising, size = xs[0], xs[-1], ys[-1] > ys[0], len(xs)

    def curve(x: float) -> float:
        if x <= first:
            return ys[0] * (x / first) if rising else ys[0]
        if x >= last:
            return ys[-1] if rising else ys[-1] * (last / x)
        i = bisect_left(xs, x, 1, size)
        return ys[i] + slopes[i] * log(x / xs[i])

    return curve


def _linear(xs: tuple[float, ...], ys: tuple[float, ...]) -> Curve:
    """Linear between the knots, exact at them, flat beyond."""
    slopes = [0.0]
    slopes += [(ys[i] - ys[i - 1]) / (xs[i] - xs[i - 1]) for i in range(1, len(xs))]
    size = len(xs)

    def curve(x: float) -> float:
        if x <= xs[0]:
            return ys[0]
        if x >= xs[-1]:
            return ys[-1]
        i = bisect_left(xs, x, 1, size)
        return ys[i] + slopes[i] * (x - xs[i])

    return curve


@lru_cache(maxsize=4096)
def _curve(name: str, limits: Limits4) -> Curve:
    if name == "success_rate":
        return _linear((0.0, *limits[::-1], 1.0), (0.0, *_BORDERS[::-1], 100.0))
    if limits[0] > limits[3]:
        return _logarithmic((*limits[::-1], 2.0 * limits[0]), (*_BORDERS[::-1], 100.0))
    return _logarithmic((limits[0] / 10.0, *limits), (100.0, *_BORDERS))


def points(name: str, value: float, limits: Limits4) -> float:
    """The points, 0 to 100, of one part (a key of WEIGHTS) for a value."""
    return _curve(name, limits)(value)


class _Step(NamedTuple):
    """One part of a score, without its value."""

    place: int  # in the order of WEIGHTS
    name: str
    unit: str
    weight: float
    share: float  # of the weights of the parts with evidence
    limits: Limits4
    curve: Curve


class _Plan:
    """All that does not depend on the values, worked out once for each site and choice of parts."""

    __slots__ = ("_missing", "_slo_s", "_steps", "_thresholds", "_whole", "_without")

    def __init__(self, thresholds: tuple[Limits4 | None, ...], slo_s: float | None) -> None:
        """`thresholds` as in Thresholds, with None for a part that is left out."""
        rated = [
            (place, name, unit, WEIGHTS[name], limits)
            for place, (name, unit, limits) in enumerate(zip(WEIGHTS, _UNITS, thresholds, strict=True))
            if limits is not None
        ]
        self._thresholds, self._slo_s = thresholds, slo_s
        self._whole = whole = sum(weight for _, _, _, weight, _ in rated)
        self._steps = tuple(
            _Step(place, name, unit, weight, weight / whole, limits, _curve(name, limits))
            for place, name, unit, weight, limits in rated
        )
        self._missing = tuple(name for name, limits in zip(WEIGHTS, thresholds, strict=True) if limits is None)
        self._without: dict[int, _Plan] = {}

    def score(self, values: tuple[float | None, ...]) -> Score:
        """The score for the values of the parts, in the order of WEIGHTS."""
        total = 0.0
        parts = []
        for place, name, unit, weight, share, limits, curve in self._steps:
            value = values[place]
            if value is None or isnan(value):
                return self._leave_out(place).score(values)
            gained = curve(value)
            total += weight * gained
            parts.append(_new(Part, (name, value, unit, weight, share, gained, limits)))
        if not parts:
            return Score(None, None, (), self._missing, self._slo_s)
        total = min(total / self._whole, 100.0)  # the weights are no exact binary fractions
        return _new(Score, (total, category(total), tuple(parts), self._missing, self._slo_s))

    def _leave_out(self, place: int) -> _Plan:
        plan = self._without.get(place)
        if plan is None:
            thresholds = (*self._thresholds[:place], None, *self._thresholds[place + 1 :])
            plan = self._without[place] = _Plan(thresholds, self._slo_s)
        return plan


_new = tuple.__new__  # what Part(...) does, without its Python-level __new__: five a site and cycle


def score(stats: Stats, thresholds: Thresholds = DEFAULT) -> Score:
    """The score of one site; an SLO in the stats replaces the time thresholds."""
    if stats.slo_s is not None:
        thresholds = thresholds._replace(time=for_slo(stats.slo_s))
    return _Plan(thresholds, stats.slo_s).score(_values(stats))


class Scorer:
    """Scores the sites of one configuration; remembers what it worked out for each site."""

    def __init__(self, config: Config | None = None) -> None:
        self._config = Config() if config is None else config
        self._plans: dict[tuple[str, float | None], _Plan] = {}

    def thresholds(self, site: str, slo_s: float | None = None) -> Thresholds:
        """The thresholds of a site: its own in the configuration, else its SLO, else the common ones."""
        config = self._config
        slo = config.slo_for(site, slo_s)
        time = config.time_thresholds if slo is None else for_slo(slo)
        own = config.site(site) or SiteConfig()
        return Thresholds(
            time=own.time or time,
            memory=own.memory or config.memory_thresholds,
            cpu=own.cpu or config.cpu_thresholds,
            success=own.success or config.success_thresholds,
            throughput=own.throughput or config.throughput_thresholds,
        )

    def score(self, stats: Stats) -> Score:
        """The score of one site in one window."""
        key = (stats.site, stats.slo_s)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = _Plan(self.thresholds(*key), self._config.slo_for(*key))
        return plan.score(_values(stats))

    def score_many(self, stats: Iterable[Stats]) -> list[Score]:
        """The scores of many sites, in their order."""
        return [self.score(one) for one in stats]
