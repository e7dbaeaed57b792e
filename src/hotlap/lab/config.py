"""What a lab run is asked to do: its amount of work, its limits, and how it measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..errors import OptionError, OptionTypeError
from ..readers import choice, flag, nearest, number

if TYPE_CHECKING:
    from .progress import Progress

__all__ = ["BenchmarkConfig", "DebugLevel"]


class DebugLevel(str, Enum):
    """How much is looked at in each iteration; what that costs is measured, and said in the report."""

    BASIC = "basic"  # time alone
    DETAILED = "detailed"  # CPU time, context switches, page faults, garbage collection, memory, I/O
    PROFILING = "profiling"  # also where time and memory go, in runs of their own that are not timed

    __str__ = str.__str__


@dataclass
class BenchmarkConfig:
    """The options of a lab run. Raises OptionError or OptionTypeError for a value that makes no sense, and
    AttributeError when an option is set that does not exist.

    An iteration is one timed sample: `loops` calls, one after the other. Its time is that of one call.

    iterations             samples to measure; under load (concurrent, stress) calls of all users together
    warmup_iterations      samples before that, which are in no number
    concurrent_users       users at once, for benchmark_concurrent and benchmark_stress
    timeout                seconds for the whole run: what was measured until then is returned
    memory_limit           MB that the run may add to the process; it ends there
    cpu_limit              percent (0-100) of the CPUs that the process may use; a run above is marked, where there
                           are several: on one, any loop of calls that compute takes all of it
    error_threshold        fraction (0-1) of the calls that may fail; a run above is marked
    performance_threshold  seconds that a call may take on average; a run above is marked

    loops                  calls in an iteration; None: as many as fill a millisecond
    setup                  called before each iteration, untimed; may return (args, kwargs) for the call
    teardown               called after each iteration, untimed
    gc                     "on": garbage is collected as in production; "off": not within the run
    isolate                run in this many fresh processes, one after the other; 0: in this one
    processes              concurrent users are processes, not threads
    arrival_rate           calls per second of an open model; None: each user calls again at once
    arrivals               of an open model: "constant", or "poisson" as of independent callers
    confidence             level of all intervals, a fraction (0.5-0.9999)
    seed                   of resampling and of random orders
    progress               a function of one `Progress`, True for a bar, False for none; None: a bar when standard
                           error is a terminal
    """

    iterations: int = 100
    warmup_iterations: int = 10
    concurrent_users: int = 1
    timeout: float = 30.0  # s
    memory_limit: float = 1024.0  # MB
    cpu_limit: float = 80.0  # percent
    error_threshold: float = 0.05  # fraction
    performance_threshold: float = 1.0  # s

    loops: int | None = None
    setup: Callable[[], Any] | None = None
    teardown: Callable[[], Any] | None = None
    gc: str = "on"
    isolate: int = 0
    processes: bool = False
    arrival_rate: float | None = None  # calls/s
    arrivals: str = "constant"
    confidence: float = 0.95  # fraction
    seed: int = 0
    progress: Callable[[Progress], object] | bool | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if type(self) is BenchmarkConfig and name not in _READERS:  # a subclass may have more
            raise AttributeError(f"BenchmarkConfig has no option {name!r}: {nearest(name, _READERS)}")
        super().__setattr__(name, value)

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Look at all fields again: they may have been assigned to."""
        for field in fields(self):
            value = getattr(self, field.name)
            read = _READERS.get(field.name)
            if read is None or (value is None and field.default is None):
                continue
            setattr(self, field.name, read(value, field.name, False))
        if self.arrival_rate is not None and self.processes:
            raise OptionError(
                f"arrival_rate={self.arrival_rate!r} with processes=True is not allowed: "
                "an open model has threads or tasks as its users"
            )


def from_text(name: str, text: str) -> Any:
    """The value of an option, as a command line has it. Raises OptionError for an unknown one, and a wrong value."""
    known = {one: read for one, read in _READERS.items() if read not in (_function, _progress)}
    if name not in known:
        raise OptionError(f"{name}={text!r} is no option that can be given as text: {nearest(name, known)}")
    return known[name](text, name, True)


def _function(value: Any, name: str, text: bool) -> Any:
    if not callable(value):
        raise OptionTypeError(f"{name}={value!r} is not callable: give a function without arguments")
    return value


def _progress(value: Any, name: str, text: bool) -> Any:
    if not isinstance(value, bool) and not callable(value):
        raise OptionTypeError(f"{name}={value!r} has the wrong type: give True, False or a function of one argument")
    return value


_READERS = {
    "iterations": number(1, 10**7, "a whole number from 1 to 10,000,000", whole=True),
    "warmup_iterations": number(0, 10**7, "a whole number from 0 to 10,000,000", whole=True),
    "concurrent_users": number(1, 10_000, "a whole number from 1 to 10,000", whole=True),
    "timeout": number(1e-3, 1e7, "seconds from 0.001 to 10,000,000"),
    "memory_limit": number(1e-3, 1e9, "MB from 0.001 to 1,000,000,000"),
    "cpu_limit": number(1e-3, 100.0, "percent from 0.001 to 100"),
    "error_threshold": number(0.0, 1.0, "a share from 0 to 1"),
    "performance_threshold": number(1e-9, 1e7, "seconds from 1e-9 to 10,000,000"),
    "loops": number(1, 10**9, "a whole number from 1 to 1,000,000,000, or None", whole=True),
    "setup": _function,
    "teardown": _function,
    "gc": choice(("on", "off")),
    "isolate": number(0, 1000, "a whole number from 0 to 1,000", whole=True),
    "processes": flag,
    "arrival_rate": number(1e-6, 1e7, "calls per second from 0.000001 to 10,000,000, or None"),
    "arrivals": choice(("constant", "poisson")),
    "confidence": number(0.5, 0.9999, "a level from 0.5 to 0.9999"),
    "seed": number(0, 2**63 - 1, "a whole number from 0 to 2**63 - 1", whole=True),
    "progress": _progress,
}
