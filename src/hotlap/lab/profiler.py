"""PerformanceProfiler: where the time and the memory of a function go, line by line.

Time by pyinstrument, which samples the stack; memory by tracemalloc. Both make calls slow, so the calls are not those
that are timed, and how much slower they were is told.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import linecache
import math
import selectors
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import HotlapError, MissingExtraError, OptionError
from ..readers import number
from ..rules.words import duration, share
from .config import BenchmarkConfig
from .looks.lines import Function, LineClock
from .looks.peak import PeakWatch
from .looks.retention import amount
from .looks.tracing import LOOP, AllocationSite, Tracing, grown
from .runs.calls import Calls, Unprepared
from .runs.interrupts import Stopped
from .runs.limits import Guard
from .runs.run import drive
from .runs.subject import Subject

if TYPE_CHECKING:
    from pyinstrument.session import Session

__all__ = ["HotLine", "PerformanceProfiler", "Profile"]

_Key = TypeVar("_Key")

_LAB = str(Path(__file__).parent)
_ASYNCIO = str(Path(asyncio.__file__).parent)
_BUILT_IN = "<built-in>"  # pyinstrument's names for what is no line of Python
_AWAIT = "[await]"
_BATCH_S = 5e-3  # calls that are made at once
_WORTH = 0.05  # of all time: then the lines of a function are told apart by tracing them, too
_DIFFERS = 0.3  # of a function's time that is on other lines when it is traced: then sampling has missed them
_SAID = 0.001  # of all time: a line with less is none of the hottest
_FRAMES = 8
_SLOW_TRACE_S = 2.0  # a call that would take longer with whole stacks is traced without


@dataclass(frozen=True, slots=True)
class HotLine:
    """A line on which calls spend time, on the line itself or in what it calls in C."""

    file: str
    line: int  # 0 where it is no line of Python
    function: str
    seconds: float
    share: float  # of the profiled time
    total_share: float  # with all that the line calls
    waiting: bool  # for something to be awaited
    code: str = ""  # the line's text, "" where it cannot be read

    @property
    def place(self) -> str:
        """ "file:line in function"."""
        return f"{self.file}:{self.line} in {self.function}" if self.line else self.function


@dataclass(frozen=True, slots=True)
class Profile:
    """Where time and memory go. What could not be looked at is empty or None, and `notes` says why."""

    lines: tuple[HotLine, ...]  # the hottest first
    allocations: tuple[AllocationSite, ...]  # that hold most when most is held; bytes and blocks
    seconds: float  # that were profiled
    calls: int  # in them
    failed: int  # of all calls that were made
    samples: int
    interval_s: float
    slowdown: float | None  # a profiled call's time over that of one that is not
    peak_bytes: float | None  # most that a call held
    tracing_slowdown: float | None
    notes: tuple[str, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """What stands out, with its evidence."""
        said = []
        if self.lines:
            first = self.lines[0]
            does = "waits" if first.waiting else "spends"
            said.append(
                f"It {does} {share(first.share)} of its time at {first.place} ({duration(first.seconds)} of "
                f"{duration(self.seconds)}, {self.samples} samples)."
            )
        if self.allocations and self.peak_bytes:
            most = self.allocations[0]
            said.append(f"At its peak of {amount(self.peak_bytes)} it holds {amount(most.bytes)} from {most.place}.")
        return said

    def details(self) -> dict[str, Any]:
        """For a report: plain numbers and texts."""
        return asdict(self)


@dataclass(slots=True)
class _Sampled:
    """What pyinstrument saw, without our own frames. Seconds."""

    own: dict[tuple[Function, int, bool], float] = field(default_factory=dict)  # (function, line, waiting)
    total: dict[tuple[Function, int], float] = field(default_factory=dict)
    in_c: dict[tuple[Function, int], float] = field(default_factory=dict)  # of `own`, in functions written in C
    seconds: float = 0.0
    samples: int = 0


class PerformanceProfiler:
    """Calls a function for some `seconds` under pyinstrument, and for a few calls under tracemalloc.

        profile = PerformanceProfiler().profile(parse, text)
        for line in profile.lines:
            print(line.place, line.share, line.code)

    `interval` is the time between samples in seconds, `most` how many lines are told of each. Only the thread that
    makes the calls is sampled. Needs the extra hotlap[profile]: raises MissingExtraError at the first use.
    """

    def __init__(self, seconds: float = 1.0, interval: float = 1e-3, most: int = 10) -> None:
        self._seconds = float(number(1e-3, 1e6, "seconds from 0.001 to 1,000,000")(seconds, "seconds", False))
        self._interval = float(number(1e-5, 10.0, "seconds from 0.00001 to 10")(interval, "interval", False))
        self._most = int(number(1, 10_000, "a whole number from 1 to 10,000", whole=True)(most, "most", False))
        if self._interval > self._seconds:
            raise OptionError(
                f"interval={interval!r} is more than seconds={seconds!r}: there would be no sample, give less"
            )

    @staticmethod
    def check() -> None:
        """Raises MissingExtraError when pyinstrument is not installed."""
        if importlib.util.find_spec("pyinstrument") is None:
            raise MissingExtraError("profiling needs pyinstrument: pip install 'hotlap[profile]'")

    def profile(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Profile:
        """Profile a sync or async function with these arguments. Its failures are counted, not raised.

        Raises OptionTypeError for what cannot be called, MissingExtraError.
        """
        self.check()
        config = BenchmarkConfig(timeout=max(30.0, 20.0 * self._seconds))
        with Guard(config) as guard:
            return self.profile_subject(Subject(func, args, kwargs), config, guard)

    def profile_subject(self, subject: Subject, config: BenchmarkConfig, guard: Guard) -> Profile:
        """The same for a subject, with the setup and teardown of a configuration, until `guard` says to stop."""
        self.check()
        return _Profiling(subject, config, guard, seconds=self._seconds, interval=self._interval, most=self._most).run()


class _Profiling:
    """One profile in the making."""

    def __init__(
        self,
        subject: Subject,
        config: BenchmarkConfig,
        guard: Guard,
        *,
        seconds: float,
        interval: float,
        most: int,
    ) -> None:
        self._subject, self._guard = subject, guard
        self._seconds, self._interval, self._most = seconds, interval, most
        self._calls = Calls(subject, config, guard)
        self._batch = 1
        self._sampled = _Sampled()
        self._profiled_calls = 0
        self._plain_s = self._profiled_s = self._traced_s = math.nan
        self._peak: float | None = None
        self._allocations: list[AllocationSite] = []
        self._notes: list[str] = []

    def run(self) -> Profile:
        try:
            drive(self._look(), self._subject.asynchronous)
        except Stopped:
            self._notes.append("Profiling was not done to the end: a limit was reached.")
        except KeyboardInterrupt:
            self._notes.append("Profiling was not done to the end: interrupted.")
        except Unprepared as error:
            self._notes.append(f"Profiling was not done to the end: {error}.")
        return Profile(
            lines=tuple(self._lines()),
            allocations=tuple(self._allocations),
            seconds=self._sampled.seconds,
            calls=self._profiled_calls,
            failed=self._calls.failed,
            samples=self._sampled.samples,
            interval_s=self._interval,
            slowdown=_ratio(self._profiled_s, self._plain_s),
            peak_bytes=self._peak,
            tracing_slowdown=_ratio(self._traced_s, self._plain_s),
            notes=tuple(self._notes),
        )

    async def _look(self) -> None:
        await self._warm_up()
        self._plain_s = await self._call_for(0.2 * self._seconds)
        await self._sample()
        await self._tell_lines_apart()
        await self._allocate()

    async def _warm_up(self) -> None:
        """The first calls; afterwards it is known how many make a batch."""
        for _ in range(20):
            begun = time.perf_counter()
            await self._calls.make(self._batch)
            took = time.perf_counter() - begun
            if took >= _BATCH_S or self._calls.alone:
                return
            self._batch = min(10 * self._batch, math.ceil(1.1 * self._batch * _BATCH_S / max(took, 1e-7)))

    async def _call_for(self, seconds: float) -> float:
        """Make calls for so long, one batch at least; the median time of one, with its setup."""
        ends = time.perf_counter() + min(seconds, 0.3 * self._guard.left_s)
        times: list[float] = []
        while not times or time.perf_counter() < ends:
            begun, made = time.perf_counter(), self._calls.made
            await self._calls.make(self._batch)
            times.append((time.perf_counter() - begun) / max(self._calls.made - made, 1))
        return statistics.median(times)

    # -- time -------------------------------------------------------------------------------------------------

    async def _sample(self) -> None:
        from pyinstrument import Profiler

        if sys.getprofile() is not None:
            self._notes.append("Where time goes is not known: another profile function is on in this thread.")
            return
        profiler = Profiler(interval=self._interval, async_mode="enabled" if self._subject.asynchronous else "disabled")
        made = self._calls.made
        profiler.start()
        try:
            self._profiled_s = await self._call_for(self._seconds)
        finally:
            session = profiler.stop()
            self._profiled_calls = self._calls.made - made
            self._sampled = _read(session, self._subject)

    async def _tell_lines_apart(self) -> None:
        """Samples are taken at calls and returns: the lines in between are traced, in calls of their own."""
        sampled = self._sampled
        python: dict[Function, dict[int, float]] = {}  # time on the lines of each function, without that in C
        for (function, line, waiting), seconds in sampled.own.items():
            if not waiting and line:
                own = seconds - sampled.in_c.get((function, line), 0.0)
                python.setdefault(function, {})[line] = own
        wanted = {one for one, lines in python.items() if sum(lines.values()) >= _WORTH * sampled.seconds}
        if not wanted:
            return
        batch, self._batch = self._batch, max(1, self._batch // 10)
        try:
            with LineClock(wanted) as clock:
                await self._call_for(0.3 * self._seconds)
        except HotlapError as reason:
            names = ", ".join(sorted(name for _, _, name in wanted))
            self._notes.append(
                f"In {names} a line may stand for those before it, up to the last call or return: {reason} in this "
                "thread."
            )
            return
        finally:
            self._batch = batch
        for function, shares in clock.shares().items():
            self._share_out(function, python[function], shares)

    def _share_out(self, function: Function, sampled: Mapping[int, float], shares: Mapping[int, float]) -> None:
        """Give a function's time in Python to its lines as the clock has it, where sampling has it elsewhere."""
        seconds = sum(sampled.values())
        in_c = {line: self._sampled.in_c.get((function, line), 0.0) for line in shares}
        whole = seconds + sum(in_c.values())
        weights = {line: max(share * whole - in_c[line], 0.0) for line, share in shares.items()}
        total = sum(weights.values())
        if total <= 0.0:
            return
        traced = {line: seconds * weight / total for line, weight in weights.items()}
        lines = {*sampled, *traced}
        moved = {line: traced.get(line, 0.0) - sampled.get(line, 0.0) for line in lines}
        if sum(map(abs, moved.values())) / 2.0 < _DIFFERS * seconds:
            return
        for line, more in moved.items():
            _add(self._sampled.own, (function, line, False), more)
            _add(self._sampled.total, (function, line), more)

    def _lines(self) -> Iterator[HotLine]:
        sampled = self._sampled
        ranked = sorted(sampled.own.items(), key=lambda item: -item[1])
        for (function, line, waiting), seconds in ranked[: self._most]:
            if seconds < _SAID * sampled.seconds:
                return
            file, _, name = function
            yield HotLine(
                file=file,
                line=line,
                function=name,
                seconds=seconds,
                share=seconds / sampled.seconds,
                total_share=min(1.0, sampled.total.get((function, line), seconds) / sampled.seconds),
                waiting=waiting,
                code=linecache.getline(file, line).strip() if line else "",
            )

    # -- memory -----------------------------------------------------------------------------------------------

    async def _allocate(self) -> None:
        """One call to see how high it goes, one to see who holds memory up there."""
        gc.collect()
        with Tracing() as tracing:
            start = tracing.current()
            tracing.reset_peak()
            await self._calls.make(1)
            self._peak = float(max(tracing.peak() - start, 0))
            self._traced_s = await self._call_for(0.1 * self._seconds)
        if not self._peak:
            return
        frames = _FRAMES if 5.0 * self._traced_s < _SLOW_TRACE_S else 1
        with Tracing(frames):
            watch = PeakWatch(self._peak)
            try:
                with watch:
                    await self._calls.make(1)
            except HotlapError as reason:
                self._notes.append(f"What is held at the peak is not known: {reason} in this thread.")
            self._allocations = grown({}, watch.held, self._subject.name, most=self._most)
        if watch.held and watch.seen < 0.9 * self._peak:
            self._notes.append(
                f"The allocations are those at {amount(watch.seen)}, where the last call or return was before the peak "
                f"of {amount(self._peak)}."
            )


