"""What Linux tells of this process in /proc, and what of it is hotlap's own doing.

Reading a file in /proc is I/O that the process's own counters show. All reading goes through read(), which keeps
count of itself, so that io_counts() can leave it out, as it leaves out what hotlap's own threads do.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

__all__ = [
    "LOOKER",
    "Unreadable",
    "io_counts",
    "migrations",
    "own_cpu_s",
    "own_runs",
    "own_threads",
    "queue_wait_s",
    "read",
    "thread_cpu_s",
    "threads",
]

LOOKER = "hotlap lab looks"  # name of a thread that looks at the others
_OWN = frozenset({"hotlap", "hotlap lab limits", LOOKER})  # threads that run none of the user's code
_MOST = 1 << 16  # bytes in one read
_RETRIES = 20

_IO_FIELDS = ("rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes")


class Unreadable(Exception):
    """The system does not tell. The text says why, for the user: "/proc/self/io: Permission denied"."""


class _Reading:
    """What reading /proc has added to this process's own counters."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.bytes = 0
        self.calls = 0

    def add(self, count: int) -> None:
        with self._lock:
            self.bytes += count
            self.calls += 1


_reading = _Reading()


def read(path: str, *, whole: bool = False) -> bytes:
    """A file in /proc: its first 4 kB or more, in one system call, or all of it. Raises Unreadable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from None
    try:
        parts: list[bytes] = []
        while True:
            part = os.read(descriptor, _MOST)
            _reading.add(len(part))
            parts.append(part)
            if not part or not whole:
                return b"".join(parts)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def own_threads() -> list[int]:
    """System ids of hotlap's threads, the calling one left out."""
    current = threading.current_thread()
    return [
        thread.native_id
        for thread in threading.enumerate()
        if thread.name in _OWN and thread is not current and thread.native_id is not None
    ]


def threads() -> list[int]:
    """System ids of the process's threads, hotlap's left out. Raises Unreadable."""
    try:
        found = {int(name) for name in os.listdir("/proc/self/task")}
    except OSError as error:
        raise Unreadable(f"/proc/self/task: {error.strerror}") from None
    return sorted(found.difference(own_threads()))


def thread_cpu_s(thread: int) -> float:
    """CPU time of a thread of this process; 0 when it has ended, and outside of Linux."""
    try:
        return time.clock_gettime_ns((~thread << 3) | 6) / 1e9  # MAKE_THREAD_CPUCLOCK(thread, CPUCLOCK_SCHED)
    except OSError:
        return 0.0


def own_cpu_s() -> float:
    """CPU time of hotlap's threads."""
    return sum(map(thread_cpu_s, own_threads()))


def own_runs() -> int:
    """How often hotlap's threads were put on a CPU."""
    total = 0
    for thread in own_threads():
        with suppress(Unreadable):  # it has ended
            total += _schedstat(f"/proc/self/task/{thread}/schedstat")[2]
    return total


def _schedstat(path: str) -> tuple[int, int, int]:
    """CPU ns, ns on a run queue, times on a CPU. Raises Unreadable."""
    fields = read(path).split()
    if len(fields) != 3:
        raise Unreadable(f"{path}: {len(fields)} fields where 3 are expected")
    return int(fields[0]), int(fields[1]), int(fields[2])


def queue_wait_s() -> float:
    """How long the calling thread was ready to run but had no CPU, since it began. Raises Unreadable."""
    path = "/proc/thread-self/schedstat"
    ran_ns, waited_ns, runs = _schedstat(path)
    if not (ran_ns or waited_ns or runs):
        raise Unreadable(f"{path}: the kernel keeps no schedule statistics")
    return waited_ns / 1e9


def migrations() -> int:
    """How often the living threads were moved to another CPU. Raises Unreadable."""
    total = 0
    for thread in threads():
        path = f"/proc/self/task/{thread}/sched"
        try:
            text = read(path, whole=True)
        except Unreadable:
            if thread == threading.get_native_id():
                raise
            continue  # it has ended
        for line in text.splitlines():
            if line.startswith(b"se.nr_migrations"):
                total += int(line.rpartition(b":")[2])
                break
        else:
            raise Unreadable(f"{path}: no line se.nr_migrations")
    return total


def _io(path: str) -> dict[str, int]:
    found = {}
    for line in read(path).splitlines():
        name, _, value = line.partition(b":")
        found[name.decode("ascii")] = int(value)
    missing = [name for name in _IO_FIELDS if name not in found]
    if missing:
        raise Unreadable(f"{path}: no field {missing[0]}")
    return found


def _own_io() -> dict[int, dict[str, int]]:
    counts = {}
    for thread in own_threads():
        with suppress(Unreadable):  # it has ended
            counts[thread] = _io(f"/proc/self/task/{thread}/io")
    return counts


def io_counts() -> dict[str, int]:
    """The fields of /proc/self/io, of all threads and of the children waited for, without hotlap's own share.

    Exact: hotlap's threads are looked at before and after, and again when one has read something in between.
    Raises Unreadable.
    """
    for _ in range(_RETRIES):
        own = _own_io()
        read_bytes, read_calls = _reading.bytes, _reading.calls
        counts = _io("/proc/self/io")
        if _own_io() == own:
            break
    for other in own.values():
        for name in _IO_FIELDS:
            counts[name] -= other[name]
    counts["rchar"] -= read_bytes
    counts["syscr"] -= read_calls
    return counts
