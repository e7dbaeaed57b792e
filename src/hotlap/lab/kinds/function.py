"""FUNCTION: the time of a call, how well it could be timed, and whether it does anything at all."""

from __future__ import annotations

import inspect
import time
import types
from collections.abc import Callable
from contextlib import suppress
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from ...options import BenchmarkType
from ...rules.words import duration
from ...stats.sample import quantiles
from ..examination import Examination
from ..runs.calls import Calls
from ..runs.interrupts import Stopped
from ..runs.recording import Recording
from ..runs.run import Outcome, drive
from ..runs.subject import Subject
from ..runs.timer import Timer
from .kind import Kind

if TYPE_CHECKING:
    from ..progress import Reporter
    from ..runs.limits import Guard

__all__ = ["Function", "suspicions"]

_ROUNDS = 30
_CALLS = 1000
_HARDLY_MORE = 1.5  # times an empty function
_COARSE = 0.01  # of a sample: the timer's resolution
_SINGLE_CALLS = 2000
_FEWEST = 100  # of which p99 is one
_APART = 2.0  # times the p99 of means


class Function(Kind):
    """Nothing is looked at but what all kinds see."""

    type = BenchmarkType.FUNCTION

    def examine(self, outcome: Outcome, guard: Guard, reporter: Reporter) -> Examination:
        notes = suspicions(self.subject, outcome)
        single = _SingleCalls(self, outcome, guard).look()
        if single is None:
            return Examination(notes=notes)
        p99 = float(quantiles(outcome.series.good, (0.99,))[0])
        if single["p99_s"] > _APART * p99:
            notes.append(
                f"Iterations are means of {outcome.series.loops} calls, and so are p95, p99 and max: of "
                f"{single['calls']} calls timed one by one, p99 is {duration(single['p99_s'])}, the longest took "
                f"{duration(single['max_s'])}."
            )
        return Examination(notes=notes, details={"single_calls": single})


class _SingleCalls:
    """Calls timed one by one, where an iteration is many of them: a mean hides how slow the slowest are."""

    def __init__(self, kind: Kind, outcome: Outcome, guard: Guard) -> None:
        self._subject, self._outcome, self._guard = kind.subject, outcome, guard
        self._calls = Calls(kind.subject, kind.config, guard)

    def look(self) -> dict[str, Any] | None:
        """Seconds; None where that has no use, or cannot be done."""
        outcome, good = self._outcome, self._outcome.series.good
        if outcome.series.loops == 1 or outcome.interrupted or outcome.ended or outcome.failures or not len(good):
            return None
        if outcome.timer.share_of(float(np.median(good))) > _COARSE:
            return None  # a call is too short to be timed alone
        with Recording(evidence=False) as recording:
            with suppress(Stopped):
                drive(self._make(recording), self._subject.asynchronous)
            times = outcome.timer.per_call_s(recording.records()["wall_ns"] / 1e9, 1)
        if self._calls.failed or len(times) < _FEWEST:
            return None
        median, p95, p99 = quantiles(times, (0.5, 0.95, 0.99)).tolist()
        return {
            "calls": len(times),
            "p50_s": median,
            "p95_s": p95,
            "p99_s": p99,
            "max_s": float(times.max()),
        }

    async def _make(self, recording: Recording) -> None:
        probe = recording.probe(self._subject.loop(), self._subject.asynchronous)
        until = time.monotonic() + self._outcome.seconds
        for _ in range(_SINGLE_CALLS):
            await self._calls.run(probe, repeat(None, 1))
            recording.tick()
            if time.monotonic() > until:  # not longer than the measuring
                return


def suspicions(subject: Subject, outcome: Outcome) -> list[str]:
    """Why the times may not be those of the work that the user has in mind: sentences, mostly none."""
    said: list[str] = []
    good = outcome.series.good
    if len(good) == 0:
        return said
    median = float(np.median(good))
    empty = _empty_call_s(subject, outcome.timer)
    if empty is not None and median <= _HARDLY_MORE * empty:
        said.append(
            f"A call takes {median * 1e9:.3g} ns, and one of an empty function {empty * 1e9:.3g} ns: {subject.name} "
            "does next to nothing, or not what it was to do."
        )
    coarse = outcome.timer.share_of(float(np.median(outcome.series.raw_s)))
    if coarse > _COARSE:
        said.append(
            f"The timer's resolution of {outcome.timer.resolution_s * 1e9:.3g} ns is {coarse:.0%} of an iteration: "
            "the times are coarse. Leave loops to hotlap, or do more work in a call."
        )
    return said


def _empty_call_s(subject: Subject, timer: Timer) -> float | None:
    """What a call of an empty function with the same parameters takes; None for what is no function of Python's."""

    async def measure() -> float:
        probe = recording.probe(empty.loop(), empty.asynchronous)
        for _ in range(_ROUNDS):
            result = probe(repeat(None, _CALLS))
            if empty.asynchronous:
                await result
        wall_s = recording.records()["wall_ns"] / 1e9
        return float(np.median(timer.per_call_s(wall_s, _CALLS)))

    nothing = _nothing(subject.target)
    if nothing is None:
        return None
    empty = Subject(nothing, subject.args, subject.kwargs)
    with Recording(evidence=False) as recording:
        return drive(measure(), empty.asynchronous)


def _nothing(target: Any) -> Callable[..., Any] | None:
    """A function with the parameters of `target` and nothing to do: parameters are most of what a call costs."""
    if isinstance(target, types.MethodType):
        inner = _nothing(target.__func__)
        return None if inner is None else types.MethodType(inner, target.__self__)
    if not isinstance(target, types.FunctionType) or inspect.isgeneratorfunction(target):
        return None
    spec = inspect.getfullargspec(target)
    parameters = [f"{name}=None" for name in spec.args]
    if spec.varargs or spec.kwonlyargs:
        parameters.append(f"*{spec.varargs or ''}")
    parameters += [f"{name}=None" for name in spec.kwonlyargs]
    if spec.varkw:
        parameters.append(f"**{spec.varkw}")
    scope: dict[str, Any] = {}
    define = "async def" if inspect.iscoroutinefunction(target) else "def"
    exec(f"{define} nothing({', '.join(parameters)}): pass", scope)
    made: Callable[..., Any] = scope["nothing"]
    return made
