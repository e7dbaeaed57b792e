"""The core in Python: the reference for the native one, and its stand-in where that cannot be built.

`Probe` is a wrapt.FunctionWrapper that is called without a Python method in between: its `__call__` is a slot of the
instance, and holds a closure that was made for this very function. Switching a probe off puts the bare function there.

The parts: `_base` has the process-wide state, sites, ring and samples, `_flow` the stand-ins for coroutines and
generators, `_block` the blocks. Here are the probes, and what the recorder calls.
"""

from __future__ import annotations

import array
import copy
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import wrapt

from . import _base
from ._base import (
    BUCKET_FIRST,
    BUCKETS,
    COUNT,
    COUNTERS,
    FREE_THREADED,
    REAL_CLOCK,
    TIME,
    Ring,
    Sample,
    Scope,
    Site,
    Tally,
    all_probes,
    arm,
    bucket_index,
    count_in,
    count_out,
    leave_record,
    local,
    outcome_of,
    probes,
    sites,
    state,
)
from ._block import Measurement
from ._flow import FOLLOW_ASYNC_GENERATOR, FOLLOW_COROUTINE, FOLLOW_GENERATOR, stand_ins
from .record import (
    FLAG_ASYNC,
    FLAG_BLOCK,
    FLAG_CANCELLED,
    FLAG_ERROR,
    FLAG_EVIDENCE,
    FLAG_FIRST,
    FLAG_GENERATOR,
    FLAG_TAIL,
    LAYOUT_VERSION,
    NO_PARENT,
    RECORD_BYTES,
    RECORD_LAYOUT,
)

NAME = "python"

measure = Measurement

__all__ = [
    "BUCKETS",
    "BUCKET_FIRST",
    "COUNT",
    "COUNTERS",
    "FLAG_ASYNC",
    "FLAG_BLOCK",
    "FLAG_CANCELLED",
    "FLAG_ERROR",
    "FLAG_EVIDENCE",
    "FLAG_FIRST",
    "FLAG_GENERATOR",
    "FLAG_TAIL",
    "FOLLOW_ASYNC_GENERATOR",
    "FOLLOW_COROUTINE",
    "FOLLOW_GENERATOR",
    "LAYOUT_VERSION",
    "NAME",
    "NO_PARENT",
    "RECORD_BYTES",
    "RECORD_LAYOUT",
    "TIME",
    "FunctionProbe",
    "Measurement",
    "Probe",
    "Ring",
    "Site",
    "_rebuild",
    "after_fork",
    "bucket_index",
    "calibrate",
    "clock",
    "collect",
    "enable",
    "enabled",
    "measure",
    "now_ns",
    "on_gc",
    "sampling_cost",
    "seed",
    "set_clock",
    "set_decorate",
    "set_fault",
    "set_ring",
    "set_sites",
    "set_trace",
]


# ---- what happens in a call --------------------------------------------------------------------------------------


def _failed(
    site: Site, tally: Tally, sample: Sample | None, top: Any, begin: int, wall: int, children: int, error: BaseException
) -> None:
    """Counts a call that ended in an exception. Raises RecursionError before it has counted, or not at all."""
    flags = outcome_of(error)
    count_out(tally, wall, flags)
    try:
        if sample is not None:
            sample.close()
        if sample is not None or wall > site.tail_ns:
            own = max(0, wall - children)
            leave_record(site, tally, sample, top, begin, wall, own, wall, wall, 0, flags)
    except RecursionError:
        pass


