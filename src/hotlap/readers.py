"""Readers: each takes one kind of option, from any layer of the configuration, and refuses what is wrong.

A reader gets the value, the name for messages, and whether the value is text of the environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .errors import OptionError, OptionTypeError
from .options import seconds

Limits4 = tuple[float, float, float, float]  # the values that give 90, 75, 60 and 40 points
Reader = Callable[[Any, str, bool], Any]

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


_CLOSE = 0.7  # difflib's ratio: "warn" is close to "warning" (0.73), "nope" is not to "otel" (0.5)
_PART = 3  # letters of a part that says which longer name was meant


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of an error message about an unknown name: what was meant, or what there is.

    What all names begin with is their `prefix`: it makes none of them likely.
    """
    names = sorted(known)
    meant = closest(name, names, prefix)
    return f"known are {', '.join(names)}" if meant is None else f"did you mean {meant!r}?"


def closest(name: str, known: Iterable[str], prefix: str = "") -> str | None:
    """The known name that was probably meant: much alike, or the only one with it as a part; else None."""
    from difflib import get_close_matches  # costs 2 ms, and only errors need it

    names = {one.removeprefix(prefix).lower(): one for one in sorted(known)}
    given = name.removeprefix(prefix).lower()
    close = get_close_matches(given, names, n=1, cutoff=_CLOSE)
    if not close and len(given) >= _PART:
        close = [one for one in names if given in one]
    return names[close[0]] if len(close) == 1 else None


def number(low: float, high: float, rule: str, whole: bool = False) -> Reader:
    """A number within [low, high]; `rule` is what the message says is allowed."""

    def read(value: Any, name: str, text: bool) -> Any:
        if text:
            try:
                value = int(value) if whole else float(value)
            except ValueError:
                raise OptionError(f"{name}={value!r} is no number: give {rule}") from None
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise OptionTypeError(f"{name}={value!r} has the wrong type: give {rule}")
        if not low <= value <= high:
            raise OptionError(f"{name}={value!r} is not allowed: give {rule}")
        return int(value) if whole else float(value)

    return read


def power_of_two(value: Any, name: str, text: bool) -> int:
    size = int(number(2, 2**30, "a power of two from 2 to 2**30", whole=True)(value, name, text))
    if size & (size - 1):
        below = 1 << (size.bit_length() - 1)
        raise OptionError(f"{name}={size} is not allowed: it must be a power of two, such as {below} or {2 * below}")
    return size


def flag(value: Any, name: str, text: bool) -> bool:
    if text and str(value).lower() in _TRUE + _FALSE:
        return str(value).lower() in _TRUE
    if text:
        raise OptionError(f"{name}={value!r} is not allowed: give 1 or 0 (or true, false, yes, no, on, off)")
    if not isinstance(value, bool):
        raise OptionTypeError(f"{name}={value!r} has the wrong type: give true or false")
    return value


def choice(known: tuple[str, ...]) -> Reader:
    def read(value: Any, name: str, text: bool) -> str:
        if not isinstance(value, str):
            raise OptionTypeError(f"{name}={value!r} has the wrong type: give one of {', '.join(known)}")
        if value not in known:
            meant = closest(value, known)
            raise OptionError(
                f"{name}={value!r} is not allowed: give one of {', '.join(known)}"
                + (f"; did you mean {meant!r}?" if meant else "")
            )
        return value

    return read


def interval(value: Any, name: str, text: bool) -> float:
    return seconds(value, name, least=0.01, most=86400.0, rule="from 10 ms to 24 h")


def duration(value: Any, name: str, text: bool) -> float | None:
    return None if value is None else seconds(value, name)


def path(value: Any, name: str, text: bool) -> str | None:
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise OptionTypeError(f"{name}={value!r} has the wrong type: give the path of a file")
    if not os.fspath(value):
        raise OptionError(f"{name}={value!r} is empty: give the path of a file")
    return os.fsdecode(value)


def sinks(value: Any, name: str, text: bool) -> tuple[Any, ...]:
    """Names, and in arguments also callables and objects with `emit`. "none" in the environment is none."""
    if text:
        names = [item.strip() for item in str(value).split(",")]
        value = () if names == ["none"] else [item for item in names if item]
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise OptionTypeError(f'{name}={value!r} has the wrong type: give a list, such as ["structlog", "otel"]')
    given = tuple(value)
    for sink in given:
        if not (isinstance(sink, str) or callable(sink) or callable(getattr(sink, "emit", None))):
            raise OptionTypeError(
                f"{name} has {sink!r}, which is no sink: "
                "give a name, an object with emit(cycle), or a function of one cycle"
            )
        if isinstance(sink, str) and given.count(sink) > 1:
            raise OptionError(f"{name} has {sink!r} more than once: give it once")
    return given


def limits(unit: Callable[[Any, str], float], rising: bool, most: float = float("inf")) -> Reader:
    """Four thresholds: excellent, good, average, poor; strictly rising, or falling where more is better."""
    order = "rise" if rising else "fall"

    def read(value: Any, name: str, text: bool) -> Limits4 | None:
        if value is None:
            return None
        if text:
            value = [item.strip() for item in str(value).split(",")]
            value = [float(item) if _is_number(item) else item for item in value]
        if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
            raise OptionTypeError(
                f"{name}={value!r} has the wrong type: give four values (excellent, good, average, poor)"
            )
        given = tuple(value)
        if len(given) != 4:
            raise OptionError(f"{name}={given!r} is not allowed: give four values (excellent, good, average, poor)")
        a, b, c, d = (unit(item, name) for item in given)
        if not ((a < b < c < d) if rising else (a > b > c > d)):
            raise OptionError(f"{name}={given!r} is not allowed: the four values must {order} strictly")
        if not max(a, d) < most:
            raise OptionError(f"{name}={given!r} is not allowed: each value must be less than {most:g}")
        return a, b, c, d

    return read


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def positive(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise OptionTypeError(f"{name} has {value!r}, which is no number: give four numbers")
    if not 1e-9 <= value <= 1e15:
        raise OptionError(f"{name} has {value!r}, which is not allowed: thresholds are from 1e-9 to 1e15")
    return float(value)


def table(keys: Mapping[str, Reader], kind: type[Any]) -> Reader:
    """A table of tables: name -> the options in `keys`, as a `kind` of named tuple."""
    example = f"{{{next(iter(keys))!r}: ...}}"

    def read(value: Any, name: str, text: bool) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise OptionTypeError(
                f"{name}={value!r} has the wrong type: give a table of tables, such as {{'name': {example}}}"
            )
        result = {}
        for key, given in value.items():
            here = f"{name}[{key!r}]"
            if not isinstance(key, str):
                raise OptionTypeError(f"{here} has the wrong type of name: give a string")
            options = given._asdict() if isinstance(given, kind) else given
            if not isinstance(options, Mapping):
                raise OptionTypeError(f"{here}={options!r} has the wrong type: give a table, such as {example}")
            for option in options:
                if option not in keys:
                    raise OptionError(f"{here} has no option {option!r}: {nearest(str(option), keys)}")
            result[key] = kind(
                **{
                    option: keys[option](item, f"{here}.{option}", False)
                    for option, item in options.items()
                    if item is not None
                }
            )
        return result

    return read
