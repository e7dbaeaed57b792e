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
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import lru_cache
from math import isnan, log
from typing import NamedTuple

from .config import Config, Limits4, SiteConfig
from .model import BenchmarkResult, Part, Score, Stats

__all__ = ["WEIGHTS", "Scorer", "Thresholds", "category", "for_slo", "points", "score"]

WEIGHTS = {
    "execution_time": 0.30,
    "memory_usage": 0.25,
    "cpu_usage": 0.20,
    "success_rate": 0.15,
    "throughput": 0.10,
}
_UNITS = ("s", "MB", "%", "fraction", "calls/s")
_BORDERS = (90.0, 75.0, 60.0, 40.0)
_CATEGORIES = (
    (90.0, BenchmarkResult.EXCELLENT),
    (75.0, BenchmarkResult.GOOD),
    (60.0, BenchmarkResult.AVERAGE),
    (40.0, BenchmarkResult.POOR),
)
_ROUNDING = 1e-9  # a weighted mean can miss a border by some 1e-14


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


def category(value: float) -> BenchmarkResult:
    """The category of a score or of the points of one part."""
    for border, result in _CATEGORIES:
        if value >= border - _ROUNDING:
            return result
    return BenchmarkResult.CRITICAL


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


_Plan = tuple[tuple[str, str, float, Limits4, Curve] | None, ...]  # in the order of WEIGHTS
_NAMES = tuple(WEIGHTS)


def _plan(thresholds: Thresholds) -> _Plan:
    """All that does not depend on the values, worked out once for each set of thresholds."""
    plan: list[tuple[str, str, float, Limits4, Curve] | None] = []
    for (name, weight), unit, limits in zip(WEIGHTS.items(), _UNITS, thresholds, strict=True):
        plan.append(None if limits is None else (name, unit, weight, limits, _curve(name, limits)))
    return tuple(plan)


def _score(stats: Stats, plan: _Plan) -> Score:
    values = (stats.p95_s, stats.memory_mb, stats.cpu_percent, stats.success_rate, stats.throughput)
    found: list[tuple[str, float, str, float, float, Limits4]] = []
    missing: list[str] = []
    total = sum_of_weights = 0.0
    for index, step in enumerate(plan):
        value = values[index]
        if step is None or value is None or isnan(value):
            missing.append(_NAMES[index])
            continue
        name, unit, weight, limits, curve = step
        gained = curve(value)
        total += weight * gained
        sum_of_weights += weight
        found.append((name, value, unit, weight, gained, limits))
    if not found:
        return Score(None, None, (), tuple(missing))
    result = total / sum_of_weights
    parts = [
        _new_part(Part, (name, value, unit, weight, weight / sum_of_weights, gained, limits))
        for name, value, unit, weight, gained, limits in found
    ]
    return Score(result, category(result), tuple(parts), tuple(missing))


_new_part = tuple.__new__  # what Part(...) does, without its Python-level __new__: five a site and cycle


def score(stats: Stats, thresholds: Thresholds = DEFAULT) -> Score:
    """The score of one site; an SLO in the stats replaces the time thresholds."""
    if stats.slo_s is not None:
        thresholds = thresholds._replace(time=for_slo(stats.slo_s))
    return _score(stats, _plan(thresholds))


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
            plan = self._plans[key] = _plan(self.thresholds(*key))
        return _score(stats, plan)

    def score_many(self, stats: Iterable[Stats]) -> list[Score]:
        """The scores of many sites, in their order."""
        return [self.score(one) for one in stats]
