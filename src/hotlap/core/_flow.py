"""Stand-ins for coroutines, generators and async generators that measure them to their end.

A coroutine is timed from its first step to its end, with its own running time (the sum of its steps) apart
from the time it was suspended. A generator is billed for its steps alone: what its consumer does in between
is not its time. An async generator is billed from each asend() to its answer, suspensions included.

The steps are driven by a generator of ours (`_drive`), the fastest thing that Python has between an `await`
and the coroutine behind it. Around it a stand-in is what it stands for in all that Python code can ask:
__class__, attributes, send, throw and close. The site is the thread's scope during each step, so that calls
made in it find their parent.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator as GeneratorABC
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from ._base import local, new_scope, outcome_of, scope_now, state
from ._sample import Sample, leave_record
from ._site import COUNT, Site, Tally, count_in, count_out
from .record import FLAG_ASYNC, FLAG_CANCELLED, FLAG_GENERATOR

FOLLOW_COROUTINE, FOLLOW_GENERATOR, FOLLOW_ASYNC_GENERATOR = 1, 2, 4

_Steps = GeneratorABC[Any, Any, Any]


def _finish(  # noqa: PLR0917 - passed by position: keywords cost more
    site: Site,
    tally: Tally,
    timed: bool,
    sample: Sample | None,
    begin: int,
    wall: int,
    run: int,
    longest: int,
    suspensions: int,
    children: int,
    flags: int,
) -> None:
    """The call is over: counts it. `flags` are the outcome and the kind of the flow."""
    if not timed:
        count_out(tally, None, flags)
        return
    tally.run_ns += run
    tally.suspensions += suspensions
    if longest > tally.longest_ns:  # noqa: PLR1730 - max() would let another thread in before the store
        tally.longest_ns = longest
    count_out(tally, wall, flags)
    if sample is not None or wall > site.tail_ns:
        own = run - children if run > children else 0
        top = scope_now().top
        leave_record(site, tally, sample, top, begin, wall, own, run, longest, suspensions, flags)


def _drive(inner: Any, site: Site, sample: Sample | None, kind: int) -> _Steps:
    """Steps `inner`, a coroutine or a generator (`kind` is FLAG_ASYNC or FLAG_GENERATOR), and measures it."""
    # All that follows happens at the first step.
    tally = site.tally
    tick = state.tick
    timed = site._mode != COUNT
    counts = state.enabled
    if counts:
        count_in(tally)
        if sample is not None:
            sample.in_flight = tally.flying
    send = inner.send
    value = thrown = None
    first = run = longest = suspensions = children = 0
    top: Any = tally
    while True:
        try:
            scope = local.scope  # a coroutine may move to another thread between two steps
        except AttributeError:
            scope = new_scope()
        below, outer = scope.top, scope.children
        scope.top, scope.children = top, children
        scope.turn += 1
        if sample is not None:
            sample.open()
        begin = tick()
        first = first or begin
        try:
            item = send(value) if thrown is None else inner.throw(thrown)
            end = tick()
        except BaseException as error:
            end = tick()
            step = end - begin
            children = scope.children
            scope.top, scope.children = below, outer + step
            scope.turn += 1
            flags = kind
            if type(error) is not StopIteration or thrown is not None:
                flags |= _outcome(error, thrown)
                thrown = None  # it holds this frame
            if sample is not None:
                sample.close()
            run += step
            if counts:
                longest = step if step > longest else longest
                wall = end - first if kind & FLAG_ASYNC else run
                try:
                    _finish(
                        site, tally, timed, sample, first, wall, run, longest, suspensions, children, flags
                    )
                except RecursionError:  # no room for it: the least that keeps the books in order
                    tally.room += 1
                    tally.pending.append(wall)
            if isinstance(error, StopIteration):  # the end: no coroutine or generator lets another one out
                return error.value
            raise
        step = end - begin
        top, children = scope.top, scope.children
        scope.top, scope.children = below, outer + step
        scope.turn += 1
        if sample is not None:
            sample.close()
        run += step
        longest = max(longest, step)
        suspensions += 1
        thrown = None
        try:
            value = yield item
        except BaseException as error:
            thrown = error


def _outcome(error: BaseException, thrown: BaseException | None) -> int:
    """As outcome_of(); what was closed is cancelled, however it took that."""
    return outcome_of(error) | (FLAG_CANCELLED if type(thrown) is GeneratorExit else 0)


class _StandIn:
    """What the stand-ins share. The original answers for every attribute that is not its stand-in's own."""

    __slots__ = ("__weakref__", "__wrapped__", "_gen")

    __wrapped__: Any
    _gen: Any

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.__wrapped__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)

    @property
    def __doc__(self) -> Any:  # type: ignore[override]
        return type(self.__wrapped__).__doc__

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


