"""Numbers in the units that people use, for the sentences of the rules.

The small float types format themselves when a sentence is put together, which is often never: see Verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "Duration",
    "Megabytes",
    "Number",
    "Share",
    "duration",
    "either",
    "hourly",
    "megabytes",
    "number",
    "rate",
    "share",
]


def number(value: float) -> str:
    """ "1,234", "12.3", "1.23", "0.012": three significant digits, all of the whole part."""
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    if abs(value) >= 9.995:
        return f"{value:.1f}".removesuffix(".0")
    text = f"{value:.2f}" if abs(value) >= 0.995 else f"{value:.2g}"
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def duration(seconds: float) -> str:
    """ "340 us", "12.3 ms", "2.5 s", "3.2 min", "5.1 h"."""
    size = abs(seconds)
    if size == 0.0:
        return "0 s"
    if size >= 2 * 3600:
        return f"{number(seconds / 3600)} h"
    if size >= 120:
        return f"{number(seconds / 60)} min"
    if size >= 0.9995:
        return f"{number(seconds)} s"
    if size >= 0.9995e-3:
        return f"{number(seconds * 1e3)} ms"
    if size >= 0.9995e-6:
        return f"{number(seconds * 1e6)} us"
    return f"{number(seconds * 1e9)} ns"


def share(fraction: float) -> str:
    """ "34 %", "0.4 %"; never "0 %" or "100 %" for what is only nearly so."""
    if 0.0 < fraction < 0.001:
        return "under 0.1 %"
    if 0.995 <= fraction < 1.0:
        return "over 99 %"
    return f"{100 * fraction:.2g} %" if fraction < 0.1 else f"{100 * fraction:.0f} %"


def megabytes(mb: float) -> str:
    """ "6.6 bytes", "40 kB", "12.5 MB", "1.3 GB" (powers of ten)."""
    size = abs(mb)
    if size >= 1e6:
        return f"{number(mb / 1e6)} TB"
    if size >= 1000:
        return f"{number(mb / 1000)} GB"
    if size >= 0.9995 or size == 0.0:
        return f"{number(mb)} MB"
    if size >= 0.9995e-3:
        return f"{number(mb * 1000)} kB"
    text = number(mb * 1e6)
    return f"{text} byte{'' if text == '1' else 's'}"


def hourly(seconds: float, what: str = "") -> str:
    """ "24 min of waiting per hour"; says how there can be more than an hour of it in each."""
    several = seconds > 1.05 * 3600.0  # a little more is what calls bring along that began before the window
    text = f"{duration(seconds if several else min(seconds, 3600.0))}{' of ' if what else ''}{what} per hour"
    return f"{text} (summed over threads and tasks)" if several else text


def rate(per_second: float, noun: str = "call") -> str:
    """ "340 calls/s", "12 calls/min", "3 calls/h"."""
    if per_second >= 0.995:
        return f"{number(per_second)} {noun}s/s"
    if per_second >= 1 / 60:
        return f"{number(60 * per_second)} {noun}s/min"
    return f"{number(3600 * per_second)} {noun}s/h"


def either(causes: Sequence[str]) -> str:
    """ "a lock", "a lock or a pool", "a query, a lock or a pool"."""
    return f"{', '.join(causes[:-1])} or {causes[-1]}" if len(causes) > 1 else causes[0]


class Number(float):
    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return number(float(self))  # a plain float, or formatting would come back here


class Duration(float):
    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return duration(float(self))  # a plain float, or formatting would come back here


class Share(float):
    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return share(float(self))  # a plain float, or formatting would come back here


class Megabytes(float):
    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return megabytes(float(self))  # a plain float, or formatting would come back here
