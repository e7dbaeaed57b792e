"""FUNCTION: the time of a call, how well it could be timed, and whether it does anything at all."""

from __future__ import annotations

import types
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from ...options import BenchmarkType
from ..examination import Examination
from ..runs.recording import Recording
from ..runs.run import Outcome, drive
from ..runs.subject import Subject
from .kind import Kind

if TYPE_CHECKING:
    from ..progress import Reporter
    from ..runs.limits import Guard

__all__ = ["Function", "suspicions"]

_ROUNDS = 30
_CALLS = 1000
_HARDLY_MORE = 1.25  # times an empty function
_COARSE = 0.01  # of a sample: the timer's resolution
_LAZY = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, map, filter, zip)


class Function(Kind):
    """Nothing is looked at but what all kinds see."""

    type = BenchmarkType.FUNCTION

    def examine(self, outcome: Outcome, guard: Guard, reporter: Reporter) -> Examination:
        return Examination(notes=suspicions(self.subject, outcome))


def suspicions(subject: Subject, outcome: Outcome) -> list[str]:
    """Why the times may not be those of the work that the user has in mind: sentences, mostly none."""
    said = []
    result, good = outcome.result, outcome.series.good
    if isinstance(result, _LAZY):
        kind = type(result).__name__
        said.append(
            f"{subject.name} returned a {kind} that nobody has consumed: its work was not done, and is not in these "
            f"times. Benchmark a function that consumes it, such as lambda: list({subject.name}(...))."
        )
        if isinstance(result, types.CoroutineType):
            result.close()
    if callable(getattr(subject.func, "cache_info", None)) and callable(getattr(subject.func, "cache_clear", None)):
        said.append(
            f"{subject.name} has a cache: after the first call these are the times of looking a result up. "
            "Clear it in setup to time the work."
        )
    if len(good) == 0:
        return said
    median = float(np.median(good))
    empty = _empty_call_s(subject)
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


def _empty_call_s(subject: Subject) -> float | None:
    """What a call of an empty function with the same arguments takes."""

    def nothing(*args: Any, **kwargs: Any) -> None:
        pass

    async def nothing_async(*args: Any, **kwargs: Any) -> None:
        pass

    async def measure() -> float:
        loop = empty.loop()
        probe = recording.probe(loop)
        for _ in range(_ROUNDS):
            result = probe(repeat(None, _CALLS))
            if empty.asynchronous:
                await result
        return float(np.median(recording.records()["wall_ns"])) / 1e9 / _CALLS

    empty = Subject(nothing_async if subject.asynchronous else nothing, subject.args, subject.kwargs)
    with Recording(evidence=False) as recording:
        return drive(measure(), empty.asynchronous)
