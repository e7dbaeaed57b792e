"""The timer's own precision and cost, and how many calls make an iteration that it can time well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import repeat
from math import ceil
from typing import Any

import numpy as np

from .recording import Recording
from .subject import empty_loop

__all__ = ["Timer", "calibrate", "measure_timer"]

_ROUNDS = 64
_EMPTY_CALLS = 2000
SAMPLE_S = 1e-3  # an iteration should take this long
_STEPS = 12  # of doubling and scaling, until it does
_MOST_CALLS = 10**7

Runner = Callable[[int], Awaitable[Any]]
"""Makes one iteration of so many calls."""


@dataclass(frozen=True, slots=True)
class Timer:
    """What timing an iteration costs, and how fine it is. Seconds."""

    resolution_s: float  # how far apart two timings of nothing lie, at least 1 ns
    timer_s: float  # what timing an empty loop shows: subtracted from each iteration
    loop_s: float  # what the loop adds to each call: subtracted, too
    iteration_s: float  # what recording costs beside each iteration: in no time at all

    def per_call_s(self, wall_s: Any, loops: Any) -> Any:
        """Time of one call, from the wall time of an iteration of `loops` calls; arrays or numbers.

        0 where what is subtracted is more than what was seen: it is no time below that of nothing.
        """
        return np.maximum((wall_s - self.timer_s) / loops - self.loop_s, 0.0)

    def share_of(self, sample_s: float) -> float:
        """The resolution as a share of a sample of this length."""
        return self.resolution_s / sample_s if sample_s > 0.0 else float("inf")


async def measure_timer(recording: Recording, asynchronous: bool) -> Timer:
    """Time nothing: an empty loop of no calls, and one of many."""
    probe = recording.probe(empty_loop(asynchronous), asynchronous)

    async def times(calls: int) -> Any:
        recording.forget()
        for _ in range(_ROUNDS):
            result = probe(repeat(None, calls))
            if asynchronous:
                await result
        records = recording.records()
        recording.forget()
        return records["wall_ns"] / 1e9, records["start_ns"] / 1e9

    none, starts = await times(0)
    many, _ = await times(_EMPTY_CALLS)
    timer = float(np.median(none))
    loop = max(0.0, (float(np.median(many)) - timer) / _EMPTY_CALLS)
    apart = np.diff(np.sort(none))
    resolution = max(
        1e-9,
        float(np.median(np.abs(none - timer))),
        float(apart[apart > 0].min(initial=np.inf)) if (apart > 0).any() else 0.0,
    )
    period = float(np.median(np.diff(starts)))
    return Timer(resolution, timer, loop, max(0.0, period - timer))


async def calibrate(run: Runner, recording: Recording, timer: Timer, sample_s: float = SAMPLE_S) -> int:
    """How many calls fill an iteration of `sample_s`, or what the timer needs for 1 % if that is longer."""
    wanted = max(sample_s, 100.0 * timer.resolution_s)
    loops = 1
    for _ in range(_STEPS):
        recording.forget()
        await run(loops)
        await run(loops)
        took = float(recording.records()["wall_ns"].min()) / 1e9
        recording.forget()
        if took >= wanted or loops >= _MOST_CALLS:
            return loops
        per_call = max(took - timer.timer_s, 1e-9) / loops
        # Not more than tenfold at once: the first calls are slow, and fill caches.
        loops = min(10 * loops, ceil(1.1 * wanted / per_call), _MOST_CALLS)
    return loops
