"""Measured coroutines, generators and async generators against unmeasured twins: random sequences of next,
send, throw and close must give the same values and exceptions, and leave the originals in the same state.

A script says what a body does at each of its suspensions, a plan what its caller does. Only the bodies' own
behaviour and the caller's actions are random, so a difference is always the stand-in's.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import counts
from hotlap import core

# Bodies in cycles with their tracebacks are let go later, outside of the tests that look for warnings.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")

FOLLOW_ALL = core.FOLLOW_COROUTINE | core.FOLLOW_GENERATOR | core.FOLLOW_ASYNC_GENERATOR


@pytest.fixture(autouse=True, scope="module")
def small_heap() -> Iterator[None]:
    """Collections look at what these tests make alone: there is one for nearly every example."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# What a return or a StopIteration may carry: tuples and exceptions are what naive code unpacks or raises.
VALUES = [None, 0, "text", (), (1,), (1, 2), ((),), ValueError("a value"), StopIteration(3), KeyError]
ERRORS: list[Any] = [
    ValueError,
    ValueError("instance"),
    KeyError(1, 2),
    StopIteration,
    StopIteration(4),
    StopAsyncIteration,
    StopAsyncIteration(5),
    GeneratorExit,
    GeneratorExit("why"),
    KeyboardInterrupt,
    7,  # no exception at all
]

value = st.sampled_from(VALUES)
error = st.sampled_from(ERRORS)
# What the body does when it is resumed: go on, leave, raise, swallow what is thrown into it.
step = st.one_of(
    st.tuples(st.just("yield"), value),
    st.tuples(st.just("swallow"), value),
    st.tuples(st.just("translate"), error),
    st.tuples(st.just("return"), value),
    st.tuples(st.just("raise"), error),
    st.tuples(st.just("finally"), value),
)
script = st.lists(step, max_size=6)
SENT = [None, None, None, 1]
action = st.one_of(
    st.just(("next",)),
    st.tuples(st.just("send"), value),
    st.tuples(st.just("throw"), error),
    st.just(("close",)),
    st.just(("await",)),
    st.just(("state",)),
)
plan = st.lists(action, min_size=1, max_size=9)


def raised(thing: Any) -> BaseException:
    """A fresh exception each time, so that twins do not share tracebacks and contexts."""
    if isinstance(thing, BaseException):
        return type(thing)(*thing.args)
    return thing() if isinstance(thing, type) else TypeError("not an exception")


@types.coroutine
def suspend(item: Any) -> Any:
    return (yield item)


def what(exception: BaseException | None, depth: int = 3) -> Any:
    """An exception as plain data: type, arguments, cause and context, not its traceback."""
    if exception is None or depth == 0:
        return None
    args = [what(arg) if isinstance(arg, BaseException) else repr(arg) for arg in exception.args]
    return (
        type(exception).__name__,
        args,
        what(exception.__cause__, depth - 1),
        what(exception.__context__, depth - 1),
        exception.__suppress_context__,
    )


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    try:
        result = function(*args)
    except BaseException as caught:
        seen: BaseException | None = caught
        for _ in range(9):  # else an exception that was thrown in holds the frame that holds it
            if seen is not None:
                seen.__traceback__ = None
                seen = seen.__cause__ or seen.__context__
        return "raised", what(caught)
    return "gave", what(result) if isinstance(result, BaseException) else repr(result)


def attempt(item: Any, name: str, *args: Any) -> Any:
    return outcome(lambda: getattr(item, name)(*args))


async def coroutine_body(steps: list[Any], log: list[Any]) -> Any:
    for kind, detail in steps:
        if kind == "yield":
            log.append(await suspend(detail))
        elif kind == "swallow":
            try:
                log.append(await suspend(detail))
            except BaseException as caught:
                log.append(what(caught))
        elif kind == "translate":
            try:
                log.append(await suspend(detail))
            except BaseException as caught:
                raise raised(detail) from caught
        elif kind == "return":
            return detail
        elif kind == "raise":
            raise raised(detail)
        else:
            try:
                log.append(await suspend(detail))
            finally:
                log.append("finally")
    return "end"


