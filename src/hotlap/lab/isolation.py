"""Isolation: the same benchmark in fresh processes, one after the other.

What a process draws by lot at its start (hash seed, memory layout, what is imported when) shifts all its timings by
some percent, and no number of iterations averages that out. Processes that are begun anew do.

Ctrl-C in a terminal goes to all processes. The fresh ones are deaf to it from their first instruction on: this one ends
them, and returns what those before had measured.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from ..errors import HotlapError, OptionTypeError
from .config import BenchmarkConfig, DebugLevel
from .environment import Noise
from .examination import Examination
from .failures import FailureLog, sendable
from .kinds.kind import Kind
from .progress import Reporter
from .report import Mark
from .runs.limits import Guard
from .runs.run import Outcome
from .runs.series import Series
from .runs.subject import Subject
from .runs.timer import Timer

__all__ = ["Processes", "joined", "run_apart"]

_GRACE_S = 30.0  # to start Python, and to import what the subject needs


class Processes:
    """Runs one process after the other, until a time budget that all of them share is spent.

    `over` says that no more are to be run: the budget is spent, a process ended at a limit or was interrupted, or one
    failed after others had measured something, which is not lost for that. `ending` is what joined() wants to know.
    """

    def __init__(self, config: BenchmarkConfig, level: DebugLevel, seconds: float) -> None:
        self._config, self._level, self._seconds = config, level, seconds
        self._started = time.monotonic()
        self._any = False
        self.ending: dict[str, Any] = {}
        self.over = False

    def run(self, kind: Kind, examine: bool) -> tuple[Outcome, Examination] | None:
        """One more, in what is left of the time, at most config.timeout; None when there is none, as in run_apart()."""
        left = self._seconds - (time.monotonic() - self._started)
        if left <= 0.0:
            self._spent()
            return None
        config = replace(self._config, timeout=max(min(left, self._config.timeout), 1e-3))
        try:
            outcome, examination = run_apart(kind, config, self._level, examine)
        except Exception as error:
            if not self._any:
                raise
            self.over = True
            self.ending["unprepared"] = f"a process for {kind.subject.name} failed: {error}"
            return None
        self._any = True
        if outcome.ended is not None and outcome.ended.limit == "timeout" and left < self._config.timeout:
            self._spent()
        elif outcome.ended is not None or outcome.interrupted:
            self.over = True
        return outcome, examination

    def _spent(self) -> None:
        used = time.monotonic() - self._started
        sentence = f"the time budget of {self._seconds:g} s for all processes is spent"
        self.ending["ended"] = Mark("timeout", used, self._seconds, sentence, True)
        self.over = True


def run_apart(kind: Kind, config: BenchmarkConfig, level: DebugLevel, examine: bool) -> tuple[Outcome, Examination]:
    """Run a kind's benchmark in a fresh process; with `examine`, its examination as well.

    Raises OptionTypeError for a subject that cannot be sent there, HotlapError when the process dies, and whatever
    is raised there. KeyboardInterrupt ends the process, too.
    """
    subject = kind.subject
    order = (type(kind), subject.func, subject.args, subject.kwargs, replace(config, isolate=0, progress=False), level)
    try:
        sent = pickle.dumps((*order, examine))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise OptionTypeError(
            f"{subject.name} cannot be sent to a fresh process ({error}): isolate needs a function that is defined at "
            "the top of a module, and arguments, setup and teardown that can be pickled"
        ) from error
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there, sent), name=f"hotlap lab {subject.name}", daemon=True)
    answer: Any
    try:
        with _deaf():
            process.start()
        there.close()
        good, answer = here.recv() if here.poll(_GRACE_S + 2.0 * config.timeout) else (False, None)
    except EOFError:
        good, answer = False, None
    except KeyboardInterrupt:
        if process.pid is not None:
            process.kill()
        raise
    finally:
        here.close()
        if process.pid is not None:
            process.join(1.0)
            process.kill()
            process.join()
    if good:
        return answer[0], answer[1]
    if isinstance(answer, BaseException):
        raise answer
    raise HotlapError(
        f"the fresh process for {subject.name} ended with status {process.exitcode} and said nothing: it crashed, or "
        "the script's own work is not under `if __name__ == '__main__':`, as fresh processes need it"
    )


@contextmanager
def _deaf() -> Iterator[None]:
    """A process that is started in here does not hear SIGINT; for this one it waits until we are through: half a start
    leaves a process that knows nothing of what it is to do.
    """
    resource_tracker.ensure_running()  # which the first start would do, and hear again
    heard: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    ours = handler is not None and threading.current_thread() is threading.main_thread()
    if ours:  # a mask is of one thread, and the system gives the signal to another
        signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if ours:
            signal.signal(signal.SIGINT, handler)
        if heard:
            signal.raise_signal(signal.SIGINT)


def _work(connection: Connection, sent: bytes) -> None:
    """What the fresh process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    try:
        kind_of, func, args, kwargs, config, level, examine = pickle.loads(sent)
        kind = kind_of(Subject(func, args, kwargs), config, level)
        reporter = Reporter(kind.subject.name, config)
        outcome = kind.run(reporter)
        examination = Examination()
        if examine:
            left = max(config.timeout - (time.time() - outcome.started), 1e-3)
            with Guard(replace(config, timeout=left)) as guard:
                examination = kind.examine(outcome, guard, reporter)
        answer: tuple[bool, Any] = True, (replace(outcome, result=None), examination)
    except BaseException as error:
        answer = False, sendable(error, "the fresh process")
    with suppress(BrokenPipeError):  # who asked is gone
        connection.send(answer)
    connection.close()
    sys.stdout.flush()


