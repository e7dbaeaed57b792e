"""Calls that wait, and calls made one by one that could be one."""

from __future__ import annotations

from ..model import Context, Stats, Verdict
from .base import MOST_INFO, Limits, Rule, confidence, per_hour, severity
from .words import Duration, Share, count, duration, share

__all__ = ["NPlusOne", "Waiting"]


class Waiting(Rule):
    """Waiting is no fault in itself (a poll, a queue): a warning only when an SLO is missed by it."""

    id = "io.waiting"
    title = "spends its time waiting"
    needs = "CPU time and context switches of 5 sampled calls, or 5 async calls with their suspended time"
    measure = "share of the wall time in which the call does not compute"
    limits = Limits(0.5, 0.9)

    SAMPLES = 5
    LEAST_S = 0.0005  # a shorter wait per call is scheduling noise
    LEAST_LOAD = 0.05  # seconds waited in each second, over all calls
    OWN = 0.3
    SWITCHES = 0.5  # voluntary context switches per call, from which on the call really gave up its CPU

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        mean, fraction, samples = stats.mean_s, stats.cpu_fraction, stats.samples
        if mean is None or mean <= 0.0:
            return self.unjudged("no timed calls")
        suspended = stats.suspended_s
        if suspended:
            # Exact, while the CPU time of a coroutine's thread is not its own alone.
            amount = stats.timed
            waiting = min(suspended / mean, 1.0)
        elif fraction is not None:
            amount = samples
            waiting = max(0.0, 1.0 - fraction)
        else:
            return self.unjudged("no CPU time in {} samples", samples)
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
        if not suspended and not self._gave_up(stats):
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
        }
        for name in ("cpu_fraction", "voluntary", "major_faults", "suspensions", "in_flight_slope"):
            value = getattr(stats, name)
            if value is not None:
                evidence[name] = value
        return self.found(
            stats,
            level,
            f"{stats.site} waits: {duration(wait_s)} of its {duration(mean)} a call ({share(waiting)}) "
            "it does not compute.",
            self._advice(stats, context),
            evidence,
            confidence=confidence(amount, self.SAMPLES),
            gain=f"At most {duration(saved)} of waiting per hour, in "
            f"{count(stats.calls * per_hour(stats), 'call')}.",
            gain_s_per_hour=saved,
        )

    def _gave_up(self, stats: Stats) -> bool:
        switches = (stats.voluntary or 0.0) + (stats.major_faults or 0.0)
        return switches >= self.SWITCHES or stats.voluntary is None

    @staticmethod
    def _advice(stats: Stats, context: Context) -> str:
        if stats.major_faults is not None and stats.major_faults >= 0.5:
            return (
                f"{stats.major_faults:.2g} pages a call come from disk: the memory it reads was swapped out, "
                "or is a mapped file read for the first time."
            )
        rho = stats.in_flight_correlation
        if rho is not None and rho > 0.3 and (stats.in_flight_p or 0.0) < 0.01:
            return (
                "It waits longer the more of its calls run at once: most likely for each other, at a lock "
                "or for a connection of a pool."
            )
        busy = context.process_cpu_percent
        if busy is not None and 85.0 <= busy <= 130.0 and stats.in_flight_peak > 1:
            return (
                f"The process as a whole uses {busy:.0f} % of one core, so threads may be waiting for the "
                "interpreter's lock: move what computes to processes."
            )
        if stats.suspensions is not None and stats.suspensions >= 2:
            return (
                f"It awaits {stats.suspensions:.2g} times a call: awaits that do not need each other can run "
                "together (asyncio.gather or a TaskGroup)."
            )
        return (
            "Find what it waits for: a query, a request, a file, a lock, a sleep. If calls do not need "
            "each other, "
            "let them wait together (threads or asyncio), or ask for many things at once."
        )


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

    def check(self, stats: Stats, context: Context, limits: Limits) -> Verdict:
        samples, parents, total = stats.samples, stats.parents, stats.total_s
        if samples < self.SAMPLES:
            return self.unjudged("{} samples, needs {}", samples, self.SAMPLES)
        if not parents:
            return self.within("no measured function calls it")
        parent = max(parents, key=parents.__getitem__)
        parent_calls = context.site_calls.get(parent, 0)
        if parent_calls < self.PARENT_CALLS:
            return self.unjudged(
                "{} calls of its parent {}, needs {}", parent_calls, parent, self.PARENT_CALLS
            )
        each = stats.calls * parents[parent] / parent_calls
        if each < limits.info:
            return self.within("{:.3g} calls in each call of {}, limit {:g}", each, parent, limits.info)
        parent_s = context.site_total_s.get(parent)
        if not total or not parent_s:
            return self.unjudged("no times")
        taken = total * parents[parent]
        part = taken / parent_s
        load = taken / stats.window_s if stats.window_s > 0.0 else 0.0
        if part < self.LEAST_SHARE or load < self.LEAST_LOAD:
            return self.within(
                "{:.3g} calls in each call of {}, but {} of its time", each, parent, Share(min(part, 1.0))
            )
        level = min(severity(each, limits), MOST_INFO if load < 0.2 else 99.9)
        saved = taken * (1.0 - 1.0 / each) * per_hour(stats)
        return self.found(
            stats,
            level,
            f"{parent} calls {stats.site} {each:.3g} times in each of its calls, which takes "
            f"{share(min(part, 1.0))} of the time of {parent}.",
            "Ask for all of it in one call before the loop (one query with IN or a join, one request "
            "with a list), "
            "or keep results that repeat.",
            {
                "parent": parent,
                "calls_per_parent_call": each,
                "parent_time_share": part,
                "calls": stats.calls,
                "samples": samples,
            },
            confidence=confidence(samples, self.SAMPLES / 2),
            gain=f"Up to {duration(saved)} per hour if one call did the work of {each:.3g} at the cost of "
            "one.",
            gain_s_per_hour=saved,
        )
