"""Change: a ratio of times in words."""

from __future__ import annotations

import math

__all__ = ["in_words", "percent"]

_TIMES = 2.0  # as long, or as fast: from there on a factor is easier to read than per cent
_MOST = 1e9  # that is written out


def in_words(ratio: float, low: float | None = None, high: float | None = None) -> str:
    """A ratio of times, new / base, and its interval: "slower by 12 % [10 %, 14 %]", "faster by a factor of 34".

    The interval is of what is said, the smaller change first.
    """
    slower = ratio >= 1.0
    times = max(ratio, _inverse(ratio)) >= _TIMES

    def change(value: float) -> str:
        if times:
            return _factor(value if slower else _inverse(value))
        return percent(value - 1.0 if slower else 1.0 - value)

    ends = [change(end) for end in (low, high) if end is not None]
    around = f" [{', '.join(ends if slower else ends[::-1])}]" if ends else ""
    return f"{'slower' if slower else 'faster'} by {'a factor of ' if times else ''}{change(ratio)}{around}"


def percent(value: float) -> str:
    """A fraction as a percentage, to a tenth of a per cent; below one per cent to a hundredth."""
    return f"{round(100.0 * value, 1 if abs(value) >= 0.01 else 2):g} %"


def _inverse(value: float) -> float:
    return 1.0 / value if value > 0.0 else math.inf


def _factor(value: float) -> str:
    """Three digits, or all of the whole part: "3.42", "1,277"."""
    return f"{value:,.0f}" if 99.95 <= value < _MOST else f"{value:.3g}"
