"""The ground of the Python core: hooks, clock, sites and their counters, the ring, samples.

What every timed call touches lies in two objects with slots: the `Tally` of its site and the `Scope` of its thread.
Durations wait in `Tally.pending` and are folded into totals and histogram by the hundred, or when somebody reads:
a read sees every call that has ended.

Threads. CPython with a GIL lets another thread in only after a call and at the end of a loop, so `x.n += 1` and
"compare, then store" without a call between are whole. On free-threaded builds `count_in` and `count_out` lock.
"""

from __future__ import annotations

import math
import struct
import sys
import threading
import time
import weakref
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import OptionError, OptionTypeError
from . import record as layout
from .record import FLAG_CANCELLED, FLAG_ERROR, FLAG_EVIDENCE, FLAG_FIRST, FLAG_TAIL, NO_PARENT

try:
    import resource

    _WHO: int | None = getattr(resource, "RUSAGE_THREAD", None)
except ImportError:  # Windows
    _WHO = None

FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()
COUNT, TIME = 1, 2
COUNTERS = (
    "calls",
    "timed",
    "errors",
    "cancelled",
    "total_ns",
    "min_ns",
    "max_ns",
    "in_flight",
    "in_flight_peak",
    "run_ns",
    "suspensions",
    "longest_ns",
    "started",
)
NEVER = 2**64 - 1
# Durations folded at once, so that it takes some 10 us: few when they are spread over many buckets.
FOLD, FOLD_SPREAD, SPREAD = 256, 128, 40
NAN = math.nan

Clock = Callable[[], int]
# Where monotonic() ticks too coarsely for calls, the performance counter stands in for it.
REAL_CLOCK: Clock = (
    time.monotonic_ns if time.get_clock_info("monotonic").resolution <= 1e-6 else time.perf_counter_ns
)


# ---- histogram buckets -------------------------------------------------------------------------------------------

BUCKETS = 1550
BUCKET_FIRST = -957


def _borders() -> list[int]:
    """The largest whole number of ns in each bucket: floor(10**9 * 2**((index + BUCKET_FIRST) / 32)); 0 in bucket 0.

    Exact: the 32 borders of one octave come from integer square roots with 20 bits to spare, the others by shifts.
    """
    octave = []
    for step in range(32):
        root = (10**288 << step) << (20 * 32)
        for _ in range(5):
            root = math.isqrt(root)
        octave.append(root)
    ups = (divmod(index + BUCKET_FIRST, 32) for index in range(1, BUCKETS))
    return [0, *(octave[step] >> (20 - up) for up, step in ups)]


UPPER = _borders()


def bucket_index(ns: int) -> int:
    """The histogram bucket, 0 to BUCKETS - 1, that counts a duration of `ns` nanoseconds."""
    return min(bisect_left(UPPER, ns), BUCKETS - 1)


# ---- process-wide state ------------------------------------------------------------------------------------------


class State:
    """What the recorder installs, and what this process has spent so far. There is one: `state`."""

    __slots__ = (
        "decorate",
        "enabled",
        "fault",
        "gc_ns",
        "gc_start",
        "missing",
        "random",
        "ring",
        "samples",
        "samples_ns",
        "sites",
        "tick",
        "trace",
    )

    def __init__(self) -> None:
        self.enabled = True
        self.tick: Clock = REAL_CLOCK
        self.ring: Ring | None = None
        self.trace: Callable[[], tuple[int, int, int] | None] | None = None
        self.fault: Callable[[str, Site | None, BaseException], object] | None = None
        self.sites: dict[str, Site] = {}
        self.missing: Callable[[str, Mapping[str, object]], Site] = make_site
        self.decorate: Callable[[str, Mapping[str, object], Any], Any] | None = None
        self.gc_ns = 0
        self.gc_start = 0
        self.random = 0x9E3779B97F4A7C15
        self.samples = 0
        self.samples_ns = 0


