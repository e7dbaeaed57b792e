"""Exact counters and the histogram's buckets, over both cores."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Iterator
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import FakeClock, counts
from hotlap import HotlapError, core
from hotlap.core import record
from hotlap.errors import OptionError, OptionTypeError
from probes import NEVER, Records, make
from subjects import plain, site


class TestBuckets:
    @given(st.integers(0, 360_000 * 10**9))
    def test_exact(self, ns: int) -> None:
        """2**((j+FIRST)/32) < d <= 2**((j+1+FIRST)/32) seconds, in whole numbers: both sides to the 32nd
        power.
        """
        index = core.bucket_index(ns)
        if ns == 0:
            assert index == 0
            return
        low, high = index - 1 + core.BUCKET_FIRST, index + core.BUCKET_FIRST
        assert above(ns, low)
        assert index == core.BUCKETS - 1 or not above(ns, high)

    @given(st.integers(1, core.BUCKETS - 2))
    def test_borders(self, index: int) -> None:
        """The last ns of a bucket and the first of the next are told apart."""
        low, high = 0, 2**60
        while low < high:  # the largest ns that is not above the bucket's upper border
            middle = (low + high + 1) // 2
            low, high = (low, middle - 1) if above(middle, index + core.BUCKET_FIRST) else (middle, high)
        assert core.bucket_index(low) <= index
        assert core.bucket_index(low + 1) > index

    def test_powers_of_two(self) -> None:
        """2**-9 s is a whole number of ns, and belongs to the bucket that it ends."""
        assert core.bucket_index(1953125) == -9 * 32 - core.BUCKET_FIRST
        assert core.bucket_index(1953126) == -9 * 32 - core.BUCKET_FIRST + 1
        assert core.bucket_index(1) == 1
        assert core.bucket_index(2**63) == core.BUCKETS - 1


def above(ns: int, exponent: int) -> bool:
    """ns * 1e-9 > 2 ** (exponent / 32), exactly."""
    left, right = ns**32, 10**288
    return left << -exponent > right if exponent < 0 else left > right << exponent


class TestCounters:
    def test_exact(self, fake: FakeClock) -> None:
        """Every call counts: number, total, extremes, histogram."""
        probe, site = make(fake.advance)
        assert counts(site)["min_ns"] == NEVER
        durations = [5, 0, 70, 1_000_000, 70, 3] * 200
        for ns in durations:
            probe(ns)
        read = counts(site)
        assert read["calls"] == read["timed"] == read["started"] == len(durations)
        assert read["total_ns"] == sum(durations)
        assert (read["min_ns"], read["max_ns"]) == (0, 1_000_000)
        assert (read["errors"], read["cancelled"], read["in_flight"], read["in_flight_peak"]) == (0, 0, 0, 1)
        assert (read["run_ns"], read["suspensions"], read["longest_ns"]) == (0, 0, 0)
        expected = [0] * core.BUCKETS
        for ns in durations:
            expected[core.bucket_index(ns)] += 1
        assert site.histogram() == expected

    def test_real_clock(self) -> None:
        """The same with the real clock, short and long calls mixed: the histogram has all of them."""
        probe, site = make(lambda n: sum(range(n)))
        for n in range(3000):
            probe(n % 100 * 3)
        read = counts(site)
        assert read["calls"] == read["timed"] == 3000
        assert sum(site.histogram()) == 3000
        assert 3000 * read["min_ns"] <= read["total_ns"] <= 3000 * read["max_ns"]
        histogram = site.histogram()
        assert histogram[core.bucket_index(read["min_ns"])] > 0
        assert histogram[core.bucket_index(read["max_ns"])] > 0

    @pytest.mark.parametrize(
        ("error", "errors", "cancelled"),
        [
            (ValueError("x"), 1, 0),
            (KeyboardInterrupt(), 1, 0),
            (SystemExit(3), 1, 0),
            (StopIteration(), 0, 0),
            (StopAsyncIteration(), 0, 0),
            (GeneratorExit(), 0, 1),
            (asyncio.CancelledError(), 0, 1),
        ],
    )
    def test_exceptions(self, fake: FakeClock, error: BaseException, errors: int, cancelled: int) -> None:
        """Every exception passes as it is; those that are part of a protocol are no errors."""

        def fail() -> None:
            fake.advance(9)
            raise error

        probe, site = make(fail)
        with pytest.raises(type(error)) as caught:
            probe()
        assert caught.value is error
        read = counts(site)
        assert (read["calls"], read["errors"], read["cancelled"]) == (1, errors, cancelled)
        assert (read["total_ns"], read["in_flight"]) == (9, 0)

    def test_in_flight(self) -> None:
        """In flight now and at most, take_peak() begins anew from now."""
        seen = []

        def f(depth: int) -> None:
            seen.append(counts(site)["in_flight"])
            if depth:
                probe(depth - 1)
            elif depth == 0:
                assert site.take_peak() == 4
                assert counts(site)["in_flight_peak"] == 4

        probe, site = make(f)
        probe(3)
        assert seen == [1, 2, 3, 4]
        assert site.take_peak() == 4
        assert site.take_peak() == 0
        assert counts(site)["in_flight"] == 0

    @given(st.lists(st.sampled_from(["begin", "end", "fail", "close", "enter", "leave", "take"]), max_size=40))
    def test_in_flight_is_exact(self, plan: list[str]) -> None:
        """In flight now, at most, and ended, whatever overlaps: generators in any order, calls within calls."""
        site = core.Site(1, "overlapping")

        def body() -> Any:
            if (yield) == "fail":
                raise KeyError

        generator = core.FunctionProbe(body, site, core.FOLLOW_GENERATOR)
        open_ones: list[Any] = []
        flying = most = ended = 0

        def play(acts: Iterator[str]) -> None:
            nonlocal flying, most, ended
            for act in acts:
                if act == "begin":
                    open_ones.append(generator())
                    next(open_ones[-1])
                    flying += 1
                elif act == "enter":
                    flying += 1
                    most = max(most, flying)
                    call(acts)
                    flying -= 1
                    ended += 1
                elif act == "leave":
                    return
                elif act == "take":
                    assert site.take_peak() == most
                    most = flying
                elif open_ones:
                    item = open_ones.pop(len(open_ones) // 2)
                    if act == "close":
                        item.close()
                    else:
                        with pytest.raises((KeyError, StopIteration)):
                            item.send(act)
                    flying -= 1
                    ended += 1
                most = max(most, flying)
                read = counts(site)
                assert (read["in_flight"], read["in_flight_peak"]) == (flying, most)
                assert (read["calls"], read["started"]) == (ended, ended + flying)

        call = core.FunctionProbe(play, site)
        play(iter(plan))

    def test_fails_when_the_clock_shows_zero(self) -> None:
        """A call that begins at zero has the time that it took, however it ends."""
        clock = FakeClock(0)
        core.set_clock(clock)

        def fail() -> None:
            clock.advance(7)
            raise KeyError

        probe, site = make(fail)
        with pytest.raises(KeyError):
            probe()
        assert counts(site)["total_ns"] == 7

    def test_clear(self) -> None:
        """clear() zeroes everything; a call in flight goes on and counts when it ends."""

        def f(clear: bool) -> None:
            if clear:
                site.clear()
                read = counts(site)
                assert (read["calls"], read["total_ns"], read["min_ns"]) == (0, 0, NEVER)
                assert (read["in_flight"], read["in_flight_peak"]) == (1, 1)

        probe, site = make(f)
        site.metrics = {"rows": [1, 2.0, 2.0, 2.0]}
        for _ in range(300):
            probe(False)
        probe(True)
        read = counts(site)
        assert (read["calls"], read["in_flight"], sum(site.histogram())) == (1, 0, 1)
        assert read["started"] == 1
        assert site.metrics is None
        assert "1 calls" in repr(site)
        counters = numpy.zeros((1, len(core.COUNTERS)), dtype="u8")
        histogram = numpy.zeros((1, core.BUCKETS), dtype="u8")
        low, high = core.collect([site], counters, histogram)
        assert tuple(counters[0]) == site.read()
        assert list(histogram[0, low:high]) == site.histogram()[low:high]
        site.clear()
        assert sum(site.histogram()) == counts(site)["timed"] == counts(site)["total_ns"] == 0
        assert core.collect([site], counters, histogram) == (0, 0)

    def test_count_mode(self, fake: FakeClock, records: Records) -> None:
        """On counting alone calls, errors and in-flight stay exact, and nothing is timed or sampled."""
        probe, site = make(lambda x: fake.advance(5) or 1 // x)
        assert site.mode == core.TIME
        site.mode = core.COUNT
        assert site.mode == core.COUNT
        assert probe(1) == 1
        with pytest.raises(ZeroDivisionError):
            probe(0)
        read = counts(site)
        assert (read["calls"], read["timed"], read["errors"], read["total_ns"]) == (2, 0, 1, 0)
        assert (read["in_flight"], read["in_flight_peak"]) == (0, 1)
        assert len(records()) == 0
        site.mode = core.TIME
        probe(1)
        read = counts(site)
        assert (read["calls"], read["timed"], read["total_ns"]) == (3, 1, 5)
        with pytest.raises(HotlapError):
            site.mode = 3

    def test_threads(self) -> None:
        """Nothing is lost when threads call at once."""
        probe, site = make(lambda: None)

        def run() -> None:
            for _ in range(5000):
                probe()

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            read = counts(site)
            assert read["calls"] == read["timed"]
            assert 0 <= read["in_flight"] <= 4
        read = counts(site)
        assert (read["calls"], read["in_flight"]) == (20_000, 0)
        assert 1 <= read["in_flight_peak"] <= 4
        assert sum(site.histogram()) == 20_000

    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("flow", [0, core.FOLLOW_COROUTINE])
    def test_deep_recursion(self, ring: core.Ring, flow: int, share: float) -> None:
        """It ends in RecursionError, sampled or not, and the books are in order afterwards."""
        site = core.Site(1, "f")
        site.sample(share, 2**40, 0)
        probe = core.FunctionProbe(lambda depth: probe(depth + 1), site, flow)
        for _ in range(5):
            with pytest.raises(RecursionError):
                probe(0)
        read = counts(site)
        assert read["in_flight"] == 0
        assert read["calls"] == read["errors"] > 10
        ring.drain()
        other = core.FunctionProbe(lambda: None, core.Site(2, "g"))
        other()
        assert numpy.frombuffer(ring.drain(), core.record_dtype())["parent"].tolist() == [record.NO_PARENT]

    def test_collect(self, fake: FakeClock) -> None:
        """collect() fills arrays as read() and histogram() say; rows are whole inside the range that it
        returns.
        """
        sites = []
        for durations in ([10, 20], [], [3000] * 300):
            probe, site = make(fake.advance)
            for ns in durations:
                probe(ns)
            sites.append(site)
        counters = numpy.full((4, len(core.COUNTERS)), 99, dtype="u8")
        histograms = numpy.full((4, core.BUCKETS), 99, dtype="u8")
        low, high = core.collect(sites, counters, histograms)
        for row, site in enumerate(sites):
            assert tuple(counters[row]) == site.read()
            assert list(histograms[row, low:high]) == site.histogram()[low:high]
            assert sum(site.histogram()[low:high]) == counts(site)["calls"]
        assert (counters[3] == 99).all()
        assert (histograms[3] == 99).all()
        with pytest.raises(ValueError):
            core.collect(sites, numpy.zeros(3, dtype="u8"), histograms)
        assert core.collect([], counters, histograms) == (0, 0)


class TestArguments:
    def test_sample(self) -> None:
        """Wrong numbers are refused by name or position."""
        where = site()
        for call in (
            lambda: where.sample(2.0, 1),
            lambda: where.sample(probability=2.0, quota=1),
            lambda: where.sample(probability=float("nan"), quota=1),
            lambda: where.sample(0.5, quota=0),
            lambda: where.sample(0.5, 1, first=-1),
        ):
            with pytest.raises(OptionError):
                call()

    @pytest.mark.parametrize("number", [-1, 2**32 - 1, 2**40])
    def test_site_id(self, number: int) -> None:
        """An id must fit its field; the last one stands for no parent."""
        with pytest.raises(OptionError, match="site id"):
            core.Site(number, "wrong")

    def test_collect(self) -> None:
        """Buffers of the wrong size or kind are refused, unaligned ones are fine."""
        sites = [site(), site()]
        core.FunctionProbe(plain, sites[0])(1)
        row, rows = 8 * len(core.COUNTERS) * 2, 8 * core.BUCKETS * 2
        for counters, histograms in ((row - 1, rows), (row, rows - 1)):
            with pytest.raises(ValueError, match="needs"):
                core.collect(sites, bytearray(counters), bytearray(histograms))
        with pytest.raises((BufferError, TypeError)):
            core.collect(sites, bytes(row), bytearray(rows))
        with pytest.raises(OptionTypeError, match="must be a Site"):
            core.collect([sites[0], 5], bytearray(row), bytearray(rows))  # type: ignore[list-item]
        low, high = core.collect(sites, memoryview(bytearray(row + 1))[1:], memoryview(bytearray(rows + 1))[1:])
        assert high > low

    def test_collect_while_the_list_shrinks(self) -> None:
        """Asking for the buffers may run Python."""
        sites = [site() for _ in range(50)]

        class Block(ctypes.c_char * (50 * 8 * core.BUCKETS)):  # type: ignore[misc]
            def __buffer__(self, flags: int) -> memoryview:
                sites.clear()
                return memoryview(bytearray(50 * 8 * core.BUCKETS))

        core.collect(sites, bytearray(50 * 8 * len(core.COUNTERS)), Block())