class _Awaited(_StandIn):
    """Of something that is awaited. `_gen` drives it; `_fresh` is the same until the first `await` takes it.

    A class with __getattr__ pays for every attribute of its own that it reads, so the way of an `await` reads
    one.
    """

    __slots__ = ("_fresh",)

    _fresh: Any

    def __await__(self) -> Any:
        gen = self._fresh
        if gen is not None:
            self._fresh = None
            return gen
        gen = self._gen
        if gen.gi_frame is None:
            return self.__wrapped__.__await__()  # the original knows what to say
        if inspect.getgeneratorstate(gen) == inspect.GEN_SUSPENDED:
            raise RuntimeError("coroutine is being awaited already")
        return gen

    def send(self, value: Any) -> Any:
        gen = self._gen
        self._fresh = None
        if gen.gi_frame is None:
            return self.__wrapped__.send(value)
        return gen.send(value)

    def _is_new(self) -> bool:
        """True for what has not run: from now on the original is asked directly."""
        self._fresh = None
        new = inspect.getgeneratorstate(self._gen) == inspect.GEN_CREATED
        if new:
            self._gen.close()
        return new

    def throw(self, *error: Any) -> Any:
        if self._is_new() or self._gen.gi_frame is None:  # thrown into what never ran, it does not run
            return self.__wrapped__.throw(*error)
        return self._gen.throw(*error)

    def close(self) -> Any:
        value = None if self._is_new() else self._gen.close()  # from 3.13 on what it returned then
        self.__wrapped__.close()
        return value


class Coroutine(_Awaited):
    """Stands in for a coroutine. Counts nothing if that is never awaited."""

    __slots__ = ()

    def __init__(self, inner: Any, site: Site, sample: Sample | None) -> None:
        self.__wrapped__ = inner
        self._gen = self._fresh = _drive(inner, site, sample, FLAG_ASYNC)


class Generator(_StandIn):
    """Stands in for a generator. `__next__` and `send` are its driver's own, in slots: no frame between."""

    __slots__ = ("__next__", "send")

    def __init__(self, inner: Any, site: Site, sample: Sample | None) -> None:
        self.__wrapped__ = inner
        self._gen = gen = _drive(inner, site, sample, FLAG_GENERATOR)
        self.__next__ = gen.__next__
        self.send = gen.send

    def __iter__(self) -> Any:
        return self

    def throw(self, *error: Any) -> Any:
        if inspect.getgeneratorstate(self._gen) == inspect.GEN_CREATED:
            self._gen.close()
            return self.__wrapped__.throw(*error)
        return self._gen.throw(*error)

    def close(self) -> Any:
        value = self._gen.close()  # from 3.13 on what it returned then
        self.__wrapped__.close()
        return value


_NEW, _OPEN, _DONE = range(3)