class Scope:
    """The innermost measured call that a thread is in: its site (or open block), and its children's time so far.

    `turn` counts the steps of coroutines on this thread: when it has moved on inside a block, somebody else may have
    run there.
    """

    __slots__ = ("children", "site", "thread", "turn")

    def __init__(self) -> None:
        self.site: Any = None  # Site, Block or None
        self.children = 0
        self.turn = 0
        self.thread = threading.get_native_id()


class _Local(threading.local):
    def __init__(self) -> None:
        self.scope = Scope()


class Block:
    """One entry of a `with measure()` block. Blocks of tasks that interleave may end in any order, so those that are
    open on a thread form a list that each can leave from the middle."""

    __slots__ = ("above", "begin", "below", "children", "open", "sample", "scope", "site", "tally", "task", "turn")

    above: Block | None
    begin: int
    below: Any
    children: int
    open: bool
    sample: Sample | None
    scope: Scope
    site: Site
    tally: Tally | None  # None: entered while switched off, nothing counts
    task: object
    turn: int


local = _Local()
all_sites: weakref.WeakValueDictionary[int, Site] = weakref.WeakValueDictionary()
all_probes: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
# Held while durations are folded. Users' threads only try it; reentrant, since a signal handler may read.
fold_lock = threading.RLock()
count_lock = threading.Lock()  # free-threaded builds only


def _random_unit() -> float:
    """splitmix64 (Steele, Lea, Flood 2014), uniform in (0, 1]: the native core's, and no import of `random`."""
    state.random = z = (state.random + 0x9E3779B97F4A7C15) & _U64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _U64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _U64
    z ^= z >> 31
    return ((z >> 11) + 1.0) / 9007199254740992.0


# ---- sites -------------------------------------------------------------------------------------------------------


