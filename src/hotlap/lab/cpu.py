"""CPU: what a call computes and what it waits for a CPU, on how many cores, and what the hardware counted.

Counted is all that the process does between the two ends of an iteration: in the calling thread, in other threads,
and in child processes. Only hotlap's own threads are left out.
"""

from __future__ import annotations

import math
import resource
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil

from ..options import BenchmarkType
from ..rules.words import duration, number, share
from .environment import cpus
from .kind import Examination, Kind
from .look import Look
from .perf import HARDWARE, Counters
from .procfs import Unreadable, migrations, own_cpu_s, own_runs, queue_wait_s
from .sampler import ThreadSampler
from .tally import Tally, amounts
from .tracker import Tracker

if TYPE_CHECKING:
    from .limits import Guard
    from .progress import Reporter
    from .run import Observer, Outcome

__all__ = ["CPU", "CPUTracker"]


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
        return max(0.0, totals.get("process_s", 0.0) - totals.get("own_s", 0.0))

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
_QUEUED = 0.1  # share of the time without a CPU
_KERNEL = 0.3  # share of the CPU time
_SPLIT_S = 0.1  # CPU time from which on its split by clock ticks means anything
_OTHERS = 0.2  # share of the CPU time that is that of other threads
_ONE_CORE = 1.1
_SLOW_IPC = 0.7
_MISSES = 0.005  # cache misses per instruction


class CPU(Kind):
    """What a call computes, and on how many cores."""

    type = BenchmarkType.CPU

    def observers(self) -> tuple[Observer, ...]:
        self._tracker = CPUTracker(counters=False)
        return (self._tracker,)

    def examine(self, outcome: Outcome, guard: Guard, reporter: Reporter) -> Examination:
        cpu, counted = self._tracker, CPUTracker(children=False)
        cpu.close()
        loops = outcome.series.loops
        look = Look.again(self, outcome, guard, reporter, counted, phase="counting events", loops=loops)
        counted.close()
        calls = int(outcome.series.calls.sum())
        details = {**_details(cpu, calls), **_counted_details(counted, look)}
        computing = self._threads_computing(outcome, guard, reporter)
        if computing is not None:
            details["threads_computing"] = computing
        advice = _advice(self.subject.name, cpu, calls, computing)
        return Examination(details=details, advice=advice + _memory_advice(counted), notes=_notes(cpu, counted))

    def _threads_computing(self, outcome: Outcome, guard: Guard, reporter: Reporter) -> int | None:
        """How many threads compute in a call; None when there is no sign of others than the calling one."""
        others, all_of_them = self._tracker.other_threads_s, self._tracker.process_s
        if others is None or others < _OTHERS * all_of_them or not others:
            return None
        sampler = ThreadSampler()
        Look.again(self, outcome, guard, reporter, sampler, phase="looking at threads")
        return sampler.computing()


def _details(cpu: CPUTracker, calls: int) -> dict[str, Any]:
    """What was seen while the calls were timed."""
    details = amounts(
        (
            ("cpu_s", cpu.cpu_s),
            ("user_s", cpu.user_s),
            ("system_s", cpu.system_s),
            ("thread_cpu_s", cpu.thread_s),
            ("other_threads_cpu_s", cpu.other_threads_s),
            ("children_user_s", cpu.children_user_s),
            ("children_system_s", cpu.children_system_s),
            ("running_children_cpu_s", cpu.running_children_s if cpu.running_children else None),
            ("queue_wait_s", cpu.queue_wait_s),
            ("wait_s", cpu.wait_s),
            ("voluntary_switches", cpu.voluntary_switches),
            ("involuntary_switches", cpu.involuntary_switches),
            ("other_threads_switches", cpu.other_switches),
        ),
        calls,
    )
    details["calls"] = calls
    if cpu.running_children:
        details["running_children"] = cpu.running_children
    details["cores_available"] = cpus()
    if cpu.spans:
        details["cores_used"] = cpu.cores_used
        details["cpu_efficiency"] = cpu.efficiency
    if 0.0 < cpu.process_s < _SPLIT_S:
        details["user_system_split"] = "coarse: the kernel tells them apart at clock ticks, some ms from each other"
    return details | _missing(cpu.not_readable)