def generator_body(steps: list[Any], log: list[Any]) -> Any:
    for kind, detail in steps:
        if kind == "yield":
            log.append((yield detail))
        elif kind == "swallow":
            try:
                log.append((yield detail))
            except BaseException as caught:
                log.append(what(caught))
        elif kind == "translate":
            try:
                log.append((yield detail))
            except BaseException as caught:
                raise raised(detail) from caught
        elif kind == "return":
            return detail
        elif kind == "raise":
            raise raised(detail)
        else:
            try:
                log.append((yield detail))
            finally:
                log.append("finally")
    return "end"


async def async_generator_body(steps: list[Any], log: list[Any]) -> Any:
    for kind, detail in steps:
        if kind == "yield":
            log.append((yield detail))
        elif kind == "swallow":
            try:
                log.append((yield detail))
                log.append(await suspend("inside"))
            except BaseException as caught:
                log.append(what(caught))
        elif kind == "translate":
            try:
                log.append(await suspend(detail))
            except BaseException as caught:
                raise raised(detail) from caught
        elif kind == "return":
            return
        elif kind == "raise":
            raise raised(detail)
        else:
            try:
                log.append((yield detail))
            finally:
                log.append(await suspend("finally"))


async def awaits(inner: Any, log: list[Any]) -> Any:
    try:
        return await inner
    finally:
        log.append("outer")


def delegates(inner: Any, log: list[Any]) -> Any:
    try:
        return (yield from inner)
    finally:
        log.append("outer")


async def iterates(inner: Any, log: list[Any]) -> Any:
    async for item in inner:
        log.append(await suspend(item))  # noqa: PERF401
    return "end"


@contextlib.contextmanager
def unraisable(log: list[Any]) -> Iterator[None]:
    """What finalizers raise, and nobody gets: the originals' bodies do that too."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda about: log.append(("unraisable", what(about.exc_value)))
    try:
        yield
    finally:
        sys.unraisablehook = before


def probe(function: Any) -> tuple[Any, core.Site]:
    site = core.Site(7, "twin")
    return core.FunctionProbe(function, site, FOLLOW_ALL), site


def state_of(item: Any, kind: str) -> Any:
    names = {
        "coroutine": ("cr_running", "cr_suspended", "__name__", "__qualname__"),
        "generator": ("gi_running", "gi_suspended", "__name__", "__qualname__"),
        "async": ("ag_running", "__name__", "__qualname__"),
    }[kind]
    frame = {"coroutine": "cr_frame", "generator": "gi_frame", "async": "ag_frame"}[kind]
    flags = [str(outcome(getattr, item, name)) for name in names if hasattr(item, name)]
    return flags, getattr(item, frame) is None, type(item) is item.__class__ or item.__class__.__name__


def run(item: Any, acts: list[Any], kind: str) -> list[Any]:
    """What each action of the plan gives."""
    results = []
    for act, *args in acts:
        if act == "next":
            results.append(outcome(next, item) if kind == "generator" else attempt(item, "send", None))
        elif act == "await":
            if kind == "coroutine":  # as the interpreter does it
                waiter = awaits(item, [])
                results.append(attempt(waiter, "send", None))
                results.append(attempt(waiter, "close"))
            else:
                results.append(outcome(list, item))
        elif act == "state":
            results.append(state_of(item, kind)[:2])
        elif act == "throw":
            results.append(attempt(item, "throw", *map(copied, args)))
        else:
            results.append(attempt(item, act, *args))
    return results


def settled(site: core.Site) -> dict[str, int]:
    """The counters once nothing is held any more by an exception that holds its own frame."""
    if counts(site)["in_flight"]:
        gc.collect()
    return counts(site)


def copied(thing: Any) -> Any:
    return raised(thing) if isinstance(thing, BaseException) else thing


def compare(function: Any, wrapper: Any, steps: list[Any], acts: list[Any], kind: str) -> None:
    """One plan, played on a plain and on a measured twin."""
    measured, site = probe(function)
    played = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for make in (function, measured):
            log: list[Any] = []
            with unraisable(log):
                inner = make(steps, log)
                item = inner if wrapper is None else wrapper(inner, log)
                results = run(item, acts, kind)
                state = state_of(item, kind)[:2]
                del item, inner
            played.append((results, state, log))
    assert played[0] == played[1]
    read = settled(site)
    assert read["in_flight"] == 0
    assert read["calls"] <= 1
    assert read["errors"] + read["cancelled"] <= read["calls"]


class TestSync:
    @quick
    @given(script, plan)
    def test_coroutine(self, steps: list[Any], acts: list[Any]) -> None:
        """A coroutine that is driven by hand."""
        compare(coroutine_body, None, steps, acts, "coroutine")

    @quick
    @given(script, plan)
    def test_awaited_coroutine(self, steps: list[Any], acts: list[Any]) -> None:
        """A coroutine that another one awaits: the interpreter's own way of sending and throwing."""
        compare(coroutine_body, awaits, steps, acts, "coroutine")

    @quick
    @given(script, plan)
    def test_generator(self, steps: list[Any], acts: list[Any]) -> None:
        """A generator that is driven by hand."""
        compare(generator_body, None, steps, acts, "generator")

    @quick
    @given(script, plan)
    def test_delegated_generator(self, steps: list[Any], acts: list[Any]) -> None:
        """A generator that another one yields from."""
        compare(generator_body, delegates, steps, acts, "generator")

    @quick
    @given(script, plan)
    def test_iterated_async_generator(self, steps: list[Any], acts: list[Any]) -> None:
        """An async generator in an `async for`."""
        compare(async_generator_body, iterates, steps, acts, "coroutine")

    @quick
    @given(script, plan, st.sampled_from(["trace", "profile"]))
    def test_while_traced(self, steps: list[Any], acts: list[Any], how: str) -> None:
        """The interpreter steps coroutines in another way while a tracer or profiler is on."""
        events: list[Any] = []

        def observer(frame: Any, event: str, arg: Any) -> Any:
            if frame.f_code is coroutine_body.__code__:
                events.append(event)
            return observer

        get, put = (sys.gettrace, sys.settrace) if how == "trace" else (sys.getprofile, sys.setprofile)
        before = get()
        put(observer)
        try:
            compare(coroutine_body, awaits, steps, acts, "coroutine")
        finally:
            put(before)
        half, rest = divmod(len(events), 2)
        assert rest == 0
        assert events[:half] == events[half:]


