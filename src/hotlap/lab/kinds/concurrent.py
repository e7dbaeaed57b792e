"""CONCURRENT: many users at once. In a closed model each calls again as soon as its call is over; in an open one calls
are due at a rate of their own, whether or not earlier ones are over.

`iterations` is the number of calls of all users together. The open model has no coordinated omission: latency counts
from when a call was due, so a stall shows in all the calls that had to wait for it (Tene, 2013; Schroeder, Wierman
and Harchol-Balter, 2006, on what closed models hide). Calls wait in the order in which they are due for a free one of
`concurrent_users`; that wait is told from the generator's own lateness.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from ...options import BenchmarkType
from ...rules.words import duration, number, share
from ..environment import cpus
from ..examination import Examination
from ..load.arrivals import arrivals, arrived, backlog, lateness, remedy
from ..load.crew import Part
from ..load.level import Level, LoadOutcome, not_counted
from ..load.session import Session
from ..load.users import free_threads
from ..runs.run import Outcome
from .kind import Kind

if TYPE_CHECKING:
    from ..config import BenchmarkConfig, DebugLevel
    from ..progress import Reporter
    from ..runs.limits import Guard
    from ..runs.subject import Subject

__all__ = ["Concurrent", "generator_limits", "interpreter_lock"]

_LIMITING = 0.5  # of the generator's rate: what lies above says more of it than of the subject
_ONE_CORE = 0.8, 1.2  # CPUs that threads use who take turns
_LOOKS = 5
_SCALES = 0.8  # efficiency
_HARDLY = 1.1  # times as much
_UNFAIR = 0.8
_TURNS = 10  # of each user, on average


class Concurrent(Kind):
    """Many users at once."""

    type = BenchmarkType.CONCURRENT

    def __init__(self, subject: Subject, config: BenchmarkConfig, level: DebugLevel) -> None:
        super().__init__(subject, config, level)
        self._poisson = config.arrivals == "poisson"

    def run(self, reporter: Reporter) -> LoadOutcome:
        """Warm up, let one user work alone for a short time, then all of them; then try the generator itself."""
        config, users = self.config, self.config.concurrent_users
        rate = config.arrival_rate
        due = None if rate is None else arrivals(config.iterations, rate, self._poisson, config.seed)
        one: Part | None = None
        part: Part | None = None
        generator: float | None = None
        with Session(self.subject, config, self.level, reporter, users) as session:
            session.warm_up(users, config.warmup_iterations)
            one = session.alone() if users > 1 else None
            part = session.perform("measuring", calls=config.iterations, users=users, due_ns=due)
            generator = session.generator_rate(users)
        alone = None if one is None else session.level(one)
        level = session.level(part or session.nothing(users))
        examination = self._examined(session.kind, level, alone, generator)
        examination.notes += not_counted(session.parts)
        return session.outcome([level], alone, examination)

    def examine(self, outcome: Outcome, guard: Guard, reporter: Reporter) -> Examination:
        """What run() has put together."""
        return outcome.examination if isinstance(outcome, LoadOutcome) else Examination()

    def _examined(self, kind: str, level: Level, alone: Level | None, generator: float | None) -> Examination:
        details = {
            "model": "closed" if self.config.arrival_rate is None else "open",
            "kind_of_users": kind,
            **level.details(self.config),
            "generator": {"throughput": generator, "share": _share(level.rate, generator)},
        }
        notes: list[str] = []
        advice: list[str] = []
        if level.throughput.note and level.calls:
            notes.append(f"Throughput is that of the whole run, its start and end included: {level.throughput.note}.")
        limits = generator_limits(level, generator)
        notes += limits
        details["alone"] = None if alone is None else _alone(alone)
        details["slower_than_alone"] = None if alone is None else _share(level.mean_s, alone.mean_s)
        if self.config.arrival_rate is None:
            details.update(_speed_up(level, alone))
            advice += [] if limits else _scaling(kind, level, alone, details)
        else:
            details.update(arrived(kind, level, self.config.arrival_rate, self._poisson))
            notes += backlog(details) + lateness(details)
            advice += remedy(level, details, None if alone is None else alone.mean_s, bool(limits))
        details["interpreter_lock"], said = interpreter_lock(kind, level)
        advice += said
        return Examination(details=details, advice=advice, notes=notes)


def _scaling(kind: str, level: Level, alone: Level | None, details: dict[str, Any]) -> list[str]:
    said = []
    speed_up, interval, users = details["speed_up"], details["speed_up_interval"], level.users
    if speed_up is not None and alone is not None and interval is not None and interval[1] < _SCALES * users:
        waits = level.waiting_share
        waiting = "" if waits is None else f", {share(waits)} of it without a CPU"
        said.append(
            f"{users} {kind} get {_as_much(speed_up, *interval)}: a call takes {duration(level.mean_s or 0.0)} "
            f"beside others{waiting}, and {duration(alone.mean_s or 0.0)} alone."
        )
    fair = details["fairness"]
    if fair is not None and fair < _UNFAIR and _had_their_turns(level):
        said.append(
            f"The users are not served alike: the busiest made {details['most_calls_of_a_user']:,} calls, another "
            f"{details['fewest_calls_of_a_user']:,} (fairness {number(fair)}, 1 is even)."
        )
    return said


def _as_much(speed_up: float, low: float, high: float) -> str:
    """How much users get done, as people say it."""
    between = f"{number(low)} to {number(high)}"
    if low > 1.0 and speed_up >= _HARDLY:
        return f"{number(speed_up)} times ({between}) as much done as one"
    less = high < 1.0 and speed_up <= 1.0 / _HARDLY
    much = "less" if less else "no more" if low <= 1.0 else "hardly more"
    return f"{much} done than one ({between} times as much)"


def _had_their_turns(level: Level) -> bool:
    """Whether each user had so many that chance gives them about as many calls, if they are served alike.

    Those who compute take turns at the interpreter's lock, or at the CPUs, of about its switch interval.
    """
    turns = level.part.seconds / sys.getswitchinterval()
    return min(level.calls, turns) >= _TURNS * level.users


def _share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole is not None and whole > 0.0 else None


def _alone(level: Level) -> dict[str, Any]:
    return {
        "calls": level.calls,
        "failed": level.failed,
        "throughput": level.rate,
        "throughput_interval": None if level.rate_interval is None else list(level.rate_interval),
        "mean_s": level.mean_s,
        "waiting_share": level.waiting_share,
    }


def _speed_up(level: Level, alone: Level | None) -> dict[str, Any]:
    """Throughput as a multiple of that of one user; its interval is a wide one, from the ends of both intervals."""
    times = None if alone is None else _share(level.rate, alone.rate)
    interval = None
    if alone is not None and alone.rate_interval is not None and level.rate_interval is not None:
        interval = [
            level.rate_interval[0] / alone.rate_interval[1],
            level.rate_interval[1] / alone.rate_interval[0],
        ]
    return {
        "speed_up": times,
        "speed_up_interval": interval,
        "efficiency": None if times is None else times / level.users,
    }


def generator_limits(level: Level, generator: float | None) -> list[str]:
    """Whether what was measured is the generator rather than the subject; `generator` is its rate of empty calls."""
    part = _share(level.rate, generator)
    if part is None or part < _LIMITING:
        return []
    users = "1 user makes" if level.users == 1 else f"{level.users} users make"
    most = "no more" if part >= 1.0 else number(generator or 0.0)
    return [
        f"The generator was the limit: {users} {number(level.rate or 0.0)} calls/s, and {most} of an empty function. "
        "The subject can do more than this shows."
    ]


def interpreter_lock(kind: str, level: Level) -> tuple[dict[str, Any] | None, list[str]]:
    """What the watching thread has seen of the GIL, and a sentence when it holds the users back.

    That thread does next to nothing, but needs the lock for it, like everybody: how late it ran is how long a thread
    waits for the lock (or for a CPU). None where users do not share a lock, or it was not looked at often enough.
    """
    late = level.part.late_s
    if kind != "threads" or len(late) < _LOOKS or free_threads():
        return None, []
    interval = sys.getswitchinterval()
    wait, held = float(np.median(late)), float(np.mean(late >= interval / 2.0))
    found = {"wait_s": wait, "held_share": held, "switch_interval_s": interval}
    cores = level.cores_used
    low, high = _ONE_CORE
    if level.users < 2 or cpus() < 2 or cores is None or not low <= cores <= high or wait < interval / 2.0:
        return found, []
    return found, [
        f"{level.users} threads used {number(cores)} of {cpus()} CPUs, and another thread that wanted to run waited "
        f"{duration(wait)} in the median: they take turns at the interpreter's lock (GIL). Processes "
        "(processes=True) do not share it."
    ]
