"""Caches: the functools caches that a subject may fill, and those of them that have more entries than before."""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterable
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

__all__ = ["Cache", "CacheSizes"]

_LRU_CACHE = type(functools.lru_cache(len))
_HOTLAP = __name__.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Cache:
    """A functools.lru_cache that has more entries than before."""

    name: str
    entries: int
    added: int
    maxsize: int | None

    @property
    def fills(self) -> bool:
        """Whether it will be full one day, and is not yet."""
        return self.maxsize is not None and self.entries < self.maxsize


class CacheSizes:
    """How many entries the caches have now: those that the collector knows, and those that `func` can reach.

    What was there when the program called gc.freeze() the collector does not tell any more.
    """

    def __init__(self, func: Any) -> None:
        tracked = (each for each in gc.get_objects() if type(each) is _LRU_CACHE)
        found = {id(each): each for each in (*tracked, *_reached(func))}
        self._sizes = [
            (cache, cache.cache_info().currsize)
            for cache in found.values()
            if str(cache.__module__).partition(".")[0] != _HOTLAP
        ]

    def grown(self, least: float) -> list[Cache]:
        """The caches that have got so many entries since, and one at least."""
        found = []
        for cache, entries in self._sizes:
            info = cache.cache_info()
            if info.currsize - entries >= max(least, 1):
                name = f"{cache.__module__}.{getattr(cache, '__qualname__', cache.__wrapped__)}"
                found.append(Cache(name, info.currsize, info.currsize - entries, info.maxsize))
        return found


def _reached(func: Any) -> list[Any]:
    """The caches that a function names, in its module, its closure or a class, or that functions so named do."""
    found: list[Any] = []
    seen: set[int] = set()
    waiting = [func, type(func)]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen:
            seen.add(id(each))
            if type(each) is _LRU_CACHE:
                found.append(each)
            waiting += _named(each, seen)
    return found


def _named(each: Any, seen: set[int]) -> Iterable[Any]:
    """What a function, a method, a partial, a cache or a class names; of anything else nothing."""
    kind = type(each)  # isinstance() would ask an object that stands for another what it is, and wake it
    if issubclass(kind, FunctionType):
        names = each.__globals__
        new = id(names) not in seen
        seen.add(id(names))
        cells = each.__closure__ or ()
        return [*(names.values() if new else ()), *gc.get_referents(*cells), getattr(each, "__wrapped__", None)]
    if issubclass(kind, MethodType):
        return each.__func__, type(each.__self__)
    if issubclass(kind, functools.partial):
        return (each.func,)
    if kind is _LRU_CACHE:
        return (each.__wrapped__,)
    if issubclass(kind, (staticmethod, classmethod)):
        return (each.__func__,)
    return vars(each).values() if issubclass(kind, type) else ()
