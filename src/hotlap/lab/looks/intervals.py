"""Intervals: how often something happened, how long it took, and for how much of the time it went on."""

from __future__ import annotations

import threading

__all__ = ["Intervals"]

_MOST_KEPT = 100_000


class Intervals:
    """Collects intervals, maybe from several threads. Those that overlap cover a time once."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # the garbage collector may run a listener's code within
        self._open: list[tuple[float, float]] = []
        self._covered_s = 0.0
        self.count = 0
        self.total_s = 0.0
        self.durations_s: list[float] = []  # the first 100,000

    def add(self, began: float, ended: float) -> None:
        with self._lock:
            self._open.append((began, ended))
            self.count += 1
            self.total_s += ended - began
            if len(self.durations_s) < _MOST_KEPT:
                self.durations_s.append(ended - began)
            if len(self._open) >= _MOST_KEPT:
                self._merge()

    def _merge(self) -> None:
        end = float("-inf")
        for began, ended in sorted(self._open):
            self._covered_s += max(0.0, ended - max(began, end))
            end = max(end, ended)
        self._open.clear()

    @property
    def covered_s(self) -> float:
        """The time during which at least one went on."""
        with self._lock:
            self._merge()
            return self._covered_s
