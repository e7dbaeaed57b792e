"""Run: calibrate, warm up, measure. What comes out is a Series, one row for each iteration.

Every iteration is one call through a probe (see recording.py), of a loop of calls (see subject.py). The same code
drives sync and async functions: for a sync one the coroutines here never suspend, and no event loop is involved.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from operator import length_hint
from time import process_time_ns, thread_time_ns
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from ...errors import OptionError
from ..config import BenchmarkConfig, DebugLevel
from ..environment import Noise
from ..failures import FailureLog
from ..report import Mark
from .interrupts import Stopped
from .limits import Guard
from .recording import Recording
from .series import Series
from .subject import Arguments, Subject, cleared, prepared
from .timer import Timer, calibrate, measure_timer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..progress import Reporter

    Floats = NDArray[np.float64]

__all__ = ["Observer", "Outcome", "Run", "being_cancelled", "collector", "drive"]

_APART_S = 1e-6  # the process's clock and the thread's are not read in the same moment

T = TypeVar("T")


class Observer(Protocol):
    """Looks at each measured iteration from outside its time."""

    def before(self) -> None: ...

    def after(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run, and what is to be known of it."""

    series: Series
    timer: Timer
    ended: Mark | None  # the limit that ended it
    peak_mb: float  # most memory that the process had more than at the start
    failures: FailureLog
    noise: Noise
    interrupted: bool  # by the user
    cut_off: bool  # a call was ended by a limit
    started: float  # unix s
    ended_at: float  # unix s
    seconds: float  # of the measuring phase, with all that lay between the iterations
    result: Any  # what the last successful iteration's last call gave
    planned: int  # iterations
    calls_before: int | None = field(default=None, kw_only=True)  # the first measured one: calibration and warm-up
    unprepared: str = field(default="", kw_only=True)  # how setup or teardown failed, which ended the run


@dataclass(frozen=True, slots=True)
class _Row:
    calls: int
    failed: int
    others_ns: int  # CPU time of other threads


class _Unprepared(Exception):
    """setup or teardown failed after something had been measured."""


