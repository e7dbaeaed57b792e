"""Thread sampler: which of the process's threads compute, seen by looking at their clocks again and again."""

from __future__ import annotations

import threading
from contextlib import suppress

from .procfs import LOOKER, Unreadable, thread_cpu_s, threads

__all__ = ["ThreadSampler"]

_SAMPLE_S = 0.002
_COMPUTES = 0.1  # share of the CPU time, from which on a thread counts as computing


class ThreadSampler:
    """How many threads compute in a call: an observer that looks at all threads' clocks every 2 ms.

    A thread that lives for less than that is not seen.
    """

    def __init__(self) -> None:
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self._counts: list[int] = []
        self._done = threading.Event()

    def before(self) -> None:
        self._done.clear()
        self._first = {thread: thread_cpu_s(thread) for thread in threads()}
        self._last = dict(self._first)
        self._sampler = threading.Thread(target=self._sample, name=LOOKER, daemon=True)
        self._sampler.start()

    def after(self) -> None:
        self._done.set()
        self._sampler.join()
        self._look()
        used = [last - self._first.get(thread, 0.0) for thread, last in self._last.items()]
        self._counts.append(sum(1 for one in used if one >= _COMPUTES * sum(used) and one > 0.0))

    def _sample(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            self._look()

    def _look(self) -> None:
        with suppress(Unreadable):
            for thread in threads():
                self._last[thread] = max(thread_cpu_s(thread), self._last.get(thread, 0.0))

    def computing(self) -> int | None:
        """Threads that take a tenth of a call's CPU time or more, in the median call; None without calls."""
        return sorted(self._counts)[len(self._counts) // 2] if self._counts else None