def _timed(fn: Callable[..., Any], site: Site, kind: Any, stand_in: Any) -> Callable[..., Any]:
    """The closure that a timed call goes through: every line of it is paid by every call.

    `kind` is the one type of result that is followed, by `stand_in`. Nothing is called between `flying` and the
    `try`, so that no signal handler's exception can come in between.
    """
    thread = local
    tick = state.tick

    def call(*args: Any, **kwargs: Any) -> Any:
        scope = thread.scope
        tally = site.tally
        top = scope.site
        sample = None
        n = tally.n + 1
        tally.n = n
        if n >= tally.stop:
            sample = arm(site, tally, n, top, args, kwargs)
            if sample is not None:
                sample.open()
        outer = scope.children
        scope.site = site
        scope.children = 0
        flying = tally.flying + 1
        tally.flying = flying
        if flying > tally.peak:
            tally.peak = flying
        begin = 0
        try:
            begin = tick()
            result = fn(*args, **kwargs)
            wall = tick() - begin
        except BaseException as error:
            children = scope.children
            scope.site = top
            scope.children = outer
            wall = tick() - begin if begin else 0
            scope.children = outer + wall
            try:
                _failed(site, tally, sample, top, begin, wall, children, error)
            except RecursionError:  # no room left to look closer: then this is what it died of
                tally.flying -= 1
                tally.errors += 1
                tally.pending.append(wall)
            raise
        scope.site = top
        tally.flying -= 1
        if type(result) is kind:  # counted when that ends, not now
            scope.children = outer
            if sample is not None:
                sample.close()
            return stand_in(result, site, sample)
        if sample is not None or wall > site.tail_ns:
            own = max(0, wall - scope.children)
            if sample is not None:
                sample.close()
            leave_record(site, tally, sample, top, begin, wall, own, wall, wall, 0, 0)
        scope.children = outer + wall
        tally.pending.append(wall)
        return result

    return call


def _careful(fn: Callable[..., Any], site: Site, follow: dict[Any, Any]) -> Callable[..., Any]:
    """As `_timed`, for more than one kind of result, and for builds without a GIL: counts under a lock there."""

    def call(*args: Any, **kwargs: Any) -> Any:
        scope, tally, top = local.scope, site.tally, local.scope.site
        n = tally.n = tally.n + 1
        sample = arm(site, tally, n, top, args, kwargs) if n >= tally.stop else None
        outer, scope.site, scope.children = scope.children, site, 0
        count_in(tally)
        if sample is not None:
            sample.open()
        begin = state.tick()
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            wall = state.tick() - begin
            children, scope.site, scope.children = scope.children, top, outer + wall
            _failed(site, tally, sample, top, begin, wall, children, error)
            raise
        wall = state.tick() - begin
        children, scope.site = scope.children, top
        if sample is not None:
            sample.close()
        if type(result) in follow:
            scope.children = outer
            count_out(tally, 0, 0)
            tally.pending.pop()
            return follow[type(result)](result, site, sample)
        scope.children = outer + wall
        count_out(tally, wall, 0)
        if sample is not None or wall > site.tail_ns:
            leave_record(site, tally, sample, top, begin, wall, max(0, wall - children), wall, wall, 0, 0)
        return result

    return call


def _flowing(fn: Callable[..., Any], site: Site, stand_in: Callable[[Any, Site, Sample | None], Any]) -> Any:
    """The closure for a coroutine or generator function: the call only makes what is measured."""

    def call(*args: Any, **kwargs: Any) -> Any:
        tally = site.tally
        sample = None
        if site._mode != COUNT:
            n = tally.n + 1
            tally.n = n
            if n >= tally.stop:
                sample = arm(site, tally, n, local.scope.site, args, kwargs)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:  # wrong arguments
            count_in(tally)
            count_out(tally, 0, outcome_of(error))
            raise
        return stand_in(result, site, sample)

    return call


def _counted(fn: Callable[..., Any], site: Site, follow: dict[Any, Any]) -> Callable[..., Any]:
    """The closure for a site on counting alone: no clock, no scope, no samples."""

    def call(*args: Any, **kwargs: Any) -> Any:
        tally = site.tally
        count_in(tally)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            try:
                count_out(tally, None, outcome_of(error))
            except RecursionError:
                tally.flying -= 1
                tally.errors += 1
                tally.counted += 1
            raise
        if type(result) in follow:
            tally.flying -= 1
            return follow[type(result)](result, site, None)
        count_out(tally, None, 0)
        return result

    return call


_KINDS = (
    (inspect.CO_COROUTINE, FOLLOW_COROUTINE),
    (inspect.CO_GENERATOR, FOLLOW_GENERATOR),
    (inspect.CO_ASYNC_GENERATOR, FOLLOW_ASYNC_GENERATOR),
)
_FOLLOW = {flow: stand_ins(flow) for flow in range(8)}