class Run:
    """One benchmark of one subject, on the calling thread."""

    def __init__(
        self,
        subject: Subject,
        config: BenchmarkConfig,
        level: DebugLevel,
        reporter: Reporter,
        observers: tuple[Observer, ...] = (),
        *,
        share: float = 1.0,
    ) -> None:
        self._share = share  # of the time budget, after which no iteration begins
        self._subject = subject
        self._config = config
        self._reporter = reporter
        self._observers = observers
        self._evidence = level is not DebugLevel.BASIC
        self._failures = FailureLog()
        self._interrupted = False
        self._stopped = False
        self._result: Any = None
        self._each = config.setup is not None or config.teardown is not None
        if self._each and (config.loops or 1) > 1:
            raise OptionError(
                f"loops={config.loops!r} with setup or teardown is not allowed: "
                "they are called for each call, so an iteration is one call"
            )
        self._loops = config.loops or 1
        self._loops_made = [subject.loop()]
        self._timer = Timer(1e-9, 0.0, 0.0, 0.0)
        self._rows: list[_Row] = []
        self._seconds = 0.0
        self._started = time.time()
        self._calls_before = 0
        self._unprepared = ""

    def execute(self) -> Outcome:
        """Run all phases. A limit or an interrupt ends them early: what was measured by then is returned."""
        config = self._config
        with collector(config.gc), Guard(config) as guard, Recording(self._evidence) as recording:
            self.attach(guard, recording)
            noise = Noise.begin()
            try:
                drive(self._phases(), self._subject.asynchronous)
            except Stopped:
                self._stopped = True
            except KeyboardInterrupt:
                self._interrupted = True
            return self.outcome(Noise.end(noise))

    async def _phases(self) -> None:
        await self.prepare()
        await self.measure(self._config.iterations)

    def attach(self, guard: Guard, recording: Recording) -> None:
        """What execute() does by itself: the limits, which several runs may share, and a recording of its own."""
        self._guard, self._recording = guard, recording

    async def prepare(self, timer: Timer | None = None) -> Timer:
        """Measure the timer, find the number of loops, warm up. Then measure() may be called, once or several times.

        Runs that are compared have to share one `timer`: what it is wrong by is then the same for all of them.
        """
        config, reporter, recording = self._config, self._reporter, self._recording
        self._timer = timer or await measure_timer(recording, self._subject.asynchronous)
        if config.loops is None and not self._each:
            reporter.phase("calibrating", 0)
            self._loops = await self._calibrated()
        reporter.phase("warming up", config.warmup_iterations)
        await self._iterations(config.warmup_iterations, measured=False)
        recording.forget()
        self._failures = FailureLog()
        if config.gc == "off":
            gc.collect()
        reporter.phase("measuring", config.iterations)
        return self._timer

    async def measure(self, count: int) -> None:
        """Measure so many iterations, unless a limit or an interrupt comes first."""
        # Where code lies in memory changes what it costs, by some percent of some nanoseconds. With a loop of its own
        # for each stretch that is noise, which is in the interval; with one loop it would be taken for a difference.
        self._loops_made.append(self._subject.loop())
        begun = time.perf_counter()
        try:
            await self._iterations(count, measured=True)
        finally:
            self._seconds += time.perf_counter() - begun

    def outcome(self, noise: Noise) -> Outcome:
        """What was measured so far. To be called before the guard and the recording are left."""
        return Outcome(
            series=self._series(),
            timer=self._timer,
            ended=self._guard.ended,
            peak_mb=self._guard.peak_mb,
            failures=self._failures,
            noise=noise,
            interrupted=self._interrupted,
            cut_off=self._stopped,
            started=self._started,
            ended_at=time.time(),
            seconds=self._seconds,
            result=self._result,
            planned=self._config.iterations,
            calls_before=self._calls_before,
            unprepared=self._unprepared,
        )

    @property
    def asynchronous(self) -> bool:
        return self._subject.asynchronous

    @property
    def measured(self) -> int:
        """Iterations so far."""
        return len(self._rows)

    @property
    def over(self) -> bool:
        """Nothing more will be measured."""
        return self._stopped or self._interrupted or bool(self._unprepared) or self._guard.over()

    async def _calibrated(self) -> int:
        """Loops that fill a sample; 1 when calls fail, because a failure ends a loop of calls."""

        class Ends(Exception):
            pass

        async def iteration(loops: int) -> None:
            self._loops = loops
            await self._iterations(1, measured=False)
            if self.over or self._failures:
                raise Ends

        try:
            return await calibrate(iteration, self._recording, self._timer)
        except Ends:
            return 1 if self._failures else self._loops

    async def _iterations(self, count: int, measured: bool) -> None:
        config, asynchronous = self._config, self._subject.asynchronous
        task = asyncio.current_task() if asynchronous else None
        for _ in range(count):
            if being_cancelled(task) and not self.over:  # by Ctrl-C: a subject that never suspends is not told
                self._interrupted = True
            if self.over:
                return
            if self._share < 1.0 and self._guard.spent(self._share) and (self._rows or not measured):
                if measured:
                    self._guard.end_early(self._share)
                return
            row = None
            try:
                with self._around("setup"):
                    arguments = await prepared(config.setup, asynchronous)
                try:
                    row = await self._iteration(arguments, measured)
                finally:
                    with self._around("teardown"):
                        await cleared(config.teardown, asynchronous)
            except Stopped:
                self._stopped = True
            except KeyboardInterrupt:
                self._interrupted = True
            except _Unprepared:
                pass
            if row is None:
                return
            if measured:
                self._rows.append(row)
            else:
                self._calls_before += row.calls
            self._recording.tick()
            self._reporter.advance()

    @contextmanager
    def _around(self, name: str) -> Iterator[None]:
        """setup and teardown: interrupted like a call, unless the run has ended, after which there is to be cleared up.

        One that fails ends the run, with what was measured by then; when that is nothing, the exception passes.
        """
        if not self._each:
            yield
            return
        if not self._guard.over():
            self._guard.expose(self._task())
        try:
            yield
        except asyncio.CancelledError:
            raise (Stopped if self._guard.ended is not None else KeyboardInterrupt) from None
        except Exception as error:
            if not self._rows:
                raise
            self._unprepared = f"{name} raised {type(error).__name__}: {error}"
            raise _Unprepared from error
        finally:
            self._guard.cover()

    def _task(self) -> tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None:
        task = asyncio.current_task() if self._subject.asynchronous else None
        return None if task is None else (asyncio.get_running_loop(), task)

    async def _iteration(self, arguments: Arguments | None, measured: bool) -> _Row | None:
        """One iteration; None when it was stopped before its end."""
        guard, loops, number = self._guard, self._loops, len(self._rows)
        loop = self._loops_made[-1] if arguments is None else self._subject.loop(arguments)
        probe = self._recording.probe(loop, self._subject.asynchronous)
        calls = repeat(None, loops)
        failed = 0
        if measured:
            for observer in self._observers:
                observer.before()
        exposed = self._task()
        others = 0
        try:
            guard.expose(exposed)
            try:
                others = -_others_cpu_ns()
                result = probe(calls)
                if exposed is not None:
                    result = await result
            finally:
                others += _others_cpu_ns()
                guard.cover()
        except asyncio.CancelledError as error:
            if guard.ended is None and not being_cancelled(exposed[1] if exposed else None):
                failed = 1  # the subject's own doing
                self._failures.add(error, number)
            else:
                self._stopped = guard.ended is not None
                self._interrupted = not self._stopped
                return None
        except (Exception, SystemExit) as error:
            failed = 1
            self._failures.add(error, number)
            if loops > 1:
                self._loops = 1  # from here on, so that each failure has its own time
        else:
            self._result = result
            self._subject.check(result)
        if measured:
            for observer in reversed(self._observers):
                observer.after()
        return _Row(loops - length_hint(calls), failed, others)

    def _series(self) -> Series:
        rows = self._rows
        count = len(rows)
        calls = np.array([row.calls for row in rows], np.int64).reshape(count)
        failed = np.array([row.failed for row in rows], np.int64).reshape(count)
        records = self._recording.records()[:count]
        # A record sees its own thread alone, which cannot have computed for longer than the call took.
        own_s = np.minimum(records["cpu_ns"], records["wall_ns"]) / 1e9
        others_s = np.array([row.others_ns for row in rows], np.float64).reshape(count) / 1e9
        cpu_s = own_s + np.where(others_s > _APART_S, others_s, 0.0)
        return Series.of(records, self._timer, calls, failed, cpu_s, loops=self._loops)


def _others_cpu_ns() -> int:
    """CPU time of the process's other threads, since it began."""
    return process_time_ns() - thread_time_ns()


def being_cancelled(task: asyncio.Task[Any] | None) -> bool:
    """Whether somebody else wants this task to end; known from Python 3.11 on."""
    cancelling: Callable[[], int] | None = getattr(task, "cancelling", None)
    return cancelling is not None and cancelling() > 0


@contextmanager
def collector(policy: str) -> Iterator[None]:
    """The garbage collector as BenchmarkConfig.gc wants it."""
    was_on = gc.isenabled()
    gc.collect()  # every run begins with the same: no garbage of what came before
    if policy == "off":
        gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def drive(coroutine: Coroutine[Any, Any, T], asynchronous: bool) -> T:
    """Run a coroutine to its end: in an event loop of its own, or by hand when it never suspends.

    Where an event loop runs on this thread already, as in a notebook, another thread does it.
    """
    if not asynchronous:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            result: T = stop.value
            return result
        coroutine.close()
        raise RuntimeError("a coroutine that was not to suspend did so")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(asyncio.run(coroutine))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="hotlap lab")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
