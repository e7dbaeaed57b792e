"""Processes: users who share nothing, not even the interpreter's lock. Each is a fresh interpreter (spawn).

Functions, arguments, setup and teardown go to them as pickles; records and notes come back at the end of each work.
Their clocks are the system's monotonic one, and agree to within some microseconds. A user's call is interrupted by
the limits of its own process, in the same way as a call of a run in this one.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from ... import core
from ...errors import HotlapError, OptionTypeError
from ..failures import FailureLog, sendable
from ..report import Mark
from ..runs.interrupts import Stopped
from ..runs.limits import Guard
from ..runs.recording import Recording
from ..runs.run import collector, drive
from ..runs.subject import Subject
from .crew import LOOK_S, Crew, Part, Piece, matched, put_together
from .users import CAPACITY, Kit, Shared, User, Work

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from numpy.typing import NDArray

    from ..progress import Reporter

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["Processes"]

_START_S = 60.0  # a user's process must be there by then
_MARGIN_NS = 2_000_000  # from the signal to the common start
_MEMORY_S = 0.1  # how often the processes' memory is looked at
_SPIN_S = 1e-4
_ORDER = ("calls", "users", "seconds", "each", "due_ns", "empty")  # of Work: what goes to a process


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a process has done."""

    records: bytes
    columns: tuple[Integers, ...]
    failures: FailureLog
    cpu_s: float
    fault: BaseException | None


