"""Subject: what is benchmarked, as a loop of calls that costs next to nothing beside them."""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ... import core
from ...callables import inner_probe, location
from ...errors import OptionError, OptionTypeError

__all__ = ["LOOP_FILE", "Arguments", "Loop", "Subject", "cleared", "empty_loop", "prepared"]

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]

Loop = Callable[[Iterator[None]], Any]
"""Makes a call for each step of the iterator, and returns the last one's result; async for an async function.

When a call fails, the iterator's length hint tells how many were still to come."""

LOOP_FILE = "<hotlap lab>"  # in tracebacks
_LAZY = (types.GeneratorType, types.AsyncGeneratorType, map, filter, zip)

# The calls are written out as source, so that the interpreter sees `f(a0, k=a1)` and no unpacking of
# arguments: what the loop costs beside the calls is then some nanoseconds, which are measured and subtracted.
_TEMPLATE = """\
def make(f, {names}):
    {define} loop(calls):
        result = None
        for _ in calls:
            {statement}
        return result
    return loop
"""


def _maker(define: str, statement: str, names: tuple[str, ...]) -> Callable[..., Loop]:
    """Compiled anew each time: the interpreter adapts code to what it calls, which is then one subject alone."""
    scope: dict[str, Any] = {}
    source = _TEMPLATE.format(names=", ".join(names) or "*_", define=define, statement=statement)
    exec(compile(source, LOOP_FILE, "exec"), scope)
    maker: Callable[..., Loop] = scope["make"]
    return maker


def empty_loop(asynchronous: bool = False) -> Loop:
    """The loop without a call: what is subtracted."""
    return _maker("async def" if asynchronous else "def", "result = None", ())(None)


async def prepared(setup: Callable[[], Any] | None, asynchronous: bool) -> Arguments | None:
    """Call setup, awaited for an async subject; the arguments that it gives as (args, kwargs), or None.

    Raises OptionError for anything else that it gives.
    """
    given = None if setup is None else setup()
    if asynchronous and inspect.isawaitable(given):
        given = await given
    if given is None:
        return None
    if not (
        isinstance(given, tuple)
        and len(given) == 2
        and isinstance(given[0], (tuple, list))
        and isinstance(given[1], dict)
    ):
        raise OptionError(f"setup returned {given!r}: it must return None, or the arguments as (args, kwargs)")
    return tuple(given[0]), given[1]


async def cleared(teardown: Callable[[], Any] | None, asynchronous: bool) -> None:
    """Call teardown, awaited for an async subject."""
    done = None if teardown is None else teardown()
    if asynchronous and inspect.isawaitable(done):
        await done


class Subject:
    """A callable with its arguments. Raises OptionTypeError for what cannot be called.

    A function that carries a probe of the live recorder is measured without it: what is done in the lab is no
    traffic, and the probe is not what the user wrote.
    """

    def __init__(self, func: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None):
        if not callable(func):
            raise OptionTypeError(
                f"func={func!r} is not callable: give the function itself, and its arguments after it"
            )
        self.func = func
        self.args = tuple(args)
        self.kwargs = dict(kwargs or {})
        self.target = _without_probe(func)
        self.name = _name(func)
        self.location = location(func)
        self.asynchronous = _is_async(self.target)
        self._makers: dict[tuple[str, ...], Callable[..., Loop]] = {}

    def loop(self, arguments: Arguments | None = None) -> Loop:
        """The loop of calls with the subject's arguments, or with others."""
        args, kwargs = (self.args, self.kwargs) if arguments is None else arguments
        values = {f"a{index}": value for index, value in enumerate(args)}
        given = list(values)
        if all(name.isidentifier() for name in kwargs):
            for index, (name, value) in enumerate(kwargs.items()):
                values[f"k{index}"] = value
                given.append(f"{name}=k{index}")
        else:
            values["rest"] = dict(kwargs)
            given.append("**rest")
        call = f"f({', '.join(given)})"
        define, statement = (
            ("async def", f"result = await {call}") if self.asynchronous else ("def", f"result = {call}")
        )
        if arguments is None:
            return _maker(define, statement, tuple(values))(self.target, **values)
        shape = (*given, *values)  # setup gives arguments each time
        if shape not in self._makers:
            self._makers[shape] = _maker(define, statement, tuple(values))
        return self._makers[shape](self.target, **values)

    def check(self, result: Any) -> None:
        """Raises OptionTypeError when this is a coroutine that calls leave to nobody, for all that it seemed sync."""
        if self.asynchronous or not isinstance(result, types.CoroutineType):
            return
        result.close()
        raise OptionTypeError(
            f"{self.name} returned a coroutine ({result.__name__}), which nobody awaits: give the async function "
            f"itself, and its arguments after it, or one that awaits: async def work(): await {result.__name__}(...)"
        )

    def doubts(self, result: Any) -> list[str]:
        """Why calls that gave this may not have done the work that the user has in mind: sentences, mostly none."""
        said = []
        if isinstance(result, _LAZY):
            kind = type(result).__name__.replace("_", " ")
            consumes = f"a function that consumes it, such as lambda: list({self.name}(...))"
            if isinstance(result, types.AsyncGeneratorType):
                consumes = f"an async function that consumes it, by: async for item in {self.name}(...)"
            said.append(
                f"{self.name} returned {'an' if kind[0] == 'a' else 'a'} {kind} that nobody has consumed: its work was "
                f"not done, and is in no number here. Benchmark {consumes}."
            )
        if callable(getattr(self.func, "cache_info", None)) and callable(getattr(self.func, "cache_clear", None)):
            said.append(
                f"{self.name} has a cache: after the first call, looking a result up is all that it does. "
                "Clear it in setup to see the work."
            )
        return said

    def call(self) -> Any:
        """One call, untimed; what an async function gives is awaited in an event loop of its own."""
        result = self.target(*self.args, **self.kwargs)
        return asyncio.run(_awaited(result)) if self.asynchronous else result


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _without_probe(func: Callable[..., Any]) -> Callable[..., Any]:
    if inner_probe(func) is None:
        return func
    if isinstance(func, types.MethodType):
        return types.MethodType(_without_probe(func.__func__), func.__self__)
    wrapped = getattr(func, "__wrapped__", None)
    return _without_probe(wrapped) if isinstance(func, core.Probe) and callable(wrapped) else func


def _name(func: Callable[..., Any]) -> str:
    name = getattr(func, "__name__", None)
    if name is None and hasattr(func, "func"):  # a partial
        return _name(func.func)
    return name if isinstance(name, str) else type(func).__name__


def _is_async(func: Callable[..., Any]) -> bool:
    while hasattr(func, "func") and not inspect.isroutine(func):  # a partial
        func = func.func
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(type(func).__call__)
