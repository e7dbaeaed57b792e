"""User: one who calls the subject again and again, beside others.

A user takes the number of a call, makes the call through the probe, notes it, and takes the next, until none is left.
The call's record (its time, its evidence) goes to the run's ring, which all users write to; the note says which call
of which user it was. The same code serves threads, tasks and processes: see crew.py.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count, repeat
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ... import core
from ..config import BenchmarkConfig
from ..failures import FailureLog
from ..runs.recording import Recording
from ..runs.subject import Subject, cleared, empty_loop, prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..runs.recording import Records

    Integers = NDArray[np.int64]

__all__ = [
    "CAPACITY",
    "DONE",
    "FAILED",
    "RUNNING",
    "STOPPED",
    "Cell",
    "Exposure",
    "Kit",
    "Note",
    "Shared",
    "User",
    "Work",
    "free_threads",
]

CAPACITY = 1 << 14  # records: 2 MB
_DRAIN_EVERY = CAPACITY // 8  # calls
_NAP_S = 0.05  # a user who waits for a call to be due looks that often whether it is still wanted

RUNNING, DONE, FAILED, STOPPED = range(4)  # states of a call


class Cell(Protocol):
    """A number that users share."""

    value: int


@dataclass(frozen=True, slots=True)
class Shared:
    """What users share while they work, when they are processes or free threads."""

    next: Cell  # the number of the next call
    stopped: Cell  # not 0: no further call begins
    lock: AbstractContextManager[Any]  # of `next`


@dataclass(slots=True)
class _Cell:
    value: int = 0


def free_threads() -> bool:
    """Whether threads run without an interpreter's lock."""
    return not getattr(sys, "_is_gil_enabled", lambda: True)()


class Work:
    """What the users do together: so many calls, each made by the one who takes its number.

    In a closed model a user takes the next call as soon as the last one is over. In an open one call number i is due
    `due_ns[i]` after the start, whether or not the ones before it are over.
    """

    def __init__(
        self,
        calls: int,
        users: int,
        *,
        seconds: float = float("inf"),  # no call begins later than that
        each: int | None = None,  # calls that a user makes, instead of sharing them
        due_ns: Integers | None = None,
        empty: bool = False,  # call nothing: what is left is the generator's own cost
        shared: Shared | None = None,  # for users in other processes
    ) -> None:
        self.calls, self.users, self.each, self.empty, self.due_ns = calls, users, each, empty, due_ns
        self.seconds = seconds
        self.start_ns = 0
        self.failures = FailureLog()
        self.fault: BaseException | None = None  # what ended the work, and is no failure of a call
        self.interrupting = False  # calls that run are being ended
        self.done = threading.Event()  # all users have left
        self.gate = threading.Event()
        self.armed = threading.Semaphore(0)
        if shared is None and free_threads():
            shared = Shared(_Cell(), _Cell(), threading.Lock())
        self._shared = shared
        self._numbers = count()
        self._taken = 0
        self._stopped = False
        self._noting = threading.Lock()
        self._left = 0

    def begin(self, start_ns: int) -> None:
        """All users begin at this time of the core's clock."""
        self.start_ns = start_ns
        self._end_ns = float(start_ns) + self.seconds * 1e9
        self.gate.set()

    def take(self, made: int) -> int | None:
        """The number of the next call, for a user who has made so many; None when there is none."""
        if self.each is not None and made >= self.each:
            return None
        if self.stopped or core.now_ns() >= self._end_ns:
            return None
        number = self._number()
        return number if number < self.calls else None

    def _number(self) -> int:
        shared = self._shared
        if shared is None:
            # One step under the interpreter's lock. A lock of our own would be got by a thread that then waits for
            # that one, while the thread that has it waits for ours: they would change hands at each call.
            number = self._taken = next(self._numbers)
            return number
        with shared.lock:
            number = shared.next.value
            if number < self.calls:
                shared.next.value = number + 1
        return number

    def due(self, number: int) -> int | None:
        """When this call is due; None in a closed model."""
        return None if self.due_ns is None else self.start_ns + int(self.due_ns[number])

    @property
    def taken(self) -> int:
        """Calls whose numbers have been taken, about."""
        return min(self._taken, self.calls) if self._shared is None else self._shared.next.value

    @property
    def stopped(self) -> bool:
        return self._stopped if self._shared is None else bool(self._shared.stopped.value)

    def stop(self) -> None:
        """No further call begins."""
        self._stopped = True
        if self._shared is not None:
            self._shared.stopped.value = 1

    def failed(self, error: BaseException, number: int) -> None:
        with self._noting:
            self.failures.add(error, number)

    def end(self, error: BaseException) -> None:
        """Something other than a call has failed: nobody goes on."""
        with self._noting:
            self.fault = self.fault or error
        self.stop()

    def leave(self) -> None:
        """A user has no more to do."""
        with self._noting:
            self._left += 1
            if self._left == self.users:
                self.done.set()


