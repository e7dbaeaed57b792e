"""Tracing: tracemalloc, shared by all that need it at once, and left on when the user had it on before."""

from __future__ import annotations

import asyncio
import linecache
import threading
import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType

__all__ = ["AllocationSite", "Held", "Tracing", "grown", "held"]

LOOP = "<hotlap lab>"  # the loop around a subject, see runs/subject.py
_LAB = str(Path(__file__).parent.parent)
_OURS = (_LAB, tracemalloc.__file__, linecache.__file__)
_ASYNCIO = str(Path(asyncio.__file__).parent)
_STACK = 8
_SHARE = 0.01  # of all that has grown: less is not worth a line

_lock = threading.Lock()
_open: list[Tracing] = []
_started_here = False


class Tracing:
    """Traced memory of the process, from start() to stop(), in bytes.

    tracemalloc has one peak for the process. To reset it takes nothing from others that are tracing here.
    """

    def __init__(self, frames: int = 1) -> None:
        self._frames = frames
        self._peak = 0

    def start(self) -> None:
        global _started_here
        with _lock:
            if not tracemalloc.is_tracing():
                tracemalloc.start(self._frames)
                _started_here = True
            _open.append(self)
        self.reset_peak()

    def stop(self) -> None:
        global _started_here
        with _lock:
            _open.remove(self)
            if not _open and _started_here:
                tracemalloc.stop()
                _started_here = False

    def __enter__(self) -> Tracing:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @staticmethod
    def users() -> bool:
        """Whether it was the user who switched tracing on."""
        return tracemalloc.is_tracing() and not _started_here

    @staticmethod
    def current() -> int:
        return tracemalloc.get_traced_memory()[0]

    def peak(self) -> int:
        """Since start(), or since this one's last reset_peak()."""
        return max(self._peak, tracemalloc.get_traced_memory()[1])

    def reset_peak(self) -> None:
        with _lock:
            peak = tracemalloc.get_traced_memory()[1]
            for other in _open:
                other._peak = max(other._peak, peak)
            self._peak = 0
            tracemalloc.reset_peak()


Stack = tuple[tuple[str, int], ...]
"""(file, line) of the frames that led to an allocation, the nearest first."""

Held = Mapping[Stack, tuple[int, int]]
"""Bytes and blocks that are there, by where they were allocated."""


def held() -> Held:
    """What has been allocated since tracing began, and is still there."""
    snapshot = tracemalloc.take_snapshot()
    return {
        tuple((frame.filename, frame.lineno) for frame in reversed(statistic.traceback)): (
            statistic.size,
            statistic.count,
        )
        for statistic in snapshot.statistics("traceback")
    }


@dataclass(frozen=True, slots=True)
class AllocationSite:
    """A line that has allocated what is still there."""

    file: str
    line: int  # 0 where it is no line of Python
    bytes: float
    blocks: float
    code: str  # the line's text; "" where it cannot be read
    stack: tuple[str, ...] = ()  # "file:line" of its callers, the nearest first, as far as they were traced

    @property
    def place(self) -> str:
        """ "file:line"."""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(slots=True)
class _Sum:
    bytes: int = 0
    blocks: int = 0
    stacks: dict[Stack, int] = field(default_factory=dict)


def grown(before: Held, after: Held, subject: str = "", *, per: float = 1.0, most: int = 10) -> list[AllocationSite]:
    """The lines that have more bytes after than before, the most first; bytes and blocks are divided by `per`.
    What is less than 1 % of the whole is left out.

    What the lab itself allocates, or what it calls, is left out, as far as the stacks tell. `subject` names what its
    loop calls, where that is no Python function.
    """
    sums: dict[tuple[str, int], _Sum] = {}
    for stack in {*before, *after}:
        file, line = stack[0]
        if _is_ours(stack):
            continue
        (size, count), (old_size, old_count) = after.get(stack, (0, 0)), before.get(stack, (0, 0))
        one = sums.setdefault((subject or file, 0) if file == LOOP else (file, line), _Sum())
        one.bytes += size - old_size
        one.blocks += count - old_count
        one.stacks[stack[1:]] = one.stacks.get(stack[1:], 0) + size - old_size
    least = _SHARE * sum(max(one.bytes, 0) for one in sums.values())
    ranked = sorted(((one.bytes, place) for place, one in sums.items() if one.bytes > least), reverse=True)
    return [
        AllocationSite(
            file=place[0],
            line=place[1],
            bytes=sums[place].bytes / per,
            blocks=sums[place].blocks / per,
            code=linecache.getline(*place).strip() if place[1] else "",
            stack=_callers(sums[place].stacks),
        )
        for _, place in ranked[:most]
    ]


def _is_ours(stack: Stack) -> bool:
    """Whether the lab has allocated it, or something that it calls beside the subject and its event loop."""
    if stack[0][0].startswith(_OURS):
        return True
    for (called, _), (file, _) in pairwise(stack):
        if file == LOOP:
            return False
        if file.startswith(_LAB):
            return called != LOOP and not called.startswith(_ASYNCIO)
    return False


def _callers(stacks: Mapping[Stack, int]) -> tuple[str, ...]:
    """Of the stack that grew most: what lies between the allocation and the lab."""
    callers = []
    for file, line in max(stacks, key=lambda stack: stacks[stack]):
        if file == LOOP or file.startswith(_LAB):
            break
        callers.append(f"{file}:{line}")
    return tuple(callers[:_STACK])
