"""I/O: known bytes and operations are counted exactly, syncs are seen and timed, and waiting is told from computing."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotlap.lab.config import BenchmarkConfig, DebugLevel
from hotlap.lab.kinds.io import IO
from hotlap.lab.looks import io as lab_io
from hotlap.lab.looks.intervals import Intervals
from hotlap.lab.looks.io import IOTracker
from hotlap.lab.looks.standins import Call, Replacement, StandIns
from hotlap.lab.runs.limits import Guard
from kinds import examined

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells this, others do not")
pytestmark = linux


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))
    return path


@pytest.fixture(autouse=True)
def originals() -> Iterator[None]:
    """The functions that were replaced are back when nobody looks any more."""
    before = os.fsync, os.fdatasync, os.sync
    yield
    assert (os.fsync, os.fdatasync, os.sync) == before


def write(path: Path, size: int, times: int = 1) -> None:
    """So many bytes in so many system calls, and nothing else."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    for _ in range(times):
        assert os.write(descriptor, bytes(size)) == size
    os.close(descriptor)


def read(path: Path, size: int) -> None:
    """All of a file, so many bytes at a time, and the empty read at its end."""
    descriptor = os.open(path, os.O_RDONLY)
    while os.read(descriptor, size):
        pass
    os.close(descriptor)


# -- the tracker --------------------------------------------------------------------------------------------------


def test_bytes_and_operations_are_exact(file: Path, tmp_path: Path) -> None:
    """Not a byte more or less than was read and written, although looking is reading, too."""
    with IOTracker() as io:
        read(file, 1000)
        write(tmp_path / "new", 500, times=7)
    assert io.bytes_read == 100_000
    assert io.read_calls == 101
    assert io.bytes_written == 3500
    assert io.write_calls == 7


def test_doing_nothing_is_nothing() -> None:
    """Looking at the counters leaves no trace in them, nor does the thread that watches a run's limits."""
    io = IOTracker()
    with Guard(BenchmarkConfig()):
        for _ in range(50):
            io.before()
            time.sleep(0.002)
            io.after()
    assert io.spans == 50
    assert (io.bytes_read, io.read_calls, io.bytes_written, io.write_calls) == (0, 0, 0, 0)


def test_what_lies_between_spans_is_not_counted(file: Path) -> None:
    """Setup and teardown are the user's, but not the call's."""
    io = IOTracker(syncs=False)
    for _ in range(3):
        io.before()
        read(file, 100_000)
        io.after()
        read(file, 10)
    assert io.bytes_read == 300_000
    assert io.read_calls == 6


def test_other_threads_and_children_that_were_waited_for_are_counted(tmp_path: Path) -> None:
    """The kernel counts for the process, whoever works for it."""
    with IOTracker() as io:
        thread = threading.Thread(target=write, args=(tmp_path / "thread", 1234, 2))
        thread.start()
        thread.join()
        with open(tmp_path / "child", "wb") as out:
            subprocess.run(["head", "-c", "4321", "/dev/zero"], stdout=out, check=True)
    assert io.bytes_written == 2 * 1234 + 4321


def test_syncs_are_counted_and_timed(tmp_path: Path) -> None:
    """Each fsync and fdatasync by Python code; together they take no longer than the span."""
    with IOTracker() as io, open(tmp_path / "file", "wb") as file:
        for _ in range(3):
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
        os.fdatasync(file.fileno())
    assert io.fsync_calls == 4
    assert 0.0 < io.fsync_s < io.wall_s
    assert io.fsync_share == pytest.approx(io.fsync_s / io.wall_s)
    assert len(io.sync.durations_s) == 4


def test_a_sync_that_fails_fails_as_ever() -> None:
    """The stand-in changes nothing: neither the result nor the exception."""
    with IOTracker() as io, pytest.raises(OSError, match="Bad file descriptor"):
        os.fsync(10**6)
    assert io.fsync_calls == 1


def test_what_was_held_on_to_before_is_not_seen(tmp_path: Path) -> None:
    """The limit of replacing functions, as the module says."""
    fsync = os.fsync
    with IOTracker() as io, open(tmp_path / "file", "wb") as file:
        fsync(file.fileno())
    assert io.fsync_calls == 0


def test_without_syncs_nothing_is_replaced() -> None:
    """While calls are timed they run as they are."""
    original = os.fsync
    with IOTracker(syncs=False) as io:
        assert os.fsync is original
    assert io.fsync_share is None


