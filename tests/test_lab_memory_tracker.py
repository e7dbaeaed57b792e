"""MemoryTracker: the memory of a block of code, by itself."""

from __future__ import annotations

import gc
import mmap
import tracemalloc
from typing import Any

import pytest

from hotlap.errors import HotlapError
from hotlap.lab.looks.memory import MemoryTracker
from memory_looks import linux


def test_the_tracker_tells_peak_and_rest_of_a_block() -> None:
    with MemoryTracker() as memory:
        passing = bytes(10_000_000)
        kept = bytearray(2_000_000)
        del passing
    assert memory.peak_mb == pytest.approx(12, rel=0.01)
    assert memory.retained_mb == pytest.approx(2, rel=0.01)
    assert memory.sites[0].code == "kept = bytearray(2_000_000)"
    assert memory.sites[0].bytes == pytest.approx(len(kept), rel=0.01)
    assert not tracemalloc.is_tracing()


def test_the_tracker_bills_nothing_for_itself() -> None:
    with MemoryTracker() as memory:
        pass
    assert memory.peak_mb is not None
    assert memory.retained_mb is not None
    assert 0 <= memory.peak_mb < 0.005
    assert abs(memory.retained_mb) < 0.005
    assert sum(site.bytes for site in memory.sites) < 500


@linux
def test_the_tracker_reads_the_resident_memory() -> None:
    with MemoryTracker(trace=False) as memory:
        assert not tracemalloc.is_tracing()
        kept = mmap.mmap(-1, 20_000_000)
        kept.write(bytes(20_000_000))
    assert memory.rss_growth_mb == pytest.approx(20, abs=3)
    assert memory.rss_mb is not None
    assert memory.rss_mb > 20
    assert (memory.peak_mb, memory.retained_mb, memory.cyclic_mb) == (None, None, None)
    kept.close()


def test_the_tracker_sees_cycles_and_collections() -> None:
    gc.disable()
    try:
        with MemoryTracker() as memory:
            part: list[Any] = [bytes(300_000)]
            part.append(part)
            del part
            so_far, cyclic = memory.retained_mb, memory.cyclic_mb
        assert so_far == pytest.approx(0.3, rel=0.02)
        assert cyclic is None
        assert memory.cyclic_mb == pytest.approx(0.3, rel=0.02)
        assert memory.retained_mb == pytest.approx(0, abs=0.005)
        assert memory.collections == (0, 0, 0)
        with memory:
            gc.collect()
        assert sum(memory.collections) == 1
        assert 0 < memory.longest_gc_pause_s <= memory.gc_pause_s
    finally:
        gc.enable()


def test_trackers_nest_and_none_takes_the_others_peak() -> None:
    with MemoryTracker() as outer:
        len(bytes(3_000_000))
        with MemoryTracker() as inner:
            len(bytes(1_000_000))
        assert tracemalloc.is_tracing()
    assert outer.peak_mb == pytest.approx(3, rel=0.01)
    assert inner.peak_mb == pytest.approx(1, rel=0.01)
    assert not tracemalloc.is_tracing()


def test_the_tracker_is_used_again_from_the_start() -> None:
    memory = MemoryTracker()
    assert (memory.peak_mb, memory.rss_mb, memory.blocks) == (None, None, None)
    memory.start()
    first = bytes(5_000_000)
    memory.stop()
    memory.start()
    second = bytes(1_000_000)
    memory.stop()
    assert memory.retained_mb == pytest.approx(1, rel=0.01)
    assert (len(first), len(second)) == (5_000_000, 1_000_000)


def test_the_tracker_says_what_it_cannot_do() -> None:
    memory = MemoryTracker()
    with pytest.raises(HotlapError, match="does not run: call start"):
        memory.stop()
    with memory, pytest.raises(HotlapError, match="runs already: call stop"):
        memory.start()


def test_the_tracker_leaves_the_users_tracing_on_and_tells_only_what_is_new() -> None:
    tracemalloc.start(2)
    try:
        before = bytes(1_000_000)
        with MemoryTracker() as memory:
            kept = bytes(500_000)
        assert tracemalloc.is_tracing()
        assert memory.retained_mb == pytest.approx(0.5, rel=0.01)
        assert [site.code for site in memory.sites] == ["kept = bytes(500_000)"]
        assert (len(before), len(kept)) == (1_000_000, 500_000)
    finally:
        tracemalloc.stop()