class Note:
    """What a user writes down of the calls, in columns: number, when it was free for it and made it, how it ended."""

    __slots__ = ("called_ns", "number", "state", "taken_ns")

    def __init__(self) -> None:
        self.number, self.taken_ns, self.called_ns = array("q"), array("q"), array("q")
        self.state = array("b")

    def __len__(self) -> int:
        return len(self.state)

    def begin(self, number: int, taken_ns: int, called_ns: int) -> None:
        self.number.append(number)
        self.taken_ns.append(taken_ns)
        self.called_ns.append(called_ns)
        self.state.append(RUNNING)  # last: its length is the number of calls

    def columns(self, user: int) -> tuple[Integers, ...]:
        """user, number, taken_ns, called_ns, state; shape (n,) each."""
        length = len(self.state)
        whole = (self.number, self.taken_ns, self.called_ns, self.state)
        columns = (np.array(column[:length], np.int64).reshape(length) for column in whole)
        return (np.full(length, user, np.int64), *columns)


class Exposure(Protocol):
    """Between expose() and cover() the user's call may be interrupted; Guard is one, too."""

    def expose(self) -> None: ...

    def cover(self) -> None: ...


class Kit:
    """What every user of a crew works with."""

    def __init__(self, subject: Subject, config: BenchmarkConfig, recording: Recording) -> None:
        self.subject, self.config, self.recording = subject, config, recording
        self.probe = recording.probe(subject.loop(), subject.asynchronous)
        self.empty = recording.probe(empty_loop(subject.asynchronous), subject.asynchronous)
        self.result: Any = None  # what the last successful call gave
        self._draining = threading.Lock()
        self._drained = 0  # number of the call at which the ring was empty

    def tick(self, number: int) -> None:
        """A call has left its record. Whoever is first to be so many further on empties the ring.

        The others who come that far wait for it: the one who empties it may have lost the interpreter's lock, and get
        it back only after dozens of others, who would fill the ring.
        """
        if number - self._drained >= _DRAIN_EVERY:
            with self._draining:
                if number - self._drained >= _DRAIN_EVERY:
                    self.recording.tick(CAPACITY)
                    self._drained = number

    def records(self) -> Records:
        """The records since the last time."""
        with self._draining:
            records = self.recording.records()
            self.recording.forget()
            self._drained = 0
        return records


class User:
    """One who calls the subject again and again. For a sync subject its coroutines never suspend."""

    def __init__(self, index: int, kit: Kit, exposure: Exposure) -> None:
        self.index, self.kit, self.exposure = index, kit, exposure
        self.note = Note()

    async def work(self, work: Work) -> None:
        """Make calls until none is left. Raises what setup and teardown raise, and Stopped."""
        kit, config = self.kit, self.kit.config
        asynchronous = kit.subject.asynchronous
        each_is_set_up = config.setup is not None and not work.empty
        self.note = note = Note()
        while (number := work.take(len(note))) is not None:
            probe = kit.empty if work.empty else kit.probe
            if each_is_set_up:
                arguments = await prepared(config.setup, asynchronous)
                if arguments is not None:
                    probe = kit.recording.probe(kit.subject.loop(arguments), kit.subject.asynchronous)
            taken = core.now_ns()
            due = work.due(number)
            if due is not None and not await self._wait_until(due, work):
                return
            if not await self._call(probe, number, taken, work):
                return
            if not work.empty:
                await cleared(config.teardown, asynchronous)
            kit.tick(number)
            if asynchronous:
                await asyncio.sleep(0)  # a call that never suspends must not keep the others from theirs

    async def _call(self, probe: Callable[..., Any], number: int, taken: int, work: Work) -> bool:
        """One call; False when it was ended from outside."""
        note = self.note
        calls = repeat(None, 1)
        state = STOPPED
        note.begin(number, taken, core.now_ns())
        try:
            self.exposure.expose()
            try:
                result = probe(calls)
                if self.kit.subject.asynchronous:
                    result = await result
            finally:
                self.exposure.cover()
            state = DONE
        except asyncio.CancelledError as error:
            if work.interrupting:
                return False
            state = FAILED  # the subject's own doing
            work.failed(error, number)
        except (Exception, SystemExit) as error:
            state = FAILED
            work.failed(error, number)
        else:
            if not work.empty:
                self.kit.result = result
        finally:
            note.state[-1] = state
        return True

    async def _wait_until(self, due: int, work: Work) -> bool:
        """Sleep until a call is due; False when it is no longer wanted."""
        while (left := (due - core.now_ns()) / 1e9) > 0.0:
            if work.stopped:
                return False
            if self.kit.subject.asynchronous:
                await asyncio.sleep(min(left, _NAP_S))
            else:
                time.sleep(min(left, _NAP_S))
        return not work.stopped
