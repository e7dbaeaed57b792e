"""Kind: what one kind of benchmark looks at beyond the time of its iterations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..options import BenchmarkType
from .config import BenchmarkConfig, DebugLevel
from .run import Observer, Outcome, Run
from .subject import Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .limits import Guard
    from .progress import Reporter

    Floats = NDArray[np.float64]

__all__ = ["Examination", "Kind"]


@dataclass(slots=True)
class Examination:
    """What a kind has found."""

    details: dict[str, Any] = field(default_factory=dict)  # for BenchmarkReport.details; plain numbers and texts
    memory_mb: Floats | None = None  # of each iteration: shape (iterations,), or (1,) for one for all
    advice: list[str] = field(default_factory=list)  # recommendations: sentences with evidence
    notes: list[str] = field(default_factory=list)  # what a reader must know of the numbers


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
