"""The machine and the interpreter that a run took place on, and what makes their timings noisy."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from .. import core
from ..rules.words import share
from ..stats.sample import robust_std

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .runs.series import Series

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["Noise", "Spread", "advice", "cpus", "environment"]

_CPU = Path("/sys/devices/system/cpu")


def cpus() -> int:
    """CPUs that this process may use: its affinity, and the quota of its control group."""
    try:
        count = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on every system
        count = os.cpu_count() or 1
    quota = _quota()
    return max(1, count if quota is None else min(count, round(quota)))


def environment() -> dict[str, Any]:
    """What a later reader must know to compare; what the system does not tell is left out."""
    clock = core.clock()
    known = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "compiler": platform.python_compiler(),
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "hotlap": _version(),
        "core": core.NAME,
        "clock": clock["kind"],
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cpus": cpus(),
        "cpus_of_machine": os.cpu_count(),
        "memory_mb": psutil.virtual_memory().total / 1e6,
        "governor": _read(_CPU / "cpu0/cpufreq/scaling_governor"),
        "turbo": _turbo(),
        "smt": {"0": False, "1": True}.get(_read(_CPU / "smt/active") or ""),
        "virtual": "hypervisor" in _flags() or None,
        "cpu_quota": _quota(),
        "hash_seed": os.environ.get("PYTHONHASHSEED"),
        "optimize": sys.flags.optimize,
        "tracing": _tracing(),
        "power": _power(),
    }
    return {name: value for name, value in known.items() if value is not None}


def _version() -> str:
    from .. import __version__

    return __version__


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def _cpuinfo(field: str) -> str | None:
    text = _read(Path("/proc/cpuinfo")) or ""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(field)), None)


def _cpu_model() -> str | None:
    return _cpuinfo("model name") or platform.processor() or None


def _flags() -> list[str]:
    return (_cpuinfo("flags") or "").split()


def _turbo() -> bool | None:
    no_turbo = _read(_CPU / "intel_pstate/no_turbo")
    if no_turbo is not None:
        return no_turbo == "0"
    boost = _read(_CPU / "cpufreq/boost")
    return None if boost is None else boost == "1"


def _quota() -> float | None:
    """CPUs that the control group may use, None without a limit."""
    fields = (_read(Path("/sys/fs/cgroup/cpu.max")) or "").split()
    if len(fields) == 2 and fields[0] != "max":
        return float(fields[0]) / float(fields[1])
    quota, period = (_read(Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us")) for name in ("quota", "period"))
    return float(quota) / float(period) if quota and period and float(quota) > 0 else None


def _tracing() -> str | None:
    """What slows all Python code down: a debugger, a coverage tool."""
    if sys.gettrace() is not None:
        return "a trace function is set"
    if sys.getprofile() is not None:
        return "a profile function is set"
    monitoring = getattr(sys, "monitoring", None)
    tools = [monitoring.get_tool(number) for number in range(6)] if monitoring is not None else []
    used = [tool for tool in tools if tool]
    return f"{', '.join(used)} monitors the interpreter" if used else None


def _power() -> str | None:
    try:
        battery = psutil.sensors_battery()
    except (AttributeError, OSError, RuntimeError):
        return None
    return None if battery is None else "mains" if battery.power_plugged else "battery"


@dataclass(frozen=True, slots=True)
class Noise:
    """What disturbed a run from outside: differences of the system's counters between its start and end."""

    load: float  # runnable tasks on the machine at the end, over the last minute
    stolen: float | None  # share of the machine's CPU time that its host gave to others
    others: float | None  # share of the machine's CPU time that other processes took

    @staticmethod
    def begin() -> tuple[Any, float]:
        """What end() needs."""
        return psutil.cpu_times(), _own_cpu()

    @classmethod
    def end(cls, began: tuple[Any, float]) -> Noise:
        before, own_before = began
        after, own = psutil.cpu_times(), _own_cpu()
        total = sum(after) - sum(before) - (getattr(after, "guest", 0.0) - getattr(before, "guest", 0.0))
        idle = after.idle - before.idle + getattr(after, "iowait", 0.0) - getattr(before, "iowait", 0.0)
        stolen = getattr(after, "steal", 0.0) - getattr(before, "steal", 0.0)
        if total <= 0.2:  # counted in hundredths of a second
            return cls(psutil.getloadavg()[0], None, None)
        others = max(0.0, total - idle - stolen - (own - own_before))
        return cls(psutil.getloadavg()[0], stolen / total, others / total)


