"""Calls that take longer the more of them run at once."""

from __future__ import annotations

from ..model import Context, Stats, Verdict
from .base import MOST_INFO, Limits, Rule, confidence, per_hour, severity
from .words import Duration, Share, either, hourly, number, share

__all__ = ["Contention", "computing_may_explain"]


def computing_may_explain(waited_s_per_s: float, stats: Stats, context: Context) -> bool:
    """Whether other threads that compute can be what most of this waiting is for: the interpreter's lock, or a loop.

    A second of computing holds up at most as many calls as are in flight; a process that computes too little for
    that waits for something else.
    """
    busy = context.process_cpu_percent
    return busy is not None and busy / 100.0 * max(stats.in_flight_peak, 1) >= 0.5 * waited_s_per_s


class Contention(Rule):
    """Latency that rises with the number of calls in flight. What they share cannot be seen in that.

    A note at most, unless an SLO is missed: the calls that run at once may just have more to do, and then all is well.
    """

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
    CREDIBLE = 2.0  # one at a time, each further call adds one call's time; beyond twice that they are other calls
    SURE = 0.6  # slow calls also pile up by themselves, and the bigger ones may come together

    def least(self, limits: Limits) -> tuple[str, float]:
        return "in_flight_slope", limits.info

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
            return self.within("{:.0f} % more for each call in flight, limit {:.0f} %", 100 * slope, 100 * limits.info)
        if slope > self.CREDIBLE:
            return self.unjudged(
                "{:.0f} % more for each call in flight, while waiting for each other adds some 100 %: "
                "the calls that run at once are other ones",
                100 * slope,
            )
        if mean < self.LEAST_S:
            return self.within("a call takes {}: too short to matter", Duration(mean))
        # Little's law: calls in flight on average = time spent in calls / time.
        total = stats.total_s or 0.0
        in_flight = total / stats.window_s if stats.window_s > 0.0 else 0.0
        others = max(0.0, in_flight - 1.0)
        lost = slope * others / (1.0 + slope * others)
        if lost < self.LEAST_LOST:
            return self.within("{} of its time is lost so, at the number of calls in flight now", Share(lost))
        slo = stats.slo_s
        if slo is None or stats.p95_s is None or stats.p95_s <= slo:
            level = min(level, MOST_INFO)
        saved = lost * total * per_hour(stats)
        evidence: dict[str, float | int | str] = {
            "in_flight_slope": slope,
            "in_flight_correlation": rho,
            "in_flight_p": p,
            "in_flight_mean": in_flight,
            "in_flight_peak": stats.in_flight_peak,
            "lost_share": lost,
            "samples": samples,
        }
        if stats.cpu_fraction is not None:
            evidence["cpu_fraction"] = stats.cpu_fraction
        if context.process_cpu_percent is not None:
            evidence["process_cpu_percent"] = context.process_cpu_percent
        return self.found(
            stats,
            level,
            f"{stats.site}: calls take longer the more of them run at once, {100 * slope:.0f} % for each further call "
            f"(up to {stats.in_flight_peak} at once).",
            self._advice(stats, context, saved / 3600.0),
            evidence,
            confidence=self.SURE * confidence(samples, self.SAMPLES / 3),
            gain=f"At most {hourly(saved)}, if each call took as long as alone: {share(lost)} of its time, with "
            f"{number(in_flight)} calls in flight on average.",
            gain_s_per_hour=saved,
        )

    @staticmethod
    def _advice(stats: Stats, context: Context, lost_s_per_s: float) -> str:
        if stats.cpu_fraction is not None and stats.cpu_fraction >= 0.7:
            return (
                "They do not wait, they compute longer: the calls that run at once have more to do, or they crowd "
                "each other out of caches and memory."
            )
        shared = ["a lock", "a pool", "a connection", "a server or disk that takes one at a time"]
        if computing_may_explain(lost_s_per_s, stats, context):
            shared.append("the interpreter's own lock")
        busy = context.process_cpu_percent
        if busy is not None and busy >= 90.0 * context.cpus:
            shared.append(f"the CPU, of which none is left ({busy:.0f} % of {100 * context.cpus} %)")
        return (
            f"They may wait for something that they share: {either(shared)}. Or those that run at once just have more "
            "to do. Measure the steps inside it (hotlap.measure) to see which."
        )
