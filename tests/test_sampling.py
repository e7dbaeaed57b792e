"""Which calls leave a record, and what is in it, over both cores."""

from __future__ import annotations

import itertools
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import numpy
import pytest

from conftest import FakeClock
from hotlap import HotlapError, core
from hotlap.core import record
from probes import NEVER, Records, make


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


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot share a CPU on purpose here")
def test_losing_the_cpu(records: Records) -> None:
    """A call that has to share its CPU is taken off it, which is not the same as giving it up."""

    def spin() -> None:
        until = time.thread_time_ns() + 50_000_000
        while time.thread_time_ns() < until:
            pass

    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        with subprocess.Popen([sys.executable, "-S", "-c", "print(flush=True)\nwhile True: pass"], stdout=-1) as other:
            other.stdout.readline()
            make(spin, p=1.0)[0]()
            other.kill()
    finally:
        os.sched_setaffinity(0, allowed)
    (row,) = records()
    assert row["involuntary"] >= 1


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="cannot put a file out of memory here")
def test_page_from_disk(records: Records) -> None:
    """A page that has to be read is a major fault of the call that touches it."""
    with tempfile.TemporaryFile() as file:
        file.write(bytes(64 * mmap.PAGESIZE))
        file.flush()
        os.fsync(file.fileno())
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            make(lambda: pages[0], p=1.0)[0]()
    (row,) = records()
    assert row["major_faults"] >= 1  # needs a file system on a disk: on tmpfs there are none
