"""Tracker: counts what happens from start() to stop(), in a with block, or over the spans of an observer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

__all__ = ["Tracker"]

T = TypeVar("T", bound="Tracker")


class Tracker(ABC):
    """Sums over spans, each from before() to after(): an Observer of a run, and usable by itself."""

    def __enter__(self: T) -> T:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self: T) -> T:
        """Forget all sums, and begin."""
        self._reset()
        self.before()
        return self

    def stop(self: T) -> T:
        self.after()
        return self

    @abstractmethod
    def _reset(self) -> None:
        """Forget all sums."""

    @abstractmethod
    def before(self) -> None: ...

    @abstractmethod
    def after(self) -> None: ...
