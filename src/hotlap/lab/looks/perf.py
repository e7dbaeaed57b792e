"""Hardware counters of this process, where the kernel gives them: perf_event_open(2).

The kernel gives none on a virtual machine whose host does not pass its counters on, in a container that forbids the
system call, and where kernel.perf_event_paranoid is above 2. Which of these it is, is said.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .procfs import Unreadable, threads

__all__ = ["EVENTS", "HARDWARE", "Counters"]


class _Event(NamedTuple):
    type: int
    config: int
    in_kernel: bool  # it happens there alone: without the kernel's share nothing is left


_HARDWARE, _SOFTWARE = 0, 1

EVENTS = {
    "cycles": _Event(_HARDWARE, 0, False),
    "instructions": _Event(_HARDWARE, 1, False),
    "cache_references": _Event(_HARDWARE, 2, False),
    "cache_misses": _Event(_HARDWARE, 3, False),
    "branches": _Event(_HARDWARE, 4, False),
    "branch_misses": _Event(_HARDWARE, 5, False),
    "page_faults": _Event(_SOFTWARE, 2, False),
    "context_switches": _Event(_SOFTWARE, 3, True),
    "migrations": _Event(_SOFTWARE, 4, True),
}
HARDWARE = tuple(name for name, event in EVENTS.items() if event.type == _HARDWARE)

_SYSTEM_CALL = {
    "x86_64": 298,
    "i386": 336,
    "i686": 336,
    "aarch64": 241,
    "riscv64": 241,
    "loongarch64": 241,
    "armv7l": 364,
    "ppc64le": 319,
    "s390x": 331,
}
_ATTR_SIZE = 64  # PERF_ATTR_SIZE_VER0: what all kernels know
_ATTR = struct.Struct("=IIQQQQQ")  # type, size, config, sample_period, sample_type, read_format, flags
_READ = struct.Struct("=QQQ")  # value, time enabled, time running
_READ_TIMES = 1 | 2  # PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING
_INHERIT, _NO_KERNEL, _NO_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6
_CLOSE_ON_EXEC = 8


class Counters:
    """Counts events in all threads that the process has now, and in all threads and processes that these start.

    hotlap's own threads are left out, if they run already. What cannot be counted is in `not_readable`, with the
    reason; `user_only` are counted without the kernel's share, because more is not allowed. To be closed.
    """

    def __init__(self, names: Sequence[str] = tuple(EVENTS)) -> None:
        self.not_readable: dict[str, str] = {}
        self.user_only: list[str] = []
        self._descriptors: dict[str, list[int]] = {}
        for name in names:
            self._add(name)

    def __enter__(self) -> Counters:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        for descriptors in self._descriptors.values():
            for descriptor in descriptors:
                os.close(descriptor)
        self._descriptors.clear()

    def _add(self, name: str) -> None:
        try:
            self._descriptors[name] = self._open(name)
        except Unreadable as reason:
            self.not_readable[name] = str(reason)

    def _open(self, name: str) -> list[int]:
        """A descriptor for each thread. Raises Unreadable."""
        event = EVENTS[name]
        opened: list[int] = []
        flags = _INHERIT | _NO_HYPERVISOR
        try:
            for thread in threads():
                number = _perf_event_open(event, flags, thread)
                if number in (-errno.EACCES, -errno.EPERM) and not event.in_kernel:
                    flags |= _NO_KERNEL
                    number = _perf_event_open(event, flags, thread)
                if number == -errno.ESRCH:  # the thread has ended
                    continue
                if number < 0:
                    raise Unreadable(_reason(event, -number))
                opened.append(number)
        except Unreadable:
            for descriptor in opened:
                os.close(descriptor)
            raise
        if flags & _NO_KERNEL:
            self.user_only.append(name)
        return opened

    def read(self) -> dict[str, int]:
        """For each event its count so far, and as "event.enabled" and "event.running" the ns that it was to be
        counted and that a counter was free for it; Counters.scaled() makes one number of these."""
        found = {}
        for name, descriptors in self._descriptors.items():
            value = enabled = running = 0
            for descriptor in descriptors:
                one = _READ.unpack(os.read(descriptor, _READ.size))
                value, enabled, running = value + one[0], enabled + one[1], running + one[2]
            found[name], found[f"{name}.enabled"], found[f"{name}.running"] = value, enabled, running
        return found

    @staticmethod
    def scaled(name: str, counts: Any) -> tuple[float, float] | None:
        """An event's number from differences of what read() gave, and the share of the time that it was counted.

        Events take turns when there are more of them than counters: the number is then an estimate for all of the
        time. None when the event was not counted.
        """
        enabled, running = counts.get(f"{name}.enabled"), counts.get(f"{name}.running")
        if not enabled or not running:
            return None
        if running >= enabled:
            return counts[name], 1.0
        return counts[name] * enabled / running, running / enabled


def _perf_event_open(event: _Event, flags: int, thread: int) -> int:
    """A descriptor, or the negative errno."""
    number = _SYSTEM_CALL.get(platform.machine())
    if number is None or not sys.platform.startswith("linux"):
        raise Unreadable(f"hardware counters are read on Linux only, and not on a {platform.machine()} machine")
    attr = bytearray(_ATTR_SIZE)
    _ATTR.pack_into(attr, 0, event.type, _ATTR_SIZE, event.config, 0, 0, _READ_TIMES, flags)
    buffer = (ctypes.c_char * _ATTR_SIZE).from_buffer(attr)
    library = ctypes.CDLL(None, use_errno=True)
    any_cpu, no_group = ctypes.c_int(-1), ctypes.c_int(-1)
    descriptor = library.syscall(
        ctypes.c_long(number), buffer, ctypes.c_int(thread), any_cpu, no_group, ctypes.c_ulong(_CLOSE_ON_EXEC)
    )
    return int(descriptor) if descriptor >= 0 else -ctypes.get_errno()


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _reason(event: _Event, number: int) -> str:
    """Why the kernel refused to count the event, as far as it can be told."""
    if number in (errno.EACCES, errno.EPERM):
        paranoid = _text("/proc/sys/kernel/perf_event_paranoid").strip()
        allowed = 1 if event.in_kernel else 2
        if paranoid and int(paranoid) > allowed:
            return (
                f"kernel.perf_event_paranoid is {paranoid}: sysctl kernel.perf_event_paranoid={allowed}, "
                "or the capability CAP_PERFMON, allows it"
            )
        if "Seccomp:\t2" in _text("/proc/self/status"):
            return "a seccomp filter forbids perf_event_open, as that of a container does"
        return f"perf_event_open: {os.strerror(number)}"
    if number in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
        if event.type == _HARDWARE and " hypervisor" in _text("/proc/cpuinfo"):
            return "this virtual machine has no performance counters (PMU): its host does not pass them on"
        return "this CPU has no such counter, or the kernel does not know it"
    if number == errno.ENOSYS:
        return "this kernel is without perf_event_open"
    if number in (errno.EMFILE, errno.ENFILE):
        return "too many open files: each thread and event needs one (ulimit -n)"
    return f"perf_event_open: {os.strerror(number)}"
