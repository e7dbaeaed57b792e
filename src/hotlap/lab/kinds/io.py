"""I/O: what a call reads and writes, what of it a disk had to do with, and how long it waited."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ...options import BenchmarkType
from ...rules.words import duration, megabytes, number, share
from ..examination import Examination
from ..looks.io import IOTracker
from ..looks.look import Look
from ..looks.tally import amounts
from .kind import Kind

if TYPE_CHECKING:
    from ..progress import Reporter
    from ..runs.limits import Guard
    from ..runs.run import Observer, Outcome

__all__ = ["IO"]


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
        syncs.detach()
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
