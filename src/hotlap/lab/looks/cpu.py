"""CPUTracker: what this process and its children take of the CPUs in some span."""

from __future__ import annotations

import math
import resource
import threading
import time
from contextlib import suppress

import psutil

from .perf import HARDWARE, Counters
from .procfs import Unreadable, migrations, own_cpu_s, own_runs, queue_wait_s
from .tally import Tally
from .tracker import Tracker

__all__ = ["CPUTracker"]


class CPUTracker(Tracker):
    """CPU time, context switches and hardware counters of this process, from start() to stop(), or in a with block:

        with CPUTracker() as cpu:
            work()
        print(cpu.user_s, cpu.cores_used, cpu.not_readable)

    As an observer of a run it sums up the spans between before() and after(). Values are None where the system
    does not tell: `not_readable` says why. Of one thread: it is used on the thread whose calls it looks at.

    With `counters`, the kernel counts hardware events and migrations in all threads, which makes starting a thread and
    switching between threads some microseconds slower. With `children`, child processes that run on are looked at in
    the beginning and in the end, which takes milliseconds.
    """

    def __init__(self, counters: bool = True, children: bool = True) -> None:
        self._with_counters, self._with_children = counters, children
        self._counters: Counters | None = None
        self._reset()

    def _reset(self) -> None:
        self.close()
        self._children: _Children | None = None
        self._one_thread = True
        self._tally = Tally(
            perf=self._read_counters,
            migrations=self._read_migrations,
            queue=_queue,
            own=_own,
            children=_waited_for,
            thread=_thread,
            switches=_switches,
            process=_process,
            wall=_wall,
        )

    # -- a span -----------------------------------------------------------------------------------------------

    def stop(self) -> CPUTracker:
        super().stop()
        self.close()
        return self

    def before(self) -> None:
        if self._with_counters and self._counters is None:
            self._counters = Counters((*HARDWARE, "migrations"))
        if self._with_children and self._children is None:
            self._children = _Children()
        self._thread = threading.get_ident()
        self._tally.before()

    def after(self) -> None:
        self._tally.after()
        self._one_thread &= threading.get_ident() == self._thread

    def close(self) -> None:
        """Give the counters back. The sums stay."""
        children: _Children | None = getattr(self, "_children", None)
        if children is not None:
            children.close()
        if self._counters is not None:
            self._tally.not_readable.update(self._counters.not_readable)
            self._user_only = tuple(self._counters.user_only)
            self._counters.close()
            self._counters = None

    def _read_counters(self) -> dict[str, int]:
        return {} if self._counters is None else self._counters.read()

    def _read_migrations(self) -> dict[str, int]:
        """Of the living threads, where the counter that sees all of them is not allowed."""
        if self._counters is not None and "migrations" in self._counters.not_readable:
            return {"migrations": migrations()}
        return {}

    # -- the sums ---------------------------------------------------------------------------------------------

    @property
    def spans(self) -> int:
        """How many spans were summed up."""
        return self._tally.spans

    @property
    def wall_s(self) -> float:
        return self._tally.totals.get("wall_s", 0.0)

    @property
    def process_s(self) -> float:
        """CPU time of all threads."""
        totals = self._tally.totals
        # hotlap's own is read around it, and has what was used in between: no less than the calling thread's is left.
        return max(totals.get("process_s", 0.0) - totals.get("own_s", 0.0), self.thread_s or 0.0)

    @property
    def user_s(self) -> float:
        """CPU time in user mode, of all threads. Linux tells user from system time by looking at clock ticks, some
        ms apart: over a few of them the split is coarse, the sum never is."""
        return self.process_s - self.system_s

    @property
    def system_s(self) -> float:
        """CPU time in the kernel, of all threads."""
        totals = self._tally.totals
        user, system = totals.get("user_s", 0.0), totals.get("system_s", 0.0)
        return self.process_s * system / (user + system) if system > 0.0 else 0.0

    @property
    def children_user_s(self) -> float:
        """Of child processes that ended in the meantime and were waited for."""
        return self._tally.totals.get("children_user_s", 0.0)

    @property
    def children_system_s(self) -> float:
        return self._tally.totals.get("children_system_s", 0.0)

    @property
    def running_children(self) -> int:
        """Child processes that still run: the workers of a pool."""
        return 0 if self._children is None else self._children.count

    @property
    def running_children_s(self) -> float:
        """CPU time of child processes that still run, counted in hundredths of a second, from the first span's
        beginning to the last one's end."""
        return 0.0 if self._children is None else self._children.cpu_s

    @property
    def cpu_s(self) -> float:
        """All CPU time: of the process and of its children."""
        return self.process_s + self.children_user_s + self.children_system_s + self.running_children_s

    @property
    def thread_s(self) -> float | None:
        """CPU time of the calling thread alone."""
        return self._of_thread("thread_s")

    @property
    def other_threads_s(self) -> float | None:
        """CPU time of the process's other threads."""
        thread = self.thread_s
        return None if thread is None else max(0.0, self.process_s - thread)

    def _of_thread(self, key: str) -> float | None:
        return self._tally.get(key) if self._one_thread else None

    @property
    def cores_used(self) -> float:
        """CPU time by wall time: 2.0 is two cores all of the time. NaN before anything was measured."""
        return self.cpu_s / self.wall_s if self.wall_s > 0.0 else math.nan

    @property
    def efficiency(self) -> float | None:
        """CPU time of the calling thread by wall time, 0 to 1: the share of its time that a call computes itself."""
        thread = self.thread_s
        return None if thread is None or self.wall_s <= 0.0 else min(1.0, thread / self.wall_s)

    @property
    def queue_wait_s(self) -> float | None:
        """How long the calling thread could have run, but had no CPU."""
        return self._of_thread("queue_wait_s")

    @property
    def wait_s(self) -> float | None:
        """How long the calling thread waited for anything but a CPU: 0 when it never gave up its CPU."""
        thread, switches = self.thread_s, self.voluntary_switches
        if thread is None or switches is None:
            return None
        return max(0.0, self.wall_s - thread - (self.queue_wait_s or 0.0)) if switches else 0.0

    @property
    def voluntary_switches(self) -> float | None:
        """How often the calling thread gave up its CPU, to wait."""
        return self._of_thread("voluntary_switches")

    @property
    def involuntary_switches(self) -> float | None:
        """How often the calling thread was taken off its CPU."""
        return self._of_thread("involuntary_switches")

    @property
    def other_switches(self) -> float | None:
        """Context switches of the process's other threads, of both sorts."""
        mine = self.voluntary_switches, self.involuntary_switches
        if mine[0] is None or mine[1] is None:
            return None
        return max(0, self._tally["switches"] - mine[0] - mine[1] - self._tally.totals.get("own_runs", 0))

    @property
    def migrations(self) -> float | None:
        """How often a thread was moved to another CPU."""
        return self._tally.get("migrations")

    @property
    def hardware(self) -> dict[str, float]:
        """Hardware counters by name, of all threads and child processes: what the machine gives, maybe nothing."""
        found = {name: Counters.scaled(name, self._tally.totals) for name in HARDWARE}
        return {name: one[0] for name, one in found.items() if one is not None}

    @property
    def counted_share(self) -> float | None:
        """The least share of the time that a hardware event was counted, because events take turns."""
        found = [Counters.scaled(name, self._tally.totals) for name in HARDWARE]
        return min((one[1] for one in found if one is not None), default=None)

    @property
    def user_only(self) -> tuple[str, ...]:
        """Hardware counters without the kernel's share."""
        return getattr(self, "_user_only", ())

    @property
    def ipc(self) -> float | None:
        """Instructions per cycle."""
        counts = self.hardware
        cycles, instructions = counts.get("cycles"), counts.get("instructions")
        return instructions / cycles if cycles and instructions is not None else None

    @property
    def not_readable(self) -> dict[str, str]:
        """What the system does not tell, and why."""
        missing = dict(self._tally.not_readable)
        if self._counters is not None:
            missing.update(self._counters.not_readable)
        if self.migrations is not None:
            missing.pop("migrations", None)
        return missing