# An async generator's caller: makes awaitables of several kinds, and steps whichever it likes.
async_action = st.one_of(
    st.tuples(st.sampled_from(["asend"]), value),
    st.tuples(st.just("athrow"), error),
    st.tuples(st.sampled_from(["aclose", "__anext__"])),
    st.tuples(st.just("step"), st.integers(0, 3), st.just("send"), st.sampled_from(SENT)),
    st.tuples(st.just("step"), st.integers(0, 3), st.just("next")),
    st.tuples(st.just("step"), st.integers(0, 3), st.just("throw"), error),
    st.tuples(st.just("step"), st.integers(0, 3), st.just("close")),
    st.just(("state",)),
)
async_plan = st.lists(async_action, min_size=1, max_size=14)


def run_async(item: Any, acts: list[Any]) -> list[Any]:
    results: list[Any] = []
    waiting: list[Any] = []
    for act, *args in acts:
        if act == "state":
            results.append(state_of(item, "async")[:2])
        elif act != "step":
            try:
                waiting.append(getattr(item, act)(*(map(copied, args) if act == "athrow" else args)))
                results.append(waiting[-1].__class__.__name__)
            except BaseException as caught:
                results.append(what(caught))
        elif waiting:
            index, how, *more = args
            awaitable = waiting[-1 - index % len(waiting)]
            if how == "next":
                results.append(outcome(next, awaitable))
            else:
                results.append(attempt(awaitable, how, *(map(copied, more) if how == "throw" else more)))
    while waiting:  # let go in a fixed order
        waiting.pop()
    return results


