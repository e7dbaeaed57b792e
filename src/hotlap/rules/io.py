"""Calls that wait, and calls made one by one that could be one."""

from __future__ import annotations

from ..model import BenchmarkType, Context, Stats, Verdict
from .base import MOST_INFO, Limits, Rule, confidence, gave_up_cpu, per_hour, severity, waiting_share
from .concurrency import computing_may_explain
from .words import Duration, Number, Share, duration, either, hourly, number, rate, share

__all__ = ["NPlusOne", "Waiting"]


class Waiting(Rule):
    """Waiting is no fault in itself (a poll, a queue): a warning only when an SLO is missed by it.

    What a call waits for leaves no trace in its times: the causes that fit are named as such, none as the one.
    """

    id = "io.waiting"
    title = "spends its time waiting"
    needs = "CPU time and context switches of 5 sampled calls, or 5 async calls with their suspended time"
    measure = "share of the wall time in which the call does not compute"
    limits = Limits(0.5, 0.9)
    yields_to = ("concurrency.contention",)

    SAMPLES = 5
    LEAST_S = 0.0005  # a shorter wait per call is scheduling noise
    LEAST_LOAD = 0.05  # seconds waited in each second, over all calls
    OWN = 0.3
    PAGE_S = 0.01  # what a slow disk takes for one page

    def least(self, limits: Limits) -> tuple[str, float]:
        return "mean_s", self.LEAST_S

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        mean, samples, waiting = stats.mean_s, stats.samples, waiting_share(stats)
        if not mean:
            return self.unjudged("no timed calls")
        if waiting is None:
            return self.unjudged("no CPU time in {} samples", samples)
        amount = stats.timed if stats.suspended_s else samples
        if amount < self.SAMPLES:
            return self.unjudged("{} samples, needs {}", amount, self.SAMPLES)
        if waiting < limits.info:
            return self.within("waits for {} of its time, limit {}", Share(waiting), Share(limits.info))
        wait_s = waiting * mean
        load = wait_s * stats.calls / stats.window_s if stats.window_s > 0.0 else 0.0
        if wait_s < self.LEAST_S or load < self.LEAST_LOAD:
            return self.within("waits for {} a call, {} in each second", Duration(wait_s), Duration(load))
        if stats.own_fraction is not None and stats.own_fraction < self.OWN:
            return self.within("the waiting is in the measured functions that it calls")
        if not gave_up_cpu(stats):
            return self.within("it hardly ever gave up its CPU: no waiting, but others taking the CPU")
        level = severity(waiting, limits)
        slo = stats.slo_s
        if slo is None or stats.p95_s is None or stats.p95_s <= slo:
            level = min(level, MOST_INFO)
        saved = wait_s * stats.calls * per_hour(stats)
        evidence: dict[str, float | int | str] = {
            "waiting_share": waiting,
            "wait_s": wait_s,
            "wait_s_per_s": load,
            "calls": stats.calls,
            "samples": samples,
            "in_flight_peak": stats.in_flight_peak,
        }
        for name in ("cpu_fraction", "voluntary", "major_faults", "suspensions", "in_flight_slope"):
            value = getattr(stats, name)
            if value is not None:
                evidence[name] = value
        if context.process_cpu_percent is not None:
            evidence["process_cpu_percent"] = context.process_cpu_percent
        return self.found(
            stats,
            level,
            f"{stats.site} waits: {duration(wait_s)} of its {duration(mean)} a call ({share(waiting)}) "
            "it does not compute.",
            self._advice(stats, context, wait_s, load),
            evidence,
            confidence=confidence(amount, self.SAMPLES),
            gain=f"At most {hourly(saved, 'waiting')}, at {rate(stats.calls * per_hour(stats) / 3600.0)}.",
            gain_s_per_hour=saved,
        )

    def _advice(self, stats: Stats, context: Context, wait_s: float, load: float) -> str:
        faults = stats.major_faults or 0.0
        if faults >= 0.5 and faults * self.PAGE_S >= 0.5 * wait_s:
            return (
                f"{number(faults)} pages a call come from disk: the memory it reads was swapped out, "
                "or is a mapped file read for the first time."
            )
        causes = ["a query", "a request", "a file", "a queue", "a sleep", "a lock"]
        if computing_may_explain(load, stats, context):
            causes.append("its turn while other tasks compute" if stats.suspended_s else "the interpreter's own lock")
        advice = [
            f"What for cannot be told from outside; it may be {either(causes)}. Measure the steps inside it "
            "(hotlap.measure) to see which."
        ]
        if stats.suspensions is not None and stats.suspensions >= 2:
            advice.append(
                f"It awaits {number(stats.suspensions)} times a call: awaits that do not need each other can run "
                "together (asyncio.gather or a TaskGroup)."
            )
        elif stats.in_flight_peak < 2:
            advice.append(
                "Calls that do not need each other can wait together (threads or asyncio), or ask for many things "
                "at once."
            )
        return " ".join(advice)