class AsyncGenerator(_StandIn):
    """Stands in for an async generator, and carries what its call has cost so far."""

    __slots__ = (
        "_begin",
        "_children",
        "_longest",
        "_run",
        "_running",
        "_sample",
        "_site",
        "_state",
        "_suspensions",
        "_tally",
        "_throwing",
        "_timed",
        "_top",
        "_wall",
    )

    def __init__(self, inner: Any, site: Site, sample: Sample | None) -> None:
        self.__wrapped__ = inner
        self._site = site
        self._sample = sample
        self._state = _NEW
        self._running = self._throwing = False
        self._begin = self._wall = self._run = self._longest = self._suspensions = self._children = 0
        self._top: Any = site.tally

    def __aiter__(self) -> Any:
        return self

    def __anext__(self) -> Any:
        return self._step(self.__wrapped__.__anext__(), False)

    def asend(self, value: Any) -> Any:
        return self._step(self.__wrapped__.asend(value), False)

    def athrow(self, *error: Any) -> Any:
        return self._step(self.__wrapped__.athrow(*error), False)

    def aclose(self) -> Any:
        return self._step(self.__wrapped__.aclose(), True)

    def _step(self, awaitable: Any, closing: bool) -> Any:
        return awaitable if self._state == _DONE else AsyncStep(awaitable, self, closing)

    def _is_idle(self, closing: bool) -> bool:
        """A step would run nothing of the original: it is over, new and only closed, or busy and will
        refuse.
        """
        return self._running or self._state == _DONE or (self._state == _NEW and closing)

    def _start(self) -> None:
        self._state = _OPEN
        self._tally = self._site.tally
        self._timed = self._site._mode != COUNT
        count_in(self._tally)
        if self._sample is not None:
            self._sample.in_flight = self._tally.flying
        self._begin = state.tick()

    def _finish(self, flags: int) -> None:
        if self._state != _OPEN:
            self._state = _DONE
            return
        self._state = _DONE
        _finish(
            self._site,
            self._tally,
            self._timed,
            self._sample,
            self._begin,
            self._wall,
            self._run,
            self._longest,
            self._suspensions,
            self._children,
            flags | FLAG_ASYNC | FLAG_GENERATOR,
        )

    def __del__(self) -> None:
        if self._state == _OPEN:
            self._finish(FLAG_CANCELLED)


def _drive_step(inner: Any, flow: AsyncGenerator, closing: bool) -> _Steps:
    """Steps the awaitable of one asend(), athrow() or aclose()."""
    if flow._is_idle(closing):
        return (yield from inner)
    if flow._state == _NEW and state.enabled:
        flow._start()
    sample = flow._sample
    value = thrown = None
    first = 0
    while True:
        scope = scope_now()
        below, outer = scope.top, scope.children
        scope.top, scope.children = flow._top, flow._children
        scope.turn += 1
        flow._running = True
        if sample is not None:
            sample.open()
        begin = state.tick()
        first = first or begin
        flags = -1  # the step goes on
        over = False  # ... and the generator is not at its end
        item = None
        try:
            item = inner.send(value) if thrown is None else inner.throw(thrown)
        except StopIteration as answer:
            item = answer.value
            flags = FLAG_CANCELLED if closing else 0
            over = closing
        except BaseException as error:
            flags = outcome_of(error) | (FLAG_CANCELLED if closing else 0)
            over = closing or flow.__wrapped__.ag_frame is None  # it may only have refused a second asend()
            raise
        finally:
            end = state.tick()
            step = end - begin
            thrown = None
            flow._running = False
            flow._top, flow._children = scope.top, scope.children
            scope.top, scope.children = below, outer + step
            scope.turn += 1
            if sample is not None:
                sample.close()
            flow._run += step
            flow._longest = max(flow._longest, step)
            if flags >= 0:
                flow._wall += end - first
            if over:
                flow._finish(flags)
        if flags >= 0:
            return item
        flow._suspensions += 1
        try:
            value = yield item
        except BaseException as error:
            if type(error) is GeneratorExit and not flow._throwing:
                raise  # closed, and then so is the original; or dropped, and then that is dropped, too
            thrown = error


class AsyncStep(_Awaited):
    """Stands in for the awaitable of one asend(), athrow() or aclose()."""

    __slots__ = ("_flow",)

    def __init__(self, inner: Any, flow: AsyncGenerator, closing: bool) -> None:
        self.__wrapped__ = inner
        self._flow = flow
        self._gen = self._fresh = _drive_step(inner, flow, closing)

    def __await__(self) -> Any:
        return self  # not the driver: who closes that may as well have dropped it

    def throw(self, *error: Any) -> Any:
        self._flow._throwing = True
        try:
            return super().throw(*error)
        finally:
            self._flow._throwing = False

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self.send(None)


_STAND_INS = (
    (FOLLOW_COROUTINE, CoroutineType, Coroutine),
    (FOLLOW_GENERATOR, GeneratorType, Generator),
    (FOLLOW_ASYNC_GENERATOR, AsyncGeneratorType, AsyncGenerator),
)


def stand_ins(flow: int) -> dict[Any, Any]:
    """The stand-in for each type of result that the FOLLOW_ bits in `flow` ask to follow to its end."""
    return {kind: stand_in for bit, kind, stand_in in _STAND_INS if flow & bit}
