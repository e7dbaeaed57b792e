"""I/O: what a call reads and writes, what of it a disk had to do with, and how long it waited.

Bytes and system calls are the kernel's own counts for the process: exact, of all its threads and of the children it
waited for, whatever made them. Syncs are seen where Python code calls os.fsync, os.fdatasync or os.sync; a library
that syncs in C, as SQLite does, is seen in the waiting alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ...options import BenchmarkType
from ...rules.words import duration, megabytes, number, share
from ..examination import Examination
from ..looks.cpu import CPUTracker
from ..looks.intervals import Intervals
from ..looks.look import Look
from ..looks.procfs import io_counts
from ..looks.standins import Call, Replacement, StandIns
from ..looks.tally import Tally, amounts
from ..looks.tracker import Tracker
from .kind import Kind

if TYPE_CHECKING:
    from ..progress import Reporter
    from ..runs.limits import Guard
    from ..runs.run import Observer, Outcome

__all__ = ["IO", "IOTracker"]


class IOTracker(Tracker):
    """Bytes, operations, syncs and waiting of this process, from start() to stop(), or in a with block:

        with IOTracker() as io:
            work()
        print(io.bytes_read, io.read_calls, io.fsync_s, io.not_readable)

    As an observer of a run it sums up the spans between before() and after(). Values are None where the system
    does not tell: `not_readable` says why. With `syncs=False` no function is replaced, and no sync seen.
    """

    def __init__(self, syncs: bool = True) -> None:
        self._syncs = syncs
        self._reset()

    def _reset(self) -> None:
        self.cpu = CPUTracker(counters=False, children=False)  # the same spans
        self.sync = Intervals()
        # The innermost: what other observers read must not be among the counts.
        self._tally = Tally(io=io_counts)

    def before(self) -> None:
        if self._syncs:
            _standins.add(self)
        self._tally.before()
        self.cpu.before()

    def after(self) -> None:
        self.cpu.after()
        self._tally.after()
        _standins.remove(self)

    # -- the sums ---------------------------------------------------------------------------------------------

    @property
    def spans(self) -> int:
        """How many spans were summed up."""
        return self.cpu.spans

    @property
    def wall_s(self) -> float:
        return self.cpu.wall_s

    @property
    def bytes_read(self) -> float | None:
        """Through read system calls: from files, whether cached or not, from pipes and terminals. Mapped files are
        read without system calls, and sockets mostly with others: they are not in here."""
        return self._tally.get("rchar")

    @property
    def bytes_written(self) -> float | None:
        """Through write system calls."""
        return self._tally.get("wchar")

    @property
    def read_calls(self) -> float | None:
        return self._tally.get("syscr")

    @property
    def write_calls(self) -> float | None:
        return self._tally.get("syscw")

    @property
    def disk_bytes_read(self) -> float | None:
        """Fetched from a block device, in whole pages, with what is read ahead and what mapped files need."""
        return self._tally.get("read_bytes")

    @property
    def disk_bytes_written(self) -> float | None:
        """Handed to the page cache of a block device, in whole pages: written to it later, or by a sync."""
        return self._tally.get("write_bytes")

    @property
    def disk_bytes_cancelled(self) -> float | None:
        """Of those, what was never written, because the file was deleted or cut before."""
        return self._tally.get("cancelled_write_bytes")

    @property
    def cached_share(self) -> float | None:
        """Share of the bytes read that no block device had to deliver; None when nothing was read."""
        read, fetched = self.bytes_read, self.disk_bytes_read
        return None if not read or fetched is None else max(0.0, 1.0 - fetched / read)

    @property
    def fsync_calls(self) -> int:
        """Calls of os.fsync, os.fdatasync and os.sync by Python code, in all threads."""
        return self.sync.count

    @property
    def fsync_s(self) -> float:
        """How long they took, summed up."""
        return self.sync.total_s

    @property
    def fsync_share(self) -> float | None:
        """Share of the wall time in which at least one was going on."""
        return min(1.0, self.sync.covered_s / self.wall_s) if self._syncs and self.wall_s > 0.0 else None

    @property
    def wait_share(self) -> float | None:
        """Share of the wall time in which the calling thread waited: 1 - CPU time / wall time, without the time
        that it only had no CPU. 0 when it never gave up its CPU."""
        wait = self.cpu.wait_s
        return None if wait is None or self.wall_s <= 0.0 else min(1.0, wait / self.wall_s)

    @property
    def not_readable(self) -> dict[str, str]:
        """What the system does not tell, and why."""
        return {**self.cpu.not_readable, **self._tally.not_readable}


def _on_sync(tracker: IOTracker, call: Call) -> None:
    tracker.sync.add(call.began, call.ended)


def _replacements() -> list[Replacement]:
    return [Replacement(os, name, _on_sync) for name in ("fsync", "fdatasync", "sync")]


_standins: StandIns[IOTracker] = StandIns(_replacements)


# What is worth a sentence:
_SMALL = 512  # bytes an operation
_MANY = 100  # operations a call
_SYNCS = 0.2  # share of the time
_WAITS = 0.5
_FETCHED = 0.1  # share of the bytes read
_PAGE = os.sysconf("SC_PAGE_SIZE")


class IO(Kind):
    """What a call reads, writes and waits for."""

    type = BenchmarkType.I_O

    def observers(self) -> tuple[Observer, ...]:
        self._tracker = IOTracker(syncs=False)
        return (self._tracker,)

    def examine(self, outcome: Outcome, guard: Guard, reporter: Reporter) -> Examination:
        io, syncs = self._tracker, IOTracker()
        look = Look.again(self, outcome, guard, reporter, syncs, phase="looking at syncs")
        _standins.remove(syncs)
        calls = int(outcome.series.calls.sum())
        faults = outcome.series.major_faults * outcome.series.calls
        major = float(faults.sum()) if len(faults) and np.isfinite(faults).all() else None
        details = _details(io, calls, major)
        details.update(_sync_details(syncs, look))
        return Examination(
            details=details,
            advice=_advice(self.subject.name, io, calls, major, (syncs, look)),
            notes=[*_notes(io, calls, syncs, look), *look.notes],
            interrupted=look.interrupted,
        )


def _details(io: IOTracker, calls: int, major_faults: float | None) -> dict[str, Any]:
    details = amounts(
        (
            ("bytes_read", io.bytes_read),
            ("bytes_written", io.bytes_written),
            ("read_calls", io.read_calls),
            ("write_calls", io.write_calls),
            ("disk_bytes_read", io.disk_bytes_read),
            ("disk_bytes_written", io.disk_bytes_written),
            ("disk_bytes_cancelled", io.disk_bytes_cancelled),
            ("pages_read_by_faults", major_faults),
            ("wait_s", io.cpu.wait_s),
            ("queue_wait_s", io.cpu.queue_wait_s),
            ("voluntary_switches", io.cpu.voluntary_switches),
        ),
        calls,
    )
    details["calls"] = calls
    for name, value in (("wait_share", io.wait_share), ("not_from_disk_share", io.cached_share)):
        if value is not None:
            details[name] = value
    for what, count, size in (
        ("read", io.read_calls, io.bytes_read),
        ("write", io.write_calls, io.bytes_written),
    ):
        if count and size is not None:
            details[f"bytes_per_{what}_call"] = size / count
    details.update({name: f"not readable: {reason}" for name, reason in io.not_readable.items()})
    return details


def _sync_details(io: IOTracker, look: Look) -> dict[str, Any]:
    """Syncs were looked for in calls of their own."""
    if not look.calls:
        return {"fsync": f"not looked at: {look.reason}"}
    details: dict[str, Any] = {
        "fsync_looked_at_calls": look.calls,
        "fsync_calls_per_call": io.fsync_calls / look.calls,
        "fsync_s_per_call": io.fsync_s / look.calls,
        "fsync_share": io.fsync_share,
    }
    if io.fsync_calls:
        details["fsync_s_mean"] = io.fsync_s / io.fsync_calls
        details["fsync_s_max"] = max(io.sync.durations_s)
    return details


def _advice(name: str, io: IOTracker, calls: int, faults: float | None, looked: tuple[IOTracker, Look]) -> list[str]:
    said: list[str] = []
    syncs, look = looked
    if not calls:
        return said
    for verb, size, count, how in (
        ("reads", io.bytes_read, io.read_calls, "read more at once, or through a buffer (open(..., buffering=65536))"),
        ("writes", io.bytes_written, io.write_calls, "collect it in a buffer, and write that"),
    ):
        if count and size is not None and count / calls >= _MANY and size / count < _SMALL:
            said.append(
                f"{name} {verb} {_bytes(size / calls)} with {number(count / calls)} system calls a call, "
                f"{_bytes(size / count)} each: {how}."
            )
    fsync_share = syncs.fsync_share
    if look.calls and fsync_share is not None and fsync_share >= _SYNCS:
        each = syncs.fsync_calls / look.calls
        said.append(
            f"fsync takes {share(fsync_share)} of its time: {number(each)} a call, of "
            f"{duration(syncs.fsync_s / syncs.fsync_calls)} each. Writes that may become durable together need one for "
            "all of them: a batch, a transaction."
        )
    fetched, read, waits = io.disk_bytes_read, io.bytes_read, io.wait_share
    if fetched and waits is not None and waits >= _SYNCS and fetched >= _FETCHED * (read or 0.0):
        mapped = (
            f", with {number(faults / calls)} page faults a call in mapped files or swapped memory"
            if faults and faults / calls >= 1.0
            else ""
        )
        said.append(
            f"It waits for {share(waits)} of its time, and {_bytes(fetched / calls)} a call come from a disk, not from "
            f"the page cache{mapped}: read less of it, or ask for it earlier (os.posix_fadvise, mmap.madvise)."
        )
    return said


def _notes(io: IOTracker, calls: int, syncs: IOTracker, look: Look) -> list[str]:
    said = []
    if io.bytes_read and io.bytes_read >= calls * _PAGE and io.disk_bytes_read == 0:
        said.append(
            f"All {_bytes(io.bytes_read / calls)} a call that it reads came from the page cache, a pipe or a file "
            "system in memory, none from a disk: with a cold cache it takes longer."
        )
    waits, explained = io.wait_share, syncs.fsync_share or 0.0
    if waits is not None and waits >= _WAITS and look.calls and explained < 0.5 * waits:
        what = f"syncs by Python code are {share(explained)} of it" if explained else "no Python code called fsync"
        said.append(
            f"It waits for {share(waits)} of its time, and {what}. Waiting within a library in C, as for SQLite's own "
            "syncs, for locks, sleeps and sockets cannot be told apart from outside."
        )
    return said


def _bytes(count: float) -> str:
    """ "12 bytes", "4.1 kB"."""
    text = number(count)
    return megabytes(count / 1e6) if count >= 999.5 else f"{text} {'byte' if text == '1' else 'bytes'}"
