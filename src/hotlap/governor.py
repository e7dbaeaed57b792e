"""Governor: keeps the recorder within its budget, by what it has measured.

What the recorder costs in a window is the sum of

    timed calls    x what a timed call costs, measured once per process on a function of our own
    sampled calls    as the core measures around each of them
    the cycle        CPU time of the aggregator's thread

Sampling rates are lowered when the sum is beyond the budget, and raised slowly when it is not. When timing
alone is beyond it, sites whose own cost is a large share of what they measure are dropped to counting, the
costliest first, and brought back when they have calmed down.
"""

from __future__ import annotations

import math
import time
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from . import core
from . import sites as registry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from .config import Config
    from .window import Tally, Window

    Floats = NDArray[np.float64]

__all__ = ["Governor"]

_SHARE = 0.02  # a site that costs less than this part of its own run time is never dropped to counting
_CALM = 0.7  # of the budget: below it a counting site may be timed again
_TO_BORDER = (1.0 + 2.0 ** (1.0 / 32.0)) / 2.0  # from what stands for a bucket to its upper border
_TAIL_CALLS = 200  # fewer say nothing about a p99
_TAIL_BURST = 200  # tail records of one site between two drains: more mean that its p99 has moved
_NEVER = 2**64 - 1


@cache
def measure_call_cost(clock: str) -> tuple[float, float]:
    """Nanoseconds that a timed call and a counted one cost over a bare call; the best of a few short runs.

    Once for each kind of clock: a fake one is no measure of the real one's cost.
    """

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
        self.overhead_fraction = 0.0  # of one core, over the last interval
        self._spent: deque[tuple[float, float]] = deque()  # seconds and cost in ns of the windows in it
        self.scale = 1.0  # of the wanted sampling rates
        self._counting: dict[int, core.Site] = {}  # the sites on counting alone, by id
        self._sampling_before = core.sampling_cost()[1]
        self._unmeasured_ns = 0.0  # what the aggregator spent since the last measurement
        self._cycle_ns = 0.0  # of the last window
        self._sampling_ns = 0.0

    def forget(self) -> None:
        """After a fork: the child's sites start as they are, its costs at zero."""
        self.overhead_fraction = 0.0
        self._spent.clear()
        self.scale = 1.0
        self._unmeasured_ns = 0.0
        self._sampling_before = core.sampling_cost()[1]

    @property
    def counting(self) -> frozenset[int]:
        """Ids of the sites that are on counting alone."""
        return frozenset(self._counting)

    @property
    def call_ns(self) -> tuple[float, float]:
        """What a timed call and a counted one cost, in nanoseconds."""
        return measure_call_cost(core.clock()["kind"])

    # -- before and after ------------------------------------------------------------------------------------

    def prepare(self, sites: Iterable[core.Site]) -> None:
        """Before the first window: what can be known of it is the wanted rate alone."""
        measure_call_cost(core.clock()["kind"])  # now, rather than within a window
        self._sampling_before = core.sampling_cost()[1]
        for site in sites:
            self.welcome(site)

    def welcome(self, site: core.Site) -> None:
        """A site that has no window behind it: its first calls are sampled, then all up to its quota."""
        rate = self._rate(site)
        if rate > 0:
            site.sample(1.0, max(1, round(2 * rate * self.config.interval)), self.config.first_calls)
        else:
            site.sample(0.0, 1, 0)

    def release(self) -> None:
        """After the last window: every site is timed again, and none leaves records of slow calls."""
        for site in self._counting.values():
            site.mode = core.TIME
        self._counting.clear()
        for site in list(registry.sites.values()):
            site.tail_ns = _NEVER

    # -- in between ------------------------------------------------------------------------------------------

    def spend(self, cycle_ns: float) -> None:
        """CPU time of the aggregator, which counts in the window that is measured next."""
        self._unmeasured_ns += cycle_ns

    def watch_tails(self, before: Floats, tally: Tally) -> None:
        """After each drain: a site that has become slower for good must not leave a record for every call."""
        tails, wall_ns = tally.tails()
        tails[: before.shape[1]] -= before[0]
        wall_ns[: before.shape[1]] -= before[1]
        crowded = frozenset(np.flatnonzero(tails > _TAIL_BURST).tolist())
        for site in list(registry.sites.values()) if crowded else ():
            if site.id in crowded:
                site.tail_ns = max(site.tail_ns, int(2 * wall_ns[site.id] / tails[site.id]))

    def measure(self, window: Window) -> None:
        """What the window cost: its calls, its samples, and the aggregator since the last measurement."""
        self._cycle_ns, self._unmeasured_ns = self._unmeasured_ns, 0.0
        self._sampling_before, before = core.sampling_cost()[1], self._sampling_before
        self._sampling_ns = float(self._sampling_before - before)
        spent = float(self._site_ns(window).sum()) + self._cycle_ns + self._sampling_ns
        # Over at least an interval: of the moment between two flushes a cycle's cost is no meaningful share.
        self._spent.append((window.seconds, spent))
        while sum(seconds for seconds, _ in self._spent) - self._spent[0][0] >= self.config.interval:
            self._spent.popleft()
        whole_s = sum(seconds for seconds, _ in self._spent)
        self.overhead_fraction = sum(cost for _, cost in self._spent) / (whole_s * 1e9)

    def adapt(self, window: Window, times: Floats) -> None:
        """Set sampling, modes and tail limits by what was measured. `times`: p99, p99.9 of the rows in s."""
        site_ns = self._site_ns(window)
        # A cycle that somebody asked for, by flush(), is not held against the calls.
        cycle_ns = self._cycle_ns * min(window.seconds / self.config.interval, 1.0)
        budget = self.config.budget * window.seconds * 1e9
        # However dear the cycles are, timing may have half of the budget: dropping it makes them no cheaper.
        self._set_modes(window, site_ns, max(budget - cycle_ns, budget / 2))
        self._set_rates(window, budget - cycle_ns - float(site_ns.sum()), budget)
        self._set_tails(window, times)

    def _site_ns(self, window: Window) -> Floats:
        """What the calls of each row cost, samples apart."""
        timed_ns, counted_ns = self.call_ns
        calls, timed = window.column("calls"), window.column("timed")
        site_ns: Floats = timed * timed_ns + (calls - timed) * counted_ns
        return site_ns

    def _set_modes(self, window: Window, site_ns: Floats, allowed: float) -> None:
        timed, total_ns = window.column("timed"), window.column("total_ns")
        saved = window.column("calls") * (self.call_ns[0] - self.call_ns[1])  # by counting alone
        spent = float(site_ns.sum())
        if spent > allowed:
            for row in np.argsort(-site_ns):
                if spent <= allowed:
                    break
                if timed[row] == 0 or site_ns[row] < _SHARE * total_ns[row]:
                    continue
                site = window.sites[row]
                site.mode = core.COUNT
                self._counting[site.id] = site
                spent -= saved[row]
        elif self._counting:
            rows = {site.id: row for row, site in enumerate(window.sites)}
            for site in list(self._counting.values()):
                more = float(saved[rows[site.id]]) if site.id in rows else 0.0
                if spent + more <= _CALM * allowed:
                    site.mode = core.TIME
                    del self._counting[site.id]
                    spent += more

    def _set_rates(self, window: Window, left: float, budget: float) -> None:
        """Sampling gets what the fixed costs leave, but always a little: a hundredth of the budget."""
        left = max(left, budget / 100)
        if self._sampling_ns > left:
            self.scale = max(self.scale * left / self._sampling_ns, 1e-6)
        elif self._sampling_ns * 2 < left:
            self.scale = min(self.scale * 2, 1.0)
        expected = window.column("calls") * (self.config.interval / window.seconds)
        for site, calls in zip(window.sites, expected.tolist(), strict=True):
            wanted = self._rate(site) * self.scale * self.config.interval
            if wanted > 0:
                site.sample(min(1.0, wanted / max(calls, 1.0)), max(1, round(2 * wanted)))
            else:
                site.sample(0.0, 1, 0)

    def _set_tails(self, window: Window, times: Floats) -> None:
        """Beyond p99 is what lies beyond its bucket: in a narrow distribution most calls share that bucket.

        Where a site is called so often that one call in a hundred is too many, it is what lies beyond p99.9.
        """
        timed = window.column("timed")
        often = timed * 0.01 > _TAIL_BURST * max(window.seconds, 1.0)
        limits = np.where(often, times[:, 1], times[:, 0]) * (1e9 * _TO_BORDER)
        for row in np.flatnonzero(timed >= _TAIL_CALLS):
            window.sites[row].tail_ns = math.ceil(limits[row])

    def _rate(self, site: core.Site) -> float:
        options = getattr(site.info, "options", None)
        wanted = options.sample if options is not None else None
        return float(self.config.sample_rate if wanted is None else wanted)