class TestAsyncGenerator:
    @settings(quick, max_examples=400)
    @given(script, async_plan)
    def test_by_hand(self, steps: list[Any], acts: list[Any]) -> None:
        """asend, athrow and aclose in any order, several at once, half finished, thrown away."""
        measured, site = probe(async_generator_body)
        played = []
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for make in (async_generator_body, measured):
                log: list[Any] = []
                with unraisable(log):
                    item = make(steps, log)
                    results = run_async(item, acts)
                    state = state_of(item, "async")[:2]
                    del item
                    messages = sorted(str(warning.message) for warning in seen)
                    seen.clear()  # a warning holds its source
                    settled(site)
                played.append((results, state, log, messages))
        assert played[0] == played[1]
        read = settled(site)
        assert read["in_flight"] == 0
        assert read["calls"] <= 1

    @quick
    @given(script, async_plan)
    def test_hooks(self, steps: list[Any], acts: list[Any]) -> None:
        """The event loop's hooks see the first step and the finalization of each generator."""
        measured, _ = probe(async_generator_body)
        played = []
        before = sys.get_asyncgen_hooks()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for make in (async_generator_body, measured):
                    calls: list[Any] = []
                    sys.set_asyncgen_hooks(
                        lambda agen, calls=calls: calls.append(("first", type(agen).__name__)),
                        lambda agen, calls=calls: calls.append(("last", type(agen).__name__)),
                    )
                    with unraisable(calls):
                        item = make(steps, [])
                        run_async(item, acts)
                        del item
                        gc.collect()
                    played.append(calls)
        finally:
            sys.set_asyncgen_hooks(*before)
        assert played[0] == played[1]


class TestAwaiting:
    def test_awaited_twice(self) -> None:
        """A coroutine that is suspended in one await refuses a second, and goes on undisturbed."""

        async def body() -> Any:
            return await suspend("waiting")

        results = []
        for make in (body, probe(body)[0]):
            item = make()
            first, second = awaits(item, []), awaits(item, [])
            results.append(
                (
                    first.send(None),
                    attempt(second, "send", None),
                    attempt(first, "send", 5),
                    attempt(item, "send", 1),
                )
            )
        assert results[0] == results[1]
        assert results[0][1][1][:2] == ("RuntimeError", [repr("coroutine is being awaited already")])

    def test_awaiting_itself(self) -> None:
        """A coroutine that awaits itself is told so."""
        for wrap in (lambda function: function, lambda function: probe(function)[0]):
            own: list[Any] = []

            async def body(own: list[Any] = own) -> Any:
                return await own[0]

            own.append(wrap(body)())
            with pytest.raises((RuntimeError, ValueError), match=r"awaited already|already executing"):
                own[0].send(None)

    def test_generator_in_itself(self) -> None:
        """A generator that steps itself is told so."""

        def body(own: list[Any]) -> Any:
            yield next(own[0])

        own: list[Any] = []
        own.append(probe(body)[0](own))
        with pytest.raises(ValueError, match="already executing"):
            next(own[0])

    @pytest.mark.parametrize("given", VALUES, ids=repr)
    def test_returned_value(self, given: Any) -> None:
        """Any value comes out of an await and a `yield from` as it went in, tuples and exceptions too."""

        async def body() -> Any:
            return given

        def generate() -> Any:
            return given
            yield

        async def caller() -> Any:
            return await probe(body)[0]()

        def outer() -> Any:
            return (yield from probe(generate)[0]())

        with pytest.raises(StopIteration) as caught:
            caller().send(None)
        assert caught.value.value is given
        with pytest.raises(StopIteration) as caught:
            next(outer())
        assert caught.value.value is given

    def test_never_awaited(self) -> None:
        """The interpreter warns of a coroutine that nobody awaited, and nothing counts."""

        async def body() -> None:
            pass

        measured, site = probe(body)
        with pytest.warns(RuntimeWarning, match=r"coroutine .*body' was never awaited"):
            measured()
        assert counts(site)["calls"] == 0

    def test_inspected(self) -> None:
        """inspect and types see what they would see of the original."""

        async def body() -> None:
            await suspend(1)

        async def agen() -> Any:
            yield 1

        def generate() -> Any:
            yield 1

        item, later, items = probe(body)[0](), probe(agen)[0](), probe(generate)[0]()
        assert inspect.iscoroutine(item)
        assert inspect.isawaitable(item)
        assert isinstance(item, types.CoroutineType)
        assert inspect.getcoroutinestate(item) == inspect.CORO_CREATED
        item.send(None)
        assert inspect.getcoroutinestate(item) == inspect.CORO_SUSPENDED
        assert item.cr_frame.f_code is body.__code__
        item.close()
        assert inspect.getcoroutinestate(item) == inspect.CORO_CLOSED
        assert inspect.isasyncgen(later)
        assert inspect.isgenerator(items)
        assert not inspect.isawaitable(items)
        assert inspect.getgeneratorstate(items) == inspect.GEN_CREATED
        assert list(items) == [1]
