"""A function of the user's as a sink."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..model import Cycle


class CallSink:
    """Calls `function(cycle)` for each cycle; what it returns is ignored."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[Cycle], object]) -> None:
        self.function = function

    def emit(self, cycle: Cycle) -> None:
        self.function(cycle)
