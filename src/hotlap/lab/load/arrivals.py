"""Arrivals: calls that are due at a rate of their own (the open model), what came of them, and what to say of it.

Where more arrive than get done, latency is a matter of how long the run is: that is said, with what is missing: users,
or capacity of the subject. A call may also begin later than it could have: where other calls computed meanwhile and let
nobody else run, that is the subject's doing; the rest is the generator's own lateness.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ...rules.words import duration, number, rate, share
from ...stats.overload import overload
from ...stats.sample import quantiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .level import Level

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["arrivals", "arrived", "backlog", "lateness", "remedy"]

_LATE = 0.1  # of the latency
_SLOWER = 1.5  # times what a call takes alone: from here on users are in each other's way
_HELD = {
    "threads": "the interpreter's lock (GIL) or the CPUs",
    "tasks": "the event loop",
}  # what a call lets nobody have


def arrivals(calls: int, asked: float, poisson: bool = False, seed: int = 0) -> Integers:
    """When each of so many calls is due, in ns after the start: at `asked` calls per second, shape (calls,).

    Evenly, or as a Poisson process: independent callers, who sometimes come at the same time.
    """
    due_ns: NDArray[Any]
    if poisson:
        due_ns = np.cumsum(np.random.default_rng(seed).exponential(1e9 / asked, calls))
    else:
        due_ns = np.arange(calls) * (1e9 / asked)
    rounded: Integers = np.rint(due_ns).astype(np.int64)
    return rounded


def arrived(kind: str, level: Level, asked: float, poisson: bool) -> dict[str, Any]:
    """What came of the arrivals. The offered load is the users who are at work on average (Little, 1961)."""
    part, mean = level.part, level.mean_s
    due_s = (part.due_ns - part.start_ns) / 1e9
    found = overload(due_s, due_s + level.latency_s, asked)
    return {
        "arrival_rate": asked,
        "arrivals": "poisson" if poisson else "constant",
        "due": part.due,
        "not_begun": max(0, part.due - level.calls - part.cut_off - part.running),
        "offered_load": None if mean is None else asked * mean,
        "utilisation": None if mean is None else asked * mean / level.users,
        "overload": None if found is None else asdict(found),
        "wait": _described(level.wait_s),
        "lag": {**_described(level.lag_s), "held_up_s": _held_up_s(kind, level)},
    }


def _described(values: Floats) -> dict[str, float | None]:
    if len(values) == 0:
        return {"mean_s": None, "p99_s": None, "max_s": None}
    p99 = float(quantiles(values, (0.99,))[0])
    return {"mean_s": float(values.mean()), "p99_s": p99, "max_s": float(values.max())}


def _held_up_s(kind: str, level: Level) -> float | None:
    """Of the mean lag, how long other calls computed meanwhile; None without evidence.

    When in its time a call computed is not known: it is taken for even.
    """
    part, series = level.part, level.series
    computed_s = series.run_s if kind == "tasks" else series.thread_cpu_s
    if not np.isfinite(computed_s).any():
        return None
    begun = (part.records["start_ns"].astype(np.int64) - part.start_ns) / 1e9
    share_of_time = np.nan_to_num(computed_s) / np.maximum(series.raw_s, 1e-9)
    times = np.concatenate((begun, begun + series.raw_s))
    order = np.argsort(times)
    times, at_work = times[order], np.cumsum(np.concatenate((share_of_time, -share_of_time))[order])
    computed = np.concatenate(([0.0], np.cumsum(at_work[:-1] * np.diff(times))))  # by all calls, until then
    called = (part.called_ns - part.start_ns) / 1e9
    meanwhile = np.interp(called, times, computed) - np.interp(called - level.lag_s, times, computed)
    return float(np.minimum(meanwhile, level.lag_s).mean())


def backlog(details: dict[str, Any]) -> list[str]:
    """Notes on more arrivals than could be done, and on those that were not."""
    said = []
    found = details["overload"]
    if found is not None:
        said.append(
            f"Overloaded: {rate(found['asked'])} were asked for, and {rate(found['got'])} ended. The backlog grew, and "
            f"latency with it, from {duration(found['first_s'])} in the first twentieth of the run to "
            f"{duration(found['last_s'])} in the last: latencies are a matter of how long the run is."
        )
    if details["not_begun"]:
        said.append(
            f"{details['not_begun']:,} calls were due by the end and had not begun: their latency, which would be "
            "the longest of all, is in no number."
        )
    return said


def lateness(details: dict[str, Any]) -> list[str]:
    """Notes on calls that began later than they could have: a user was free, and the call was due."""
    lag, latency = details["lag"], details["latency"]["mean_s"]
    late, held_up = lag["mean_s"], lag["held_up_s"] or 0.0
    if late is None or not latency:
        return []
    said = []
    own = late - held_up
    if own > _LATE * latency:
        known = "" if lag["held_up_s"] is not None else ", or calls held it up, which this debug level does not tell"
        said.append(
            f"The generator itself was late{known}: it began a call {duration(own)} after it could have, on average, "
            f"and that is {share(own / latency)} of the latency."
        )
    if held_up > _LATE * latency:
        said.append(
            f"Calls that were due, and had a free user, were held up by others that kept "
            f"{_HELD[details['kind_of_users']]} busy: by {duration(held_up)} on average, {share(held_up / latency)} of "
            "the latency. That is the subject's doing, not the generator's."
        )
    return said


def remedy(level: Level, details: dict[str, Any], alone_s: float | None, limits: bool) -> list[str]:
    """Advice where more arrive than get done. `alone_s` is what a call takes alone; `limits`: the generator does."""
    found, mean = details["overload"], level.mean_s
    if found is None or mean is None:
        return []
    asked, lower = rate(found["asked"]), "ask for a lower arrival_rate"
    if limits:
        return [f"Overloaded: it is the generator that cannot begin {asked}: {lower}."]
    if alone_s is not None and mean >= _SLOWER * alone_s:
        return [
            f"Overloaded: a call takes {duration(mean)} beside others and {duration(alone_s)} alone, so what is "
            f"missing is capacity of the subject, not users: of {asked} it gets {number(found['got'])} done. Let it do "
            f"more at once, or {lower}."
        ]
    if details["utilisation"] >= 1.0:
        there = "is 1" if level.users == 1 else f"are {level.users}"
        return [
            f"Overloaded: {asked} of {duration(mean)} keep {number(details['offered_load'])} users at work at all "
            f"times, and there {there}: allow more concurrent_users, or {lower}."
        ]
    return [f"Overloaded: of {asked}, {number(found['got'])} get done: {lower}."]
