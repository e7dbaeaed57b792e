"""The process and its machine in one window: the context in which the rules read a site's numbers."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import psutil

from .model import Context

if TYPE_CHECKING:
    from .window import Window

__all__ = ["Process"]

_WINDOWS = 60  # how far back memory is looked at
_TREND_WINDOWS = 8  # fewer carry no trend
_PAIRS_ALIKE = 0.95  # share of the pairs of windows that must agree on the direction


def theil_sen(times: list[float], values: list[float]) -> tuple[float, float]:
    """Slope, and the share of the pairs with the slope's sign (Theil 1950, Sen 1968)."""
    t, y = np.asarray(times), np.asarray(values)
    first, second = np.triu_indices(len(t), 1)
    slopes = (y[second] - y[first]) / (t[second] - t[first])
    slope = float(np.median(slopes))
    return slope, float(np.mean(np.sign(slopes) == np.sign(slope))) if slope else 0.0


class Process:
    """Reads this process once per window, and remembers its memory over the last windows."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._memory: deque[tuple[float, float]] = deque(maxlen=_WINDOWS)
        self._cpu_before = self._cpu()

    def _cpu(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def context(
        self,
        window: Window,
        *,
        overhead_fraction: float,
        budget: float,
        sinks_failed: tuple[str, ...],
        rules_failed: tuple[str, ...],
    ) -> Context:
        """The context of the window that has just been cut."""
        rss_mb = self._process.memory_info().rss / 1e6
        self._memory.append((window.started_at + window.seconds, rss_mb))
        cpu = self._cpu()
        cpu_percent = 100.0 * (cpu - self._cpu_before) / window.seconds
        self._cpu_before = cpu
        slope, growth = self._trend()
        names = [site.name for site in window.sites]
        return Context(
            rss_mb=rss_mb,
            rss_slope_mb_s=slope,
            rss_growth_mb=growth,
            rss_windows=len(self._memory),
            process_cpu_percent=max(cpu_percent, 0.0),
            cpus=_cpus(),
            records_lost=window.lost,
            records=window.drained,
            overhead_fraction=overhead_fraction,
            budget=budget,
            sinks_failed=sinks_failed,
            rules_failed=rules_failed,
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
        if len(values) < _TREND_WINDOWS or times[-1] <= times[0]:
            return None, growth
        slope, alike = theil_sen(times, values)
        return (slope if alike >= _PAIRS_ALIKE else None), growth


def _cpus() -> int:
    """CPUs that this process may run on."""
    affinity = getattr(psutil.Process(), "cpu_affinity", None)
    try:
        return len(affinity()) if affinity is not None else psutil.cpu_count() or 1
    except psutil.Error:
        return psutil.cpu_count() or 1


def _memory_shares(window: Window) -> dict[str, float]:
    """How the fresh memory that calls touched is shared among the sites, by estimate from their samples."""
    pages = window.sum("minor_faults")
    total = float(pages.sum())
    if total <= 0.0:
        return {}
    return {window.sites[row].name: float(pages[row]) / total for row in np.flatnonzero(pages)}
