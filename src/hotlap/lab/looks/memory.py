"""MemoryTracker: what this process allocates and keeps in some span."""

from __future__ import annotations

import gc
import math
from types import TracebackType

from ...errors import HotlapError
from .collector import Collections
from .heap import read_levels
from .tracing import AllocationSite, Held, Tracing, grown, held

__all__ = ["MemoryTracker"]

_MB = 1e6


class MemoryTracker:
    """The memory of the process from start() to stop(), or in a with block:

        with MemoryTracker() as memory:
            work()
        print(memory.peak_mb, memory.retained_mb, memory.sites)

    Until stop() the values are those so far. What cannot be known is None, and `not_readable` says why. Everything
    counts that the process does, in all threads. With trace=False nothing is made slow, and only the resident
    memory, malloc's and the collector's numbers are there.

    `frames` is how much of the stack is kept of each allocation for `sites`, `most` how many sites there are.
    """

    def __init__(self, trace: bool = True, frames: int = 1, most: int = 10) -> None:
        self._trace, self._frames, self._most = trace, frames, most
        self._running = False
        self._reset()

    def _reset(self) -> None:
        self.not_readable: dict[str, str] = {}
        self.sites: list[AllocationSite] = []  # that have more than before, the most first; once stopped
        self._collections = Collections()
        self._tracing: Tracing | None = None
        self._held: Held = {}
        self._base: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def __enter__(self) -> MemoryTracker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> MemoryTracker:
        """Forget what was, and begin. Raises HotlapError when it runs already."""
        if self._running:
            raise HotlapError("this MemoryTracker runs already: call stop() first, or use another one")
        self._reset()
        self._running = True
        gc.collect()  # the garbage of what came before is not ours to keep, nor to free
        self._collections.before()
        if self._trace:
            self._tracing = Tracing(self._frames)
            self._tracing.start()
            if Tracing.users():
                self._held = held()
        self._base = self._read()
        if self._tracing is not None:
            self._tracing.reset_peak()
            self._base["traced"] = self._tracing.current()
        return self

    def stop(self) -> MemoryTracker:
        """Raises HotlapError when it does not run."""
        if not self._running:
            raise HotlapError("this MemoryTracker does not run: call start() first, or use it in a with block")
        last = self._read()
        self._collections.after()
        self._running = False
        gc.collect()
        if self._tracing is not None:
            last["kept"] = self._tracing.current()
            if self._most:
                self.sites = grown(self._held, held(), most=self._most)
            self._tracing.stop()
        self._held = {}
        self._last = last
        return self

    def _read(self) -> dict[str, float]:
        values: dict[str, float] = {}
        if self._tracing is not None:
            values["traced"], values["peak"] = self._tracing.current(), self._tracing.peak()
        read_levels(values, self.not_readable)
        return values

    def _now(self, name: str) -> float | None:
        value = (self._read() if self._running else self._last).get(name)
        return None if value is None or math.isnan(value) else value

    def _more(self, name: str, than: str | None = None) -> float | None:
        now, base = self._now(name), self._base.get(than or name, math.nan)
        return None if now is None or math.isnan(base) else now - base

    @property
    def peak_mb(self) -> float | None:
        """Most traced memory over that at the start."""
        more = self._more("peak", "traced")
        return None if more is None else max(0, more) / _MB

    @property
    def retained_mb(self) -> float | None:
        """Traced memory that is still there; once stopped, after a collection. Below 0 if more was freed."""
        more = self._more("traced" if self._running else "kept", "traced")
        return None if more is None else more / _MB

    @property
    def cyclic_mb(self) -> float | None:
        """What only the collector could free, at the end; None until stopped."""
        traced, kept = self._last.get("traced"), self._last.get("kept")
        return None if traced is None or kept is None else max(0, traced - kept) / _MB

    @property
    def rss_mb(self) -> float | None:
        """Resident memory."""
        rss = self._now("rss_bytes")
        return None if rss is None else rss / _MB

    @property
    def rss_growth_mb(self) -> float | None:
        """With tracing, this has the tables of tracemalloc in it."""
        more = self._more("rss_bytes")
        return None if more is None else more / _MB

    @property
    def native_growth_mb(self) -> float | None:
        """What malloc has given out more, to Python and to others; with tracing, the tables of tracemalloc as well."""
        more = self._more("native_bytes")
        return None if more is None else more / _MB

    @property
    def blocks(self) -> int | None:
        """Blocks of Python's own allocator that are in use more than before."""
        more = self._more("python_blocks")
        return None if more is None else int(more)

    @property
    def collections(self) -> tuple[int, ...]:
        """Runs of the garbage collector, by generation."""
        return tuple(self._collections.counts)

    @property
    def collected(self) -> int:
        """Objects that the collector freed."""
        return self._collections.collected

    @property
    def gc_pause_s(self) -> float:
        """Time that the collector took."""
        return self._collections.pause_ns / 1e9

    @property
    def longest_gc_pause_s(self) -> float:
        return self._collections.longest_ns / 1e9
