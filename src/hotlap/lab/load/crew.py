"""Crew: the users of a load run, and how work is given to them. Threads, and tasks of an event loop; processes.py has
processes.

A crew stays for the whole run, so that what a thread keeps (a connection, a cache) is warm when it is measured. The
thread that runs the benchmark hands it work, and watches: limits, progress, the user's interrupt. It measures
nothing, and no user waits for it. When the work is done, the records in the ring and the users' notes are put together.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import core
from ...errors import HotlapError
from ..config import BenchmarkConfig
from ..failures import FailureLog
from ..runs.interrupts import Stopped, call_back, clear_notice, hangs, send_stop
from ..runs.limits import Guard
from ..runs.recording import Recording
from ..runs.run import drive
from ..runs.subject import Subject
from .users import DONE, FAILED, RUNNING, STOPPED, Kit, User, Work

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..progress import Reporter
    from ..runs.recording import Records

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["LOOK_S", "Crew", "Part", "Piece", "Tasks", "Threads", "matched", "put_together"]

LOOK_S = 0.02  # how often the watching thread looks
_GRACE_S = 0.05  # a call may end by itself before it is interrupted
_DEAF_S = 0.2  # an event loop that does not answer by then is blocked by a call
_PATIENCE_S = 1.0  # then what still runs is left behind


@dataclass(frozen=True, slots=True)
class Part:
    """What came of some work. Columns have shape (n,): a row for each call that ended by itself, in order of start."""

    users: int
    records: Records
    user: Integers
    number: Integers
    taken_ns: Integers  # when the user was free for it
    called_ns: Integers
    closed: bool
    due_ns: Integers  # called_ns in a closed model
    failed: NDArray[np.bool_]
    failures: FailureLog  # by number
    planned: int
    due: int  # calls that were due by the end; all in a closed model
    cut_off: int  # calls that were ended from outside
    running: int  # calls that could not be ended, and were left behind
    start_ns: int
    seconds: float
    cpu_s: float | None  # CPU time of all users' processes; None when some of it is not known
    late_s: Floats  # how much later than it had asked for the watching thread ran, at each look
    interrupted: bool  # by the user
    lost: tuple[str, ...] = ()  # users whose calls are not known, and why


class Crew(ABC):
    """Users of one kind, and how work is given to them. Enter it to have them, leave it to send them home."""

    kind = ""

    def __init__(self, size: int, subject: Subject, config: BenchmarkConfig, recording: Recording) -> None:
        self.size, self.subject, self.config, self.recording = size, subject, config, recording
        self._behind = False  # some calls could not be ended, and run on

    @abstractmethod
    def __enter__(self) -> Crew: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def result(self) -> Any:
        """What the last successful call gave; None where that stays in another process."""
        return None

    def work(self, **options: Any) -> Work:
        """Work for users of this kind; see Work."""
        return Work(**options)

    def perform(self, work: Work, guard: Guard, reporter: Reporter) -> Part:
        """Have work done by the first `work.users` users, until it is done or a limit ends it. Raises what setup and
        teardown raise.
        """
        interrupted = False
        late: list[float] = []
        cpu = time.process_time()
        begun = time.perf_counter()
        told = 0
        try:
            self._begin(work)
            begun = time.perf_counter()
            cpu = time.process_time()
            asked = time.perf_counter()
            while not self._wait(work, LOOK_S):
                looked = time.perf_counter()
                late.append(max(0.0, looked - asked - LOOK_S))
                taken = work.taken
                reporter.advance(taken - told)
                told = taken
                if self._over(guard):
                    break
                asked = time.perf_counter()
        except KeyboardInterrupt:
            interrupted = True
        work.stop()
        work.gate.set()
        reporter.advance(work.taken - told)
        patience = time.monotonic() + _PATIENCE_S
        finished = self._wait(work, _GRACE_S)
        while not finished and time.monotonic() < patience:
            work.interrupting = True
            self._interrupt(work)
            finished = self._wait(work, 0.0)
        self._behind = not finished
        if isinstance(work.fault, KeyboardInterrupt):
            interrupted = True
        elif work.fault is not None:
            raise work.fault
        seconds = time.perf_counter() - begun
        cpu_s = time.process_time() - cpu
        return self._collect(work, seconds, cpu_s, np.array(late, np.float64), interrupted)

    def _over(self, guard: Guard) -> bool:
        return guard.over()

    @abstractmethod
    def _begin(self, work: Work) -> None:
        """Have the users begin, all at once."""

    def _wait(self, work: Work, seconds: float) -> bool:
        """Whether the work is done, after waiting for it so long."""
        return work.done.wait(seconds)

    @abstractmethod
    def _interrupt(self, work: Work) -> None:
        """End the calls that run, and wait a moment for that. Called again and again."""

    @abstractmethod
    def _collect(self, work: Work, seconds: float, cpu_s: float, late_s: Floats, interrupted: bool) -> Part:
        """Put records and notes together. `cpu_s` is what this process took."""


def thread_number() -> int:
    """The calling thread, as records name it."""
    return threading.get_native_id() if sys.platform == "linux" else threading.get_ident() & 0xFFFFFFFF


class _ThreadExposure:
    """A call on a thread is interrupted by Stopped, as soon as it runs Python code: one that waits in C goes on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # no Python function is called under it
        self._exposed = False
        self._sent = False
        self.thread = 0

    def expose(self) -> None:
        self._exposed = True

    def cover(self) -> None:
        with self._lock:
            self._exposed = False
            if self._sent:  # and maybe not delivered yet: then it is called back
                self._sent = False
                call_back(self.thread)

    def interrupt(self) -> None:
        with self._lock:
            if self._exposed and self.thread:
                self._sent = True
                send_stop(self.thread)

    def call_back(self) -> None:
        """The interruption, if it was not delivered."""
        with self._lock:
            if self._sent:
                self._sent = False
                call_back(self.thread)


