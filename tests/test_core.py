"""The core's contract: probes, counters, samples, hooks. It holds for both cores."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import itertools
import mmap
import os
import pickle
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import wrapt
from hypothesis import given
from hypothesis import strategies as st

from conftest import FakeClock, counts
from hotlap import HotlapError, core
from hotlap.core import record
from hotlap.errors import LayoutError

Records = Callable[[], Any]
NEVER = 2**64 - 1


def make(func: Callable[..., Any], **sampling: Any) -> tuple[Any, core.Site]:
    """A probe over `func` with a site of its own."""
    site = core.Site(5, "site")
    if sampling:
        site.sample(sampling.get("p", 1.0), sampling.get("quota", 2**40), sampling.get("first", 0))
    kind = core.FunctionProbe if isinstance(func, types.FunctionType) else core.Probe
    return kind(func, site), site


def by_name(value: int) -> int:
    return value + 1


class TestPick:
    def test_name(self) -> None:
        """HOTLAP_CORE decides, and the reason is said."""
        wanted = os.environ.get("HOTLAP_CORE", "auto")
        assert wanted in {core.NAME, "auto"}
        assert core.REASON

    @pytest.mark.parametrize(
        ("wanted", "ok"), [("native", False), ("auto", True), ("python", True), ("c", False)]
    )
    def test_missing(self, wanted: str, ok: bool) -> None:
        """Without the native core: an error for who forced it, the twin and the reason for the others."""
        code = (
            "import sys; sys.modules['hotlap.core._native'] = None\n"
            "from hotlap import core; print(core.NAME, '|', core.REASON)"
        )
        env = {**os.environ, "HOTLAP_CORE": wanted}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        if ok:
            assert done.stdout.startswith("python | ")
            assert done.returncode == 0
        else:
            assert done.returncode != 0
            assert f"HOTLAP_CORE={wanted}" in done.stderr or f"'{wanted}'" in done.stderr


class TestLayout:
    def test_dtype(self) -> None:
        """The numpy dtype is the layout: no gaps, no overlaps, 128 bytes."""
        dtype = core.record_dtype()
        assert dtype is core.record_dtype()
        assert dtype.itemsize == core.RECORD_BYTES == 128
        end = 0
        for name, kind, offset in core.RECORD_LAYOUT:
            assert offset == end
            assert dtype.fields is not None
            assert dtype.fields[name][0] == numpy.dtype(kind)
            end += numpy.dtype(kind).itemsize
        assert end == core.RECORD_BYTES

    def test_check(self) -> None:
        """A core that writes another layout is refused."""
        good = types.SimpleNamespace(
            __name__="good",
            LAYOUT_VERSION=record.LAYOUT_VERSION,
            RECORD_BYTES=record.RECORD_BYTES,
            RECORD_LAYOUT=record.RECORD_LAYOUT,
        )
        record.check(good)
        with pytest.raises(LayoutError, match="LAYOUT_VERSION is 2"):
            record.check(types.SimpleNamespace(**{**vars(good), "LAYOUT_VERSION": 2}))


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
        assert site.metrics is None

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
        core.collect(sites, counters, histograms, take_peaks=True)
        assert counters[0, core.COUNTERS.index("in_flight_peak")] == 1
        assert counts(sites[0])["in_flight_peak"] == 0
        with pytest.raises(ValueError):
            core.collect(sites, numpy.zeros(3, dtype="u8"), histograms)
        assert core.collect([], counters, histograms) == (0, 0)


class TestSwitch:
    def test_disabled(self) -> None:
        """Switched off, calls pass uncounted; switched on, they count again."""
        probe, site = make(lambda x: x)
        core.enable(False)
        assert not core.enabled()
        assert probe(3) == 3
        later = core.FunctionProbe(lambda: 8, site)
        assert later() == 8
        assert counts(site)["calls"] == 0
        core.enable(True)
        assert core.enabled()
        probe(3)
        later()
        assert counts(site)["calls"] == 2

    def test_in_flight(self) -> None:
        """A call that is under way when it is switched off counts when it ends."""
        probe, site = make(lambda: core.enable(False))
        probe()
        read = counts(site)
        assert (read["calls"], read["in_flight"]) == (1, 0)


class TestSampling:
    def test_first_calls(self, records: Records) -> None:
        """A new site samples its first calls, and marks them."""
        probe, site = make(lambda: None)
        site.sample(0.0, 1)
        for _ in range(30):
            probe()
        rows = records()
        assert len(rows) == 10
        assert (rows["flags"] == core.FLAG_FIRST | core.FLAG_EVIDENCE).all()
        assert (rows["weight"] == 1).all()
        site.sample(0.0, 1, first=2)
        for _ in range(30):
            probe()
        assert len(records()) == 2

    def test_record(self, fake: FakeClock, records: Records) -> None:
        """What a record says."""
        probe, _ = make(fake.advance, p=1.0)
        start = fake.now
        probe(250)
        (row,) = records()
        assert (row["start_ns"], row["wall_ns"], row["own_ns"]) == (start, 250, 250)
        assert (row["run_ns"], row["longest_ns"], row["suspensions"]) == (250, 250, 0)
        assert (row["site"], row["parent"], row["in_flight"]) == (5, record.NO_PARENT, 1)
        assert row["thread"] == threading.get_native_id()
        assert (row["weight"], row["flags"]) == (1, core.FLAG_EVIDENCE)
        assert row["cpu_ns"] >= 0
        assert numpy.isnan(row["size"])
        assert (row["trace_hi"], row["trace_lo"], row["span"]) == (0, 0, 0)

    def test_error_flags(self, records: Records) -> None:
        """A failed call says so in its record."""
        errors = iter([ValueError(), GeneratorExit()])

        def fail() -> None:
            raise next(errors)

        probe, _ = make(fail, p=1.0)
        for error in (ValueError, GeneratorExit):
            with pytest.raises(error):
                probe()
        flags = [row & ~core.FLAG_EVIDENCE for row in records()["flags"].tolist()]
        assert flags == [core.FLAG_ERROR, core.FLAG_CANCELLED]

    def test_evidence(self, records: Records) -> None:
        """CPU time and fresh memory are the call's own."""

        def work() -> int:
            with mmap.mmap(-1, 4_000_000) as fresh:  # memory from malloc may have been touched before
                for page in range(0, len(fresh), mmap.PAGESIZE):
                    fresh[page] = 1
            return sum(range(100_000))

        probe, _ = make(work, p=1.0)
        idle, _ = make(lambda: threading.Event().wait(0.02), p=1.0)
        probe()
        idle()
        busy_row, idle_row = records()
        assert busy_row["cpu_ns"] > 200_000
        assert idle_row["cpu_ns"] < 15_000_000 <= idle_row["wall_ns"]
        if sys.platform == "linux":
            assert busy_row["minor_faults"] > 100
            assert idle_row["voluntary"] >= 1

    def test_parent_and_own_time(self, fake: FakeClock, records: Records) -> None:
        """A call knows who made it, and its own time is without its children's."""
        child = core.FunctionProbe(lambda: fake.advance(100), core.Site(1, "child"))
        outside = core.FunctionProbe(lambda: fake.advance(1), core.Site(3, "outside"))

        def body() -> None:
            fake.advance(10)
            child()
            child()

        parent = core.FunctionProbe(body, core.Site(2, "parent"))
        parent()
        outside()
        first, second, outer, last = records()
        assert first["parent"] == second["parent"] == 2
        assert outer["parent"] == last["parent"] == record.NO_PARENT
        assert (outer["wall_ns"], outer["own_ns"]) == (210, 10)
        assert (first["wall_ns"], first["own_ns"]) == (100, 100)

    def test_own_time_of_unsampled_children(self, fake: FakeClock, records: Records) -> None:
        """Children count whether sampled or not, failed or not, and grandchildren once."""
        grandchild = core.FunctionProbe(lambda: fake.advance(5), core.Site(1, "grandchild"))

        def fail() -> None:
            fake.advance(20)
            grandchild()
            raise KeyError

        child, site = make(fail)
        site.sample(0.0, 1, 0)

        def body() -> None:
            fake.advance(3)
            with pytest.raises(KeyError):
                child()

        parent = core.FunctionProbe(body, core.Site(2, "parent"))
        parent()
        row = records()[-1]
        assert (row["wall_ns"], row["own_ns"]) == (28, 3)

    def test_in_flight(self, records: Records) -> None:
        """A record has the calls in flight at its entry."""
        probe, _ = make(lambda n: n and probe(n - 1), p=1.0)
        probe(2)
        assert sorted(records()["in_flight"].tolist()) == [1, 2, 3]

    def test_size(self, records: Records) -> None:
        """size_of gets the arguments; None is no size."""
        probe, site = make(lambda *a, **k: None, p=1.0)
        site.size_of = lambda *items, scale=1: len(items) * scale if items else None
        probe(1, 2, 3, scale=0.5)
        probe()
        sizes = records()["size"]
        assert sizes[0] == 1.5
        assert numpy.isnan(sizes[1])

    @pytest.mark.parametrize("bad", [lambda: 1 // 0, lambda: "many"])
    def test_size_fails(self, records: Records, bad: Any) -> None:
        """A failing size function is told once and switched off; the call goes on."""
        faults: list[Any] = []
        core.set_fault(lambda *args: faults.append(args))
        probe, site = make(lambda: 7, p=1.0)
        site.size_of = bad
        assert [probe(), probe()] == [7, 7]
        ((kind, where, error),) = faults
        assert (kind, where) == ("size", site)
        assert isinstance(error, Exception)
        assert site.size_of is None
        assert len(records()) == 2

    def test_fault_hook_fails(self, records: Records) -> None:
        """Even a failing fault hook breaks nothing."""
        core.set_fault(lambda *args: 1 // 0)
        probe, site = make(lambda: 7, p=1.0)
        site.size_of = lambda: 1 // 0
        assert probe() == 7
        assert len(records()) == 1

    def test_trace(self, records: Records) -> None:
        """The active trace goes into the record."""
        traces = iter([(2**64 - 1, 2, 2**63), None])
        core.set_trace(lambda: next(traces))
        probe, _ = make(lambda: None, p=1.0)
        probe()
        probe()
        first, second = records()
        assert [int(first[name]) for name in ("trace_hi", "trace_lo", "span")] == [2**64 - 1, 2, 2**63]
        assert [int(second[name]) for name in ("trace_hi", "trace_lo", "span")] == [0, 0, 0]

    def test_trace_fails(self, records: Records) -> None:
        """A failing trace hook is told once and switched off."""
        faults: list[Any] = []
        asked: list[int] = []

        def bad() -> None:
            asked.append(1)
            raise RuntimeError("no")

        core.set_fault(lambda *args: faults.append(args))
        core.set_trace(bad)
        probe, _ = make(lambda: 7, p=1.0)
        assert [probe(), probe()] == [7, 7]
        assert [kind for kind, *_ in faults] == ["trace"]
        assert len(asked) == 1
        assert len(records()) == 2

    def test_tail(self, fake: FakeClock, records: Records) -> None:
        """A call above tail_ns leaves a record without weight and evidence, but with times and trace."""
        core.set_trace(lambda: (1, 2, 3))
        probe, site = make(fake.advance, p=0.0)
        assert site.tail_ns == NEVER
        site.tail_ns = 100
        for ns in (100, 101, 5):
            probe(ns)
        (row,) = records()
        assert (row["wall_ns"], row["own_ns"], row["weight"], row["flags"]) == (101, 101, 0, core.FLAG_TAIL)
        assert (row["trace_hi"], row["trace_lo"], row["span"]) == (1, 2, 3)
        assert row["cpu_ns"] == -1
        site.sample(1.0, 2**40, 0)
        probe(500)
        (row,) = records()
        assert row["flags"] == core.FLAG_EVIDENCE
        assert row["weight"] == 1

    @pytest.mark.parametrize("tail", [0, 60, 2**31, 2**40])
    def test_tail_borders(self, fake: FakeClock, records: Records, tail: int) -> None:
        """Above means above, for short and long tails, and for a call that fails."""

        def body(ns: int) -> None:
            fake.advance(ns)
            if ns > tail + 1:
                raise ValueError

        probe, site = make(body, p=0.0)
        site.tail_ns = tail
        probe(tail)
        probe(tail + 1)
        with pytest.raises(ValueError):
            probe(tail + 2)
        rows = records()
        assert rows["wall_ns"].tolist() == [tail + 1, tail + 2]
        assert rows["flags"].tolist() == [core.FLAG_TAIL, core.FLAG_TAIL | core.FLAG_ERROR]

    def test_tail_real_clock(self, records: Records) -> None:
        """A tail below a microsecond holds with the real clock as well, from any call on."""
        probe, site = make(lambda: None, p=0.0)
        for _ in range(1000):
            probe()
        site.tail_ns = 0
        for _ in range(100):
            probe()
        assert len(records()) + site.histogram()[0] >= 100
        site.tail_ns = NEVER
        probe()
        assert len(records()) == 0

    def test_unbiased(self, fake: FakeClock, records: Records) -> None:
        """Weighted by 1/p, samples give the true number and time of calls, though p changes within the
        window.
        """
        core.seed(12)
        counted, timed = [], []
        for _ in range(60):
            probe, site = make(fake.advance, p=0.5, quota=20)
            truth = 0
            for n in range(2000):
                if n == 700:
                    site.sample(0.02, 20)
                ns = 5 + n % 7
                truth += ns
                probe(ns)
            rows = records()
            assert not (rows["flags"] & core.FLAG_FIRST).any()
            counted.append(rows["weight"].sum() / 2000)
            timed.append((rows["weight"] * rows["wall_ns"].astype(float)).sum() / truth)
        for estimates in (counted, timed):
            error = numpy.std(estimates, ddof=1) / numpy.sqrt(len(estimates))
            assert abs(numpy.mean(estimates) - 1) < 4 * error
            assert error < 0.1

    def test_quota(self, records: Records) -> None:
        """Beyond the quota the probability halves again and again: a burst costs a logarithm of samples."""
        core.seed(1)
        probe, site = make(lambda: None, p=1.0, quota=20)
        for _ in range(20_000):
            probe()
        rows = records()
        assert (rows["weight"][:19] == 1).all()
        weights = sorted(set(rows["weight"].tolist()))
        assert len(weights) > 4
        assert all(weight == 2**n for n, weight in enumerate(weights))
        assert len(rows) < 20 + 10 * 15
        site.sample(1.0, 20)
        probe()
        assert records()["weight"].tolist() == [1]

    def test_geometric(self, records: Records) -> None:
        """Gaps have no memory: the share sampled is p, and so is the share right after a sample."""
        core.seed(5)
        probe, _ = make(lambda: None, p=0.25)
        picks = []
        for _ in range(8000):
            probe()
            picks.append(len(records()))
        after = [b for a, b in itertools.pairwise(picks) if a]
        assert abs(sum(picks) / len(picks) - 0.25) < 0.02
        assert abs(sum(after) / len(after) - 0.25) < 0.04

    def test_seed(self, fake: FakeClock, records: Records) -> None:
        """The same seed gives the same gaps."""

        def run(seed: int) -> list[int]:
            core.seed(seed)
            probe, _ = make(fake.advance, p=0.1)
            start = fake.now
            for _ in range(500):
                probe(1)
            return [int(n) - start for n in records()["start_ns"]]

        assert run(3) == run(3)
        assert run(3) != run(4)

    @pytest.mark.parametrize("bad", [(1.5, 10), (-0.1, 10), (0.5, 0), (0.5, 10, -1), (float("nan"), 10)])
    def test_refused(self, bad: Any) -> None:
        """Impossible sampling is refused."""
        with pytest.raises(HotlapError):
            core.Site(1, "f").sample(*bad)

    def test_cost(self, fake: FakeClock, records: Records) -> None:
        """What sampling costs is counted: here the size function takes 30 ns."""
        probe, site = make(lambda: None, p=1.0)
        site.size_of = lambda: fake.advance(30) or 1
        samples, ns = core.sampling_cost()
        probe()
        probe()
        assert core.sampling_cost() == (samples + 2, ns + 60)
        assert [row["wall_ns"] for row in records()] == [0, 0]

    def test_gc(self, fake: FakeClock, records: Records) -> None:
        """Time in the collector that fell into a call is in its record."""

        def body() -> None:
            core.on_gc("start", {})
            fake.advance(40)
            core.on_gc("stop", {})

        probe, _ = make(body, p=1.0)
        probe()
        assert records()["gc_ns"].tolist() == [40]
        core.on_gc("stop", {})


class TestFork:
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_child(self, registry: dict[str, core.Site], records: Records) -> None:
        """A child starts from zero, and calls that began before the fork never count there."""
        site = registry["f"] = core.Site(1, "f")
        answer, question = os.pipe()

        def body(fork: bool) -> int:
            if not fork:
                return 1
            pid = os.fork()
            if pid == 0:
                core.after_fork()
            return pid

        probe = core.FunctionProbe(body, site)

        def flow() -> Any:
            yield os.getpid()
            yield probe(True)

        flow_site = registry["g"] = core.Site(2, "g")
        flow_probe = core.FunctionProbe(flow, flow_site, core.FOLLOW_GENERATOR)
        probe(False)
        generator = flow_probe()
        parent = next(generator)
        next(generator)
        generator.close()
        if os.getpid() != parent:
            probe(False)
            read, flows = counts(site), counts(flow_site)
            rows = records()
            words = [
                read["calls"],
                read["timed"],
                read["in_flight"],
                flows["calls"],
                flows["in_flight"],
                len(rows),
            ]
            os.write(question, ",".join(map(str, words)).encode())
            os._exit(0)
        os.wait()
        assert os.read(answer, 100).decode() == "1,1,0,0,0,1"
        assert counts(site)["calls"] == 2
        assert counts(flow_site)["calls"] == 1
        os.close(answer)
        os.close(question)


class TestProbe:
    def test_is_a_wrapt_wrapper(self) -> None:
        """A probe is a wrapt.FunctionWrapper, and passes for the function."""

        def f(a: int, b: str = "x") -> str:
            """Doc."""
            return b * a

        probe, site = make(f)
        assert isinstance(probe, wrapt.FunctionWrapper)
        assert isinstance(probe, types.FunctionType)
        assert issubclass(type(probe), core.Probe)
        assert inspect.signature(probe) == inspect.signature(f)
        assert (probe.__name__, probe.__doc__, probe.__module__) == ("f", "Doc.", __name__)
        assert probe.__wrapped__ is f
        assert probe._self_site is site
        assert probe._self_flow == core.FOLLOW_COROUTINE
        assert probe == f
        assert hash(probe) == hash(f)
        assert probe(2) == "xx"
        assert probe(a=2, b="y") == "yy"
        assert weakref.ref(probe)() is probe
        with pytest.raises(AttributeError):
            probe._self_site = site

    def test_wrong_arguments(self) -> None:
        """A TypeError is the function's own, and counts as an error."""

        def f(a: int) -> int:
            return a

        probe, site = make(f)
        with pytest.raises(TypeError, match=r"f\(\) missing 1 required positional argument: 'a'"):
            probe()
        assert counts(site)["errors"] == 1

    def test_methods(self) -> None:
        """FunctionProbe binds like a function."""
        site = core.Site(1, "m")

        class C:
            @functools.partial(core.FunctionProbe, site=site)
            def m(self, x: int) -> tuple[Any, int]:
                return self, x

        c = C()
        bound = c.m
        assert type(bound) is types.MethodType
        assert bound.__self__ is c
        assert bound.__func__ is C.__dict__["m"]
        assert bound(1) == c.m(1) == C.m(c, 1) == (c, 1)
        assert counts(site)["calls"] == 3

    def test_descriptors(self) -> None:
        """Probe asks what it wraps to bind, and is a probe over what comes of it."""
        site = core.Site(1, "m")

        class C:
            a = core.Probe(lambda self, x: (self, x), site)
            b = core.Probe(staticmethod(lambda x: x), site)

        c = C()
        assert c.a(1) == C.a(c, 1) == (c, 1)
        assert C.b(2) == c.b(2) == 2
        assert issubclass(type(c.a), core.Probe)
        assert c.a.__self__ is c
        assert c.a._self_site is site
        assert counts(site)["calls"] == 4
        bound = c.a
        core.enable(False)
        assert bound(1) == c.a(1) == (c, 1)
        core.enable(True)
        assert counts(site)["calls"] == 4

    def test_callables(self) -> None:
        """Builtins, partials, classes and callable instances."""
        site = core.Site(1, "c")

        class Adder:
            def __init__(self, n: int) -> None:
                self.n = n

            def __call__(self, x: int) -> int:
                return self.n + x

        assert core.Probe(len, site)([1]) == 1
        assert core.Probe(functools.partial(int, base=2), site)("11") == 3
        assert core.Probe(Adder, site)(2).n == 2
        assert core.Probe(Adder(3), site)(4) == 7
        assert counts(site)["calls"] == 4

        class Host:
            size = core.Probe(len, site)

        assert Host().size([1, 2]) == 2

    def test_wrapped_can_be_replaced(self) -> None:
        """Assigning __wrapped__ changes what is called."""
        probe, site = make(lambda: 1)
        probe.__wrapped__ = lambda: 2
        assert probe() == 2
        assert counts(site)["calls"] == 1

    @pytest.mark.parametrize("kind", [core.Probe, core.FunctionProbe])
    def test_refused(self, kind: Any) -> None:
        """What is not callable, and what is no site."""
        with pytest.raises(TypeError):
            kind(3, core.Site(1, "f"))
        with pytest.raises(TypeError):
            kind(lambda: None, "site")
        with pytest.raises(TypeError, match="not a plain function"):
            core.FunctionProbe(len, core.Site(1, "f"))

    def test_pickle(self, registry: dict[str, core.Site], monkeypatch: pytest.MonkeyPatch) -> None:
        """By name where there is one; a callable instance goes by value, with its site's name."""
        probe, _ = make(by_name)
        monkeypatch.setattr(sys.modules[__name__], "by_name", probe)
        assert pickle.loads(pickle.dumps(probe)) is probe
        site = registry["partial"] = core.Site(9, "partial")
        other = pickle.loads(pickle.dumps(core.Probe(functools.partial(int, base=2), site, 3)))
        assert other("11") == 3
        assert other._self_site is site
        assert other._self_flow == 3
        assert counts(site)["calls"] == 1

    def test_copy(self) -> None:
        """Functions copy to themselves, callable instances to a probe over the copy."""
        probe, site = make(lambda: 1)
        assert copy.copy(probe) is probe
        assert copy.deepcopy([probe])[0] is probe

        class Box:
            def __init__(self) -> None:
                self.items = [1]

            def __call__(self) -> list[int]:
                return self.items

        instance = core.Probe(Box(), site)
        shallow, deep = copy.copy(instance), copy.deepcopy(instance)
        assert shallow() is instance()
        assert deep() == instance()
        assert deep() is not instance()
        assert deep._self_site is site

    def test_site(self) -> None:
        """id and name, a place for the registry's own, and weak references."""
        site = core.Site(3, "name", info={"a": 1})
        assert (site.id, site.name, site.info) == (3, "name", {"a": 1})
        site.info = None
        assert site.info is None
        assert weakref.ref(site)() is site
        assert "name" in repr(site)


class TestBlock:
    def test_measures(self, fake: FakeClock, records: Records, registry: dict[str, core.Site]) -> None:
        """A block is a site: counted, timed, sampled, with a size."""
        with core.Measurement("block", size=17) as m:
            assert isinstance(m, core.Measurement)
            fake.advance(12)
        site = registry["block"]
        assert (counts(site)["calls"], counts(site)["total_ns"]) == (1, 12)
        (row,) = records()
        assert (row["wall_ns"], row["own_ns"], row["size"], row["site"]) == (12, 12, 17, site.id)
        assert row["flags"] == core.FLAG_BLOCK | core.FLAG_EVIDENCE | core.FLAG_FIRST

    def test_options(self) -> None:
        """A new name, or options, ask the registry's hook; a known name alone does not."""
        asked: list[Any] = []
        own: dict[str, core.Site] = {}

        def missing(name: str, options: Any) -> core.Site:
            asked.append((name, dict(options)))
            return own.setdefault(name, core.Site(1, name))

        core.set_sites(own, missing)
        core.Measurement("a")
        core.Measurement("a", size=3)
        core.Measurement("a", slo=0.5, tags={"k": "v"})
        assert asked == [("a", {}), ("a", {"slo": 0.5, "tags": {"k": "v"}})]
        for bad in (3, None, ["a"]):
            with pytest.raises(TypeError):
                core.Measurement(bad)

    def test_exceptions(self, registry: dict[str, core.Site]) -> None:
        """An exception counts as an error and goes through."""
        error = ValueError()
        with pytest.raises(ValueError) as caught, core.Measurement("block"):
            raise error
        assert caught.value is error
        with pytest.raises(GeneratorExit), core.Measurement("block"):
            raise GeneratorExit
        read = counts(registry["block"])
        assert (read["calls"], read["errors"], read["cancelled"], read["in_flight"]) == (2, 1, 1, 0)

    def test_nested(self, fake: FakeClock, records: Records, registry: dict[str, core.Site]) -> None:
        """Blocks and calls are each other's parents."""
        probe = core.FunctionProbe(lambda: fake.advance(5), core.Site(1, "f"))
        with core.Measurement("outer"):
            fake.advance(1)
            with core.Measurement("inner"):
                fake.advance(2)
                probe()
        call, inner, outer = records()
        assert (call["parent"], inner["parent"], outer["parent"]) == (
            inner["site"],
            outer["site"],
            record.NO_PARENT,
        )
        assert (inner["wall_ns"], inner["own_ns"]) == (7, 2)
        assert (outer["wall_ns"], outer["own_ns"]) == (8, 1)

    def test_reentrant(self, fake: FakeClock, records: Records, registry: dict[str, core.Site]) -> None:
        """One object may be entered again while it is open."""
        m = core.Measurement("block")
        with m:
            fake.advance(1)
            with m, m:
                fake.advance(2)
                assert counts(registry["block"])["in_flight"] == 3
        with m:
            pass
        assert records()["wall_ns"].tolist() == [2, 2, 3, 0]
        assert counts(registry["block"])["in_flight"] == 0

    def test_threads(self, registry: dict[str, core.Site]) -> None:
        """One object in several threads."""
        m = core.Measurement("block")
        gate = threading.Barrier(3)

        def run() -> None:
            for _ in range(50):
                with m:
                    gate.wait()
                gate.wait()

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        read = counts(registry["block"])
        assert (read["calls"], read["in_flight"], read["in_flight_peak"]) == (150, 0, 3)

    def test_switched_off(self, registry: dict[str, core.Site]) -> None:
        """Entered while off it counts nothing, whatever happens inside; entered while on it counts."""
        m = core.Measurement("block")
        core.enable(False)
        with m:
            core.enable(True)
            with m:
                core.enable(False)
                m.record(rows=1)
        core.enable(True)
        read = counts(registry["block"])
        assert (read["calls"], read["in_flight"]) == (1, 0)
        assert not registry["block"].metrics

    def test_count_mode(self, registry: dict[str, core.Site], records: Records) -> None:
        """On counting alone."""
        m = core.Measurement("block")
        registry["block"].mode = core.COUNT
        with pytest.raises(KeyError), m:
            raise KeyError
        read = counts(registry["block"])
        assert (read["calls"], read["timed"], read["errors"], read["in_flight"]) == (1, 0, 1, 0)
        assert len(records()) == 0

    def test_tail(self, fake: FakeClock, registry: dict[str, core.Site], records: Records) -> None:
        """A slow block leaves a record."""
        m = core.Measurement("block")
        registry["block"].sample(0.0, 1, 0)
        registry["block"].tail_ns = 10
        with m:
            fake.advance(11)
        (row,) = records()
        assert row["flags"] == core.FLAG_TAIL | core.FLAG_BLOCK

    def test_exit_without_enter(self, registry: dict[str, core.Site]) -> None:
        """Left more often than entered: an error, and no harm."""
        m = core.Measurement("block")
        with pytest.raises(HotlapError):
            m.__exit__(None, None, None)
        with m:
            pass
        assert counts(registry["block"])["calls"] == 1

    def test_metrics(self, registry: dict[str, core.Site]) -> None:
        """record() adds numbers: count, total, min, max."""
        with core.Measurement("block") as m:
            m.record(rows=17, hits=0.5)
            m.record(rows=3)
        metrics = registry["block"].metrics
        assert metrics is not None
        assert {name: list(entry) for name, entry in metrics.items()} == {
            "rows": [2, 20.0, 3.0, 17.0],
            "hits": [1, 0.5, 0.5, 0.5],
        }
        for bad in ("17", None, float("nan"), True):
            with pytest.raises(TypeError):
                m.record(rows=bad)
        assert metrics["rows"][0] == 2

    def test_decorator(self, registry: dict[str, core.Site]) -> None:
        """As a decorator it asks the hook."""
        asked: list[Any] = []

        def decorate(name: str, options: Any, func: Any) -> Any:
            asked.append((name, dict(options), func))
            return "probe"

        core.set_decorate(decorate)
        assert core.Measurement("block", slo=1)(len) == "probe"
        assert asked == [("block", {"slo": 1}, len)]
        core.set_decorate(None)
        with pytest.raises(HotlapError):
            core.Measurement("block")(len)
