"""Measured coroutines and generators as the tests of the core make and drive them."""

from __future__ import annotations

import types
from collections.abc import Callable, Generator
from typing import Any

from hotlap import core


def make(func: Callable[..., Any], flow: int = core.FOLLOW_COROUTINE, id: int = 5) -> tuple[Any, core.Site]:
    site = core.Site(id, func.__name__)
    site.sample(1.0, 2**40, 0)
    return core.FunctionProbe(func, site, flow), site


@types.coroutine
def pause(value: Any = None) -> Generator[Any, Any, Any]:
    """One suspension."""
    return (yield value)


def run(coroutine: Any, between: Callable[[], Any] = lambda: None) -> Any:
    """Drives a coroutine to its end; `between` happens in each suspension."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        between()
