"""What a user can say about a site: type, SLO, size, tags, sampling rate.

Apart from model.py because `import hotlap` needs these and nothing else of it: dataclasses with many fields
cost milliseconds to define.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from .errors import OptionError, OptionTypeError

__all__ = ["BenchmarkType", "SiteOptions", "seconds"]


class BenchmarkType(str, Enum):
    """What a site is about: what its user cares for most."""

    FUNCTION = "function"
    MEMORY = "memory"
    CPU = "cpu"
    I_O = "i_o"
    NETWORK = "network"
    CONCURRENT = "concurrent"
    STRESS = "stress"
    COMPARISON = "comparison"

    __str__ = str.__str__


class SiteOptions(NamedTuple):
    """What the user said about a site: the options of `benchmark` and `measure`, already checked."""

    type: BenchmarkType = BenchmarkType.FUNCTION
    slo_s: float | None = None
    size: str | Callable[..., Any] | None = None
    tags: tuple[tuple[str, str], ...] = ()  # sorted pairs, so that options can be compared and hashed
    sample: float | None = None  # records per second wanted: 0 never, None the default


_SECONDS_IN = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,  # micro sign
    "μs": 1e-6,  # Greek mu
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
}


def seconds(
    value: object,
    name: str = "duration",
    *,
    least: float = 1e-9,
    most: float = 1e9,
    rule: str = "from 1 ns to 1e9 s",
) -> float:
    """A duration in seconds, from a number of seconds or a text such as "50ms", "1.5 s", "100us", "2min".

    Raises OptionTypeError for anything but a number or text, OptionError unless the duration is from `least`
    to `most` seconds. `name` is the option's name and `rule` the range in words, for the message.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise OptionTypeError(f'{name}={value!r} is no duration: give seconds as a number, or a text such as "50ms"')
    if isinstance(value, str):
        text = value.strip()
        number = text.rstrip("abcdefghijklmnopqrstuvwxyzµμABCDEFGHIJKLMNOPQRSTUVWXYZ")
        unit = text[len(number) :] or "s"
        try:
            result = float(number) * _SECONDS_IN[unit]
        except (ValueError, KeyError):
            raise OptionError(
                f"{name}={value!r} is no duration: write a number and one of the units "
                'ns, us, ms, s, min, h, such as "50ms"'
            ) from None
    else:
        try:
            result = float(value)
        except OverflowError:
            result = float("inf")
    if not least <= result <= most:
        raise OptionError(f"{name}={value!r} is not allowed: give a duration {rule}")
    return result
