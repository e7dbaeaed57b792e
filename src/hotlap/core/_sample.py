"""Records: the ring that they are kept in, and how a sampled call gets its evidence."""

from __future__ import annotations

import math
import struct
import time
from collections import deque
from itertools import repeat
from typing import Any

from ..errors import OptionError
from ._base import NEVER, parent_of, report_fault, scope_now, state
from ._site import DUE, ENDLESS, Site, Tally
from .record import FLAG_EVIDENCE, FLAG_FIRST, FLAG_TAIL, NO_PARENT

try:
    import resource

    _WHO: int | None = getattr(resource, "RUSAGE_THREAD", None)
except ImportError:  # Windows
    _WHO = None

NAN = math.nan


class Ring:
    """Overwrite-oldest buffer of records with many writers; `capacity` is a power of two, at least 2.

    A bounded deque does it: one append is one step that no other thread can see half of.
    """

    __slots__ = ("_drained", "_lost", "_records", "capacity", "written")

    def __init__(self, capacity: int) -> None:
        if capacity < 2 or capacity & (capacity - 1):
            raise OptionError(f"ring capacity {capacity!r}: must be a power of two and at least 2; try 16384")
        self.capacity = capacity
        self.written = 0
        self._records: deque[bytes] = deque(maxlen=capacity)
        self._drained = 0
        self._lost = 0

    @property
    def lost(self) -> int:
        """Records overwritten before they were drained. Never falls, except by clear()."""
        gone = self.written - self._drained - len(self._records)
        self._lost = max(self._lost, gone)
        return self._lost

    def write(self, record: bytes) -> None:
        self._records.append(record)
        self.written += 1

    def drain(self, limit: int | None = None) -> bytearray:
        """Whole records, oldest first, at most `limit`; each is drained once."""
        most = len(self._records)
        if limit is not None:
            if limit < 0:
                raise OptionError(f"drain limit {limit!r}: must not be negative")
            most = min(most, limit)
        block = bytearray()
        take = self._records.popleft
        for _ in range(most):
            try:
                block += take()
            except IndexError:  # another drain was faster
                break
            self._drained += 1
        return block

    def clear(self) -> None:
        """Forget what is in the ring, and what was lost."""
        self._records.clear()
        self._drained = self.written
        self._lost = 0


_pack = struct.Struct("=QQqqQQQQdQQ" + "I" * 8 + "fHH").pack
_U16, _U32 = 0xFFFF, 0xFFFFFFFF
_least_cpu_ns = -1  # CPU time that an empty open/close pair sees of itself


class Sample:
    """The evidence of one sampled call, summed over its steps: one for a plain call, several for a
    coroutine.
    """

    __slots__ = (
        "_at",
        "_cpu",
        "_gc",
        "cpu_ns",
        "flags",
        "gc_ns",
        "in_flight",
        "parent",
        "size",
        "trace",
        "usage",
        "weight",
    )

    def __init__(self, weight: float, flags: int) -> None:
        self.weight = weight
        self.flags = flags
        self.in_flight = 0
        self.parent = NO_PARENT
        self.size = NAN
        self.trace = (0, 0, 0)
        self.cpu_ns = self.gc_ns = 0
        self.usage = (0, 0, 0, 0)
        self._cpu: int | None = None  # while a step is under way

    def open(self) -> None:
        """A step begins. The CPU clock is read innermost, so that it sees as little of the rest as can be."""
        self._at = _usage()
        self._gc = state.gc_ns
        self._cpu = time.thread_time_ns()

    def close(self) -> None:
        if self._cpu is None:  # an interrupt came before
            return
        cpu = time.thread_time_ns() - self._cpu - max(0, _least_cpu_ns)
        self.cpu_ns += max(0, cpu)
        self._cpu = None
        self.gc_ns += state.gc_ns - self._gc
        at, sums = self._at, self.usage
        now = _usage()
        self.usage = (
            sums[0] + now[0] - at[0],
            sums[1] + now[1] - at[1],
            sums[2] + now[2] - at[2],
            sums[3] + now[3] - at[3],
        )


def _usage() -> tuple[int, int, int, int]:
    """Voluntary and involuntary context switches, minor and major faults of this thread; zeros if unknown."""
    if _WHO is None:
        return (0, 0, 0, 0)
    usage = resource.getrusage(_WHO)
    return (usage.ru_nvcsw, usage.ru_nivcsw, usage.ru_minflt, usage.ru_majflt)


def _calibrate() -> None:
    global _least_cpu_ns
    _least_cpu_ns = 0
    least = []
    for _ in range(8):
        empty = Sample(0.0, 0)
        empty.open()
        empty.close()
        least.append(empty.cpu_ns)
    _least_cpu_ns = min(least)


