"""Kind: what one kind of benchmark looks at beyond the time of its iterations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...options import BenchmarkType
from ..config import BenchmarkConfig, DebugLevel
from ..examination import Examination
from ..runs.run import Observer, Outcome, Run
from ..runs.subject import Subject

if TYPE_CHECKING:
    from ..progress import Reporter
    from ..runs.limits import Guard

__all__ = ["Kind"]


class Kind:
    """One benchmark's kind, made anew for each run.

    The timed iterations come first, watched by the observers, which see each from outside its time. Then examine()
    may call the subject again for what cannot be seen while it is timed, because looking makes it slow.
    """

    type = BenchmarkType.FUNCTION
    timed_share = 1.0  # of the time budget that the timed iterations may take, when they are not through before

    def __init__(self, subject: Subject, config: BenchmarkConfig, level: DebugLevel) -> None:
        self.subject, self.config, self.level = subject, config, level

    def run(self, reporter: Reporter) -> Outcome:
        """The timed iterations. A kind with users of its own makes them otherwise."""
        run = Run(self.subject, self.config, self.level, reporter, self.observers(), share=self.timed_share)
        return run.execute()

    def observers(self) -> tuple[Observer, ...]:
        """What looks at each timed iteration; at DebugLevel.BASIC nothing but what the kind is all about."""
        return ()

    def examine(self, outcome: Outcome, guard: Guard, reporter: Reporter) -> Examination:
        """Put together what was seen, and look once more. `guard` says when to stop; it may be over already."""
        return Examination()
