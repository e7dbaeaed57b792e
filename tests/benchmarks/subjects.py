"""What is called and what hotlap is compared with: bare functions, an empty wrapper, closures by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Generator
from time import perf_counter_ns
from typing import Any

import wrapt


def bare(x: int) -> int:
    return x


async def bare_async(x: int) -> int:
    return x


class Suspension:
    """Awaiting it suspends once."""

    def __await__(self) -> Generator[None, None, None]:
        yield


suspension = Suspension()


async def bare_suspending(x: int) -> int:
    await suspension
    return x


@wrapt.decorator
def empty(wrapped: Callable[..., Any], instance: object, args: Any, kwargs: Any) -> Any:
    """The cheapest decorator that wrapt can make: it only calls."""
    return wrapped(*args, **kwargs)


def closure(function: Callable[..., Any]) -> Callable[..., Any]:
    """What one writes by hand: two clock readings and one append."""
    clock, keep = perf_counter_ns, deque[int](maxlen=1000).append

    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = clock()
        try:
            return function(*args, **kwargs)
        finally:
            keep(clock() - begin)

    return timed


def async_closure(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The same around an async function."""
    clock, keep = perf_counter_ns, deque[int](maxlen=1000).append

    async def timed(*args: Any, **kwargs: Any) -> Any:
        begin = clock()
        try:
            return await function(*args, **kwargs)
        finally:
            keep(clock() - begin)

    return timed