def _trace_now() -> tuple[int, int, int]:
    if state.trace is not None:
        try:
            found = state.trace()
            if found is not None:
                high, low, span = found
                return (high & NEVER, low & NEVER, span & NEVER)
        except (RecursionError, MemoryError):
            pass  # the host's trouble, not the function's
        except Exception as error:
            state.trace = None
            report_fault("trace", None, error)
    return (0, 0, 0)


def _size_now(site: Site, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    if site.size_of is not None:
        try:
            size = site.size_of(*args, **kwargs)
            return NAN if size is None else float(size)
        except (RecursionError, MemoryError):
            pass
        except Exception as error:
            site.size_of = None
            report_fault("size", site, error)
    return NAN


def arm(  # noqa: PLR0917 - passed by position: keywords cost more
    site: Site, tally: Tally, top: Any, args: tuple[Any, ...], kwargs: dict[str, Any], size: float = NAN
) -> Sample | None:
    """The slow path of a call that found the gap at its end: takes a sample, if it is still this call's turn.

    `top` is the caller's. Without a ring nobody listens, and no sample is taken.
    """
    if site.ring is None and state.ring is None:
        site.parked = True
        tally.gap = ENDLESS
        return None
    begin = state.tick()
    probability = site.halved()
    drawn, weight = site.drawn(probability)
    following = repeat(None, drawn)
    # Up to the Sample nothing is called, so no other thread gets in: each sample is taken once, and the next
    # one is planned before a call can go by.
    for _ in tally.gap:  # another thread's call was faster, and has planned on: this one is of that gap
        return None
    sample_weight, forced = site.weight, site.forced
    site.forced = site.first > 0  # Site.draw(), written out
    if site.forced:
        site.first -= 1
        following, weight = DUE, 1.0
    site.weight = weight
    site.taken += 1
    site.probability = probability
    tally.gap = following
    sample = Sample(sample_weight, FLAG_EVIDENCE | FLAG_FIRST if forced else FLAG_EVIDENCE)
    try:
        if _least_cpu_ns < 0:
            _calibrate()
        sample.in_flight = tally.flying + 1
        sample.parent = parent_of(top)
        sample.size = _size_now(site, args, kwargs) if math.isnan(size) else size
        if site.ring is None:  # else whoever reads that one pays for it, and has no use for traces
            sample.trace = _trace_now()
            state.samples += 1
            state.samples_ns += state.tick() - begin
    except RecursionError:
        return None
    return sample


def leave_record(  # noqa: PLR0917 - passed by position: keywords cost more
    site: Site,
    tally: Tally,
    sample: Sample | None,
    top: Any,
    begin: int,
    wall: int,
    own: int,
    run: int,
    longest: int,
    suspensions: int,
    flags: int,
) -> None:
    """Leaves the record of a sampled call, or of one that was slower than its site's tail (`sample` None).

    `sample` is closed. Never raises an Exception: its call has ended well without it.
    """
    recorders = site.ring is None  # rather than of somebody who asked for this site's records
    ring = state.ring if recorders else site.ring
    if ring is None or tally is not site.tally:
        return
    start = state.tick()
    try:
        if sample is None:
            in_flight = tally.more + tally.busy + 1
            parent = NO_PARENT if top is None else parent_of(top)
            trace = _trace_now() if recorders and state.trace is not None else (0, 0, 0)
            weight, flags, size, cpu, gc = 0.0, flags | FLAG_TAIL, NAN, -1, 0
            voluntary, involuntary, minor, major = 0, 0, 0, 0
        else:
            in_flight, parent, trace = sample.in_flight, sample.parent, sample.trace
            weight, flags, size = sample.weight, flags | sample.flags, sample.size
            cpu, gc = sample.cpu_ns, sample.gc_ns
            voluntary, involuntary, minor, major = sample.usage
        ring.write(
            _pack(
                begin if begin > 0 else 0,
                wall if wall > 0 else 0,
                own,
                cpu,
                gc if gc > 0 else 0,
                *trace,
                size,
                run if run > 0 else 0,
                longest if longest > 0 else 0,
                scope_now().thread & _U32,
                site.id & _U32,
                parent,
                in_flight & _U32,
                voluntary & _U32,
                involuntary & _U32,
                minor & _U32,
                suspensions & _U32,
                weight,
                major if major < _U16 else _U16,
                flags,
            )
        )
    except Exception:
        return
    if recorders:
        state.samples_ns += state.tick() - start
