"""How the time grows with the size of the input."""

from __future__ import annotations

from ..model import Context, Stats, Verdict
from .base import MOST_INFO, Limits, Rule, confidence, severity
from .words import Share, duration, hourly

__all__ = ["Growth"]


class Growth(Rule):
    """A quadratic loop is no problem while it is small: it needs a share of the time, too."""

    id = "algorithm.growth"
    title = "time grows faster than the size"
    needs = "a size (size=...) that varies, in 30 sampled calls"
    measure = "exponent k of time ~ size**k"
    limits = Limits(1.5, 1.8)

    SAMPLES = 30
    LEAST_LOAD = 0.05  # seconds in each second
    CREDIBLE = 6.0  # beyond, the size is not what the time depends on
    LONG_S = 0.05  # p95 from which on the growth already hurts

    def least(self, limits: Limits) -> tuple[str, float]:
        return "size_exponent", limits.info

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        exponent, samples, total = stats.size_exponent, stats.samples, stats.total_s
        if exponent is None:
            return self.unjudged("no sizes from which a growth could be told")
        if samples < self.SAMPLES:
            return self.unjudged("{} samples, needs {}", samples, self.SAMPLES)
        if exponent > self.CREDIBLE:
            return self.unjudged("an exponent of {:.3g} is no credible fit", exponent)
        if exponent < limits.info:
            return self.within("time grows as size**{:.3g}, limit {:g}", exponent, limits.info)
        load = (total or 0.0) / stats.window_s if stats.window_s > 0.0 else 0.0
        if load < self.LEAST_LOAD:
            return self.within("time grows as size**{:.3g}, but it takes {} of the time", exponent, Share(load))
        level = severity(exponent, limits)
        if (stats.p95_s or 0.0) < self.LONG_S:
            level = min(level, MOST_INFO)
        return self.found(
            stats,
            level,
            f"{stats.site}: time grows as size**{exponent:.2g}; twice the input takes {2.0**exponent:.2g} times as "
            "long.",
            "Look for a loop in a loop over the same data: a set or dict instead of `in` a list, sorting once, "
            "comparing only within groups that can match.",
            {"size_exponent": exponent, "p95_s": stats.p95_s or 0.0, "load": load, "samples": samples},
            confidence=confidence(samples, self.SAMPLES / 2),
            gain=f"It takes {hourly(3600.0 * load)} now (p95 {duration(stats.p95_s or 0.0)}); with linear growth twice "
            "the input would only double that.",
        )
