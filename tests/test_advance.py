"""core.advance: what has been counted since the last reading, over both cores."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import FakeClock
from hotlap import core
from hotlap.errors import OptionError, OptionTypeError


class TestAdvance:
    def test_gives_what_was_added_since_the_last_reading(self) -> None:
        """Row, bucket and count of each bucket that has got more, and the counters as they are."""
        clock = FakeClock()
        core.set_clock(clock)
        try:
            idle, busy = core.Site(1, "advance.idle"), core.Site(2, "advance.busy")
            work = core.FunctionProbe(lambda ns: clock.advance(ns), busy)
            last = np.zeros((2, core.BUCKETS), np.uint32)
            counters = np.zeros((2, len(core.COUNTERS)), np.uint64)

            def advance() -> list[list[int]]:
                block = core.advance([idle, busy], counters, last)
                return np.frombuffer(block, np.uint32).reshape(-1, 3).tolist()

            assert advance() == []
            for ns in (1_000, 1_000, 5_000_000):
                work(ns)
            small, large = core.bucket_index(1_000), core.bucket_index(5_000_000)
            assert advance() == [[1, small, 2], [1, large, 1]]
            read = list(busy.read())
            assert counters[1].tolist() == [*read[:8], 1, *read[9:]]  # the peak has begun anew since
            work(1_000)
            assert advance() == [[1, small, 1]]
            assert advance() == []
            assert last[1, small] == 3
        finally:
            core.set_clock(None)

    def test_begins_the_peaks_anew(self) -> None:
        """As take_peak() does."""
        site = core.Site(1, "advance.peak")
        core.FunctionProbe(lambda: None, site)()
        counters = np.zeros((1, len(core.COUNTERS)), np.uint64)
        last = np.zeros((1, core.BUCKETS), np.uint32)
        core.advance([site], counters, last)
        assert counters[0, core.COUNTERS.index("in_flight_peak")] == 1
        core.advance([site], counters, last)
        assert counters[0, core.COUNTERS.index("in_flight_peak")] == 0

    def test_sees_no_clearing(self) -> None:
        """clear() hides what was counted from who reads the site. Differences of readings go on: every call is
        told once, before a clear() and after it.
        """
        clock = FakeClock()
        core.set_clock(clock)
        try:
            site = core.Site(1, "advance.cleared")
            work = core.Probe(clock.advance, site)
            last = np.zeros((1, core.BUCKETS), np.uint32)
            counters = np.zeros((1, len(core.COUNTERS)), np.uint64)

            def advance() -> tuple[list[list[int]], int, int]:
                block = core.advance([site], counters, last)
                calls, total = (int(counters[0, core.COUNTERS.index(name)]) for name in ("calls", "total_ns"))
                return np.frombuffer(block, np.uint32).reshape(-1, 3).tolist(), calls, total

            small, large = core.bucket_index(1_000), core.bucket_index(5_000_000)
            for ns in (1_000, 1_000, 1_000):
                work(ns)
            assert advance() == ([[0, small, 3]], 3, 3_000)
            work(5_000_000)
            site.clear()
            assert site.read()[0] == 0
            work(1_000)
            site.clear()
            work(1_000)
            assert site.read()[0] == sum(site.histogram()) == 1
            assert advance() == ([[0, small, 2], [0, large, 1]], 6, 5_005_000)
            site.clear()
            assert advance() == ([], 6, 5_005_000)
            work(1_000)
            assert advance() == ([[0, small, 1]], 7, 5_006_000)
        finally:
            core.set_clock(None)

    def test_refuses_what_does_not_fit(self) -> None:
        """Buffers that are too small, and what is no site."""
        site = core.Site(1, "advance.refused")
        counters = np.zeros((1, len(core.COUNTERS)), np.uint64)
        last = np.zeros((1, core.BUCKETS), np.uint32)
        with pytest.raises(OptionError, match="counters"):
            core.advance([site], counters[:, :3].copy(), last)
        with pytest.raises(OptionError, match="last"):
            core.advance([site], counters, last[:, :9].copy())
        with pytest.raises(OptionTypeError, match="Site"):
            core.advance(["site"], counters, last)
