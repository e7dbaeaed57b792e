"""The core in Python: the reference for the native one, and its stand-in where that cannot be built.

`Probe` is a wrapt.FunctionWrapper that is called without a Python method in between: its `__call__` is a slot
of the instance, and holds a closure that was made for this very function. Switching a probe off puts the bare
function there.

The parts, each on top of the one before: `_base` hooks and scope, `_depth` the stack's end, `_site` counters,
`_sample` ring and evidence, `_flow` coroutines and generators, `_call` the closures, `_block` blocks. Here are the
probes, and what the recorder calls.
"""

from __future__ import annotations

import array
import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import wrapt

from ..errors import OptionError, OptionTypeError
from . import _block, _site
from ._base import REAL_CLOCK, scope_now, state
from ._block import Measurement
from ._call import call_for
from ._flow import FOLLOW_ASYNC_GENERATOR, FOLLOW_COROUTINE, FOLLOW_GENERATOR
from ._sample import Ring
from ._site import (
    BUCKET_FIRST,
    BUCKETS,
    COUNT,
    COUNTERS,
    TIME,
    Site,
    all_probes,
    bucket_index,
    probes,
    sites,
)
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
    "advance",
    "after_fork",
    "allocations_begin",
    "allocations_end",
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


# ---- probes ------------------------------------------------------------------------------------------------


_NEVER_COPIED = (FunctionType, BuiltinFunctionType, type)


