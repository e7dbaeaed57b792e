"""The ring: whole records, oldest first, the oldest overwritten, each loss counted."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import FakeClock
from hotlap import HotlapError, core


def writer(ring: core.Ring) -> Callable[[], None]:
    """A function that leaves one record per call in `ring`."""
    core.set_ring(ring)
    site = core.Site(7, "f")
    site.sample(1.0, 2**40, 0)
    return core.FunctionProbe(lambda: None, site)


def starts(block: bytearray) -> list[int]:
    return [int(n) for n in numpy.frombuffer(block, core.record_dtype())["start_ns"]]


@pytest.mark.parametrize("capacity", [-8, 0, 1, 3, 1000])
def test_capacity(capacity: int) -> None:
    """Only powers of two from 2 on; the message gives the value."""
    with pytest.raises(ValueError, match=f"{capacity}.*power of two") as caught:
        core.Ring(capacity)
    assert isinstance(caught.value, HotlapError)
    assert core.Ring(8).capacity == 8


def test_order_and_loss(fake: FakeClock) -> None:
    """What does not fit overwrites the oldest, and is counted."""
    ring = core.Ring(4)
    write = writer(ring)
    for _ in range(6):
        fake.advance(10)
        write()
    base = fake.now - 60
    assert starts(ring.drain()) == [base + 10 * n for n in (3, 4, 5, 6)]
    assert ring.lost == 2
    assert ring.written == 6
    assert ring.drain() == bytearray()
    assert isinstance(ring.drain(), bytearray)


def test_limit() -> None:
    """drain(limit) leaves the rest."""
    ring = core.Ring(8)
    write = writer(ring)
    for _ in range(5):
        write()
    assert len(ring.drain(2)) == 2 * core.RECORD_BYTES
    assert len(ring.drain(0)) == 0
    assert len(ring.drain()) == 3 * core.RECORD_BYTES
    with pytest.raises(ValueError, match="-1"):
        ring.drain(-1)


def test_clear() -> None:
    """clear() forgets the records and the losses."""
    ring = core.Ring(2)
    write = writer(ring)
    for _ in range(5):
        write()
    ring.drain(1)
    ring.clear()
    assert len(ring.drain()) == 0
    assert ring.lost == 0
    write()
    assert len(ring.drain()) == core.RECORD_BYTES
    assert ring.lost == 0


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([2, 4, 16]), st.lists(st.integers(-20, 20), max_size=40))
def test_model(capacity: int, steps: list[int]) -> None:
    """Against a bounded deque: positive steps write so many records, others drain at most so many."""
    clock = FakeClock(0)
    core.set_clock(clock)
    try:
        ring = core.Ring(capacity)
        write = writer(ring)
        model: deque[int] = deque()
        written = lost = 0
        for step in steps:
            if step > 0:
                for _ in range(step):
                    clock.advance(1)
                    write()
                    model.append(clock.now)
                    written += 1
                continue
            while len(model) > capacity:
                model.popleft()
                lost += 1
            expected = [model.popleft() for _ in range(min(-step, len(model)))]
            assert starts(ring.drain(-step)) == expected
            assert ring.lost == lost
        assert ring.written == written
    finally:
        core.set_clock(None)
        core.set_ring(None)


def test_many_writers() -> None:
    """With writers in threads and a reader, every record written is drained once or counted as lost."""
    ring = core.Ring(64)
    write = writer(ring)
    drained = 0

    def run() -> None:
        for _ in range(3000):
            write()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        block = ring.drain()
        assert len(block) % core.RECORD_BYTES == 0
        drained += len(block) // core.RECORD_BYTES
    drained += len(ring.drain()) // core.RECORD_BYTES
    ring.drain()
    assert ring.written == 12_000
    assert drained + ring.lost == 12_000


class TestOfASite:
    """A ring that a site has of its own."""

    def test_has_its_records(self, ring: core.Ring) -> None:
        """They go there and not to the recorder's, without a recorder too; None gives the site back to it."""
        own = core.Ring(8)
        site = core.Site(3, "own")
        site.sample(1.0, 2**40, 0)
        probe = core.FunctionProbe(lambda: None, site)
        assert site.ring is None
        probe()
        site.ring = own
        assert site.ring is own
        probe()
        core.set_ring(None)
        probe()
        assert (len(starts(ring.drain())), len(starts(own.drain()))) == (1, 2)
        site.ring = None
        core.set_ring(ring)
        probe()
        assert (len(starts(ring.drain())), len(starts(own.drain()))) == (1, 0)

    def test_wakes_a_site(self) -> None:
        """Calls that came due while there was no ring at all: the next one is sampled."""
        site = core.Site(3, "own")
        probe = core.FunctionProbe(lambda: None, site)
        for _ in range(3):
            probe()
        site.ring = own = core.Ring(8)
        probe()
        assert len(starts(own.drain())) == 1

    def test_slow_calls_too(self, fake: FakeClock) -> None:
        """Also of a call that is here only because it was slow."""
        site = core.Site(3, "own")
        site.sample(0.0, 1, 0)
        site.tail_ns = 10
        site.ring = own = core.Ring(8)
        probe = core.Probe(fake.advance, site)
        probe(10)
        probe(11)
        (row,) = numpy.frombuffer(own.drain(), core.record_dtype())
        assert (row["wall_ns"], row["flags"]) == (11, core.FLAG_TAIL)

    def test_costs_the_recorder_nothing(self, fake: FakeClock, ring: core.Ring) -> None:
        """Such samples are not in its books, and nobody asks for their trace."""
        asked: list[int] = []
        core.set_trace(lambda: asked.append(1))
        site = core.Site(3, "own")
        site.sample(1.0, 2**40, 0)
        site.ring = core.Ring(8)
        before = core.sampling_cost()
        core.FunctionProbe(lambda: None, site)()
        assert core.sampling_cost() == before
        assert asked == []

    @pytest.mark.parametrize("wrong", [5, "ring", []], ids=repr)
    def test_refused(self, wrong: object) -> None:
        with pytest.raises(TypeError, match="must be a Ring"):
            core.Site(3, "own").ring = wrong  # type: ignore[assignment]


def test_drained_without_an_object_for_each_record() -> None:
    """One block of memory is all that is made."""
    ring = core.Ring(8192)
    write = writer(ring)
    for _ in range(8000):
        write()
    before = sys.getallocatedblocks()
    rows = numpy.frombuffer(ring.drain(), core.record_dtype())
    assert sys.getallocatedblocks() - before < 100
    assert len(rows) == 8000
