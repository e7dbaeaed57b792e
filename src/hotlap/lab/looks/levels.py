"""Levels: what is in use at the ends of blocks of calls, and how long the blocks took."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .heap import PAGE_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Levels", "collect"]

_QUIET_S = 1e-3
_STAYS = {"traced": 100.0, "python_blocks": 3.0, "native_bytes": 512.0, "rss_bytes": PAGE_BYTES}  # more than our own


def collect() -> int:
    """Collect all garbage, also what the thread that watches the limits has left from its look, which may be due."""
    time.sleep(_QUIET_S)
    return gc.collect()


class Levels:
    """Levels at the ends of blocks of calls; `read` puts them into a mapping, by name."""

    def __init__(self, read: Callable[[dict[str, float]], None], blocks: int) -> None:
        self._read, self.blocks, self.done = read, blocks, 0
        self._now: dict[str, float] = {}
        read(self._now)
        # Numbers go where there were some before: objects of their own would be seen, as something kept.
        self._then, self._ours = dict(self._now), dict.fromkeys(self._now, 0.0)
        self._rows = {name: np.zeros(blocks + 1) for name in self._now}
        self._seconds, self.begun = np.zeros(blocks + 1), 0.0

    def read(self, block: int) -> None:
        """At the end of block 1, 2, ..., and, as 0, before them."""
        self._seconds[max(block - 1, 0)] = time.perf_counter() - self.begun
        collect()
        self._read(self._now)
        for name, row in self._rows.items():
            row[block] = self._now[name] - self._ours[name]
        self.done = block

    def skip(self) -> None:
        """What was done since read() is not the subject's doing: if anything stays of it, it is left out."""
        self._then.update(self._now)
        self._read(self._now)
        if any(abs(self._now[name] - self._then[name]) >= _STAYS[name] for name in self._now):
            collect()
            self._read(self._now)
            for name in self._ours:
                self._ours[name] += self._now[name] - self._then[name]

    @property
    def block_s(self) -> float:
        """What a block took, as a rule; NaN without any."""
        return float(np.median(self._seconds[: self.done])) if self.done else math.nan

    def row(self, name: str) -> Floats:
        """Shape (blocks that were made + 1,)."""
        return self._rows[name][: self.done + 1]
