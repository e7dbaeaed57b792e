"""Recording: the live recorder's own probe, with a site and a ring that belong to one lab run.

Each iteration of a lab run is one call through a probe that leaves one record, with the evidence that a sampled call
of a live site has. The records go to the run's own ring, so a recorder that runs in this process neither sees them nor
loses any of its own to them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import core
from ...errors import HotlapError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Records = NDArray[Any]  # of core.record_dtype()

__all__ = ["Recording"]

_CAPACITY = 1 << 13  # records: 1 MB
_EVERY = 1 << 62  # no quota
_SITE_ID = 0xFFFF_FFFE
_FOLLOW_COROUTINES = 1
_spare: list[core.Site] = []  # sites live for ever, so they are used again


class Recording:
    """Records of one run. With `evidence`, each has CPU time, switches, faults and GC; without, time alone.

    Raises HotlapError where measuring is switched off.
    """

    def __init__(self, evidence: bool, capacity: int = _CAPACITY) -> None:
        self.evidence = evidence
        self._capacity = capacity
        self._blocks: list[Records] = []
        self._pending = 0

    def __enter__(self) -> Recording:
        if not core.enabled():
            raise HotlapError("measuring is switched off, and the lab measures with probes: call hotlap.enable() first")
        try:
            self.site = _spare.pop()  # one step: two runs may begin at once
        except IndexError:
            self.site = core.Site(_SITE_ID, "lab")
        self._ring = core.Ring(self._capacity)
        self.site.ring = self._ring
        if self.evidence:
            self.site.sample(1.0, _EVERY, 0)
        else:  # a record of each call that takes longer than nothing
            self.site.sample(0.0, _EVERY, 0)
            self.site.tail_ns = 0
        self._watches_gc = core.on_gc not in gc.callbacks
        if self._watches_gc:
            gc.callbacks.append(core.on_gc)
        core.calibrate()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drain()
        if self._watches_gc and core.on_gc in gc.callbacks:
            gc.callbacks.remove(core.on_gc)
        if self.site.read()[core.COUNTERS.index("in_flight")] == 0:  # else a call goes on that nobody waits for
            self.site.ring = None
            self.site.tail_ns = 2**64 - 1
            self.site.clear()
            _spare.append(self.site)

    def probe(self, function: Callable[..., Any], asynchronous: bool) -> Callable[..., Any]:
        """`function`, each call of which leaves a record; for an async one, once it has been awaited."""
        made: Callable[..., Any] = core.FunctionProbe(function, self.site, _FOLLOW_COROUTINES if asynchronous else 0)
        return made

    def tick(self, calls: int = 1) -> None:
        """To be called after each probed call, by one thread: the ring is emptied before it is full."""
        self._pending += calls
        if self._pending >= self._capacity // 4:
            self._drain()

    def _drain(self) -> None:
        self._pending = 0
        while block := self._ring.drain(self._capacity):
            self._blocks.append(np.frombuffer(block, core.record_dtype()))

    def records(self) -> Records:
        """The records so far, in the order of their calls' ends; shape (n,). Raises HotlapError if any was lost."""
        self._drain()
        if self._ring.lost:
            raise HotlapError(
                f"{self._ring.lost} records were lost: more than {self._capacity} calls ended between looks"
            )
        if len(self._blocks) != 1:
            self._blocks = [np.concatenate(self._blocks) if self._blocks else np.zeros(0, core.record_dtype())]
        return self._blocks[0]

    def forget(self) -> None:
        """Drop the records so far."""
        self._drain()
        self._blocks.clear()
