"""Governor: keeps the recorder within its budget, by what it has measured.

What the recorder costs in a window is the sum of

    timed calls    x what a timed call costs, measured once per process on a function of our own
    sampled calls    as the core measures around each of them
    the cycle        CPU time of the aggregator's thread

Sampling rates are lowered when the sum is beyond the budget, and raised slowly when it is not. When timing alone is
beyond it, sites whose own cost is a large share of what they measure are dropped to counting, the costliest first,
and brought back when they have calmed down.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from . import core
from . import sites as registry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from .config import Config
    from .window import Tally, Window

__all__ = ["Governor"]

_SHARE = 0.02  # a site that costs less than this part of its own run time is never dropped to counting
_CALM = 0.7  # of the budget: below it a counting site may be timed again
_TO_BORDER = (1.0 + 2.0 ** (1.0 / 32.0)) / 2.0  # from what stands for a bucket to its upper border
_TAIL_CALLS = 200  # fewer say nothing about a p99
_TAIL_BURST = 200  # tail records of one site between two drains: more mean that its p99 has moved
_NEVER = 2**64 - 1


def measure_call_cost() -> tuple[float, float]:
    """Nanoseconds that a timed call and a counted one cost over a bare call; the best of a few short runs."""

    def nothing() -> None:
        return None

    site = core.Site(0xFFFF_FFFE, "hotlap.cost")
    site.sample(0.0, 1, 0)
    probe = core.FunctionProbe(nothing, site)

    def run(function: Any) -> float:
        best = float("inf")
        for _ in range(7):
            start = time.perf_counter_ns()
            for _ in range(500):
                function()
            best = min(best, (time.perf_counter_ns() - start) / 500)
        return best

    was_enabled = core.enabled()
    core.enable(True)
    bare = run(nothing)
    timed = run(probe) - bare
    site.mode = core.COUNT
    counted = run(probe) - bare
    core.enable(was_enabled)
    return max(timed, 1.0), max(counted, 0.5)


class Governor:
    """Sets each site's sampling probability, tail limit and mode for the coming window."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.overhead_fraction = 0.0  # of one core, in the last window
        self.scale = 1.0  # of the wanted sampling rates
        self._call_ns: tuple[float, float] | None = None
        self._counting: dict[int, float] = {}  # id of a site on counting alone -> its last mean ns per call
        self._cost_before = core.sampling_cost()

    def forget(self) -> None:
        """After a fork: the child's sites start as they are, its costs at zero."""
        self.overhead_fraction = 0.0
        self.scale = 1.0
        self._cost_before = core.sampling_cost()

    @property
    def counting(self) -> frozenset[int]:
        """Ids of the sites that are on counting alone."""
        return frozenset(self._counting)

    def prepare(self, sites: Iterable[core.Site]) -> None:
        """Before the first window: what can be known of it is the wanted rate alone."""
        if self._call_ns is None:
            self._call_ns = measure_call_cost()
        self._cost_before = core.sampling_cost()
        for site in sites:
            rate = self._rate(site)
            if rate > 0:
                site.sample(1.0, max(1, round(2 * rate * self.config.interval)), self.config.first_calls)
            else:
                site.sample(0.0, 1, 0)

    def _rate(self, site: core.Site) -> float:
        options = getattr(site.info, "options", None)
        wanted = options.sample if options is not None else None
        return float(self.config.sample_rate if wanted is None else wanted)

    def watch_tails(self, before: NDArray[np.float64], tally: Tally) -> None:
        """After each drain: a site that has become slower for good must not leave a record for every call."""
        tails = tally.tails()
        tails[: len(before)] -= before
        for site in _sites_of(np.flatnonzero(tails > _TAIL_BURST).tolist()):
            site.tail_ns = max(site.tail_ns, min(2 * site.tail_ns, int(0.9 * tally.longest_ns[site.id])))

    def adapt(self, window: Window, p99_s: NDArray[np.float64], cycle_ns: float) -> None:
        """Measure what the window cost, and set sampling, modes and tail limits for the next one."""
        timed_ns, counted_ns = self._call_ns or (50.0, 15.0)
        window_ns = window.seconds * 1e9
        calls = window.column("calls").astype(np.float64)
        timed = window.column("timed").astype(np.float64)
        total_ns = window.column("total_ns").astype(np.float64)
        samples, samples_ns = core.sampling_cost()
        sampling = float(samples_ns - self._cost_before[1])
        self._cost_before = (samples, samples_ns)
        site_ns = timed * timed_ns + (calls - timed) * counted_ns
        fixed = float(site_ns.sum()) + cycle_ns
        budget = self.config.budget * window_ns
        self.overhead_fraction = (fixed + sampling) / window_ns

        self._set_modes(window, calls, timed, total_ns, site_ns, fixed, budget, (timed_ns, counted_ns))
        self._set_rates(window, calls, sampling, budget - fixed, budget)
        self._set_tails(window, timed, p99_s)

    def _set_modes(
        self,
        window: Window,
        calls: NDArray[np.float64],
        timed: NDArray[np.float64],
        total_ns: NDArray[np.float64],
        site_ns: NDArray[np.float64],
        fixed: float,
        budget: float,
        call_ns: tuple[float, float],
    ) -> None:
        timed_ns, counted_ns = call_ns
        if fixed > budget:
            for row in np.argsort(-site_ns):
                if fixed <= budget:
                    break
                site = window.sites[row]
                if timed[row] == 0 or site_ns[row] < _SHARE * total_ns[row]:
                    continue
                site.mode = core.COUNT
                self._counting[site.id] = total_ns[row] / timed[row]
                fixed -= calls[row] * (timed_ns - counted_ns)
        elif self._counting:
            rows = {site.id: row for row, site in enumerate(window.sites)}
            for site in _sites_of(self._counting):
                row = rows.get(site.id)
                more = (calls[row] if row is not None else 0.0) * (timed_ns - counted_ns)
                if fixed + more <= _CALM * budget:
                    site.mode = core.TIME
                    del self._counting[site.id]
                    fixed += more

    def _set_rates(
        self, window: Window, calls: NDArray[np.float64], sampling: float, left: float, budget: float
    ) -> None:
        """Sampling gets what the fixed costs leave, but always a little: a hundredth of the budget."""
        left = max(left, budget / 100)
        if sampling > left:
            self.scale = max(self.scale * left / sampling, 1e-6)
        elif sampling * 2 < left:
            self.scale = min(self.scale * 2, 1.0)
        for row, site in enumerate(window.sites):
            rate = self._rate(site) * self.scale
            if rate <= 0:
                site.sample(0.0, 1, 0)
                continue
            wanted = rate * self.config.interval
            expected = calls[row] * self.config.interval / window.seconds
            site.sample(min(1.0, wanted / max(expected, 1.0)), max(1, round(2 * wanted)))

    def _set_tails(self, window: Window, timed: NDArray[np.float64], p99_s: NDArray[np.float64]) -> None:
        """Beyond p99 is what lies beyond its bucket: in a narrow distribution most calls share that bucket."""
        for row, site in enumerate(window.sites):
            if timed[row] >= _TAIL_CALLS:
                site.tail_ns = math.ceil(p99_s[row] * 1e9 * _TO_BORDER)


def _sites_of(ids: Iterable[int]) -> list[core.Site]:
    wanted = set(ids)
    if not wanted:
        return []
    return [site for site in registry.sites.values() if site.id in wanted]
