"""The last cycles, kept in this process: for tests, and to look at from a debugger."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..errors import OptionError, OptionTypeError

if TYPE_CHECKING:
    from ..model import Cycle, Finding, Report


class MemorySink:
    """Keeps the last `capacity` cycles; `dropped` counts the rest.

    Raises OptionTypeError for a capacity that is no whole number, OptionError for one below 1.
    """

    def __init__(self, capacity: int = 100) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int):
            raise OptionTypeError(
                f"capacity={capacity!r} has the wrong type: give the number of cycles to keep, at least 1"
            )
        if capacity < 1:
            raise OptionError(f"capacity={capacity!r} is not allowed: give the number of cycles to keep, at least 1")
        self._cycles: deque[Cycle] = deque(maxlen=capacity)
        self.dropped = 0

    def emit(self, cycle: Cycle) -> None:
        if len(self._cycles) == self._cycles.maxlen:
            self.dropped += 1
        self._cycles.append(cycle)

    @property
    def cycles(self) -> tuple[Cycle, ...]:
        """The cycles kept, oldest first."""
        return tuple(self._cycles)

    @property
    def reports(self) -> tuple[Report, ...]:
        """The reports of the cycles kept, oldest first."""
        return tuple(report for cycle in self.cycles for report in cycle.reports)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of the cycles kept, oldest first."""
        return tuple(finding for report in self.reports for finding in report.findings)

    def clear(self) -> None:
        self._cycles.clear()
        self.dropped = 0