class NPlusOne(Rule):
    """Called many times in each call of one parent, and taking much of the parent's time."""

    id = "io.n_plus_one"
    title = "called one by one, many times in each call of its parent"
    needs = "parents of 20 sampled calls, and 3 calls of the parent"
    measure = "calls in each call of the parent"
    limits = Limits(10.0, 100.0)

    SAMPLES = 20
    PARENT_CALLS = 3
    LEAST_SHARE = 0.3  # of the parent's time
    LEAST_LOAD = 0.05  # seconds in each second
    OVERLAP = 1.2  # times the parent's time, from which on the calls run beside each other, not one by one
    COMPUTES = 0.7  # CPU / wall, from which on it is the computing that is repeated
    WAITS = 0.3

    def least(self, limits: Limits) -> tuple[str, float]:
        return "samples", self.SAMPLES

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        samples, parents, total = stats.samples, stats.parents, stats.total_s
        if samples < self.SAMPLES:
            return self.unjudged("{} samples, needs {}", samples, self.SAMPLES)
        if not parents:
            return self.within("no measured function calls it")
        parent = max(parents, key=parents.__getitem__)
        parent_calls = context.site_calls.get(parent, 0)
        if parent_calls < self.PARENT_CALLS:
            return self.unjudged("{} calls of its parent {}, needs {}", parent_calls, parent, self.PARENT_CALLS)
        each = stats.calls * parents[parent] / parent_calls
        if each < limits.info:
            return self.within("{} calls in each call of {}, limit {:g}", Number(each), parent, limits.info)
        parent_s = context.site_total_s.get(parent)
        if not total or not parent_s:
            return self.unjudged("no times")
        taken = total * parents[parent]
        part = taken / parent_s
        load = taken / stats.window_s if stats.window_s > 0.0 else 0.0
        if part > self.OVERLAP:
            return self.within(
                "{} calls in each call of {}, but beside each other: together they take {} times its time",
                Number(each),
                parent,
                Number(part),
            )
        if part < self.LEAST_SHARE or load < self.LEAST_LOAD:
            return self.within(
                "{} calls in each call of {}, but {} of its time", Number(each), parent, Share(min(part, 1.0))
            )
        level = min(severity(each, limits), MOST_INFO if load < 0.2 else 99.9)
        saved = taken * (1.0 - 1.0 / each) * per_hour(stats)
        evidence: dict[str, float | int | str] = {
            "parent": parent,
            "calls_per_parent_call": each,
            "parent_time_share": part,
            "calls": stats.calls,
            "samples": samples,
        }
        if stats.cpu_fraction is not None:
            evidence["cpu_fraction"] = stats.cpu_fraction
        return self.found(
            stats,
            level,
            f"{parent} calls {stats.site} {number(each)} times in each of its calls on average, which takes "
            f"{share(min(part, 1.0))} of the time of {parent}.",
            self._advice(stats),
            evidence,
            confidence=confidence(samples, self.SAMPLES / 2),
            gain=f"At most {hourly(saved)}, if one call did the work of {number(each)} at the cost of one.",
            gain_s_per_hour=saved,
        )

    def _advice(self, stats: Stats) -> str:
        ask = "ask for all of it in one call before the loop (one query with IN or a join, one request with a list)"
        keep = "keep results that repeat (functools.cache), or compute all of them in one go (vectorised)"
        fraction = stats.cpu_fraction
        if stats.type in (BenchmarkType.I_O, BenchmarkType.NETWORK) or (
            fraction is not None and fraction <= self.WAITS
        ):
            return f"{ask[0].upper()}{ask[1:]}, or keep results that repeat."
        if fraction is not None and fraction >= self.COMPUTES:
            return f"It computes for {share(fraction)} of that time: {keep}."
        return f"If it asks somebody else, {ask}; if it computes, {keep}."