def _unused(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


class Probe(wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """Stands in for a callable, and measures its calls as calls of `site`.

    `flow` is a sum of FOLLOW_ bits: which results are followed to their end instead of ending the call.
    """

    __slots__ = ("__call__", "_self_flow_bits", "_self_of")

    def __init__(self, wrapped: Any, site: Site, flow: int = FOLLOW_COROUTINE) -> None:
        if not callable(wrapped):
            raise OptionTypeError(f"cannot measure {wrapped!r}: it is not callable")
        if not isinstance(site, Site):
            raise OptionTypeError(f"site {site!r}: must be a Site")
        super().__init__(wrapped, _unused)
        self._self_of = site
        self._self_flow_bits = flow
        all_probes[id(self)] = self
        self._switch()

    def _switch(self) -> None:
        """Take the call that fits the state and the site's mode of now."""
        call = call_for(self.__wrapped__, self._self_of, self._self_flow_bits)
        _put_call(self, call)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "__wrapped__":
            self._switch()

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
        if isinstance(self.__wrapped__, _NEVER_COPIED):
            return self
        return type(self)(copy.copy(self.__wrapped__), self._self_of, self._self_flow_bits)

    def __deepcopy__(self, memo: Any) -> Any:
        if isinstance(self.__wrapped__, _NEVER_COPIED):
            return self
        return type(self)(copy.deepcopy(self.__wrapped__, memo), self._self_of, self._self_flow_bits)

    def __reduce__(self) -> Any:
        """By the name of what it stands for, like a function; a callable instance has none, and a bound method's
        is not where it is: they go by value, with the site's name.
        """
        wrapped = self.__wrapped__
        owner = getattr(wrapped, "__self__", None) if isinstance(wrapped, BuiltinFunctionType) else None
        if not isinstance(wrapped, MethodType) and (owner is None or isinstance(owner, ModuleType)):
            name = getattr(wrapped, "__qualname__", None)
            if name is not None:
                return name
        return _rebuild, (wrapped, self._self_of.name, self._self_flow_bits)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__reduce__()


_put_call = vars(Probe)["__call__"].__set__  # also where a subclass has a __call__ of its own


class FunctionProbe(Probe):
    """A probe over a plain Python function: binds as that does."""

    __slots__ = ()

    def __init__(self, wrapped: Any, site: Site, flow: int = FOLLOW_COROUTINE) -> None:
        if not isinstance(wrapped, FunctionType):
            raise OptionTypeError(f"FunctionProbe over {wrapped!r}: it is not a plain function, use Probe")
        super().__init__(wrapped, site, flow)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)


def _rebuild(wrapped: Any, name: str, flow: int) -> Probe:
    """For pickle: a probe over what has no name of its own, with the site of that name in this process."""
    if isinstance(wrapped, Probe):  # a measured method, found by its name
        return wrapped
    site = state.sites.get(name)
    return Probe(wrapped, state.missing(name, {}) if site is None else site, flow)


# It is pickled by this name: the process that reads it may have the other core.
_rebuild.__module__ = __package__


# ---- hooks -------------------------------------------------------------------------------------------------


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
            site.wake()


def set_trace(trace: Callable[[], tuple[int, int, int] | None] | None) -> None:
    """Who knows the active trace: returns (trace_hi, trace_lo, span) or None."""
    state.trace = trace


def set_fault(fault: Callable[[str, Site | None, BaseException], object] | None) -> None:
    """Who is told that a size or trace function failed; that one is then off."""
    state.fault = fault


def set_clock(clock: Callable[[], int] | None) -> None:
    """A clock in whole nanoseconds instead of the real one; None: the real one."""
    state.tick = REAL_CLOCK if clock is None else _never_back(clock)
    for site in sites():
        site.tally.set_limit()
    for probe in probes():  # their calls hold the clock
        probe._switch()


def _never_back(clock: Callable[[], int]) -> Callable[[], int]:
    """The clock of a test: one that falls stands still instead."""
    last = 0

    def tick() -> int:
        nonlocal last
        last = max(last, clock())
        return last

    return tick


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
    _block.shared_lock = threading.RLock()
    _site.fold_lock = threading.RLock()
    _site.count_lock = threading.Lock()
    scope_now().thread = threading.get_native_id()
    for site in sites():
        site.reborn()
    for probe in probes():  # their calls hold the tally
        probe._switch()
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


# ---- clock and reading -------------------------------------------------------------------------------------


def now_ns() -> int:
    """Nanoseconds on the monotonic clock's scale."""
    return state.tick()


def allocations_begin() -> bool:
    """Count from here on how often this thread asks Python for memory. False: that cannot be seen from Python."""
    return False


def allocations_end() -> int:
    """Count no more, and say how often it did."""
    return 0


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


def collect(sites: Sequence[Site], counters: Any, histograms: Any, /) -> tuple[int, int]:
    """Writes the counters (u64 [n, len(COUNTERS)]) and histograms (u64 [n, BUCKETS]) of `sites` to two
    buffers.

    Returns (low, high): all counts lie in the buckets from low up to high, and only those columns are
    written.
    """
    numbers = _as_words(counters, "Q", len(sites) * len(COUNTERS), "counters")
    rows = _as_words(histograms, "Q", len(sites) * BUCKETS, "histograms")
    touched = []
    low, high = BUCKETS, 0
    for index, site in enumerate(sites):
        if not isinstance(site, Site):
            raise OptionTypeError(f"collect() got {site!r}: must be a Site of the Python core")
        start = index * len(COUNTERS)
        numbers[start : start + len(COUNTERS)] = array.array("Q", site.read())
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


def advance(sites: Sequence[Site], counters: Any, last: Any, /) -> bytearray:
    """What was counted since the last reading: (row, bucket, count), three u32 each, where there is any.

    `last` (u32 [n, BUCKETS]) holds what was read last, modulo 2**32, and is brought up to date; the counters
    (u64 [n, len(COUNTERS)]) are written, and the peaks of calls in flight begin anew. What a clear() hides is
    told all the same, in both: two readings always fit together.
    """
    numbers = _as_words(counters, "Q", len(sites) * len(COUNTERS), "counters")
    before = _as_words(last, "I", len(sites) * BUCKETS, "last")
    out = array.array("I")
    for index, site in enumerate(sites):
        if not isinstance(site, Site):
            raise OptionTypeError(f"advance() got {site!r}: must be a Site of the Python core")
        start = index * len(COUNTERS)
        numbers[start : start + len(COUNTERS)] = array.array("Q", site.lifetime())
        site.take_peak()
        for bucket, total in sorted(site.lifetime_touched()):
            now = total & 0xFFFF_FFFF
            place = index * BUCKETS + bucket
            if now != before[place]:
                out.extend((index, bucket, (now - before[place]) & 0xFFFF_FFFF))
                before[place] = now
    return bytearray(out.tobytes())


def _as_words(buffer: Any, kind: str, length: int, what: str) -> memoryview:
    """The buffer as unsigned integers, "Q" of 8 bytes or "I" of 4."""
    view = memoryview(buffer)
    size = array.array(kind).itemsize
    if view.readonly:
        raise OptionTypeError(f"{what}: needs a buffer that can be written")
    if view.nbytes < length * size:
        raise OptionError(f"{what} has {view.nbytes} bytes: needs {length * size}")
    if view.nbytes == 0:  # no rows: what has a zero in its shape cannot be cast
        view = memoryview(bytearray())
    return view.cast("B")[: length * size].cast(kind)  # type: ignore[call-overload, no-any-return]