def _call_for(fn: Callable[..., Any], site: Site, flow: int) -> Callable[..., Any]:
    """What a probe over `fn` calls now."""
    if not state.enabled:
        return fn
    if flow and type(fn) is FunctionType:
        flags = fn.__code__.co_flags
        for flag, bit in _KINDS:
            if flags & flag and flow & bit:
                return _flowing(fn, site, next(iter(stand_ins(bit).values())))
    if site._mode == COUNT:
        return _counted(fn, site, _FOLLOW[flow])
    follow = _FOLLOW[flow]
    if FREE_THREADED or len(follow) > 1:
        return _careful(fn, site, follow)
    return _timed(fn, site, *(next(iter(follow.items())) if follow else (None, None)))


# ---- probes ------------------------------------------------------------------------------------------------------


def _unused(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


class Probe(wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """Stands in for a callable, and measures its calls as calls of `site`.

    `flow` is a sum of FOLLOW_ bits: which results are followed to their end instead of ending the call.
    """

    __slots__ = ("__call__", "_self_flow_bits", "_self_of")

    def __init__(self, wrapped: Any, site: Site, flow: int = FOLLOW_COROUTINE) -> None:
        super().__init__(wrapped, _unused)
        self._self_of = site
        self._self_flow_bits = flow
        all_probes[id(self)] = self
        self._switch()

    def _switch(self) -> None:
        """Take the call that fits the state and the site's mode of now."""
        self.__call__ = _call_for(self.__wrapped__, self._self_of, self._self_flow_bits)

    @property
    def _self_site(self) -> Site:
        return self._self_of

    @property
    def _self_flow(self) -> int:
        return self._self_flow_bits

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        wrapped = self.__wrapped__
        bind = getattr(type(wrapped), "__get__", None)
        if bind is None:
            return self
        bound = bind(wrapped, instance, owner)
        if bound is wrapped:
            return self
        return Probe(bound, self._self_of, self._self_flow_bits)

    def __copy__(self) -> Any:
        if isinstance(self.__wrapped__, _BY_NAME):
            return self
        return type(self)(copy.copy(self.__wrapped__), self._self_of, self._self_flow_bits)

    def __deepcopy__(self, memo: Any) -> Any:
        if isinstance(self.__wrapped__, _BY_NAME):
            return self
        return type(self)(copy.deepcopy(self.__wrapped__, memo), self._self_of, self._self_flow_bits)

    def __reduce__(self) -> Any:
        wrapped = self.__wrapped__
        name = getattr(wrapped, "__qualname__", None)
        if name is not None and not isinstance(wrapped, MethodType):
            return name
        return _rebuild, (wrapped, self._self_of.name, self._self_flow_bits)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__reduce__()


class FunctionProbe(Probe):
    """A probe over a plain Python function: binds as that does."""

    __slots__ = ()

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)


_BY_NAME = (FunctionType, BuiltinFunctionType, type)


def _rebuild(wrapped: Any, name: str, flow: int) -> Probe:
    """For pickle: a probe over what has no name of its own, with the site of that name in this process."""
    site = state.sites.get(name)
    return Probe(wrapped, state.missing(name, {}) if site is None else site, flow)


# ---- hooks -------------------------------------------------------------------------------------------------------


def set_sites(sites: dict[str, Site], missing: Callable[[str, Mapping[str, object]], Site]) -> None:
    """Where `measure(name)` finds its site, and who makes one for a new name or for options."""
    state.sites = sites
    state.missing = missing


def set_decorate(decorate: Callable[[str, Mapping[str, object], Any], Any] | None) -> None:
    """What `measure(name)` does as a decorator."""
    state.decorate = decorate


def set_ring(ring: Ring | None) -> None:
    """Where records go; None: nobody listens, and nothing is sampled."""
    state.ring = ring
    if ring is not None:
        for site in sites():
            tally = site.tally
            if tally.due <= tally.n:  # came due while nobody listened
                if site.forced:
                    tally.due = tally.n + 1
                else:
                    site._draw(tally)
            tally.stop = min(tally.due, tally.fold_at)


def set_trace(trace: Callable[[], tuple[int, int, int] | None] | None) -> None:
    """Who knows the active trace: returns (trace_hi, trace_lo, span) or None."""
    state.trace = trace


def set_fault(fault: Callable[[str, Site | None, BaseException], object] | None) -> None:
    """Who is told that a size or trace function failed; that one is then off."""
    state.fault = fault


def set_clock(clock: Callable[[], int] | None) -> None:
    """A clock in whole nanoseconds instead of the real one; None: the real one."""
    state.tick = REAL_CLOCK if clock is None else clock
    for probe in probes():  # their calls hold the clock
        probe._switch()


def enable(on: bool) -> None:
    """Switch measuring on or off in this process."""
    state.enabled = bool(on)
    for probe in probes():
        probe._switch()


def enabled() -> bool:
    return state.enabled


def seed(number: int) -> None:
    """Makes the gaps between samples that are drawn from now on reproducible."""
    state.random = number & 0xFFFFFFFFFFFFFFFF


def after_fork() -> None:
    """In the child: counters and ring are empty, and calls that began before the fork do not count."""
    _base.fold_lock = threading.RLock()
    _base.count_lock = threading.Lock()
    local.scope.thread = threading.get_native_id()
    for site in sites():
        site.reborn()
    if state.ring is not None:
        state.ring.clear()
    state.samples = state.samples_ns = state.gc_ns = 0


def on_gc(phase: str, info: Mapping[str, int]) -> None:
    """For gc.callbacks: keeps the time that was spent in the collector."""
    if phase == "start":
        state.gc_start = state.tick()
    elif state.gc_start:
        state.gc_ns += state.tick() - state.gc_start
        state.gc_start = 0


# ---- clock and reading -------------------------------------------------------------------------------------------


def now_ns() -> int:
    """Nanoseconds on the monotonic clock's scale."""
    return state.tick()


def calibrate() -> int:
    """The clock's error in ns against the monotonic clock: none, it is that clock."""
    return 0


def clock() -> dict[str, Any]:
    """Which clock is in use and why, with its frequency (Hz) and error (ns)."""
    fake = state.tick is not REAL_CLOCK
    return {
        "kind": "fake" if fake else "monotonic",
        "reason": "set_clock()" if fake else "the Python core reads no time-stamp counter",
        "frequency_hz": 1_000_000_000,
        "error_ns": 0,
        "max_error_ns": 0,
    }


def sampling_cost() -> tuple[int, int]:
    """Samples taken so far in this process, and the ns that taking them has cost."""
    return state.samples, state.samples_ns


def collect(sites: Sequence[Site], counters: Any, histograms: Any, take_peaks: bool = False) -> tuple[int, int]:
    """Writes the counters (u64 [n, len(COUNTERS)]) and histograms (u64 [n, BUCKETS]) of `sites` to two buffers.

    Returns (low, high): all counts lie in the buckets from low up to high, and only those columns are written.
    """
    numbers = _as_u64(counters, len(sites) * len(COUNTERS), "counters")
    rows = _as_u64(histograms, len(sites) * BUCKETS, "histograms")
    touched = []
    low, high = BUCKETS, 0
    for index, site in enumerate(sites):
        start = index * len(COUNTERS)
        numbers[start : start + len(COUNTERS)] = array.array("Q", site.read())
        if take_peaks:
            site.take_peak()
        row = site.touched()
        touched.append(row)
        for bucket, _ in row:
            low, high = min(low, bucket), max(high, bucket + 1)
    if low >= high:
        return 0, 0
    empty = array.array("Q", bytes(8 * (high - low)))
    for index, row in enumerate(touched):
        start = index * BUCKETS
        rows[start + low : start + high] = empty
        for bucket, count in row:
            rows[start + bucket] = count
    return low, high


def _as_u64(buffer: Any, length: int, what: str) -> memoryview:
    flat = memoryview(buffer).cast("B").cast("Q")
    if flat.readonly or len(flat) < length:
        raise ValueError(f"{what}: needs a writable buffer of {length} u64, got {len(flat)}")
    return flat