class Processes(Crew):
    """Each user is a process of its own."""

    kind = "processes"

    def __enter__(self) -> Processes:
        payload = self._pickled()
        context = multiprocessing.get_context("spawn")
        counter = context.Value("q", 0)
        self._shared = Shared(counter, context.RawValue("b", 0), counter.get_lock())
        self._start = context.RawValue("q", 0)
        self._processes: list[SpawnProcess] = []
        self._connections: list[Connection] = []
        self._rss: list[psutil.Process] = []
        self._looked = 0.0
        self._start_mb = 0.0
        try:
            for index in range(self.size):
                mine, theirs = context.Pipe()
                process = context.Process(
                    target=_serve,
                    args=(theirs, payload, index),
                    kwargs={"counter": counter, "stopped": self._shared.stopped, "start": self._start},
                    name=f"user {index}",
                    daemon=True,
                )
                self._connections.append(mine)
                process.start()
                theirs.close()
                self._processes.append(process)
            for index, connection in enumerate(self._connections):
                self._expect_ready(index, connection)
            self._rss = [psutil.Process(process.pid) for process in self._processes]
            self._start_mb = self.memory_mb()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _pickled(self) -> bytes:
        subject, config = self.subject, replace(self.config, progress=False)
        _must_pickle(f"the function {subject.name}", subject.func)
        _must_pickle("an argument", (subject.args, subject.kwargs))
        _must_pickle("setup", config.setup)
        _must_pickle("teardown", config.teardown)
        return pickle.dumps((subject.func, subject.args, subject.kwargs, config, self.recording.evidence))

    def _expect_ready(self, index: int, connection: Connection) -> None:
        try:
            if not connection.poll(_START_S):
                raise HotlapError(f"user {index} of {self.size} did not start within {_START_S:g} s: ask for fewer")
            fault = connection.recv()
        except EOFError:
            self._processes[index].join(1.0)
            raise HotlapError(
                f"the process of user {index} ended with exit code {self._processes[index].exitcode} before its "
                "first call; a script that uses processes=True must begin its work under "
                'if __name__ == "__main__":, because each process imports it'
            ) from None
        if fault is not None:
            raise HotlapError(
                f"a user's process cannot use {self.subject.name} ({fault}): with processes=True functions must be "
                "importable from a module"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()  # its process ends when it sees that
        for process in self._processes:
            process.join(0.5)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()

    def memory_mb(self) -> float:
        """Resident memory of all users' processes."""
        total = 0.0
        for process in self._rss:
            with suppress(psutil.Error, OSError):
                total += process.memory_info().rss / 1e6
        return total

    def work(self, **options: Any) -> Work:
        self._shared.next.value = 0
        self._shared.stopped.value = 0
        self._start.value = 0
        return Work(shared=self._shared, **options)

    def perform(self, work: Work, guard: Guard, reporter: Reporter) -> Part:
        self._answers: dict[int, _Answer] = {}
        self._lost: dict[int, str] = {}
        self._waiting = {id(self._connections[index]): index for index in range(work.users)}
        return super().perform(work, guard, reporter)

    def _over(self, guard: Guard) -> bool:
        if time.monotonic() - self._looked > _MEMORY_S and guard.ended is None:
            self._looked = time.monotonic()
            added, allowed = self.memory_mb() - self._start_mb, self.config.memory_limit
            guard.peak_mb = max(guard.peak_mb, added)
            if added > allowed:
                sentence = f"the users' processes have added {added:.0f} MB, more than the limit of {allowed:g} MB"
                guard.end(Mark("memory_limit", added, allowed, sentence, True))
        return guard.over()

    def _begin(self, work: Work) -> None:
        order = {name: getattr(work, name) for name in _ORDER}
        for index in range(work.users):
            self._told(index, self._connections[index].send, order)
        for index in range(work.users):
            self._told(index, self._connections[index].recv)  # it is armed
        start = core.now_ns() + _MARGIN_NS
        work.begin(start)
        self._start.value = start

    def _told(self, index: int, talk: Callable[..., Any], *given: Any) -> Any:
        try:
            return talk(*given)
        except (EOFError, OSError):
            self._gone(index)
            return None

    def _gone(self, index: int) -> None:
        process = self._processes[index]
        process.join(1.0)
        self._lost[index] = (
            f"The process of user {index} ended with exit code {process.exitcode}: its calls are in no number."
        )
        self._waiting.pop(id(self._connections[index]), None)

    def _wait(self, work: Work, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self._waiting:
            left = max(0.0, until - time.monotonic())
            ready = wait([self._connections[index] for index in self._waiting.values()], left)
            if not ready:
                return False
            for connection in ready:
                index = self._waiting[id(connection)]
                answer = self._told(index, connection.recv)  # type: ignore[union-attr]
                if answer is not None:
                    self._answers[index] = answer
                    del self._waiting[id(connection)]
                    if answer.fault is not None:
                        work.end(answer.fault)
        return True

    def _interrupt(self, work: Work) -> None:
        for index in list(self._waiting.values()):
            pid = self._processes[index].pid
            if pid is not None and hasattr(signal, "SIGALRM"):
                with suppress(OSError):
                    os.kill(pid, signal.SIGALRM)  # which a Guard takes for an interruption of its call
        self._wait(work, LOOK_S)

    def _collect(self, work: Work, seconds: float, cpu_s: float, late_s: Floats, interrupted: bool) -> Part:
        pieces: list[Piece] = []
        for answer in self._answers.values():
            records = np.frombuffer(answer.records, core.record_dtype())
            pieces.append(matched(answer.columns, records))
            work.failures = _merged(work.failures, answer.failures)
        lost = list(self._lost.values())
        lost += [
            f"A call of user {index} could not be ended, and its process was: its calls are in no number."
            for index in self._waiting.values()
        ]
        used = sum(answer.cpu_s for answer in self._answers.values())
        known = len(self._answers) == work.users
        return put_together(
            work,
            pieces,
            seconds=seconds,
            cpu_s=used if known else None,
            late_s=np.zeros(0),  # the watching thread shares no interpreter with the users
            interrupted=interrupted,
            lost=tuple(lost),
        )


def _must_pickle(what: str, value: Any) -> None:
    try:
        pickle.dumps(value)
    except Exception as error:  # whatever the object's own pickling raises
        raise OptionTypeError(
            f"processes=True sends the subject to other processes, and {what} cannot be pickled ({error}): define "
            "functions at the top of a module, or leave processes out"
        ) from error


def _merged(first: FailureLog, second: FailureLog) -> FailureLog:
    for key, one in second._classes.items():
        if key in first._classes:
            first._classes[key].iterations.extend(one.iterations)
        else:
            first._classes[key] = one
    return first


# -- in a user's process --------------------------------------------------------------------------------------


def _serve(connection: Connection, payload: bytes, index: int, *, counter: Any, stopped: Any, start: Any) -> None:
    """A user's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's interrupt is for the process that we work for
    try:
        func, args, kwargs, config, evidence = pickle.loads(payload)
        subject = Subject(func, args, kwargs)
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
        return
    with suppress(EOFError, OSError), collector(config.gc), Recording(evidence, CAPACITY) as recording:
        kit = Kit(subject, config, recording)
        shared = Shared(counter, stopped, counter.get_lock())
        connection.send(None)
        while True:
            order = connection.recv()
            # Time is the calling process's to watch: it interrupts, and this guard is what its signal interrupts by.
            with Guard(replace(config, timeout=1e7, memory_limit=1e9)) as guard:
                work = Work(shared=shared, **order)
                connection.send(None)
                while not start.value:
                    if connection.poll(_SPIN_S):
                        raise EOFError("the process that we work for has gone")
                work.begin(start.value)
                connection.send(_do(work, User(index, kit, guard), guard))


def _do(work: Work, user: User, guard: Guard) -> _Answer:
    while (left := (work.start_ns - core.now_ns()) / 1e9) > 0.0:
        time.sleep(left)
    cpu = time.process_time()
    fault: BaseException | None = None
    try:
        drive(user.work(work), False)
    except Stopped:
        guard.cover()
    except BaseException as error:
        fault = sendable(error, "a user's process")
    cpu_s = time.process_time() - cpu
    return _Answer(user.kit.records().tobytes(), user.note.columns(user.index), work.failures, cpu_s, fault)