def test_two_trackers_see_the_same(tmp_path: Path) -> None:
    """The first one to end does not blind the other, nor leave anything behind."""
    original = os.fsync
    with open(tmp_path / "file", "wb") as file:
        first, second = IOTracker().start(), IOTracker().start()
        os.fsync(file.fileno())
        first.stop()
        os.fsync(file.fileno())
        second.stop()
    assert (first.fsync_calls, second.fsync_calls) == (1, 2)
    assert os.fsync is original


@pytest.mark.parametrize("what", ["before", "meanwhile"])
def test_somebody_elses_replacement_stays(what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A function that others have replaced is given back as it was, or left to them."""
    seen: list[int] = []
    real = os.fsync

    def theirs(descriptor: int) -> None:
        seen.append(descriptor)
        below(descriptor)

    with open(tmp_path / "file", "wb") as file:
        if what == "before":
            below = real
            monkeypatch.setattr(os, "fsync", theirs)
            io = IOTracker().start()
        else:
            io = IOTracker().start()
            below = os.fsync
            monkeypatch.setattr(os, "fsync", theirs)
        os.fsync(file.fileno())
        io.stop()
        assert os.fsync is theirs
        os.fsync(file.fileno())
        monkeypatch.undo()
        with IOTracker():  # takes away what is left
            pass
    assert len(seen) == 2
    assert io.fsync_calls == 1


def test_a_replacement_that_outlives_its_time_counts_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever replaced the stand-in may put it back later: it is found out, and goes with the next one."""
    real = os.fsync
    with open(tmp_path / "file", "wb") as file:
        with IOTracker():
            monkeypatch.setattr(os, "fsync", lambda descriptor: None)
        monkeypatch.undo()
        assert os.fsync is not real
        os.fsync(file.fileno())
        with IOTracker() as io:
            os.fsync(file.fileno())
    assert io.fsync_calls == 1
    assert os.fsync is real


class Owner:
    @classmethod
    def work(cls, value: int) -> int:
        return value + 1


def test_a_listener_that_fails_is_told_no_more(caplog: pytest.LogCaptureFixture) -> None:
    """An observer never breaks what it observes."""

    def look(listener: list[int], call: Call) -> None:
        listener.append(1 // (call.result - 1))

    standins: StandIns[list[int]] = StandIns(lambda: [Replacement(Owner, "work", look)])
    heard: list[int] = []
    original = vars(Owner)["work"]
    standins.add(heard)
    assert Owner.work(1) == 2
    with caplog.at_level(logging.ERROR, "hotlap"):
        assert Owner.work(0) == 1
    assert Owner.work(1) == 2
    assert heard == [1]
    assert len(caplog.records) == 1
    assert vars(Owner)["work"] is original


def test_a_sleep_is_waiting_and_computing_is_not() -> None:
    """The wait share has evidence: the thread gave up its CPU."""
    with IOTracker() as io:
        time.sleep(0.05)
    assert io.wait_share is not None
    assert 0.5 < io.wait_share <= 1.0
    with IOTracker() as io:
        sum(range(10_000))
    assert io.wait_share == 0.0


def test_the_page_cache_is_told_from_the_disk(tmp_path: Path) -> None:
    """A file that was just written is in the cache; one that was dropped from it has to be fetched."""
    file = tmp_path / "file"
    with IOTracker() as wrote:
        write(file, 100_000)
    if not wrote.disk_bytes_written:
        pytest.skip("the file system has no block device of its own")
    with IOTracker() as cached:
        read(file, 4096)
    assert cached.disk_bytes_read == 0
    assert cached.cached_share == 1.0
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    with IOTracker() as fetched:
        read(file, 4096)
    assert fetched.bytes_read == 100_000
    assert fetched.disk_bytes_read is not None
    assert fetched.disk_bytes_read > 0
    assert fetched.cached_share is not None
    assert fetched.cached_share < 1.0


def test_intervals_that_overlap_cover_a_time_once() -> None:
    """Two syncs side by side take the time of one."""
    intervals = Intervals()
    for began, ended in ((0.0, 2.0), (1.0, 3.0), (1.5, 1.75), (5.0, 6.0)):
        intervals.add(began, ended)
    assert intervals.count == 4
    assert intervals.total_s == 5.25
    assert intervals.covered_s == 4.0
    assert intervals.covered_s == 4.0
    intervals.add(7.0, 8.0)
    assert intervals.covered_s == 5.0


# -- the kind -----------------------------------------------------------------------------------------------------


def save(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, bytes(10_000))
    os.fsync(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize("level", list(DebugLevel))
def test_each_call_is_counted_exactly(level: DebugLevel, tmp_path: Path) -> None:
    """Of however many calls: bytes, operations and syncs of one, at every level."""
    outcome, found = examined(IO, save, tmp_path / "file", level=level, iterations=5, warmup_iterations=0)
    details = found.details
    assert details["calls"] == outcome.series.calls.sum()
    assert details["bytes_written_per_call"] == 10_000.0
    assert details["bytes_written_total"] == 10_000 * details["calls"]
    assert details["write_calls_per_call"] == 1.0
    assert details["read_calls_total"] == 0
    assert details["fsync_calls_per_call"] == 1.0
    assert details["fsync_looked_at_calls"] >= 1
    assert 0.0 < details["fsync_share"] <= 1.0
    assert details["fsync_s_max"] >= details["fsync_s_mean"]
    assert json.loads(json.dumps(details)) == details


def test_setup_and_teardown_are_left_out(tmp_path: Path) -> None:
    """Neither in the timed iterations nor in the look at syncs."""
    path = tmp_path / "file"

    def teardown() -> None:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.read(descriptor, 10)
        os.close(descriptor)

    options = {"setup": lambda: ((path, 7), {}), "teardown": teardown, "iterations": 4, "warmup_iterations": 0}
    _, found = examined(IO, write, path, 1, **options)
    assert found.details["calls"] == 4
    assert found.details["bytes_written_total"] == 28
    assert found.details["bytes_read_total"] == 0
    assert found.details["fsync_calls_per_call"] == 0.0


async def read_async(path: Path) -> None:
    import asyncio

    await asyncio.to_thread(read, path, 100_000)


def test_an_async_function_is_counted_with_its_threads(file: Path) -> None:
    """What its executor's threads read is the call's."""
    _, found = examined(IO, read_async, file, iterations=3, warmup_iterations=0)
    assert found.details["bytes_read_per_call"] == 100_000.0
    assert found.details["read_calls_per_call"] == 2.0


def test_many_small_reads_are_advised_against(tmp_path: Path) -> None:
    """A byte at a time, with the numbers that say so; a page at a time is no reason."""
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    _, found = examined(IO, read, path, 1, iterations=3, warmup_iterations=0)
    assert any("1 kB with 1,001 system calls a call, 1 byte each" in sentence for sentence in found.advice)
    _, found = examined(IO, read, path, 1000, iterations=3, warmup_iterations=0)
    assert found.advice == []


def test_many_small_writes_are_advised_against(tmp_path: Path) -> None:
    """Ten bytes at a time."""
    _, found = examined(IO, write, tmp_path / "file", 10, 200, iterations=3, warmup_iterations=0)
    assert any("writes 2 kB with 200 system calls a call, 10 bytes each" in sentence for sentence in found.advice)


def test_syncs_that_take_the_time_are_advised_against(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With their number and time; here of a disk that needs 5 ms."""
    real = os.fsync

    def slow(descriptor: int) -> None:
        time.sleep(0.005)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    _, found = examined(IO, save, tmp_path / "file", iterations=3, warmup_iterations=0)
    assert found.details["fsync_share"] > 0.5
    assert any("fsync takes" in sentence and "1 a call" in sentence for sentence in found.advice)


def test_waiting_that_no_sync_explains_is_said(tmp_path: Path) -> None:
    """SQLite syncs in C: that is seen as waiting, and what cannot be seen is said."""
    _, found = examined(IO, time.sleep, 0.01, iterations=3, warmup_iterations=0)
    assert any("no Python code called fsync" in sentence for sentence in found.notes)
    assert found.details["fsync_calls_per_call"] == 0.0


def test_the_cache_is_named_where_all_came_from_it(file: Path) -> None:
    """Numbers of a warm cache are not those of a cold one."""
    _, found = examined(IO, read, file, 100_000, iterations=3, warmup_iterations=1)
    assert found.details["not_from_disk_share"] == 1.0
    assert any("cold cache" in sentence for sentence in found.notes)


def test_no_time_left_is_no_look_and_no_failure(tmp_path: Path) -> None:
    """What was counted while it was timed is there; that syncs were not looked at is said."""
    _, found = examined(IO, time.sleep, 0.05, budget_s=0.06, iterations=2, warmup_iterations=0)
    assert found.details["fsync"] == "not looked at: the time budget had no room for another call"
    assert "fsync_calls_per_call" not in found.details
    assert found.details["calls"] == 2


def test_a_call_that_hangs_while_it_is_looked_at_is_cut_off(tmp_path: Path) -> None:
    """The time budget holds for the look, too."""
    calls = iter(range(100))

    def hangs_later() -> None:
        if next(calls) >= 4:
            time.sleep(600)

    _, found = examined(IO, hangs_later, budget_s=0.3, iterations=3, warmup_iterations=0, loops=1)
    assert found.details["fsync_looked_at_calls"] == 1
    assert not lab_io._standins.listeners