def _ratio(slow_s: float, plain_s: float) -> float | None:
    return slow_s / plain_s if plain_s > 0.0 and math.isfinite(slow_s) else None


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


def _read(session: Session, subject: Subject) -> _Sampled:
    """The samples of a session by line. A sample's time is that since the one before, on this stack, it is assumed."""
    seen = _Sampled()
    parsed: dict[str, _Frame | None] = {}
    itself = _Frame((subject.name, 0, subject.name), 0)
    in_python = hasattr(subject.target, "__code__")
    for infos, seconds in session.frame_records:
        for info in infos:
            if info not in parsed:
                parsed[info] = _Frame.parse(info)
        frames = [frame for info in infos if (frame := parsed[info]) is not None]
        waiting = infos[-1] == _AWAIT
        in_c = frames[-1].file == _BUILT_IN
        stack = _subjects(frames, waiting)
        if not stack:
            if in_python or frames[-1].file.startswith(_LAB):
                continue  # the time is ours
            stack = [itself]
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


def _subjects(frames: Sequence[_Frame], waiting: bool) -> list[_Frame]:
    """The frames in Python that the subject has opened: without ours, and without those of an event loop around it."""
    ours = max((at for at, frame in enumerate(frames) if frame.file == LOOP or frame.file.startswith(_LAB)), default=-1)
    stack = [frame for frame in frames[ours + 1 :] if frame.file != _BUILT_IN]
    first = next((at for at, frame in enumerate(stack) if not frame.file.startswith(_ASYNCIO)), 0)
    stack = stack[first:]
    if waiting:  # for the line of the user's that waits, not for the one in asyncio
        while len(stack) > 1 and stack[-1].file.startswith(_ASYNCIO):
            stack.pop()
    return stack