def _counted_details(cpu: CPUTracker, look: Look) -> dict[str, Any]:
    """What the kernel and the hardware counted, in calls of their own."""
    if not look.calls:
        return {"counters": f"not looked at: {look.reason}"}
    counts = cpu.hardware
    details = amounts((("migrations", cpu.migrations), *counts.items()), look.calls)
    details["counters_looked_at_calls"] = look.calls
    if counts:
        details["counters_share_of_time"] = cpu.counted_share
    if cpu.ipc is not None:
        details["instructions_per_cycle"] = cpu.ipc
    for what, all_of_them in (("cache_misses", "cache_references"), ("branch_misses", "branches")):
        if counts.get(all_of_them) and what in counts:
            details[f"{what}_share"] = counts[what] / counts[all_of_them]
    return details | _missing(cpu.not_readable)


def _missing(reasons: dict[str, str]) -> dict[str, str]:
    """Details that are not there. One reason for all hardware counters is said once."""
    hardware = {name: reason for name, reason in reasons.items() if name in HARDWARE}
    said = {name: f"not readable: {reason}" for name, reason in reasons.items() if name not in hardware}
    if len(hardware) == len(HARDWARE) and len(set(hardware.values())) == 1:
        said["hardware_counters"] = f"not readable: {next(iter(hardware.values()))}"
    else:
        said.update({name: f"not readable: {reason}" for name, reason in hardware.items()})
    return said


def _advice(name: str, cpu: CPUTracker, calls: int, computing: int | None) -> list[str]:
    said: list[str] = []
    wall, busy, queued = cpu.wall_s, cpu.process_s, cpu.queue_wait_s or 0.0
    if not calls or wall <= 0.0:
        return said
    if queued / wall >= _QUEUED:
        said.append(
            f"{name} was ready to run but had no CPU for {share(queued / wall)} of its time "
            f"({duration(queued / calls)} a call): more wants to compute than the {cpus()} CPUs can. "
            "Use fewer threads and processes, or stop what else runs."
        )
    if busy >= _SPLIT_S and cpu.system_s / busy >= _KERNEL:
        said.append(
            f"{share(cpu.system_s / busy)} of its CPU time is the kernel's, for system calls and fresh memory: "
            "fewer and larger operations, and buffers that are used again, save most of it."
        )
    cores = busy / wall
    if computing is not None and computing > 1 and cores <= _ONE_CORE and cpus() > 1 and queued / wall < _QUEUED:
        said.append(
            f"{computing} threads compute, but together they use {number(cores)} of {cpus()} CPUs: they take turns, "
            "as Python code does under the interpreter's lock. Processes, or libraries that release the lock, "
            "can use the others."
        )
    return said


def _memory_advice(cpu: CPUTracker) -> list[str]:
    ipc, counts = cpu.ipc, cpu.hardware
    misses = counts.get("cache_misses", 0.0) / counts["instructions"] if counts.get("instructions") else 0.0
    if ipc is None or ipc >= _SLOW_IPC or misses < _MISSES:
        return []
    return [
        f"It runs {number(ipc)} instructions per cycle and misses the cache {number(1000 * misses)} times in a "
        "thousand instructions: it waits for memory. Smaller or contiguous data (numpy, array) help."
    ]


def _notes(cpu: CPUTracker, counted: CPUTracker) -> list[str]:
    said = []
    if counted.user_only:
        said.append(f"Counted without the kernel's share: {', '.join(counted.user_only)}.")
    least = counted.counted_share
    if least is not None and least < 1.0:
        said.append(
            f"The CPU has fewer counters than were asked for: events took turns, the least of them was counted for "
            f"{share(least)} of the time, and the numbers are estimates for all of it."
        )
    if cpu.children_user_s + cpu.children_system_s > 0.0:
        said.append("Child processes that ended during a call are counted in full, with all their CPU time.")
    if cpu.running_children_s > 0.0:
        said.append(
            f"{cpu.running_children} child processes go on: their CPU time is counted in hundredths of a second, "
            "from the first iteration to the last, what they do between iterations included."
        )
    return said
