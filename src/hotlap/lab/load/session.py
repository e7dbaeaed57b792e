"""Session: what a load run has while it lasts: its limits, its recording, its users, and what the generator costs."""

from __future__ import annotations

import time
from contextlib import ExitStack
from math import ceil
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import OptionError
from ..config import BenchmarkConfig, DebugLevel
from ..environment import Noise
from ..examination import Examination
from ..runs.limits import Guard
from ..runs.recording import Recording
from ..runs.run import collector, drive
from ..runs.subject import Subject
from ..runs.timer import Timer, measure_timer
from .crew import Crew, Part, Tasks, Threads, put_together
from .level import Level, LoadFailures, LoadOutcome, joined
from .processes import Processes
from .users import CAPACITY, Work

if TYPE_CHECKING:
    from ..progress import Reporter

__all__ = ["Session"]

_EMPTY_S = 0.05  # how long the generator is tried with an empty subject
_EMPTY_CALLS = 50_000
_ALONE_S = 2.0  # how long one user works alone, at most: and a tenth of the time budget
_ALONE_CALLS = 10, 1000  # and a fifth of the iterations, within these


class Session:
    """Enter it to have limits and users. Work is done by perform() until a limit or the user ends the run: then it
    gives what was measured by then, and later work is not begun. Raises HotlapError when there cannot be so many users.
    """

    def __init__(
        self, subject: Subject, config: BenchmarkConfig, level: DebugLevel, reporter: Reporter, users: int
    ) -> None:
        if subject.asynchronous and config.processes:
            raise OptionError(
                f"processes=True with the async function {subject.name} is not allowed: its users are tasks of one "
                "event loop; leave processes out, or give a sync function"
            )
        if config.loops not in {None, 1}:
            raise OptionError(
                f"loops={config.loops!r} is not allowed here: beside others each call is an iteration of its own; "
                "leave loops out"
            )
        self._subject, self._config, self._reporter, self._size = subject, config, reporter, users
        self._evidence = level is not DebugLevel.BASIC
        self.interrupted = False
        self.parts: list[Part] = []  # all work with the subject
        self.timer = Timer(1e-9, 0.0, 0.0, 0.0)

    def __enter__(self) -> Session:
        self._stack = stack = ExitStack()
        self.kind = ""  # of users
        with ExitStack() as entering:  # what was entered is left again when the next cannot be
            config = self._config
            entering.enter_context(collector(config.gc))
            self.guard = entering.enter_context(Guard(config))
            recording = entering.enter_context(Recording(self._evidence, CAPACITY))
            self._noise = Noise.begin()
            self.started = time.time()
            try:
                self.timer = drive(measure_timer(recording, self._subject.asynchronous), False)
                self._reporter.phase("gathering users", 0)
                crew = self._kind_of_crew()(self._size, self._subject, config, recording)
                self._crew = entering.enter_context(crew)
                self.kind = crew.kind
            except KeyboardInterrupt:
                self.interrupted = True
            stack.push(entering.pop_all())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._stack.close()
        self.noise = Noise.end(self._noise)
        self.result = self._crew.result if self.kind else None
        self.ended_at = time.time()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.interrupted = True
            return True
        return False

    def _kind_of_crew(self) -> type[Crew]:
        if self._subject.asynchronous:
            return Tasks
        return Processes if self._config.processes else Threads

    @property
    def over(self) -> bool:
        """Whether the run is to end."""
        return self.interrupted or self.guard.over()

    def perform(self, phase: str, **work: Any) -> Part | None:
        """Have work done: see Work for its options. None when the run is over before it begins."""
        if self.over:
            return None
        self._reporter.phase(phase, work["calls"])
        part = self._crew.perform(self._crew.work(**work), self.guard, self._reporter)
        self.interrupted |= part.interrupted
        if not work.get("empty"):
            self.parts.append(part)
        return part

    def warm_up(self, users: int, iterations: int) -> None:
        """So many calls that are not measured, by these users, each of whom makes as many: at least one, unless 0."""
        each = ceil(iterations / users)
        if each:
            self.perform("warming up", calls=users * each, users=users, each=each)

    def alone(self) -> Part | None:
        """One user for a short time: what there is to compare with."""
        least, most = _ALONE_CALLS
        calls = min(max(self._config.iterations // 5, least), most)
        return self.perform("one user alone", calls=calls, users=1, seconds=min(_ALONE_S, 0.1 * self._config.timeout))

    def generator_rate(self, users: int) -> float | None:
        """Calls per second that these users make of an empty function: no subject can show more."""
        part = self.perform("empty calls", calls=_EMPTY_CALLS, users=users, seconds=_EMPTY_S, empty=True)
        if part is None or len(part.records) == 0:
            return None
        starts, walls = part.records["start_ns"], part.records["wall_ns"]
        return 1e9 * len(starts) / max(1.0, float((starts + walls).max() - starts.min()))

    def level(self, part: Part) -> Level:
        return Level.of(part, self.timer, self._config)

    def nothing(self, users: int) -> Part:
        """What comes of a run that is over before it comes to measuring."""
        work = Work(0, users)
        none = np.zeros(0)
        return put_together(work, [], seconds=0.0, cpu_s=None, late_s=none, interrupted=self.interrupted)

    def outcome(self, levels: list[Level], alone: Level | None, examination: Examination) -> LoadOutcome:
        """After leaving: all levels as one outcome; there is at least one, maybe without calls."""
        return LoadOutcome(
            **joined(levels),
            timer=self.timer,
            ended=self.guard.ended,
            peak_mb=self.guard.peak_mb,
            failures=LoadFailures(levels, alone),
            noise=self.noise,
            interrupted=self.interrupted,
            cut_off=any(part.cut_off + part.running for part in self.parts),
            started=self.started,
            ended_at=self.ended_at,
            seconds=sum(level.part.seconds for level in levels),
            throughput=max((level.rate for level in levels if level.rate is not None), default=None),
            result=self.result,
            planned=self._config.iterations,
            examination=examination,
        )