def _nothing() -> Outcome:
    """The outcome of no iterations: no process was through."""
    none, now = np.zeros(0), time.time()
    columns: dict[str, Any] = {field.name: none for field in fields(Series)}
    counts = np.zeros(0, np.int64)
    return Outcome(
        series=Series(**{**columns, "calls": counts, "failed": counts, "loops": 1}),
        timer=Timer(1e-9, 0.0, 0.0, 0.0),
        ended=None,
        peak_mb=0.0,
        failures=FailureLog(),
        noise=Noise.end(Noise.begin()),
        interrupted=False,
        cut_off=False,
        started=now,
        ended_at=now,
        seconds=0.0,
        result=None,
        planned=0,
    )


def joined(
    outcomes: Sequence[Outcome], planned: int, interrupted: bool = False, ending: Mapping[str, Any] | None = None
) -> Outcome:
    """The outcomes of several processes as one: all iterations, in the order of the processes, of so many planned."""
    if not outcomes:
        return replace(_nothing(), planned=planned, interrupted=interrupted, **(ending or {}))
    first = outcomes[0]

    def column(name: str) -> Any:
        return np.concatenate([getattr(one.series, name) for one in outcomes])

    names = [name for name in Series.__slots__ if name != "loops"]
    loops = [one.series.loops for one in outcomes]
    whole = replace(
        first,
        series=Series(loops=int(np.median(loops)), **{name: column(name) for name in names}),
        ended=next((one.ended for one in outcomes if one.ended is not None), None),
        peak_mb=max(one.peak_mb for one in outcomes),
        failures=FailureLog.joined([(one.failures, len(one.series.time_s)) for one in outcomes]),
        interrupted=interrupted or any(one.interrupted for one in outcomes),
        cut_off=any(one.cut_off for one in outcomes),
        ended_at=outcomes[-1].ended_at,
        seconds=sum(one.seconds for one in outcomes),
        planned=planned,
        calls_before=sum(one.calls_before or 0 for one in outcomes),
        unprepared=next((one.unprepared for one in outcomes if one.unprepared), ""),
    )
    return replace(whole, **(ending or {}))
