"""Calls that compute."""

from __future__ import annotations

from ..model import Context, Stats, Verdict
from .base import MOST_INFO, Limits, Rule, confidence, per_hour, severity
from .words import Share, duration, share

__all__ = ["Bound"]


class Bound(Rule):
    """Computing is no fault: a warning only when an SLO is missed by it, or when no CPU is left."""

    id = "cpu.bound"
    title = "spends its time computing, and much of it"
    needs = "CPU time of 5 sampled calls"
    measure = "percent of one core that the site's calls take"
    limits = Limits(25.0, 80.0)

    SAMPLES = 5
    COMPUTING = 0.7  # CPU / wall, from which on computing is what it does
    OWN = 0.3  # with a smaller own share it is its callees that compute
    FULL = 0.9  # of all cores: no CPU is left

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        fraction, percent, samples = stats.cpu_fraction, stats.cpu_percent, stats.samples
        if samples < self.SAMPLES:
            return self.unjudged("{} samples, needs {}", samples, self.SAMPLES)
        if fraction is None or percent is None:
            return self.unjudged("no CPU time in the samples")
        if percent < limits.info:
            return self.within("takes {:.3g} % of a core, limit {:g} %", percent, limits.info)
        if fraction < self.COMPUTING:
            return self.within(
                "computes for {} of its time, limit {}", Share(fraction), Share(self.COMPUTING)
            )
        own = stats.own_fraction
        if own is not None and own < self.OWN:
            return self.within("{} of its time is its own, the rest that of functions it calls", Share(own))
        level = severity(percent, limits)
        slo, process = stats.slo_s, context.process_cpu_percent
        missed = slo is not None and stats.p95_s is not None and stats.p95_s > slo
        full = process is not None and process >= 100.0 * self.FULL * context.cpus
        if not (missed or full):
            level = min(level, MOST_INFO)
        cpu_hour = percent / 100.0 * 3600.0
        evidence: dict[str, float | int | str] = {
            "cpu_percent": percent,
            "cpu_fraction": fraction,
            "calls": stats.calls,
            "samples": samples,
        }
        if own is not None:
            evidence["own_fraction"] = own
        if process is not None:
            evidence["process_cpu_percent"] = process
        advice = ["Look inside it with a line profiler for repeated work and unsuitable data structures."]
        if stats.size_exponent is not None and stats.size_exponent >= 1.5:
            advice.append(
                f"Its time grows with the {stats.size_exponent:.2g}th power of the size: start there."
            )
            evidence["size_exponent"] = stats.size_exponent
        if stats.in_flight_peak > 1:
            advice.append("Threads do not help pure Python code (one runs at a time); processes do.")
        if full:
            advice.append(f"The process has no CPU left: it uses {process:.0f} % of {100 * context.cpus} %.")
        return self.found(
            stats,
            level,
            f"{stats.site} computes: {share(fraction)} of its time is CPU time, "
            f"and it takes {percent:.0f} % of one core.",
            " ".join(advice),
            evidence,
            confidence=confidence(samples, self.SAMPLES),
            gain=f"Each 10 % less computing gives back {duration(0.1 * cpu_hour)} of CPU per hour "
            f"({duration(stats.cpu_s or 0.0)} a call, {stats.calls * per_hour(stats):,.0f} calls per hour).",
            gain_s_per_hour=0.1 * cpu_hour,
        )
