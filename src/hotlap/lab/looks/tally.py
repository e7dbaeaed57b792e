"""Tally: what counters grow by between before() and after(), summed over all such spans."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .procfs import Unreadable

__all__ = ["Source", "Tally", "amounts"]

Source = Callable[[], Mapping[str, float]]
"""Reads counters that only grow. Raises Unreadable."""


class Tally:
    """Reads its sources on both sides of a span, the first one outermost.

    A source that cannot be read is asked no more: `not_readable` has its name and the reason.
    """

    def __init__(self, **sources: Source) -> None:
        self._sources = sources
        self._then: dict[str, Mapping[str, float]] = {}
        self.totals: dict[str, float] = {}
        self.not_readable: dict[str, str] = {}
        self.spans = 0

    def before(self) -> None:
        """A span begins; one that has not ended is forgotten."""
        self._then = {}
        for name in list(self._sources):
            found = self._read(name)
            if found is not None:
                self._then[name] = found

    def after(self) -> None:
        """The span ends, and counts."""
        if not self._then:
            return
        for name in reversed(list(self._then)):
            now = self._read(name)
            if now is None:
                continue
            for key, value in self._then[name].items():
                if key in now:
                    self.totals[key] = self.totals.get(key, 0) + now[key] - value
        self._then = {}
        self.spans += 1

    def _read(self, name: str) -> Mapping[str, float] | None:
        source = self._sources.get(name)
        if source is None:
            return None
        try:
            return source()
        except (Unreadable, OSError, ValueError) as reason:
            del self._sources[name]
            self.not_readable[name] = str(reason)
            return None

    def get(self, key: str) -> float | None:
        """A counter's sum; None where no source has told it."""
        return self.totals.get(key)

    def __getitem__(self, key: str) -> float:
        """A counter's sum; NaN where no source has told it."""
        return self.totals.get(key, math.nan)


def amounts(values: Iterable[tuple[str, float | None]], calls: int) -> dict[str, Any]:
    """Details of a report: each value in total and per call; what is not known is left out."""
    details: dict[str, Any] = {}
    for name, value in values:
        if value is None or math.isnan(value):
            continue
        details[f"{name}_total"] = value
        if calls:
            details[f"{name}_per_call"] = value / calls
    return details
