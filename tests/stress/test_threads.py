"""Many threads: counters stay exact, every record is drained once or counted as lost, and is whole."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conftest import counts
from hotlap import core

FOLLOW_ALL = core.FOLLOW_COROUTINE | core.FOLLOW_GENERATOR | core.FOLLOW_ASYNC_GENERATOR


def together(*works: Callable[[], object]) -> None:
    """Runs all at once, each in its thread, and raises the first error."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(works))

    def guarded(work: Callable[[], object]) -> None:
        try:
            start.wait()
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("capacity", [2, 16, 1024])
def test_ring(capacity: int) -> None:
    """Writers outrun the reader: drained and lost add up to written, and each record is whole."""
    ring = core.Ring(capacity)
    core.set_ring(ring)
    writers, calls = 6, 20_000
    sites = [core.Site(number, f"writer {number}") for number in range(writers)]
    for site in sites:
        site.sample(1.0, 10**9, first=0)
        site.size_of = lambda number, index: number * 1e6 + index
    blocks: list[bytearray] = []
    going = [True]

    def write(number: int) -> None:
        probe = core.FunctionProbe(lambda number, index: None, sites[number])
        for index in range(calls):
            probe(number, index)
            if index % 1000 == 0:
                time.sleep(0)

    def read() -> None:
        while going:
            blocks.append(ring.drain(random.choice([None, 1, 7])))
            if random.random() < 0.1:
                time.sleep(0.0005)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers:
        thread.start()
    together(*(lambda number=number: write(number) for number in range(writers)))  # type: ignore[misc]
    going.clear()
    for thread in readers:
        thread.join()
    blocks.append(ring.drain())
    records = np.frombuffer(b"".join(blocks), core.record_dtype())
    assert ring.written == writers * calls
    assert len(records) + ring.lost == ring.written
    assert np.array_equal(records["size"] // 1e6, records["site"])
    for number in range(writers):
        mine = records["size"][records["site"] == number]
        assert len(np.unique(mine)) == len(mine)
        assert len(np.unique(records["thread"][records["site"] == number])) <= 1
    for site in sites:
        assert counts(site)["calls"] == calls


def test_counters() -> None:
    """Nothing is lost or counted twice, whatever kind of call, in however many threads."""
    site = core.Site(1, "shared")
    own: dict[str, core.Site] = {"block": core.Site(2, "block")}
    core.set_sites(own, lambda name, options: own[name])
    core.set_ring(core.Ring(64))
    shared = core.measure("block")
    leaf = core.FunctionProbe(lambda: time.sleep(0), site)

    def generate() -> Any:
        yield 1
        yield 2

    async def answer() -> None:
        leaf()

    items = core.FunctionProbe(generate, site, FOLLOW_ALL)
    answering = core.FunctionProbe(answer, site)
    threads, rounds = 8, 1500

    def work() -> None:
        for _ in range(rounds):
            leaf()
            list(items())
            with pytest.raises(StopIteration):
                answering().send(None)
            with shared:
                leaf()
            shared.record(rows=1)

    together(*[work] * threads)
    read = counts(site)
    assert read["calls"] == read["timed"] == threads * rounds * 5
    assert (read["in_flight"], read["errors"]) == (0, 0)
    assert sum(site.histogram()) == read["timed"]
    block = counts(own["block"])
    assert (block["calls"], block["in_flight"]) == (threads * rounds, 0)
    assert own["block"].metrics is not None
    assert own["block"].metrics["rows"][:2] == [threads * rounds, float(threads * rounds)]


def test_many_threads() -> None:
    """Two thousand threads that come and go, each with a first call of its own."""
    site = core.Site(1, "short")
    ring = core.Ring(4096)
    core.set_ring(ring)
    site.sample(1.0, 10**9, first=0)
    probe = core.FunctionProbe(lambda: None, site)
    for _ in range(50):
        threads = [threading.Thread(target=probe) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    records = np.frombuffer(ring.drain(), core.record_dtype())
    assert counts(site)["calls"] == len(records) == 2000
    assert (records["thread"] > 0).all()
    assert (records["parent"] == core.NO_PARENT).all()


def test_switches_under_load() -> None:
    """Everything that the recorder sets may change while calls are under way."""
    site = core.Site(1, "busy")
    rings = [core.Ring(64), core.Ring(2), None]
    probe = core.FunctionProbe(lambda *args: None, site)
    going = [True]
    chance = random.Random(3)

    def call() -> None:
        while going:
            probe(1)

    def change() -> None:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            core.set_ring(chance.choice(rings))
            core.set_trace(chance.choice([None, lambda: (1, 2, 3), lambda: 1 / 0]))  # type: ignore[arg-type, return-value]
            site.size_of = chance.choice([None, lambda *args: 1, lambda *args: 1 / 0])
            site.mode = chance.choice([core.COUNT, core.TIME])
            site.tail_ns = chance.choice([0, 1000, 2**64 - 1])
            site.sample(chance.random(), 5, chance.choice([None, 3]))
            core.enable(chance.random() < 0.9)
            probe.__wrapped__ = chance.choice([lambda *args: None, lambda *args: args])
            core.collect([site], bytearray(8 * len(core.COUNTERS)), bytearray(8 * core.BUCKETS))
        going.clear()

    together(call, call, call, change)
    read = counts(site)
    assert read["in_flight"] == 0
    assert read["calls"] >= read["timed"] == sum(site.histogram())
