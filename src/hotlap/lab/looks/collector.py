"""What the garbage collector does, and for how long it stops the program."""

from __future__ import annotations

import gc
import math
from time import perf_counter_ns
from typing import Any

__all__ = ["Collections"]


class Collections:
    """Collections of all threads and their pauses, summed over the spans between before() and after().

    The time is that which the collector itself takes, with the finalizers that it runs.
    """

    def __init__(self) -> None:
        self.counts = [0, 0, 0]  # by generation
        self.collected = 0  # objects in cycles that nobody else held
        self.uncollectable = 0
        self.pause_ns = 0
        self.longest_ns = 0
        self.spans_ns = 0  # how long the spans took
        self._began: int | None = None
        self._entered: int | None = None

    def before(self) -> None:
        gc.callbacks.append(self._watch)
        self._entered = perf_counter_ns()

    def after(self) -> None:
        """The same as before before(), even where that was called twice, or where somebody has cleared the list."""
        if self._entered is not None:
            self.spans_ns += perf_counter_ns() - self._entered
            self._entered = None
        while self._watch in gc.callbacks:
            gc.callbacks.remove(self._watch)
        self._began = None

    def _watch(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = perf_counter_ns()
        elif self._began is not None:
            pause = perf_counter_ns() - self._began
            self._began = None
            self.counts[info["generation"]] += 1
            self.collected += info["collected"]
            self.uncollectable += info["uncollectable"]
            self.pause_ns += pause
            self.longest_ns = max(self.longest_ns, pause)

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def share(self) -> float:
        """Of the time of the spans; NaN before there was one."""
        return self.pause_ns / self.spans_ns if self.spans_ns else math.nan
