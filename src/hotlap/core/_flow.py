"""Stand-ins for coroutines, generators and async generators that measure them to their end.

A coroutine is timed from its first step to its end, with its own running time (the sum of its steps) apart
from the time it was suspended. A generator is billed for its steps alone: what its consumer does in between
is not its time. An async generator is billed from each asend() to its answer, suspensions included.

A stand-in is what it stands for in all that Python code can ask: __class__, attributes, and send, throw and
close, which go to the original. The site is the thread's scope during each step, so that calls made in it find
their parent.

A call that begins while measuring is switched off, or that is closed or thrown into before its first step, is
not measured at all: its stand-in is done, and only passes things on. Two threads cannot be in one flow: for the
second it is running, and the original refuses.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from collections.abc import Generator as Steps
from operator import attrgetter
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any
from weakref import ref

from ._base import FREE_THREADED, local, new_scope, outcome_of, scope_now, state
from ._sample import Sample, leave_record
from ._site import COUNT, Site, Tally, count_in, count_out
from .record import FLAG_ASYNC, FLAG_CANCELLED, FLAG_ERROR, FLAG_GENERATOR

FOLLOW_COROUTINE, FOLLOW_GENERATOR, FOLLOW_ASYNC_GENERATOR = 1, 2, 4

_OPEN, _RUNNING, _DONE = range(3)


def _shown(name: str) -> Any:
    """An attribute that the original has the say about."""

    def put(self: Any, value: Any) -> None:
        setattr(self.__wrapped__, name, value)

    return property(attrgetter(f"__wrapped__.{name}"), put)


class _Call:
    """A call that goes on after it returned: what is known of it so far."""

    __slots__ = (
        "begin",
        "children",
        "flags",
        "longest",
        "run",
        "sample",
        "site",
        "state",
        "suspensions",
        "tally",
        "timed",
        "top",
        "wall",
    )

    begin: int | None  # of its first step
    children: int
    flags: int  # of what kind it is
    longest: int
    run: int
    sample: Sample | None
    site: Site
    state: int
    suspensions: int
    tally: Tally
    timed: bool
    top: Any
    wall: int  # an async generator's: of its steps so far

    def finish(self, end: int, outcome: int) -> None:
        """It is over, and counts now, unless it has done so."""
        if self.state == _DONE:
            return
        flags = outcome | self.flags
        tally, run = self.tally, self.run
        begin = end if self.begin is None else self.begin
        if self.flags == FLAG_ASYNC:
            wall = end - begin
        elif self.flags == FLAG_GENERATOR:
            wall = run
        else:
            wall = self.wall
        if FREE_THREADED:
            count_out(tally, wall if self.timed else None, flags)
            self.state = _DONE
        else:  # count_out(), written out: nothing is called, as in _call
            self.state = _DONE
            tally.more -= 1
            if flags & FLAG_ERROR:
                tally.errors += 1
            if flags & FLAG_CANCELLED:
                tally.cancelled += 1
            if not self.timed:
                tally.counted += 1
            elif wall < tally.limit:
                tally.short[wall] += 1
            else:
                tally.pending.append(wall)
        if not self.timed:
            return
        tally.run_ns += run
        tally.suspensions += self.suspensions
        if self.longest > tally.longest_ns:  # noqa: PLR1730 - max() would let another thread in before the store
            tally.longest_ns = self.longest
        site, sample = self.site, self.sample
        try:
            if len(tally.pending) >= tally.lot:
                tally.fold_if_free()
            if sample is not None or wall > site.tail_ns:
                own = run - self.children if run > self.children else 0
                top = scope_now().top
                leave_record(site, tally, sample, top, begin, wall, own, run, self.longest, self.suspensions, flags)
        except RecursionError:
            return


def _watched(call: _Call) -> Steps[None, None, None]:
    """Kept by the stand-in of a call that is suspended, and let go with it: then it will not be resumed.

    A __del__ would do the same, but for every call, and lose the exceptions of signal handlers that fall into it.
    """
    try:
        yield  # until the call is over
    except GeneratorExit:
        call.finish(state.tick(), FLAG_CANCELLED)


_PASSED = _Call()  # of the stand-ins that only pass things on
_PASSED.state = _DONE


# What the stand-ins share. None has a __getattr__, which would make every attribute of its own dear, nor a docstring,
# which its instances would show. In dying they let go of the slots in alphabetical order: of the original, so that its
# finally blocks run as they would, then of the watch.
class _StandIn:
    __slots__ = (
        "__qualname__",  # the one name that no property can have
        "__weakref__",
        "__wrapped__",
        "_call",
        "_sample",
        "_site",
        "_watch",
    )

    __wrapped__: Any
    _flags: int

    def __init__(self, inner: Any, site: Site, sample: Sample | None) -> None:
        self.__wrapped__ = inner
        self.__qualname__ = inner.__qualname__
        self._site = site
        self._sample = sample
        self._call: _Call | None = None  # until the first step
        self._watch: Steps[None, None, None] | None = None

    __name__ = _shown("__name__")

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.__wrapped__)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def _step(
        self,
        value: Any = None,
        ask: Any = None,
        args: tuple[Any, ...] = (),
        last: bool = False,
        by: AsyncStep | None = None,
    ) -> Any:
        """Measures a step: the original is sent `value`, or `ask` is called, a method of it that makes it run.

        The `last` step ends the call even if it goes well. `by` is the awaitable whose step it is, of an async
        generator.
        """
        try:
            scope = local.scope  # a coroutine may move to another thread between two steps
        except AttributeError:
            scope = new_scope()
        call = self._call or self._begun()
        if call.state != _OPEN:  # not to be measured: the original knows what to say
            return self.__wrapped__.send(value) if ask is None else ask(*args)
        sample, tick = call.sample, state.tick
        below, outer = scope.top, scope.children
        call.state = _RUNNING
        scope.top, scope.children = call.top, call.children
        scope.turn += 1
        begin = None
        try:
            if sample is not None:
                sample.open()
            begin = tick()
            if call.begin is None:
                call.begin = begin
            if by is not None and by._begin is None:
                by._begin = begin
            item = self.__wrapped__.send(value) if ask is None else ask(*args)
            end = tick()
            if sample is not None or self._watch is None:
                try:
                    if sample is not None:
                        sample.close()
                    if self._watch is None:
                        self._watch = watch = _watched(call)
                        next(watch)
                except RecursionError:  # no room for it: after the next step, then
                    self._watch = None
        except BaseException as error:
            call.top, call.children = scope.top, scope.children
            scope.top, scope.children = below, outer
            scope.turn += 1
            call.state = _OPEN
            try:
                end = tick()
                step = 0 if begin is None else end - begin
                scope.children = outer + step
                call.run += step
                if step > call.longest:  # noqa: PLR1730 - a call costs more
                    call.longest = step
                if sample is not None:
                    sample.close()
                if by is not None:
                    by._end(end, error)
                else:
                    call.finish(end, 0 if type(error) is StopIteration else outcome_of(error))
                if self._watch is None:
                    if call.state == _OPEN:
                        self._watch = watch = _watched(call)
                        next(watch)
                elif call.state == _DONE:
                    next(self._watch, None)
            except BaseException as late:  # no room to look closer, or an interrupt: the least that keeps the books
                if call.state == _OPEN:
                    call.state = _DONE
                    call.tally.more -= 1
                    call.tally.errors += type(error) is not StopIteration
                    if call.timed:
                        call.tally.pending.append(call.run)
                    else:
                        call.tally.counted += 1
                if not isinstance(late, RecursionError):
                    raise
            raise
        step = end - begin
        call.top, call.children = scope.top, scope.children
        scope.top, scope.children = below, outer + step
        scope.turn += 1
        call.run += step
        if step > call.longest:  # noqa: PLR1730
            call.longest = step
        call.state = _OPEN
        if last:
            if by is None:
                call.finish(end, FLAG_CANCELLED)
            else:
                by._end(end, None)
            if self._watch is not None and call.state == _DONE:
                next(self._watch, None)
            return item
        call.suspensions += 1
        return item

    def _begun(self) -> _Call:
        """The call begins with its first step, unless measuring is switched off."""
        if not state.enabled:
            self._call = _PASSED
            return _PASSED
        call = _Call()
        call.state = _RUNNING  # a second thread is refused
        call.site, call.sample, call.flags, call.begin = self._site, self._sample, self._flags, None
        call.tally = call.top = tally = call.site.tally
        call.timed = call.site._mode != COUNT
        call.children = call.longest = call.run = call.suspensions = call.wall = 0
        self._call = call
        try:
            count_in(tally)
        except BaseException:
            self._call = None
            raise
        call.state = _OPEN
        if call.sample is not None:
            call.sample.in_flight = tally.more + tally.busy
        return call


# Of a coroutine or a generator: its methods are the steps.
class _Stepped(_StandIn):
    __slots__ = ()

    __next__ = _StandIn._step

    def send(self, value: Any, /) -> Any:
        return self._step(value)

    def throw(self, *error: Any) -> Any:
        self._call = self._call or _PASSED
        return self._step(None, self.__wrapped__.throw, error)

    def close(self) -> Any:
        self._call = self._call or _PASSED
        return self._step(None, self.__wrapped__.close, last=True)


class _Iter:
    """The __iter__ of a coroutine, which has none. But what its __await__ gives has one, and that is itself here; and
    generators of types.coroutine() may yield from coroutines.
    """

    def __get__(self, coroutine: Coroutine | None, kind: type | None = None) -> Any:
        flags = sys._getframe(1).f_code.co_flags
        if getattr(coroutine, "_awaited", flags & inspect.CO_ITERABLE_COROUTINE):
            return lambda: coroutine
        raise AttributeError("__iter__")


class Coroutine(_Stepped):
    __slots__ = ("_awaited",)
    _flags = FLAG_ASYNC

    cr_await = _shown("cr_await")
    cr_code = _shown("cr_code")
    cr_frame = _shown("cr_frame")
    cr_origin = _shown("cr_origin")
    cr_running = _shown("cr_running")
    cr_suspended = _shown("cr_suspended")

    def __await__(self) -> Any:
        if self._call is not None and self.__wrapped__.cr_await is not None:
            raise RuntimeError("coroutine is being awaited already")
        self._awaited = True
        return self

    __iter__ = _Iter()


class Generator(_Stepped):
    __slots__ = ()
    _flags = FLAG_GENERATOR

    gi_code = _shown("gi_code")
    gi_frame = _shown("gi_frame")
    gi_running = _shown("gi_running")
    gi_suspended = _shown("gi_suspended")
    gi_yieldfrom = _shown("gi_yieldfrom")

    def __iter__(self) -> Any:
        return self


class AsyncGenerator(_StandIn):
    __slots__ = ()
    _flags = FLAG_ASYNC | FLAG_GENERATOR

    ag_await = _shown("ag_await")
    ag_code = _shown("ag_code")
    ag_frame = _shown("ag_frame")
    ag_running = _shown("ag_running")
    ag_suspended = _shown("ag_suspended")

    def __aiter__(self) -> Any:
        return self

    def __anext__(self) -> Any:
        return self._awaitable(self.__wrapped__.__anext__(), _SEND)

    def asend(self, value: Any, /) -> Any:
        return self._awaitable(self.__wrapped__.asend(value), _SEND)

    def athrow(self, *error: Any) -> Any:
        return self._awaitable(self.__wrapped__.athrow(*error), _THROW)

    def aclose(self) -> Any:
        return self._awaitable(self.__wrapped__.aclose(), _CLOSE)

    def _awaitable(self, inner: Any, kind: int) -> Any:
        return inner if self._call is not None and self._call.state == _DONE else AsyncStep(inner, self, kind)


_SEND, _THROW, _CLOSE = range(3)


# The awaitable of one asend(), athrow() or aclose(): its steps are steps of the generator that it belongs to.
class AsyncStep:
    __slots__ = ("__weakref__", "_begin", "_flow", "_inner", "_kind", "_over")

    def __init__(self, inner: Any, flow: AsyncGenerator, kind: int) -> None:
        self._inner = inner
        self._flow = flow
        self._kind = kind
        self._begin: int | None = None
        self._over = False

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._inner)

    def _step(self, ask: Callable[..., Any], args: tuple[Any, ...], last: bool = False) -> Any:
        if self._over:
            return ask(*args)
        flow = self._flow
        if self._kind != _SEND:
            flow._call = flow._call or _PASSED  # it does not run what is new, and ends it
        return flow._step(None, ask, args, last, self)

    def _end(self, end: int, error: BaseException | None) -> None:
        """A step is answered, or has failed. That may also be because it was refused: another one is under way,
        or the first value sent is not None. Then the generator goes on.
        """
        call = self._flow._call
        assert call is not None
        self._over = True
        call.wall += 0 if self._begin is None else end - self._begin
        if error is None:  # closed: 3.13 and later throw GeneratorExit into the generator
            self._kind = _CLOSE
        elif self._kind == _SEND and type(error) is StopIteration:
            return
        if self._flow.__wrapped__.ag_frame is None:
            outcome = 0 if error is None else outcome_of(error)
            call.finish(end, outcome | (FLAG_CANCELLED if self._kind == _CLOSE else 0))

    # In C throughout: `async for` makes a TypeError of what a signal handler raises in an __await__.
    __await__ = property(ref)  # a weak reference, called, gives the step

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self._step(self._inner.send, (None,))

    def send(self, value: Any, /) -> Any:
        return self._step(self._inner.send, (value,))

    def throw(self, *error: Any) -> Any:
        return self._step(self._inner.throw, error)

    def close(self) -> Any:
        if self._begin is None:
            self._over = True
        try:
            return self._step(self._inner.close, (), last=True)
        finally:
            self._over = True


_STAND_INS = (
    (FOLLOW_COROUTINE, CoroutineType, Coroutine),
    (FOLLOW_GENERATOR, GeneratorType, Generator),
    (FOLLOW_ASYNC_GENERATOR, AsyncGeneratorType, AsyncGenerator),
)


def stand_ins(flow: int) -> dict[Any, Any]:
    """The stand-in for each type of result that the FOLLOW_ bits in `flow` ask to follow to its end."""
    return {kind: stand_in for bit, kind, stand_in in _STAND_INS if flow & bit}
