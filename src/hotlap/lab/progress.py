"""Progress of a long run: to a function of the user's, or as a bar where standard error is a terminal."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import BenchmarkConfig

__all__ = ["Progress", "Reporter"]

logger = logging.getLogger("hotlap")

_EVERY_S = 0.1
_PATIENCE_S = 0.5  # a run that is over by then shows nothing


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is."""

    benchmark: str
    phase: str  # "calibrating", "warming up", "measuring", ...
    done: int
    total: int
    elapsed_s: float  # since the run began
    left_s: float | None  # of this phase, by its pace so far; None before that can be told


class Reporter:
    """Tells of a run's progress at most ten times a second, and at the end of each phase.

    A callback that fails is logged once and called no more.
    """

    def __init__(self, benchmark: str, config: BenchmarkConfig) -> None:
        self._benchmark = benchmark
        given = config.progress
        self._bar: _Bar | None = None
        if callable(given) and not isinstance(given, bool):
            self._tell: Any = given
        elif given is True or (given is None and sys.stderr is not None and sys.stderr.isatty()):
            self._bar = _Bar.make(required=given is True)
            self._tell = self._bar
        else:
            self._tell = None
        self._started = time.monotonic()
        self._next = self._started
        self.phase("starting", 0)

    def phase(self, name: str, total: int) -> None:
        """A phase of `total` steps begins."""
        self._phase, self._total, self._done = name, total, 0
        self._phase_started = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        if self._tell is None:
            return
        now = time.monotonic()
        if now < self._next and self._done < self._total:
            return
        self._next = now + _EVERY_S
        spent = now - self._phase_started
        left = spent / self._done * (self._total - self._done) if self._done else None
        state = Progress(self._benchmark, self._phase, self._done, self._total, now - self._started, left)
        try:
            self._tell(state)
        except Exception:
            self._tell = None
            logger.exception("the progress function failed and is called no more")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Bar:
    """A progress bar by rich, which goes away when the run is over."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.fields[name]}"),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
        self._task: Any = None
        self._phase = ""

    @classmethod
    def make(cls, required: bool) -> _Bar | None:
        """None without rich, unless the user has asked for a bar: raises MissingExtraError then."""
        try:
            return cls()
        except ImportError as error:
            if not required:
                return None
            from ..errors import MissingExtraError

            raise MissingExtraError("progress=True needs rich: pip install 'hotlap[cli]'") from error

    def __call__(self, state: Progress) -> None:
        if self._task is None:
            if state.elapsed_s < _PATIENCE_S:
                return
            self._bar.start()
            self._task = self._bar.add_task(state.phase, total=state.total, name=state.benchmark)
        elif state.phase != self._phase:
            self._bar.reset(self._task, total=state.total, description=state.phase, name=state.benchmark)
        self._phase = state.phase
        self._bar.update(self._task, completed=state.done, total=state.total, refresh=True)

    def close(self) -> None:
        if self._task is not None:
            self._bar.stop()
