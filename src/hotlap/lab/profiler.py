"""PerformanceProfiler: where the time and the memory of a function go, line by line.

Time by pyinstrument, which samples the stack; memory by tracemalloc. Both make calls slow, so the calls are not those
that are timed, and how much slower they were is told.
"""

from __future__ import annotations

import gc
import importlib.util
import linecache
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any

from ..errors import HotlapError, MissingExtraError, OptionError
from ..readers import number
from ..rules.words import duration, share
from .config import BenchmarkConfig
from .looks.lines import Function, LineClock
from .looks.peak import PeakWatch
from .looks.retention import amount
from .looks.samples import Samples, read_samples
from .looks.tracing import AllocationSite, Tracing, grown, held
from .runs.calls import Calls, Unprepared
from .runs.interrupts import Stopped
from .runs.limits import Guard
from .runs.run import drive
from .runs.subject import Loop, Subject, empty_loop

__all__ = ["HotLine", "PerformanceProfiler", "Profile"]

_BATCH_S = 5e-3  # calls that are made at once
_WORTH = 0.05  # of all time: then the lines of a function are told apart by tracing them, too
_DIFFERS = 0.3  # of a function's time that is on other lines when it is traced: then sampling has missed them
_SAID = 0.001  # of all time: a line with less is none of the hottest
_FRAMES = 8
_LEAST_PEAK = 10_000  # bytes: what watching it makes itself, an object for each call that is open, is not much less
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
    allocations: tuple[AllocationSite, ...]  # that hold most when most is held, if 10 kB or more; bytes and blocks
    seconds: float  # that were profiled
    calls: int  # in them
    failed: int  # of all calls that were made
    samples: int
    interval_s: float
    slowdown: float | None  # a profiled call's time over that of one that is not
    peak_bytes: float | None  # most that a call held
    tracing_slowdown: float | None
    notes: tuple[str, ...] = ()
    interrupted: bool = False  # by the user

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
        self._sampled = Samples()
        self._profiled_calls = 0
        self._plain_s = self._profiled_s = self._traced_s = math.nan
        self._peak: float | None = None
        self._allocations: list[AllocationSite] = []
        self._notes: list[str] = []

    def run(self) -> Profile:
        interrupted = False
        try:
            drive(self._look(), self._subject.asynchronous)
        except Stopped:
            self._notes.append("Profiling was not done to the end: a limit was reached.")
        except KeyboardInterrupt:
            interrupted = True
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
            interrupted=interrupted,
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
            self._sampled = read_samples(session, self._subject)

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
            self._sampled.shift(function, line, more)

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
            ours = await self._peak_of(tracing, empty_loop(self._subject.asynchronous))
            loop = await self._calls.set_up()
            self._peak = max(await self._peak_of(tracing, loop) - ours, 0.0)
            await self._calls.tear_down()
            self._traced_s = await self._call_for(0.1 * self._seconds)
        if self._peak < _LEAST_PEAK:
            return
        frames = _FRAMES if 5.0 * self._traced_s < _SLOW_TRACE_S else 1
        with Tracing(frames):
            loop = await self._calls.set_up()
            before, watch = held(), PeakWatch(self._peak)
            try:
                with watch:
                    await self._calls.run(loop, repeat(None, 1))
            except HotlapError as reason:
                self._notes.append(f"What is held at the peak is not known: {reason} in this thread.")
            await self._calls.tear_down()
            if watch.held:
                self._allocations = grown(before, watch.held, self._subject.name, most=self._most)
        if watch.held and watch.seen < 0.9 * self._peak:
            self._notes.append(
                f"The allocations are those at {amount(watch.seen)}, where the last call or return was before the peak "
                f"of {amount(self._peak)}."
            )

    async def _peak_of(self, tracing: Tracing, loop: Loop) -> float:
        """Of one call, in bytes over what was there."""
        await self._calls.run(loop, repeat(None, 0))  # what the loop's first run makes for itself is not the call's
        calls, start = repeat(None, 1), tracing.current()
        tracing.reset_peak()
        await self._calls.run(loop, calls)
        return float(max(tracing.peak() - start, 0))


def _ratio(slow_s: float, plain_s: float) -> float | None:
    return slow_s / plain_s if plain_s > 0.0 and math.isfinite(slow_s) else None
