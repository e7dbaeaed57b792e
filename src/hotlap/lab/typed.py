"""Typed: values of JSON as the types that a dataclass gives its fields, or an error that says where they are not."""

from __future__ import annotations

import collections.abc
import reprlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from enum import Enum
from types import UnionType
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints, is_typeddict

__all__ = ["Reader", "Signed", "typed"]

Signed = NewType("Signed", float)
"""A number that may be below 0, as the end of an interval may."""

Reader = Callable[[Any, str], Any]
"""Gives the value that stands at a place, or raises ValueError."""


def typed(value: Any, kind: Any, place: str = "", own: Mapping[Any, Reader] | None = None) -> Any:
    """The value as a `kind`, which is what annotations have: plain types, enums, dataclasses, TypedDicts, lists and
    tuples of these, and any of them or None.

    Numbers must be finite, and but for `Signed` at least 0. A field may be missing where it has a plain default, as
    from the file of an older hotlap; never one that is made anew, as a list is. `own` has readers for types that check
    themselves. Raises ValueError with the place, such as "metrics[0].execution_time", the value and the rule.
    """
    read = (own or {}).get(kind) or _READERS.get(kind)
    if read is not None:
        return read(value, place)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        return None if value is None else typed(value, _one_of(inner), place, own)
    if origin in {list, tuple}:
        given = _list(value, place)
        if origin is tuple and inner[-1] is not Ellipsis and len(given) != len(inner):
            raise _wrong(value, place, f"must be a list of {len(inner)}")
        items = (typed(each, inner[0], f"{place}[{index}]", own) for index, each in enumerate(given))
        return origin(items)
    if origin in {dict, collections.abc.Mapping}:
        return _object(value, place)
    if issubclass(kind, Enum):
        return _member(value, kind, place)
    return _fields(value, kind, place, own)


def _one_of(kinds: tuple[Any, ...]) -> Any:
    """What a value that may be None is otherwise."""
    (kind,) = (each for each in kinds if each is not type(None))
    return kind


def _fields(value: Any, kind: Any, place: str, own: Mapping[Any, Reader] | None) -> Any:
    """A dataclass, or a TypedDict, which may have keys that nobody names."""
    given, types = _object(value, place), get_type_hints(kind)
    open_to_others = is_typeddict(kind)
    if open_to_others:
        needed = kind.__required_keys__
    else:
        needed = {field.name for field in fields(kind) if field.default is MISSING}
    here = place or "it"
    if missing := sorted(needed - given.keys()):
        raise ValueError(f"{here} has no {', '.join(missing)}")
    if not open_to_others and (unknown := sorted(given.keys() - types.keys())):
        raise ValueError(f"{here} has {reprlib.repr(unknown[0])}, which no {kind.__name__} has")
    prefix = f"{place}." if place else ""
    read = {name: typed(each, types[name], prefix + name, own) for name, each in given.items() if name in types}
    return given if open_to_others else kind(**read)


def _wrong(value: Any, place: str, rule: str) -> ValueError:
    return ValueError(f"{place or 'it'}={reprlib.repr(value)} {rule}")


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(value, place, "must be an object")
    return value


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(value, place, "must be a list")
    return value


def _member(value: Any, kind: type[Enum], place: str) -> Enum:
    for member in kind:
        if value == member.value:
            return member
    raise _wrong(value, place, f"must be one of {', '.join(str(member.value) for member in kind)}")


def _signed(value: Any, place: str, rule: str = "must be a number", least: float = -sys.float_info.max) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= sys.float_info.max:
        raise _wrong(value, place, rule)
    return value


def _number(value: Any, place: str) -> float:
    return _signed(value, place, "must be a number of at least 0", 0.0)


def _whole(value: Any, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong(value, place, "must be a whole number of at least 0")
    return value


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise _wrong(value, place, "must be a text")
    return value


def _flag(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(value, place, "must be true or false")
    return value


_READERS: Mapping[Any, Reader] = {
    Any: lambda value, _: value,
    float: _number,
    Signed: _signed,
    int: _whole,
    str: _text,
    bool: _flag,
}