def _own_cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How much the iterations of a run differ, and what they did meanwhile. None where there is no evidence."""

    deviation: float | None  # robust relative deviation of their times
    waiting: float | None = None  # share of their time in which their threads had no CPU
    yielded: float | None = None  # voluntary context switches and suspensions per iteration
    preempted: float | None = None  # involuntary context switches per iteration
    users: int = 1  # at once

    @classmethod
    def of(cls, series: Series, users: Integers | None = None) -> Spread:
        """Of a run under load, `users` says how many were at work at each iteration, shape (n,): where that differs,
        times differ on purpose, and have no deviation.
        """
        known = np.isfinite(series.thread_cpu_s)
        spent = float(series.raw_s[known].sum())
        on_cpu = float((series.thread_cpu_s * series.calls)[known].sum())
        levels = {1} if users is None else set(users.tolist())
        return cls(
            deviation=_deviation(series.good) if len(levels) == 1 else None,
            waiting=max(0.0, 1.0 - on_cpu / spent) if spent > 0.0 else None,
            yielded=_per_iteration(series.voluntary + series.suspensions, series),
            preempted=_per_iteration(series.involuntary, series),
            users=max(levels, default=1),
        )


def _per_iteration(per_call: Floats, series: Series) -> float | None:
    known = np.isfinite(per_call)
    return float((per_call * series.calls)[known].mean()) if known.any() else None


def _deviation(times: Floats) -> float | None:
    """The median absolute deviation, as that of a normal distribution, by the median."""
    if len(times) < 5:
        return None
    median = float(np.median(times))
    return robust_std(times) / median if median > 0.0 else None


_NOISY = 0.05  # robust relative deviation of the iterations, from which on a run is called noisy
_WAITS = 1 / 3  # share of their time: from here on what they wait for explains why they differ
_PREEMPTED = 0.1  # involuntary context switches per iteration
_STOLEN = 0.01
_OTHERS = 0.2


def advice(known: dict[str, Any], noise: Noise, spread: Spread) -> list[str]:
    """What to do about a noisy run; nothing when it was not noisy."""
    said = []
    if known.get("tracing"):
        said.append(f"Timed while {known['tracing']}: all Python code is slower than it is in production.")
    if noise.stolen is not None and noise.stolen > _STOLEN:
        said.append(
            f"The host of this virtual machine took {share(noise.stolen)} of its CPU time for others: "
            "repeat when it is idle."
        )
    if noise.others is not None and noise.others > _OTHERS:
        said.append(f"Other processes took {share(noise.others)} of the machine's CPU time: stop them, and repeat.")
    if spread.deviation is None or spread.deviation <= _NOISY:
        return said
    why = _waits(spread) if _mostly_waits(spread) else _disturbed(known, spread)
    return said if why is None else [*said, f"The iterations differ by {share(spread.deviation)}{why}."]


def _mostly_waits(spread: Spread) -> bool:
    """A noisy machine disturbs what computes. Users at once wait for each other, unless it is known that they don't."""
    if spread.waiting is None:
        return spread.users > 1
    off_cpu = spread.waiting >= _WAITS
    return off_cpu and (spread.users > 1 or (spread.yielded or 0.0) >= (spread.preempted or 0.0))


def _waits(spread: Spread) -> str | None:
    if spread.waiting is None:
        return None
    if spread.users == 1:
        return f": they wait for {share(spread.waiting)} of their time, and what they wait for differs"
    others = "another" if spread.users == 2 else f"{spread.users - 1} others"
    return f": beside {others}, they have no CPU for {share(spread.waiting)} of their time"


def _disturbed(known: dict[str, Any], spread: Spread) -> str:
    causes = []
    if spread.preempted is not None and spread.preempted >= _PREEMPTED:
        causes.append("the run was often taken off its CPU (reserve a CPU with taskset or isolcpus)")
    if known.get("governor") not in {None, "performance"}:
        causes.append(f'the frequency governor is {known["governor"]!r} (set it to "performance")')
    if known.get("turbo"):
        causes.append("turbo is on (its clock depends on heat and on the other cores: switch it off)")
    if known.get("smt"):
        causes.append("simultaneous multithreading is on (two threads share a core)")
    if known.get("power") == "battery":
        causes.append("the machine runs on battery")
    if known.get("virtual") and not causes:
        causes.append("this is a virtual machine, whose neighbours share caches and memory")
    return f": {'; '.join(causes)}" if causes else ", and nothing that the system tells explains it"