class Tally:
    """What a site counted in this process. A forked child gets a new one: calls begun before count in the old."""

    __slots__ = (
        "cancelled",
        "counted",
        "due",
        "errors",
        "flying",
        "fold_at",
        "histogram",
        "longest_ns",
        "lot",
        "max_ns",
        "min_ns",
        "n",
        "peak",
        "pending",
        "run_ns",
        "stop",
        "suspensions",
        "timed",
        "total_ns",
    )

    def __init__(self) -> None:
        self.n = 0  # timed calls begun, a number for the sampler: never reset
        self.due = NEVER  # number of the next sampled call
        self.fold_at = self.lot = FOLD_SPREAD
        self.stop = FOLD_SPREAD  # the lower of the two: one comparison in each call
        self.flying = 0
        self.zero()

    def zero(self) -> None:
        self.peak = self.flying
        self.pending: list[int] = []
        self.histogram: dict[int, int] | None = None
        self.counted = self.timed = self.errors = self.cancelled = 0
        self.total_ns = self.max_ns = self.run_ns = self.suspensions = self.longest_ns = 0
        self.min_ns = NEVER

    def fold(self) -> None:
        """Fold one lot of pending durations; `fold_lock` is held."""
        pending = self.pending
        lot = pending[: self.lot]
        del pending[: len(lot)]  # the others only append
        lot.sort()
        if not lot:
            return
        if lot[0] < 0:  # a clock that was set back
            lot = [max(0, ns) for ns in lot]
        if self.histogram is None:
            self.histogram = defaultdict(int)
        histogram, start, end, buckets = self.histogram, 0, len(lot), 0
        while start < end:
            buckets += 1
            bucket = bisect_left(UPPER, lot[start])
            if bucket < BUCKETS:
                stop = bisect_right(lot, UPPER[bucket], start)
            else:
                bucket, stop = BUCKETS - 1, end
            histogram[bucket] += stop - start
            start = stop
        self.lot = FOLD_SPREAD if buckets > SPREAD else FOLD
        total = sum(lot)
        self.timed += end
        self.total_ns += total
        if lot[0] < self.min_ns:
            self.min_ns = lot[0]
        if lot[-1] > self.max_ns:
            self.max_ns = lot[-1]

    def fold_all(self) -> None:
        """Fold what is pending now; `fold_lock` is held."""
        for _ in range(-(-len(self.pending) // FOLD_SPREAD)):
            self.fold()

    def fold_if_free(self) -> None:
        """Fold one lot, unless a reader is at it: for users' threads, which never wait."""
        if fold_lock.acquire(False):
            try:
                self.fold()
            finally:
                fold_lock.release()


class Site:
    """Exact counters of one instrumented function or block, and when its next call is sampled."""

    __slots__ = (
        "__weakref__",
        "_mode",
        "first",
        "forced",
        "id",
        "info",
        "metrics",
        "name",
        "probability",
        "quota",
        "size_of",
        "tail_ns",
        "taken",
        "tally",
        "weight",
    )

    def __init__(self, id: int, name: str, info: object = None) -> None:
        self.id = id
        self.name = name
        self.info: Any = info
        self._mode = TIME
        self.tail_ns = NEVER
        self.size_of: Callable[..., float | None] | None = None
        self.metrics: dict[str, list[float]] | None = None
        self.probability = 1.0
        self.quota = 200
        self.taken = 0
        self.first = 10
        self.forced = False  # the drawn gap is that of one of the first calls
        self.weight = 1.0  # 1 / probability when the gap was drawn
        self.tally = Tally()
        self._draw(self.tally)
        all_sites[id_of(self)] = self

    def __repr__(self) -> str:
        return f"<Site {self.id} {self.name!r}: {self.read()[0]} calls>"

    @property
    def mode(self) -> int:
        """COUNT or TIME."""
        return self._mode

    @mode.setter
    def mode(self, mode: int) -> None:
        if mode not in (COUNT, TIME):
            raise OptionError(f"site mode {mode!r}: must be COUNT (1) or TIME (2)")
        self._mode = int(mode)
        for probe in probes():
            if probe._self_site is self:
                probe._switch()

    def sample(self, probability: float, quota: int, first: int | None = None) -> None:
        """Set the sampling of the coming window; a probability of 0 means never. The gap is drawn anew."""
        if not 0 <= probability <= 1:
            raise OptionError(f"sampling probability {probability!r}: must lie between 0 and 1")
        if quota < 1:
            raise OptionError(f"sampling quota {quota!r}: must be at least 1")
        if first is not None:
            if first < 0:
                raise OptionError(f"first calls {first!r}: must not be negative")
            self.first = first
        self.probability = float(probability)
        self.quota = quota
        self.taken = 0
        if first is not None or not self.forced:
            self._draw(self.tally)

    def _draw(self, tally: Tally) -> None:
        """Draw the gap to the next sampled call.

        Geometric gaps give every call the same chance whatever the calls' rhythm, and forget their past: drawing anew
        when the probability changes keeps the weights 1/probability exact (Horvitz and Thompson 1952).
        """
        probability = self.probability
        self.forced = self.first > 0
        gap: float = 0
        weight = 1.0
        if self.forced:
            self.first -= 1
        elif probability <= 0:
            gap = NEVER
        elif probability < 1:
            weight = 1 / probability
            gap = math.floor(math.log(_random_unit()) / math.log1p(-probability))
        self.weight = weight
        tally.due = tally.n + 1 + int(min(gap, NEVER))
        tally.stop = min(tally.due, tally.fold_at)

    def take(self, tally: Tally) -> None:
        """A call was taken as a sample: beyond the quota the probability halves, then the next gap is drawn."""
        self.taken += 1
        beyond = self.taken - self.quota
        if beyond >= 0 and beyond % max(1, self.quota // 2) == 0:
            self.probability /= 2
        self._draw(tally)

    def read(self) -> tuple[int, ...]:
        """The exact counters in the order of COUNTERS."""
        with fold_lock:
            t = self.tally
            t.fold_all()
            calls, flying = t.timed + t.counted, t.flying
            return (
                calls,
                t.timed,
                t.errors,
                t.cancelled,
                t.total_ns,
                t.min_ns,
                t.max_ns,
                flying,
                t.peak,
                t.run_ns,
                t.suspensions,
                t.longest_ns,
                calls + flying,
            )

    def histogram(self) -> list[int]:
        """The BUCKETS counts of the duration histogram."""
        counts = [0] * BUCKETS
        for bucket, count in self.touched():
            counts[bucket] = count
        return counts

    def touched(self) -> list[tuple[int, int]]:
        """(bucket, count) of the buckets that are not empty."""
        with fold_lock:
            self.tally.fold_all()
            return list((self.tally.histogram or {}).items())

    def take_peak(self) -> int:
        """The peak of calls in flight since the last take_peak()."""
        tally = self.tally
        peak = tally.peak
        tally.peak = tally.flying
        return peak

    def clear(self) -> None:
        """Set all counters to zero; calls in flight go on and count when they end."""
        with fold_lock:
            self.tally.zero()
            self.metrics = None

    def reborn(self) -> None:
        """After a fork, in the child."""
        self.tally = Tally()
        self.metrics = None
        self._draw(self.tally)


id_of = id  # Site's own constructor argument shadows the builtin


def make_site(name: str, options: Mapping[str, object]) -> Site:
    """Stands in for the recorder's hook until there is one: a site for each new name."""
    if not isinstance(name, str):
        raise OptionTypeError(f"measure name {name!r}: must be a string")
    site = state.sites.get(name)
    if site is None:
        site = state.sites[name] = Site(len(state.sites), name)
    return site


def probes() -> list[Any]:
    return [probe for probe in (ref() for ref in all_probes.valuerefs()) if probe is not None]


def sites() -> list[Site]:
    return [site for site in (ref() for ref in all_sites.valuerefs()) if site is not None]


# ---- the ring ----------------------------------------------------------------------------------------------------


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
        if gone > self._lost:
            self._lost = gone
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


# ---- samples -----------------------------------------------------------------------------------------------------

_pack = struct.Struct("=QQqqQQQQdQQ" + "I" * 8 + "fHH").pack
_U16, _U32, _U64 = 0xFFFF, 0xFFFFFFFF, 2**64 - 1
_least_cpu_ns = -1  # CPU time that an empty open/close pair sees of itself


class Sample:
    """The evidence of one sampled call, summed over its steps: one for a plain call, several for a coroutine."""

    __slots__ = ("_at", "_cpu", "_gc", "cpu_ns", "flags", "gc_ns", "in_flight", "parent", "size", "trace", "usage", "weight")

    def __init__(self, weight: float, flags: int) -> None:
        self.weight = weight
        self.flags = flags
        self.in_flight = 0
        self.parent = NO_PARENT
        self.size = NAN
        self.trace = (0, 0, 0)
        self.cpu_ns = self.gc_ns = 0
        self.usage = (0, 0, 0, 0)

    def open(self) -> None:
        """A step begins. The CPU clock is read innermost, so that it sees as little of the rest as can be."""
        self._at = _usage()
        self._gc = state.gc_ns
        self._cpu = time.thread_time_ns()

    def close(self) -> None:
        cpu = time.thread_time_ns() - self._cpu - max(0, _least_cpu_ns)
        self.cpu_ns += max(0, cpu)
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


def report_fault(kind: str, site: Site | None, error: Exception) -> None:
    """Tells the fault hook that a function of the user's failed. It will not be called again."""
    if state.fault is not None:
        try:
            state.fault(kind, site, error)
        except Exception:
            pass


def _trace_now() -> tuple[int, int, int]:
    if state.trace is not None:
        try:
            found = state.trace()
            if found is not None:
                high, low, span = found
                return (high & _U64, low & _U64, span & _U64)
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


def current_task() -> object:
    """The running asyncio task (or its loop, in a plain callback); None outside of asyncio."""
    asyncio = sys.modules.get("asyncio")  # never imported for this: it is heavy
    try:
        loop = asyncio._get_running_loop()  # type: ignore[union-attr]
        return loop and (asyncio.current_task(loop) or loop)  # type: ignore[union-attr]
    except AttributeError:  # not imported, or half
        return None


def parent_of(top: Any) -> int:
    """The id of the site that is the parent under `top`, a scope's site: a block counts in its own task alone."""
    while isinstance(top, Block):
        if top.open and (top.task is None or top.task is current_task()):
            return top.site.id
        top = top.below
    return NO_PARENT if top is None else int(top.id)


def arm(
    site: Site, tally: Tally, n: int, top: Any, args: tuple[Any, ...], kwargs: dict[str, Any], size: float = NAN
) -> Sample | None:
    """The slow path of call number `n`, when it reached `tally.stop`: folds at need, and takes a sample if one is due.

    `top` is the caller's scope. Without a ring nobody listens, and no sample is taken.
    """
    begin = state.tick()
    if n >= tally.fold_at:
        tally.fold_at = n + tally.lot
        tally.stop = min(tally.due, tally.fold_at)
        tally.fold_if_free()
    if state.ring is None:
        tally.stop = tally.fold_at
        return None
    if n < tally.due:
        return None
    tally.due = NEVER  # nobody else takes this one
    sample = Sample(site.weight, FLAG_EVIDENCE | FLAG_FIRST if site.forced else FLAG_EVIDENCE)
    site.take(tally)
    try:
        if _least_cpu_ns < 0:
            _calibrate()
        sample.in_flight = tally.flying + 1
        sample.parent = parent_of(top)
        sample.size = _size_now(site, args, kwargs) if math.isnan(size) else size
        sample.trace = _trace_now()
        state.samples += 1
        state.samples_ns += state.tick() - begin
    except RecursionError:
        return None
    return sample


def leave_record(
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
    ring = state.ring
    if ring is None or tally is not site.tally:
        return
    start = state.tick()
    try:
        cpu = sample.cpu_ns if sample is not None else -1
        if sample is None:
            sample = Sample(0.0, FLAG_TAIL)
            sample.in_flight = tally.flying + 1
            sample.parent = parent_of(top)
            sample.trace = _trace_now()
        voluntary, involuntary, minor, major = sample.usage
        ring.write(
            _pack(
                max(begin, 0),
                max(wall, 0),
                own,
                cpu,
                max(sample.gc_ns, 0),
                *sample.trace,
                sample.size,
                max(run, 0),
                max(longest, 0),
                local.scope.thread & _U32,
                site.id & _U32,
                sample.parent,
                min(max(sample.in_flight, 0), _U32),
                min(voluntary, _U32),
                min(involuntary, _U32),
                min(minor, _U32),
                min(suspensions, _U32),
                sample.weight,
                min(major, _U16),
                flags | sample.flags,
            )
        )
    except Exception:
        return
    state.samples_ns += state.tick() - start


# ---- one call, where it is not written out for speed ---------------------------------------------------------------


def count_in(tally: Tally) -> None:
    if FREE_THREADED:
        count_lock.acquire()
    flying = tally.flying + 1
    tally.flying = flying
    if flying > tally.peak:
        tally.peak = flying
    if FREE_THREADED:
        count_lock.release()


def count_out(tally: Tally, wall: int | None, flags: int) -> None:
    """The call is over; `wall` is None when it was not timed."""
    if FREE_THREADED:
        count_lock.acquire()
    tally.flying -= 1
    if flags:
        if flags & FLAG_ERROR:
            tally.errors += 1
        if flags & FLAG_CANCELLED:
            tally.cancelled += 1
    if wall is None:
        tally.counted += 1
    else:
        tally.pending.append(wall)
    if FREE_THREADED:
        count_lock.release()


def outcome_of(error: BaseException) -> int:
    """0, FLAG_ERROR or FLAG_CANCELLED: exceptions that are part of a protocol are no errors."""
    if isinstance(error, (StopIteration, StopAsyncIteration)):
        return 0
    if isinstance(error, GeneratorExit):
        return FLAG_CANCELLED
    cancelled = getattr(sys.modules.get("asyncio.exceptions"), "CancelledError", None)
    if cancelled is not None and isinstance(error, cancelled):
        return FLAG_CANCELLED
    return FLAG_ERROR


state = State()
assert struct.calcsize("=QQqqQQQQdQQ" + "I" * 8 + "fHH") == layout.RECORD_BYTES
