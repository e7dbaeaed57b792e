"""Calls that hold each other up."""

from __future__ import annotations

from ..model import Context, Stats, Verdict
from .base import MOST_INFO, Limits, Rule, confidence, per_hour, severity
from .words import Duration, Share, duration, share

__all__ = ["Contention"]


class Contention(Rule):
    """Latency that rises with the number of calls in flight: a lock, a pool that is too small, the GIL."""

    id = "concurrency.contention"
    title = "slower the more of its calls run at once"
    needs = "30 sampled calls with different numbers of calls in flight"
    measure = "relative increase of the wall time for each further call in flight"
    limits = Limits(0.1, 0.5)

    SAMPLES = 30
    RHO = 0.3  # rank correlation
    P = 0.01
    LEAST_S = 0.0002  # shorter calls: the cost of a thread switch, not of a lock
    LEAST_LOST = 0.1  # share of the wall time that is lost

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        if stats.in_flight_peak < 2:
            return self.within("never more than one call at once")
        samples, mean = stats.samples, stats.mean_s
        if samples < self.SAMPLES:
            return self.unjudged("{} samples, needs {}", samples, self.SAMPLES)
        slope, rho, p = stats.in_flight_slope, stats.in_flight_correlation, stats.in_flight_p
        if slope is None or rho is None or p is None or mean is None:
            return self.unjudged("the number of calls in flight hardly varied")
        if p > self.P or rho < self.RHO:
            return self.within("no clear relation to the calls in flight (rho {:.2f}, p {:.2g})", rho, p)
        level = severity(slope, limits)
        if level < 25.0:
            return self.within(
                "{:.0f} % more for each call in flight, limit {:.0f} %", 100 * slope, 100 * limits.info
            )
        if mean < self.LEAST_S:
            return self.within("a call takes {}: too short to matter", Duration(mean))
        # Little's law: calls in flight on average = time spent in calls / time.
        total = stats.total_s or 0.0
        others = max(0.0, total / stats.window_s - 1.0) if stats.window_s > 0.0 else 0.0
        lost = slope * others / (1.0 + slope * others)
        if lost < self.LEAST_LOST:
            return self.within("{} of its time is lost so, at the number of calls in flight now", Share(lost))
        slo = stats.slo_s
        if slo is not None and stats.p95_s is not None and stats.p95_s <= slo:
            level = min(level, MOST_INFO)
        saved = lost * total * per_hour(stats)
        evidence: dict[str, float | int | str] = {
            "in_flight_slope": slope,
            "in_flight_correlation": rho,
            "in_flight_p": p,
            "in_flight_mean": 1.0 + others,
            "in_flight_peak": stats.in_flight_peak,
            "lost_share": lost,
            "samples": samples,
        }
        if stats.cpu_fraction is not None:
            evidence["cpu_fraction"] = stats.cpu_fraction
        return self.found(
            stats,
            level,
            f"{stats.site} gets slower the more of its calls run at once: {100 * slope:.0f} % for each "
            "further "
            f"call, with up to {stats.in_flight_peak} at once.",
            self._advice(stats, context),
            evidence,
            confidence=0.9 * confidence(samples, self.SAMPLES / 3),  # slow calls also pile up by themselves
            gain=f"Some {duration(saved)} per hour: {share(lost)} of its time, with {1.0 + others:.2g} "
            "calls in flight "
            "on average.",
            gain_s_per_hour=saved,
        )

    @staticmethod
    def _advice(stats: Stats, context: Context) -> str:
        fraction, busy = stats.cpu_fraction, context.process_cpu_percent
        if busy is not None and busy >= 100.0 * 0.9 * context.cpus:
            return (
                f"No CPU is left ({busy:.0f} % of {100 * context.cpus} %): fewer calls at once, or "
                "more cores."
            )
        if busy is not None and 85.0 <= busy <= 130.0 and context.cpus > 1:
            return (
                f"The process uses {busy:.0f} % of one core, no more: its threads take turns at the "
                "interpreter's "
                "lock. Move what computes to processes, or to code that releases that lock."
            )
        if fraction is not None and fraction < 0.5:
            return (
                "Its calls wait for each other: look for a lock held during slow work (a query, a "
                "request, a file), "
                "or for a pool with too few connections. Hold the lock only while the shared data changes."
            )
        return "Look for what the calls share: a lock, a pool, one connection, one file."
