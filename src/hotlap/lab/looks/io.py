"""IOTracker: what this process reads and writes in some span, and how long it waits and syncs.

Bytes and system calls are the kernel's own counts for the process: exact, of all its threads and of the children it
waited for, whatever made them. Syncs are seen where Python code calls os.fsync, os.fdatasync or os.sync; a library
that syncs in C, as SQLite does, is seen in the waiting alone.
"""

from __future__ import annotations

import os

from .cpu import CPUTracker
from .intervals import Intervals
from .procfs import io_counts
from .standins import Call, Replacement, StandIns
from .tally import Tally
from .tracker import Tracker

__all__ = ["IOTracker"]


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
        self.detach()

    def detach(self) -> None:
        """Replace no function any more: for a span that was left before its end."""
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
