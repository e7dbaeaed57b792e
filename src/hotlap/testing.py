"""For the tests of programs that use hotlap: time that stands still until it is told to go on.

    with fake_clock() as clock, capture() as captured:
        search("needle")            # a fake that calls clock.advance(0.25)
    assert captured.stats("search").max_s == pytest.approx(0.25)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from . import core
from .errors import OptionError, OptionTypeError

__all__ = ["FakeClock", "fake_clock"]


class FakeClock:
    """A clock that moves when it is told to, and only forward."""

    def __init__(self, start_s: float = 1_000.0) -> None:
        self.now_ns = _nanoseconds("start_s", start_s)

    def __repr__(self) -> str:
        return f"<FakeClock at {self.now_ns / 1e9} s>"

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass. Raises OptionError for a negative or infinite duration: time never runs backwards."""
        self.now_ns += _nanoseconds("seconds", seconds)

    def read(self) -> int:
        """Nanoseconds, as the core's clock gives them."""
        return self.now_ns


_clocks: list[FakeClock] = []


@contextmanager
def fake_clock(start_s: float = 1_000.0) -> Iterator[FakeClock]:
    """Replace the clock that calls are timed with, in the whole process; on exit the one before is back.

    CPU time and everything else that the kernel counts stays real.
    """
    clock = FakeClock(start_s)
    _clocks.append(clock)
    core.set_clock(clock.read)
    try:
        yield clock
    finally:
        _clocks.remove(clock)
        core.set_clock(_clocks[-1].read if _clocks else None)


def _nanoseconds(name: str, seconds: float) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise OptionTypeError(f"{name}={seconds!r} is not a number: give seconds, such as 0.5")
    if not 0 <= seconds < float("inf"):
        raise OptionError(f"{name}={seconds!r} is not a duration: give seconds from 0 up")
    return round(seconds * 1e9)
