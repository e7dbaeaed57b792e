"""Calls that compute."""

from __future__ import annotations

from ..model import Context, Stats, Verdict
from .base import MOST_INFO, Limits, Rule, confidence, per_hour, severity
from .words import Number, Share, duration, hourly, number, rate, share

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
    PARALLEL = 130.0  # percent of one core, from which on threads do compute side by side

    def least(self, limits: Limits) -> tuple[str, float]:
        return "cpu_percent", limits.info

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        fraction, percent, samples = stats.cpu_fraction, stats.cpu_percent, stats.samples
        if samples < self.SAMPLES:
            return self.unjudged("{} samples, needs {}", samples, self.SAMPLES)
        if fraction is None or percent is None:
            return self.unjudged("no CPU time in the samples")
        process = context.process_cpu_percent
        if process is not None:
            percent = min(percent, process)  # an estimate from few samples may be more than there was
        if percent < limits.info:
            return self.within("takes {} % of a core, limit {:g} %", Number(percent), limits.info)
        if fraction < self.COMPUTING:
            return self.within("computes for {} of its time, limit {}", Share(fraction), Share(self.COMPUTING))
        own = stats.own_fraction
        if own is not None and own < self.OWN:
            return self.within("{} of its time is its own, the rest that of functions it calls", Share(own))
        level = severity(percent, limits)
        slo = stats.slo_s
        missed = slo is not None and stats.p95_s is not None and stats.p95_s > slo
        full = process is not None and process >= 100.0 * self.FULL * context.cpus
        if not (missed or full):
            level = min(level, MOST_INFO)
        cpu_s = percent / 100.0 * stats.window_s / stats.calls if stats.calls else 0.0
        spared = 0.1 * percent / 100.0 * 3600.0
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
            advice.append(f"Its time grows as size**{stats.size_exponent:.2g}: start there.")
            evidence["size_exponent"] = stats.size_exponent
        if stats.in_flight_peak > 1 and process is not None and process < self.PARALLEL:
            advice.append("If it is pure Python, threads do not speed it up (one runs at a time); processes do.")
        if full:
            advice.append(f"The process has no CPU left: it uses {process:.0f} % of {100 * context.cpus} %.")
        return self.found(
            stats,
            level,
            f"{stats.site} computes: {share(fraction)} of its time is CPU time, "
            f"and it takes {number(percent)} % of one core.",
            " ".join(advice),
            evidence,
            confidence=confidence(samples, self.SAMPLES),
            gain=f"Each 10 % less computing gives back {hourly(spared, 'CPU')}: "
            f"it takes {duration(cpu_s)} a call, at {rate(stats.calls * per_hour(stats) / 3600.0)}.",
            gain_s_per_hour=spared,
        )
