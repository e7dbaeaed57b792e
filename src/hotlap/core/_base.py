"""The ground of the Python core: the hooks and the clock, and the scope that each thread is in."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Mapping
from itertools import tee
from typing import TYPE_CHECKING, Any

from .record import FLAG_CANCELLED, FLAG_ERROR, NO_PARENT

if TYPE_CHECKING:
    from ._sample import Ring, Sample
    from ._site import Site, Tally

LEVEL_BYTES = 2048  # of C stack for one measured call: twice what is seen, as what it calls needs some as well

FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()
NEVER = 2**64 - 1

Clock = Callable[[], int]
# Where monotonic() ticks too coarsely for calls, the performance counter stands in for it.
REAL_CLOCK: Clock = time.monotonic_ns if time.get_clock_info("monotonic").resolution <= 1e-6 else time.perf_counter_ns


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
        self.missing: Callable[[str, Mapping[str, object]], Site]  # set by _site
        self.decorate: Callable[[str, Mapping[str, object], Any], Any] | None = None
        self.gc_ns = 0
        self.gc_start = 0
        self.random = 0x9E3779B97F4A7C15
        self.samples = 0
        self.samples_ns = 0


def _stack_bytes() -> int:
    """The C stack of this thread, as far as Python knows: of a thread's own size it knows the last one set."""
    first = threading.get_ident() == threading.main_thread().ident
    size = 0
    with contextlib.suppress(RuntimeError):  # threads have no size here
        if not first:
            # Asking for it sets it to 0. Both calls are in one step, so that no thread is started in between.
            asked, answer = tee(map(threading.stack_size, (0,)))
            next(map(threading.stack_size, asked))
            size = next(answer)
    with contextlib.suppress(ImportError):  # Windows
        import resource

        size = size or resource.getrlimit(resource.RLIMIT_STACK)[0]
    if 0 < size < 2**40:
        return size
    return 2**23 if first else 2**21  # unlimited, or unknown


class Scope:
    """The innermost measured call that a thread is in: its tally (or open block), and its children's time so
    far.

    `turn` counts the steps of coroutines on this thread: when it has moved on inside a block, somebody else
    may have run there. `deepest` is how many measured calls the thread's stack holds.
    """

    __slots__ = ("children", "deepest", "thread", "top", "turn")

    def __init__(self) -> None:
        self.top: Any = None  # Tally, Block or None
        self.children = 0
        self.turn = 0
        self.thread = threading.get_native_id()
        self.deepest = _stack_bytes() // LEVEL_BYTES


class Block:
    """One entry of a `with measure()` block. Blocks of tasks that interleave may end in any order, so those
    that are open on a thread form a list that each can leave from the middle.
    """

    __slots__ = (
        "above",
        "begin",
        "below",
        "children",
        "open",
        "sample",
        "scope",
        "site",
        "tally",
        "task",
        "turn",
    )

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


def current_task() -> object:
    """The running asyncio task (or its loop, in a plain callback); None outside of asyncio."""
    asyncio = sys.modules.get("asyncio")  # never imported for this: it is heavy
    try:
        loop = asyncio._get_running_loop()  # type: ignore[union-attr]
        return loop and (asyncio.current_task(loop) or loop)  # type: ignore[union-attr]
    except AttributeError:  # not imported, or half
        return None


def parent_of(top: Any) -> int:
    """The id of the site that is the parent under a scope's `top`: a block counts in its own task alone, and where
    greenlets switch in the middle of calls one may have been left there that is over.
    """
    while isinstance(top, Block):
        if top.open and (top.task is None or top.task is current_task()):
            return top.site.id
        top = top.below
    return int(top.site.id) if top is not None and top.flying else NO_PARENT


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


def report_fault(kind: str, site: Site | None, error: Exception) -> None:
    """Tells the fault hook that a function of the user's failed. It will not be called again."""
    if state.fault is not None:
        with contextlib.suppress(Exception):
            state.fault(kind, site, error)


def new_scope() -> Scope:
    """This thread's scope, on its first measured call."""
    local.scope = scope = Scope()
    return scope


def scope_now() -> Scope:
    try:
        return local.scope  # type: ignore[no-any-return]
    except AttributeError:
        return new_scope()


state = State()
# Exactly threading.local: a lookup in a class derived from it costs more.
local = threading.local()
