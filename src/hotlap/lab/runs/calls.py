"""Calls: a subject's calls beside the timed iterations, for a look that is too dear for these."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from operator import length_hint
from typing import TYPE_CHECKING, Any

from .interrupts import Stopped
from .run import being_cancelled
from .subject import cleared, prepared

if TYPE_CHECKING:
    from ..config import BenchmarkConfig
    from .limits import Guard
    from .subject import Loop, Subject

__all__ = ["Calls", "Unprepared"]


class Unprepared(Exception):
    """setup or teardown failed, which it did not while the run was timed. The text says how."""


class Calls:
    """Makes calls as the run does: with its setup and teardown, interrupted when a limit is passed.

    All of them are made in one coroutine of the caller's, so that an async subject has one event loop for all its
    calls. What remains of a call in here is a number that grows: memory can be looked at from one call to the next.
    """

    def __init__(self, subject: Subject, config: BenchmarkConfig, guard: Guard) -> None:
        self._subject, self._guard = subject, guard
        self._setup, self._teardown = config.setup, config.teardown
        self._fixed = subject.loop()
        self.alone = self._setup is not None or self._teardown is not None  # a call has a setup of its own
        self.made = 0
        self.failed = 0

    async def make(self, count: int) -> None:
        """Make so many calls. Failures are counted, and no reason to stop. Raises Stopped at a limit, Unprepared."""
        for _ in range(count if self.alone else 1):
            calls = repeat(None, 1 if self.alone else count)
            loop = await self.set_up()
            while length_hint(calls):
                await self.run(loop, calls)
            await self.tear_down()

    async def set_up(self) -> Loop:
        """Raises Unprepared."""
        with _preparing("setup"):
            arguments = await prepared(self._setup, self._subject.asynchronous)
        return self._fixed if arguments is None else self._subject.loop(arguments)

    async def tear_down(self) -> None:
        """Raises Unprepared."""
        with _preparing("teardown"):
            await cleared(self._teardown, self._subject.asynchronous)

    async def run(self, loop: Loop, calls: Iterator[None]) -> Any:
        """Make the calls that the iterator still has, up to the first that fails; the last one's result, or None.

        Raises Stopped when a limit is passed, before or within a call, and KeyboardInterrupt.
        """
        guard = self._guard
        if guard.over():
            raise Stopped
        before = length_hint(calls)
        task = asyncio.current_task() if self._subject.asynchronous else None
        result: Any = None
        try:
            guard.expose(None if task is None else (asyncio.get_running_loop(), task))
            try:
                result = loop(calls)
                if task is not None:
                    result = await result
            finally:
                guard.cover()
        except asyncio.CancelledError:
            if guard.ended is not None:
                raise Stopped from None
            if being_cancelled(task):
                raise KeyboardInterrupt from None
            self.failed += 1
        except (Exception, SystemExit):
            self.failed += 1
        self.made += before - length_hint(calls)
        return result


@contextmanager
def _preparing(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise Unprepared(f"{name} raised {type(error).__name__}: {error}") from error
