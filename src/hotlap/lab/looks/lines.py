"""LineClock: the time that each line of a few functions takes itself, by tracing them line by line.

A sampling profiler that looks at calls and returns sees nothing in between: what a loop without calls takes is all at
the return after it. Here lines are told apart, at the price of calls that take many times as long, which is why the
times themselves are not used, only how they are shared.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from time import perf_counter_ns
from types import CodeType, FrameType, TracebackType
from typing import Any

from ...errors import HotlapError

__all__ = ["Function", "LineClock"]

Function = tuple[str, int, str]
"""File, first line, name."""

_ROUNDS = 1000
_TRIES = 5
_KNOWN = 20  # times that a line must have run for it to be known what is unusual
_OUTLIER = 100  # times the mean


class LineClock:
    """Times lines of the given functions on this thread, from entering to leaving.

    Raises HotlapError where the thread has a tracer already, such as a debugger.
    """

    def __init__(self, functions: Collection[Function]) -> None:
        self._functions = frozenset(functions)
        self._codes: dict[CodeType, bool] = {}
        self._spent: dict[tuple[CodeType, int], list[int]] = {}  # ns, and how often it was begun or gone on with
        self._now: list[int] | None = None  # of the line that runs
        self._callers: list[list[int] | None] = []  # the lines that wait for what they have called
        self._since = 0

    def __enter__(self) -> LineClock:
        if sys.gettrace() is not None:
            raise HotlapError("another tracer is on")
        sys.settrace(self._entered)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.settrace(None)

    def _go_on(self, line: list[int] | None, now: int) -> None:
        before = self._now
        if before is not None:
            spent, (total, count) = now - self._since, before
            if count >= _KNOWN and spent * count > _OUTLIER * total:  # the thread was taken off its CPU
                spent = total // count
            before[0] += spent
            before[1] += 1
        self._now = line
        self._since = perf_counter_ns()

    def _entered(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        now = perf_counter_ns()
        code = frame.f_code
        wanted = self._codes.get(code)
        if wanted is None:
            function = (code.co_filename, code.co_firstlineno, code.co_name)
            wanted = self._codes[code] = function in self._functions
        frame.f_trace_lines = wanted
        self._callers.append(self._now)
        self._go_on(None, now)
        return self._moved

    def _moved(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        now = perf_counter_ns()
        if event == "line":
            key = (frame.f_code, frame.f_lineno)
            self._go_on(self._spent.get(key) or self._spent.setdefault(key, [0, 0]), now)
        elif event == "return":  # or a yield, or an exception that goes through
            self._go_on(self._callers.pop() if self._callers else None, now)
        return self._moved

    def shares(self) -> Mapping[Function, Mapping[int, float]]:
        """Of each function that ran: what part of its own time each line took, less what tracing adds."""
        cost = _cost_ns()
        found: dict[Function, dict[int, float]] = {}
        for (code, line), (spent, count) in self._spent.items():
            function = (code.co_filename, code.co_firstlineno, code.co_name)
            lines = found.setdefault(function, {})
            lines[line] = lines.get(line, 0.0) + max(spent - cost * count, 0.0)
        return {
            function: {line: spent / total for line, spent in lines.items()}
            for function, lines in found.items()
            if (total := sum(lines.values())) > 0.0
        }


def _cost_ns() -> float:
    """What a line that does nothing seems to take."""

    def nothing(rounds: int) -> None:
        for _ in range(rounds):
            pass

    code = nothing.__code__
    costs: list[float] = []
    for _ in range(_TRIES):
        with LineClock({(code.co_filename, code.co_firstlineno, code.co_name)}) as clock:
            nothing(_ROUNDS)
        costs += [spent / count for spent, count in clock._spent.values() if count >= _ROUNDS // 2]
    return min(costs)
