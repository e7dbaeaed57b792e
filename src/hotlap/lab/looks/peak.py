"""PeakWatch: who holds memory at the time when most of it is held."""

from __future__ import annotations

import sys
from types import FrameType, TracebackType
from typing import Any

from ...errors import HotlapError
from .tracing import Held, Tracing, held

__all__ = ["PeakWatch"]

_LOOKS = (0.5, 0.9)  # of the expected peak; a look is dear, but the next call may not go as high
_MORE = 1.05  # times what was held at the last look, afterwards


class PeakWatch:
    """Looks at each call and return of this thread whether more is held than before, and then at what it is.

    `expected` is the peak in bytes over the start, as a call before has shown it. Tracing must be on. Raises
    HotlapError where the thread has a profile function already.
    """

    def __init__(self, expected: float) -> None:
        self._looks = [share * expected for share in _LOOKS]
        self.seen = 0.0  # bytes over the start at the last look
        self.held: Held = {}

    def __enter__(self) -> PeakWatch:
        if sys.getprofile() is not None:
            raise HotlapError("another profile function is on")
        self._start = Tracing.current()
        sys.setprofile(self._event)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.setprofile(None)

    def _event(self, frame: FrameType, event: str, argument: Any) -> None:
        level = Tracing.current() - self._start
        if level >= self._looks[0]:
            self.seen = level
            self._looks = [look for look in self._looks if look > level] or [_MORE * level]
            self.held = held()
            self._start += Tracing.current() - self._start - level  # what was seen now takes memory itself
