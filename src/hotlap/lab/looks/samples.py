"""Samples: where a sampled subject's time went, by line, from the stacks that pyinstrument saw."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .lines import Function
from .tracing import LOOP

if TYPE_CHECKING:
    from pyinstrument.session import Session

    from ..runs.subject import Subject

__all__ = ["Samples", "read_samples"]

_Key = TypeVar("_Key")

_LAB = str(Path(__file__).parent.parent)
_ASYNCIO = str(Path(asyncio.__file__).parent)
_BUILT_IN = "<built-in>"  # pyinstrument's names for what is no line of Python
_AWAIT = "[await]"


@dataclass(slots=True)
class Samples:
    """What pyinstrument saw, without our own frames. Seconds."""

    own: dict[tuple[Function, int, bool], float] = field(default_factory=dict)  # (function, line, waiting)
    total: dict[tuple[Function, int], float] = field(default_factory=dict)
    in_c: dict[tuple[Function, int], float] = field(default_factory=dict)  # of `own`, in functions written in C
    seconds: float = 0.0
    samples: int = 0

    def shift(self, function: Function, line: int, seconds: float) -> None:
        """Count so much more, or less, for a line that computes."""
        _add(self.own, (function, line, False), seconds)
        _add(self.total, (function, line), seconds)


@dataclass(frozen=True, slots=True)
class _Frame:
    function: Function
    line: int

    @classmethod
    def parse(cls, info: str) -> _Frame | None:
        """None for a frame that stands for no code, such as "[await]"."""
        from pyinstrument.frame_info import parse_frame_info

        identifier, attributes = parse_frame_info(info)
        name, *place = identifier.split("\x00")
        if not place:
            return None
        line = next((int(one[1:]) for one in attributes if one.startswith("l")), 0)
        return cls((place[0], int(place[1]), name), line)

    @property
    def file(self) -> str:
        return self.function[0]


_LOOP_WAITS = _Frame(("", 0, "the event loop"), 0)


def _add(sums: dict[_Key, float], key: _Key, value: float) -> None:
    sums[key] = sums.get(key, 0.0) + value


def read_samples(session: Session, subject: Subject) -> Samples:
    """The samples of a session by line. A sample's time is that since the one before, on this stack, it is assumed."""
    seen = Samples()
    parsed: dict[str, _Frame | None] = {}
    itself = _Frame((subject.name, 0, subject.name), 0)
    in_python = hasattr(subject.target, "__code__")
    for infos, seconds in session.frame_records:
        for info in infos:
            if info not in parsed:
                parsed[info] = _Frame.parse(info)
        frames = _called([frame for info in infos if (frame := parsed[info]) is not None])
        if frames is None or (in_python and not frames):
            continue  # the time is ours, or that of setup and teardown
        waiting = infos[-1] == _AWAIT
        in_c = bool(frames) and frames[-1].file == _BUILT_IN
        stack = _subjects(frames, waiting) or [itself]
        leaf = stack[-1]
        if leaf.file == selectors.__file__ and any(frame.file.startswith(_ASYNCIO) for frame in frames):
            waiting, stack = True, [_LOOP_WAITS]  # no task of the subject's runs, and none is known to have begun it
            leaf = stack[-1]
        key = leaf.function, leaf.line
        seen.seconds += seconds
        seen.samples += 1
        _add(seen.own, (*key, waiting), seconds)
        for place in {(frame.function, frame.line) for frame in stack}:
            _add(seen.total, place, seconds)
        if in_c and not waiting:
            _add(seen.in_c, key, seconds)
    return seen


def _called(frames: Sequence[_Frame]) -> Sequence[_Frame] | None:
    """The frames that a call of the subject has opened, or the event loop around it; None where the lab itself, or what
    it calls, is at work.
    """
    ours = max((at for at, frame in enumerate(frames) if frame.file == LOOP or frame.file.startswith(_LAB)), default=-1)
    opened = frames[ours + 1 :]
    by_call = ours < 0 or frames[ours].file == LOOP
    return opened if by_call or any(frame.file.startswith(_ASYNCIO) for frame in opened[:1]) else None


def _subjects(frames: Sequence[_Frame], waiting: bool) -> list[_Frame]:
    """Those in Python, without the event loop's."""
    stack = [frame for frame in frames if frame.file != _BUILT_IN]
    first = next((at for at, frame in enumerate(stack) if not frame.file.startswith(_ASYNCIO)), 0)
    stack = stack[first:]
    if waiting:  # for the line of the user's that waits, not for the one in asyncio
        while len(stack) > 1 and stack[-1].file.startswith(_ASYNCIO):
            stack.pop()
    return stack
