"""Look: call the subject again, for what would make it slow if it were looked at while it is timed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from ..runs.calls import Calls
from ..runs.interrupts import Stopped
from ..runs.run import Observer, drive

if TYPE_CHECKING:
    from ..kinds.kind import Kind
    from ..progress import Reporter
    from ..runs.limits import Guard
    from ..runs.run import Outcome

__all__ = ["Look"]

_TIMES = 100
_SECONDS = 1.0


@dataclass(slots=True)
class Look:
    """Calls that were made again, between the before() and after() of an observer: each, or some together."""

    calls: int = 0
    failed: int = 0
    reason: str = ""  # why there were no calls, or no more of them
    interrupted: bool = False  # by the user: nothing more is to be looked at

    @property
    def notes(self) -> list[str]:
        """For the report: that somebody has put an end to it."""
        return ["Interrupted before all was looked at."] if self.reason == "interrupted" else []

    @classmethod
    def again(
        cls,
        kind: Kind,
        outcome: Outcome,
        guard: Guard,
        reporter: Reporter,
        observer: Observer,
        *,
        phase: str = "examining",
        loops: int = 1,
    ) -> Look:
        """Look at most 100 times in a second, each time at `loops` calls, or at one when it has a setup of its own.

        Not at all when the time left is not enough for calls like those of the run.
        """
        look = cls()
        made = int(outcome.series.calls.sum())
        slowest_s = float((outcome.series.raw_s / np.maximum(outcome.series.calls, 1)).max()) if made else 0.0
        if outcome.interrupted:
            look.reason, look.interrupted = "the run was interrupted", True
        elif guard.over():
            look.reason = "the run had reached a limit"
        elif not made:
            look.reason = "no call was measured"
        elif 2.0 * slowest_s * loops > guard.left_s:
            look.reason = "the time budget had no room for another call"
        else:
            reporter.phase(phase, _TIMES)
            calls = Calls(kind.subject, kind.config, guard)
            try:
                drive(_again(calls, 1 if calls.alone else loops, reporter, observer), kind.subject.asynchronous)
            except Stopped:
                look.reason = "a limit was reached"
            except KeyboardInterrupt:
                look.reason, look.interrupted = "interrupted", True
            look.calls, look.failed = calls.made, calls.failed
        return look


async def _again(calls: Calls, loops: int, reporter: Reporter, observer: Observer) -> None:
    until = time.perf_counter() + _SECONDS
    for number in range(_TIMES):
        if number and time.perf_counter() >= until:
            return
        loop = await calls.set_up()
        observer.before()
        await calls.run(loop, repeat(None, loops))
        observer.after()
        await calls.tear_down()
        reporter.advance()