def _wall() -> dict[str, float]:
    return {"wall_s": time.perf_counter()}


def _process() -> dict[str, float]:
    return {"process_s": time.process_time()}


def _switches() -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"user_s": used.ru_utime, "system_s": used.ru_stime, "switches": used.ru_nvcsw + used.ru_nivcsw}


def _thread() -> dict[str, float]:
    who = getattr(resource, "RUSAGE_THREAD", None)
    if who is None:
        raise Unreadable("this system does not count for each thread")
    used = resource.getrusage(who)
    return {
        "thread_s": time.thread_time(),  # the times in `used` are up to a clock tick old
        "voluntary_switches": used.ru_nvcsw,
        "involuntary_switches": used.ru_nivcsw,
    }


def _waited_for() -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"children_user_s": used.ru_utime, "children_system_s": used.ru_stime}


def _own() -> dict[str, float]:
    return {"own_s": own_cpu_s(), "own_runs": own_runs()}


def _queue() -> dict[str, float]:
    return {"queue_wait_s": queue_wait_s()}


class _Children:
    """CPU time of the child processes that run on, from now to close()."""

    def __init__(self) -> None:
        self._before = _cpu_of_children()
        self._closed = False
        self.count = 0
        self.cpu_s = 0.0

    def close(self) -> None:
        """Once; later, nothing changes."""
        if self._closed:
            return
        self._closed = True
        used = [cpu_s - self._before.get(child, 0.0) for child, cpu_s in _cpu_of_children().items()]
        self.count = sum(cpu_s > 0.0 for cpu_s in used)  # others, such as multiprocessing's own, do nothing
        self.cpu_s = sum(used)


def _cpu_of_children() -> dict[int, float]:
    """CPU time of each, with that of its own children that it has waited for, by its process id."""
    found: dict[int, float] = {}
    with suppress(psutil.Error, OSError):  # /proc may be closed to us
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it has ended
                found[child.pid] = sum(child.cpu_times()[:4])
    return found


# What is worth a sentence:
