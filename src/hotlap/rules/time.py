"""Slow calls, and slow calls among fast ones."""

from __future__ import annotations

from ..model import Context, Stats, Verdict
from .base import MOST_INFO, Limits, Rule, confidence, gave_up_cpu, per_hour, severity, waiting_share
from .words import Duration, Number, Share, duration, hourly, number, rate, share

__all__ = ["Slow", "Tail"]


def where_the_time_goes(stats: Stats) -> str:
    """The first thing to look at, from the evidence there is; a sentence."""
    if stats.own_fraction is not None and stats.own_fraction < 0.3:
        return (
            f"Only {share(stats.own_fraction)} of its time is its own: look first at the measured functions "
            "that it calls."
        )
    waits = waiting_share(stats)
    if waits is None:
        return "How much of it is computing and how much waiting is not known: no sampled call had that evidence."
    if waits > 0.3 and not gave_up_cpu(stats):
        return (
            f"It computes for {share(1.0 - waits)} of that time; for the rest other threads or processes had the CPU."
        )
    if waits >= 0.7:
        return f"It waits for {share(waits)} of that time: look for what it waits for, not for faster code."
    if waits > 0.3:
        return f"It waits for {share(waits)} of that time and computes for the rest: either is worth a look."
    return f"It computes for {share(1.0 - waits)} of that time: profile it line by line."


class Slow(Rule):
    """Against the SLO where there is one. Without one nobody said how long it may take: a note at most."""

    id = "time.slow"
    title = "slower than it should be"
    needs = "20 timed calls for the p95, 3 for the median"
    measure = "p95 divided by the SLO; without an SLO, p95 divided by 2 s"
    limits = Limits(1.0, 1.5)

    CALLS = 3
    CALLS_P95 = 20
    LONG_S = 2.0  # without an SLO: as long as this in every twentieth call is worth a note

    def least(self, limits: Limits) -> tuple[str, float]:
        return "timed", self.CALLS

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        calls, p50, p95 = stats.timed, stats.p50_s, stats.p95_s
        if p50 is None or p95 is None:
            return self.unjudged("no timed calls")
        if calls < self.CALLS:
            return self.unjudged("{} timed calls, needs {}", calls, self.CALLS)
        # The p95 of a few calls is their maximum: one hiccup. The median is not.
        name, value = ("p95", p95) if calls >= self.CALLS_P95 else ("median", p50)
        slo = stats.slo_s
        ratio = value / (self.LONG_S if slo is None else slo)
        if ratio < limits.info:
            if slo is None:
                return self.within("{} is {}, and there is no SLO", name, Duration(value))
            return self.within("{} is {}, SLO {}", name, Duration(value), Duration(slo))
        level = severity(ratio, limits)
        evidence: dict[str, float | int | str] = {"quantile": name, "value_s": value, "calls": calls}
        sure = confidence(calls, self.CALLS_P95 / 2 if name == "p95" else self.CALLS)
        if slo is None:
            return self.found(
                stats,
                min(level, MOST_INFO),
                f"{stats.site} is slow: its {name} is {duration(value)}, in {calls:,} calls.",
                f"{where_the_time_goes(stats)} If it may take that long, say so with slo=..., and this note goes away "
                "until that is exceeded.",
                evidence,
                confidence=sure,
            )
        evidence["slo_s"] = slo
        if value <= slo:  # with limits that warn before it is missed
            return self.found(
                stats,
                level,
                f"{stats.site} comes close to its SLO of {duration(slo)}: its {name} is {duration(value)}.",
                where_the_time_goes(stats),
                evidence,
                confidence=sure,
            )
        part = 0.05 if name == "p95" else 0.5
        excess = max(part * (value - slo), (stats.mean_s or 0.0) - slo) * calls * per_hour(stats)
        return self.found(
            stats,
            level,
            f"{stats.site} misses its SLO of {duration(slo)}: its {name} is {duration(value)}, "
            f"{number(ratio)} times as long.",
            where_the_time_goes(stats),
            evidence,
            confidence=sure,
            gain=f"At least {hourly(excess)} if those calls kept to the SLO, at "
            f"{rate(calls * per_hour(stats) / 3600.0)}.",
            gain_s_per_hour=excess,
        )


class Tail(Rule):
    """A few calls far slower than most. Only where they cost something and are more than one hiccup."""

    id = "time.tail"
    title = "a few calls are far slower than most"
    needs = "60 timed calls (p95), 300 for the p99"
    measure = "p99 (p95 with under 300 calls) divided by the median"
    limits = Limits(10.0, 30.0)

    CALLS_P95 = 60  # three calls beyond the quantile, so that it is not one hiccup
    CALLS_P99 = 300
    LEAST_S = 0.005  # a smaller difference is noise of the machine, and nobody's problem
    LEAST_SHARE = 0.05  # of the site's time, that the slowest calls take
    NOTICED_S = 0.5  # without an SLO: from here on a person notices

    def least(self, limits: Limits) -> tuple[str, float]:
        return "timed", self.CALLS_P95

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        calls, p50, mean = stats.timed, stats.p50_s, stats.mean_s
        if calls < self.CALLS_P95 or not p50 or not mean:
            return self.unjudged("{} timed calls, needs {}", calls, self.CALLS_P95)
        if calls >= self.CALLS_P99:
            name, beyond, value = "p99", 0.01, stats.p99_s
        else:
            name, beyond, value = "p95", 0.05, stats.p95_s
        if value is None:
            return self.unjudged("no {}", name)
        ratio = value / p50
        level = severity(ratio, limits)
        if level < 25.0:
            return self.within("{}/median is {}, limit {:g}", name, Number(ratio), limits.info)
        if value - p50 < self.LEAST_S:
            return self.within("{} is {} times the median but only {} more", name, Number(ratio), Duration(value - p50))
        slo = stats.slo_s
        if slo is not None and value <= slo:
            return self.within("{} is {}, inside the SLO of {}", name, Duration(value), Duration(slo))
        part = beyond * value / mean  # at least: no call beyond the quantile is faster than the quantile
        if part < self.LEAST_SHARE:
            return self.within("the slowest {:g} % take {} of the time", 100 * beyond, Share(part))
        if slo is None and value < self.NOTICED_S:
            level = min(level, MOST_INFO)
        saved = beyond * (value - p50) * calls * per_hour(stats)
        slowest = f"1 in {round(1 / beyond)} calls"
        return self.found(
            stats,
            level,
            f"{stats.site}: half of the calls take up to {duration(p50)}, but {slowest} takes "
            f"{duration(value)} or more ({number(ratio)} times as long).",
            f"{self._cause(stats)} These calls take at least {share(min(part, 1.0))} of its time.",
            {
                "quantile": name,
                "value_s": value,
                "p50_s": p50,
                "ratio": ratio,
                "calls": calls,
                "time_share": part,
            },
            confidence=confidence(calls * beyond, 1.5),
            gain=f"At least {hourly(saved)} if the slowest {100 * beyond:g} % were as fast as the median.",
            gain_s_per_hour=saved,
        )

    @staticmethod
    def _cause(stats: Stats) -> str:
        if stats.size_exponent is not None and stats.size_exponent > 0.5:
            return "Its time goes with the size of its input: the slow calls are mostly the big ones."
        gc_s, mean = stats.gc_s, stats.mean_s
        if gc_s is not None and mean and gc_s / mean > 0.1:
            return f"Garbage collection takes {share(gc_s / mean)} of its time: look at what it allocates."
        rho = stats.in_flight_correlation
        if rho is not None and rho > 0.3 and (stats.in_flight_p or 0.0) < 0.01:
            return (
                "Calls take longer the more of them run at once: see whether those have more to do, or wait for "
                "something that they share."
            )
        if stats.slowest:
            return "The traces of the slowest calls are attached: compare one with a fast call."
        return (
            "Look at what differs in the slow calls: a cache that misses, a bigger input, a connection made anew, "
            "a retry, or a wait for other threads."
        )
