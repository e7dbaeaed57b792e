"""Calls that end in an exception."""

from __future__ import annotations

from math import sqrt

from ..model import Context, Stats, Verdict
from .base import Limits, Rule, confidence, severity
from .words import Share, hourly, rate, share

__all__ = ["Rate", "wilson_lower"]


def wilson_lower(hits: int, trials: int, z: float = 1.96) -> float:
    """Lower end of the Wilson score interval (95 % for z = 1.96) of a proportion; 0 without trials.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    if trials <= 0 or hits <= 0:
        return 0.0
    p = min(hits / trials, 1.0)
    square = z * z
    centre = p + square / (2 * trials)
    spread = z * sqrt(p * (1.0 - p) / trials + square / (4.0 * trials * trials))
    return max(0.0, (centre - spread) / (1.0 + square / trials))


class Rate(Rule):
    """The rate that is certain at least, so that one failure in three calls is no alarm."""

    id = "errors.rate"
    title = "calls fail"
    needs = "3 failed calls"
    measure = "error rate, the lower end of its 95 % interval"
    limits = Limits(0.01, 0.05)

    ERRORS = 3

    def least(self, limits: Limits) -> tuple[str, float]:
        return "errors", self.ERRORS

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        calls, errors = stats.calls, stats.errors
        if calls == 0:
            return self.unjudged("no calls")
        if errors == 0:
            return self.within("no call failed")
        if errors < self.ERRORS:
            return self.within("{} of {} calls failed, too few to tell a rate", errors, calls)
        least = wilson_lower(errors, calls)
        if least < limits.info:
            return self.within(
                "{} of calls failed (certain: {}), limit {}",
                Share(errors / calls),
                Share(least),
                Share(limits.info),
            )
        a_second = errors / stats.window_s if stats.window_s > 0.0 else 0.0
        lost = 3600.0 * a_second * stats.mean_s if stats.mean_s is not None else None
        traced = " or in the traces attached" if any(one.error for one in stats.slowest) else ""
        return self.found(
            stats,
            severity(least, limits),
            f"{stats.site}: {errors:,} of {calls:,} calls ended in an exception ({share(errors / calls)}).",
            f"Look at which exceptions these are, in the log{traced}. If they are an expected answer (nothing found, "
            "try again), return it instead of raising: then they are no failures, and cheaper.",
            {"error_rate": errors / calls, "least_rate": least, "errors": errors, "calls": calls},
            confidence=confidence(errors, 1.0),
            gain=rate(a_second, "failed call")
            + (f", and {hourly(lost, 'time')} in them, at the mean of all calls." if lost is not None else "."),
            gain_s_per_hour=lost,
        )