class _TaskExposure:
    """A task's call is interrupted by cancelling the task."""

    def __init__(self) -> None:
        self.exposed = False

    def expose(self) -> None:
        self.exposed = True

    def cover(self) -> None:
        self.exposed = False


class Threads(Crew):
    """Each user is a thread of this process."""

    kind = "threads"

    def __enter__(self) -> Threads:
        self._kit = Kit(self.subject, self.config, self.recording)
        self._exposures = [_ThreadExposure() for _ in range(self.size)]
        self._users = [User(index, self._kit, exposure) for index, exposure in enumerate(self._exposures)]
        self._inboxes: list[queue.SimpleQueue[Work | None]] = [queue.SimpleQueue() for _ in self._users]
        self._numbers = [0] * self.size
        self._threads: list[threading.Thread] = []
        for user in self._users:
            thread = threading.Thread(target=self._live, args=(user,), name=f"user {user.index}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self.__exit__(None, None, None)
                raise HotlapError(
                    f"concurrent_users={self.size}: the system gave only {user.index} threads ({error}); "
                    "ask for fewer users"
                ) from error
            self._threads.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for inbox in self._inboxes:
            inbox.put(None)
        until = time.monotonic() + (LOOK_S if self._behind else _PATIENCE_S)
        for thread in self._threads:  # those that were left behind end when their call does
            thread.join(max(0.0, until - time.monotonic()))

    @property
    def result(self) -> Any:
        return self._kit.result

    def _live(self, user: User) -> None:
        self._exposures[user.index].thread = threading.get_ident()
        self._numbers[user.index] = thread_number()
        with suppress(Stopped):
            while (work := self._inboxes[user.index].get()) is not None:
                self._work(user, work)

    def _work(self, user: User, work: Work) -> None:
        try:
            work.armed.release()
            work.gate.wait()
            drive(user.work(work), False)
        except Stopped:
            self._exposures[user.index].cover()
        except BaseException as error:
            work.end(error)
        finally:
            work.leave()

    def _begin(self, work: Work) -> None:
        for inbox in self._inboxes[: work.users]:
            inbox.put(work)
        for _ in range(work.users):
            work.armed.acquire()
        work.begin(_start(work))

    def _interrupt(self, work: Work) -> None:
        if hangs():
            work.done.wait(LOOK_S)
            return
        exposures = self._exposures[: work.users]
        for exposure in exposures:
            exposure.interrupt()
        work.done.wait(LOOK_S)
        for exposure in exposures:
            exposure.call_back()
        clear_notice()

    def _collect(self, work: Work, seconds: float, cpu_s: float, late_s: Floats, interrupted: bool) -> Part:
        records = self._kit.records()
        by_thread = np.argsort(records["thread"], kind="stable")
        numbers = np.array(self._numbers[: work.users])
        ends = np.searchsorted(records["thread"][by_thread], numbers, "right")
        starts = np.searchsorted(records["thread"][by_thread], numbers, "left")
        pieces = []
        for user, start, end in zip(self._users, starts.tolist(), ends.tolist(), strict=False):
            columns = user.note.columns(user.index)
            pieces.append(matched(columns, records[by_thread[start:end]]))
        return put_together(work, pieces, seconds=seconds, cpu_s=cpu_s, late_s=late_s, interrupted=interrupted)


class Tasks(Crew):
    """Each user is a task in one event loop, on a thread of its own: the calling thread stays free to watch."""

    kind = "tasks"

    def __enter__(self) -> Tasks:
        self._kit = Kit(self.subject, self.config, self.recording)
        self._exposures = [_TaskExposure() for _ in range(self.size)]
        self._users = [User(index, self._kit, exposure) for index, exposure in enumerate(self._exposures)]
        self._inbox: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._tasks: list[asyncio.Task[None]] = []
        self._loop = asyncio.new_event_loop()
        self._answered = threading.Event()  # the loop takes its turns: no call blocks it
        self._thread = threading.Thread(target=self._live, name="users", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inbox.put(None)
        with suppress(RuntimeError):  # closed already
            self._loop.call_soon_threadsafe(self._give_up)
        self._thread.join(LOOK_S if self._behind else _PATIENCE_S)

    @property
    def result(self) -> Any:
        return self._kit.result

    def _live(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        # A task that does not let itself be cancelled is left behind, and that is said in the report.
        loop.set_exception_handler(lambda loop, context: None)
        try:
            with suppress(Stopped, asyncio.CancelledError):
                while (work := self._inbox.get()) is not None:
                    with _set_after(work.done):
                        loop.run_until_complete(self._phase(work))
                loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    async def _phase(self, work: Work) -> None:
        work.begin(_start(work))
        self._tasks = [self._loop.create_task(self._use(user, work)) for user in self._users[: work.users]]
        self._all = asyncio.current_task()
        await asyncio.wait(self._tasks)

    async def _use(self, user: User, work: Work) -> None:
        try:
            await user.work(work)
        except (Stopped, asyncio.CancelledError):
            pass
        except BaseException as error:
            work.end(error)

    def _give_up(self) -> None:
        """Leave the tasks that go on behind."""
        if self._tasks and self._all is not None:
            self._all.cancel()

    def _begin(self, work: Work) -> None:
        self._inbox.put(work)
        work.gate.wait()

    def _interrupt(self, work: Work) -> None:
        def cancel() -> None:
            self._answered.set()
            for exposure, task in zip(self._exposures, self._tasks, strict=False):
                if exposure.exposed:
                    task.cancel()

        self._answered.clear()
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(cancel)
        if self._answered.wait(_DEAF_S) or work.done.is_set() or hangs():
            work.done.wait(LOOK_S)
            return
        thread = self._thread.ident or 0
        send_stop(thread)
        work.done.wait(LOOK_S)
        call_back(thread)
        clear_notice()

    def _collect(self, work: Work, seconds: float, cpu_s: float, late_s: Floats, interrupted: bool) -> Part:
        columns = [user.note.columns(user.index) for user in self._users[: work.users]]
        together = tuple(np.concatenate(column) for column in zip(*columns, strict=True))
        pieces = [matched(together, self._kit.records())]
        return put_together(work, pieces, seconds=seconds, cpu_s=cpu_s, late_s=late_s, interrupted=interrupted)


@contextmanager
def _set_after(event: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        event.set()


def _start(work: Work) -> int:
    """Now; in an open model so much later that the first call's user is waiting for it by then."""
    return core.now_ns() + (0 if work.due_ns is None else 2_000_000)


Piece = tuple["Records", tuple["Integers", ...], int, int]
"""Records, the columns of their notes, calls that were cut off, calls that run on."""


def matched(columns: tuple[Integers, ...], records: Records) -> Piece:
    """The records of one thread, with the notes of the calls that they are of: the notes' columns are those of
    Note.columns().

    A thread starts one call after the other, so the order of starts is that of the notes. Where a call has left no
    record (it switched measuring off) or a note was not finished (it was interrupted just then), the time tells.
    """
    state = columns[4]
    cut_off, running = int(np.count_nonzero(state == STOPPED)), int(np.count_nonzero(state == RUNNING))
    order = np.argsort(columns[3], kind="stable")
    ended = order[state[order] != RUNNING]
    records = records[np.argsort(records["start_ns"], kind="stable")]
    if len(ended) == len(records):
        rows = ended
    else:
        near = np.searchsorted(columns[3][order], records["start_ns"].astype(np.int64), "right") - 1
        first = np.ones(len(near), np.bool_)
        first[1:] = near[1:] != near[:-1]
        first &= near >= 0
        rows, records = order[near[first]], records[first]
    kept = np.isin(state[rows], (DONE, FAILED))
    rows, records = rows[kept], records[kept]
    return records, tuple(column[rows] for column in columns), cut_off, running


def put_together(
    work: Work,
    pieces: Iterable[Piece],
    *,
    seconds: float,
    cpu_s: float | None,
    late_s: Floats,
    interrupted: bool,
    lost: tuple[str, ...] = (),
) -> Part:
    """All pieces together, in order of start; numbers in the failures become those of the rows."""
    whole = list(pieces)
    records = np.concatenate([piece[0] for piece in whole]) if whole else np.zeros(0, core.record_dtype())
    columns = [np.concatenate(column) for column in zip(*(piece[1] for piece in whole), strict=True)]
    if not columns:
        columns = [np.zeros(0, np.int64)] * 5
    order = np.argsort(records["start_ns"], kind="stable")
    user, number, taken, called, state = (column[order] for column in columns)
    due_ns = called if work.due_ns is None else work.start_ns + work.due_ns[number]
    return Part(
        users=work.users,
        records=records[order],
        user=user,
        number=number,
        taken_ns=taken,
        called_ns=called,
        closed=work.due_ns is None,
        due_ns=due_ns,
        failed=state == FAILED,
        failures=work.failures,
        planned=work.calls,
        due=work.calls if work.due_ns is None else int(np.count_nonzero(work.due_ns <= seconds * 1e9)),
        cut_off=sum(piece[2] for piece in whole),
        running=sum(piece[3] for piece in whole),
        start_ns=work.start_ns,
        seconds=seconds,
        cpu_s=cpu_s,
        late_s=late_s,
        interrupted=interrupted,
        lost=lost,
    )
