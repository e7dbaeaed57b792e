"""What the garbage collector does, and for how long it stops the program."""

from __future__ import annotations

import gc
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
        self._began: int | None = None

    def before(self) -> None:
        gc.callbacks.append(self._watch)

    def after(self) -> None:
        """The same as before before(), even where that was called twice, or where somebody has cleared the list."""
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
