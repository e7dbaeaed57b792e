"""What a callable is: its name, its place in the code, the functions inside it, and what comes out of it."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Iterator
from typing import Any, cast

from . import core

__all__ = ["default_name", "flow", "functions", "inner_probe", "location"]


def functions(member: Any) -> Iterator[Any]:
    """The functions inside a member of a class."""
    if issubclass(type(member), (classmethod, staticmethod)):
        yield member.__func__
    elif issubclass(type(member), property):
        yield from (func for func in (member.fget, member.fset, member.fdel) if func is not None)
    elif issubclass(type(member), (functools.cached_property, functools.partialmethod, functools.singledispatchmethod)):
        yield member.func
    else:
        yield member


def inner_probe(obj: Any) -> core.Probe | None:
    """The probe that a call of `obj` goes through anyway: `obj`, or one below it in a chain of wrappers."""
    for _ in range(100):  # objects that make up attributes have an endless chain
        if issubclass(type(obj), core.Probe):
            return cast("core.Probe", obj)
        if issubclass(type(obj), types.MethodType):
            obj = obj.__func__
            continue
        try:
            obj = obj.__wrapped__
        except AttributeError:
            return None
    return None


def default_name(obj: Any) -> str:
    """Module and qualified name; `module.<lambda>:LINE`, `module.partial(f)`, `module.Class.__call__`."""
    if isinstance(obj, functools.partial):
        module, _, name = default_name(obj.func).rpartition(".")
        return f"{module}.partial({name})"
    named: object = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", None)
    if not isinstance(named, str):
        return f"{type(obj).__module__}.{type(obj).__qualname__}.__call__"
    where: object = getattr(obj, "__module__", None)
    if not isinstance(where, str):  # a method of a builtin type
        owner = getattr(obj, "__objclass__", None) or type(getattr(obj, "__self__", None))
        where = owner.__module__
    code = getattr(obj, "__code__", None) if named.endswith("<lambda>") else None
    return f"{where}.{named}:{code.co_firstlineno}" if code else f"{where}.{named}"


def location(obj: Any) -> str | None:
    """`path/file.py:12` of the code that `obj` runs in the end; None for what is not written in Python."""
    found = _code(obj)
    return f"{found.co_filename}:{found.co_firstlineno}" if found else None


def flow(obj: Any) -> int:
    """Which results of `obj` a probe follows to their end: the core's FOLLOW_ bits."""
    for func in (obj, type(obj).__call__):
        if inspect.isasyncgenfunction(func):
            return core.FOLLOW_ASYNC_GENERATOR
        if inspect.isgeneratorfunction(func):
            # types.coroutine: its result is awaited, and only a real generator with this flag can be.
            found = _code(func)
            awaited = found is not None and found.co_flags & inspect.CO_ITERABLE_COROUTINE
            return 0 if awaited else core.FOLLOW_GENERATOR
    return core.FOLLOW_COROUTINE


def _code(obj: Any) -> types.CodeType | None:
    for _ in range(100):
        if isinstance(obj, functools.partial):
            obj = obj.func
        elif isinstance(obj, types.MethodType):
            obj = obj.__func__
        elif hasattr(obj, "__wrapped__"):
            obj = obj.__wrapped__
        else:
            break
    found = getattr(obj, "__code__", None) or getattr(type(obj).__call__, "__code__", None)
    return found if isinstance(found, types.CodeType) else None
