"""CPU: what a call computes and what it waits for a CPU, on how many cores, and what the hardware counted.

Counted is all that the process does between the two ends of an iteration: in the calling thread, in other threads,
and in child processes. Only hotlap's own threads are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...options import BenchmarkType
from ...rules.words import duration, number, share
from ..environment import cpus
from ..examination import Examination
from ..looks.cpu import CPUTracker
from ..looks.look import Look
from ..looks.perf import HARDWARE
from ..looks.sampler import ThreadSampler
from ..looks.tally import amounts
from .kind import Kind

if TYPE_CHECKING:
    from ..progress import Reporter
    from ..runs.limits import Guard
    from ..runs.run import Observer, Outcome

__all__ = ["CPU"]


_QUEUED = 0.1  # share of the time without a CPU
_KERNEL = 0.3  # share of the CPU time
_SPLIT_S = 0.1  # CPU time from which on its split by clock ticks means anything
_OTHERS = 0.2  # share of the CPU time, and of the time, that others than the calling thread compute
_ONE_CORE = 0.5, 1.1  # cores that threads use which take turns
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
        computing = None if look.interrupted else self._threads_computing(outcome, guard, reporter)
        if computing is not None:
            details["threads_computing"] = computing
        advice = _advice(self.subject.name, cpu, calls, computing)
        return Examination(
            details=details,
            advice=advice + _memory_advice(counted),
            notes=[*_notes(cpu, counted), *look.notes],
            interrupted=look.interrupted,
        )

    def _threads_computing(self, outcome: Outcome, guard: Guard, reporter: Reporter) -> int | None:
        """How many threads compute in a call; None when there is little sign of others than the calling one."""
        cpu = self._tracker
        if cpu.other_threads_s is None or cpu.other_threads_s < _OTHERS * max(cpu.process_s, cpu.wall_s):
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
    if (
        computing is not None
        and computing > 1
        and _ONE_CORE[0] <= cores <= _ONE_CORE[1]
        and cpus() > 1
        and queued / wall < _QUEUED
    ):
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
