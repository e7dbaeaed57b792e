"""The process and its machine in one window: the context in which the rules read a site's numbers."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import psutil

from .model import Context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .window import Window

__all__ = ["Process"]

_WINDOWS = 60  # how far back memory is looked at
_TREND_WINDOWS = 8  # fewer carry no trend
_PAIRS_ALIKE = 0.95  # share of the pairs of windows that must agree on the direction


def theil_sen(times: list[float], values: list[float]) -> tuple[float, float]:
    """Slope, and the share of the pairs with the slope's sign (Theil 1950, Sen 1968); (0, 0) without pairs.

    Pairs whose time did not go on are left out: the wall clock may have been set back between them.
    """
    t, y = np.asarray(times), np.asarray(values)
    first, second = np.triu_indices(len(t), 1)
    passed, grown = t[second] - t[first], y[second] - y[first]
    slopes = grown[passed > 0] / passed[passed > 0]
    slope = float(np.median(slopes)) if len(slopes) else 0.0
    return slope, float(np.mean(np.sign(slopes) == np.sign(slope))) if slope else 0.0


class Process:
    """Reads this process once per window, and remembers its memory over the last windows."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._memory: deque[tuple[float, float]] = deque(maxlen=_WINDOWS)
        self._cpu_before = self._cpu()

    def _cpu(self) -> tuple[float, float]:
        """CPU seconds of the process so far, and the time of the reading."""
        return time.process_time(), time.monotonic()

    def _rss_mb(self) -> float | None:
        try:
            return float(self._process.memory_info().rss) / 1e6
        except (psutil.Error, OSError):  # /proc may be closed to us
            return None

    def context(
        self,
        window: Window,
        *,
        overhead_fraction: float,
        budget: float,
        sinks_failed: tuple[str, ...],
        rules_failed: tuple[str, ...],
        faults: Mapping[str, int],
    ) -> Context:
        """The context of the window that has just been cut."""
        rss_mb = self._rss_mb()
        if rss_mb is not None:
            self._memory.append((window.started_at + window.seconds, rss_mb))
        (cpu_before, before), (cpu, now) = self._cpu_before, self._cpu()
        self._cpu_before = cpu, now
        slope, growth = self._trend()
        names = [site.name for site in window.sites]
        return Context(
            rss_mb=rss_mb,
            rss_slope_mb_s=slope,
            rss_growth_mb=growth,
            rss_windows=len(self._memory),
            process_cpu_percent=100.0 * (cpu - cpu_before) / (now - before) if now > before else None,
            cpus=self._cpus(),
            records_lost=window.lost,
            records=window.drained,
            overhead_fraction=overhead_fraction,
            budget=budget,
            sinks_failed=sinks_failed,
            rules_failed=rules_failed,
            faults=dict(faults),
            site_memory_share=_memory_shares(window),
            site_calls=dict(zip(names, window.column("calls").tolist(), strict=True)),
            site_total_s=dict(zip(names, (window.column("total_ns") / 1e9).tolist(), strict=True)),
        )

    def _trend(self) -> tuple[float | None, float | None]:
        """Slope in MB/s where nearly all pairs of windows agree on it, and the growth over all of them."""
        if len(self._memory) < 2:
            return None, None
        times, values = (list(column) for column in zip(*self._memory, strict=True))
        growth = values[-1] - values[0]
        if len(values) < _TREND_WINDOWS:
            return None, growth
        slope, alike = theil_sen(times, values)
        return (slope if alike >= _PAIRS_ALIKE else None), growth

    def _cpus(self) -> int:
        """CPUs that this process may run on."""
        try:
            return len(self._process.cpu_affinity() or ()) or 1
        except (AttributeError, psutil.Error, OSError):  # not on every system
            return psutil.cpu_count() or 1


def _memory_shares(window: Window) -> dict[str, float]:
    """How the fresh memory that calls touched is shared among the sites, by estimate from their samples."""
    pages = window.sum("minor_faults")
    total = float(pages.sum())
    if total <= 0.0:
        return {}
    return {window.sites[row].name: float(pages[row]) / total for row in np.flatnonzero(pages)}
