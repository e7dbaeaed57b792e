"""Level: a level of load (so many users, and what came of it), and the outcome of a run that has one or more of them.

Every call is an iteration of its own, with a row in the Series. Where users compete for the machine, CPU time of the
whole process cannot be told apart by calls: `cpu_s` of a call is what the process took in its level on average, over
the time of that call; `thread_cpu_s` is exact.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...stats.bootstrap import interval
from ...stats.capacity import Throughput, chance_of_excess, fairness, throughput
from ...stats.sample import quantiles
from ..environment import Spread
from ..examination import Examination
from ..failures import FailureLog
from ..report import Failure
from ..runs.run import Outcome
from ..runs.series import Series
from .crew import Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..config import BenchmarkConfig
    from ..runs.timer import Timer

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["Level", "LoadFailures", "LoadOutcome", "failed_calls", "joined", "not_counted"]

_RARE = 0.01  # a pattern is said when chance gives it in fewer of a hundred runs
_RESAMPLES = 999
_OF_ORDER = ("It begins with", "It comes in bursts")  # where several levels follow each other, these tell of the ramp
_QUANTILES = {"p50_s": 0.5, "p95_s": 0.95, "p99_s": 0.99}


@dataclass(frozen=True, slots=True)
class LoadOutcome(Outcome):
    """The outcome of a load run. Columns have shape (n,), a row for each call, in order of start within each level."""

    latency_s: Floats  # from when the call was due to its end; in a closed model the time of the call
    wait_s: Floats  # for a user to be free; 0 in a closed model
    lag_s: Floats  # the generator's own lateness; 0 in a closed model
    user: Integers  # who made the call, from 0
    users: Integers  # how many users there were
    in_flight: Integers  # calls under way at the start of this one, itself included
    throughput: float | None  # successful calls per second of all users together; the highest of all levels
    examination: Examination

    @property
    def all_at_work(self) -> NDArray[np.bool_]:
        """Calls, shape (n,), before and after which no user is without calls: neither at the begin nor at the end."""
        starts, ends = self.series.started, self.series.started + self.series.raw_s
        own = [self.user == user for user in np.unique(self.user)]
        begin = max((float(starts[calls].min()) for calls in own), default=0.0)
        end = min((float(ends[calls].max()) for calls in own), default=0.0)
        return (starts >= begin) & (ends <= end)


@dataclass(frozen=True, slots=True)
class Level:
    """So many users at work, and what came of it."""

    part: Part
    series: Series
    latency_s: Floats
    wait_s: Floats
    lag_s: Floats
    in_flight: Integers
    throughput: Throughput

    @classmethod
    def of(cls, part: Part, timer: Timer, config: BenchmarkConfig) -> Level:
        """From what the users did."""
        records = part.records
        start_s, wall_s = records["start_ns"] / 1e9, records["wall_ns"] / 1e9
        series = _series(part, timer)
        wait_s = np.maximum(part.taken_ns - part.due_ns, 0) / 1e9
        lag_s = (part.called_ns - np.maximum(part.taken_ns, part.due_ns)) / 1e9
        if part.closed:
            wait_s, lag_s = np.zeros(len(records)), np.zeros(len(records))
        users = part.users if part.closed else int(part.user.max(initial=-1)) + 1
        done = throughput(
            start_s=start_s,
            end_s=start_s + wall_s,
            good=~part.failed,
            user=part.user,
            users=users,
            level=config.confidence,
            seed=config.seed,
        )
        if not part.closed:  # what gets done is what arrives
            done = replace(done, steady=None, low=None, high=None, note="")
        return cls(
            part=part,
            series=series,
            latency_s=(part.called_ns - part.due_ns) / 1e9 + series.time_s,
            wait_s=wait_s,
            lag_s=lag_s,
            in_flight=_in_flight(start_s, start_s + wall_s),
            throughput=done,
        )

    @property
    def users(self) -> int:
        return self.part.users

    @property
    def calls(self) -> int:
        """That ended by themselves."""
        return len(self.part.records)

    @property
    def failed(self) -> int:
        return int(np.count_nonzero(self.part.failed))

    @property
    def rate(self) -> float | None:
        """Successful calls per second: the steady ones where there are any, otherwise all."""
        return self.throughput.whole if self.throughput.steady is None else self.throughput.steady

    @property
    def rate_interval(self) -> tuple[float, float] | None:
        low, high = self.throughput.low, self.throughput.high
        return None if low is None or high is None else (low, high)

    @property
    def mean_s(self) -> float | None:
        """Time of a successful call."""
        good = self.series.good
        return float(good.mean()) if len(good) else None

    @property
    def cores_used(self) -> float | None:
        """CPU time of the users' processes by wall time."""
        cpu_s = self.part.cpu_s
        return None if cpu_s is None or self.part.seconds <= 0.0 else cpu_s / self.part.seconds

    @property
    def waiting_s(self) -> float | None:
        """Of the time of all calls together: what their threads had no CPU; None without evidence."""
        known = np.isfinite(self.series.thread_cpu_s)
        if not known.any():
            return None
        return max(0.0, float((self.series.raw_s[known] - self.series.thread_cpu_s[known]).sum()))

    @property
    def waiting_share(self) -> float | None:
        """The same as a share of that time."""
        return Spread.of(self.series).waiting

    def details(self, config: BenchmarkConfig) -> dict[str, Any]:
        """Plain numbers for a report. None where there is no evidence."""
        part, done = self.part, self.throughput
        shares = np.bincount(part.user, minlength=part.users)
        wall = float((self.series.raw_s + self.series.started).max() - self.series.started.min()) if self.calls else 0.0
        return {
            "users": part.users,
            "calls": self.calls,
            "failed": self.failed,
            "error_rate": self.failed / self.calls if self.calls else None,
            "cut_off": part.cut_off,
            "still_running": part.running,
            "throughput": done.whole,
            "steady_throughput": done.steady,
            "steady_throughput_interval": None if self.rate_interval is None else list(self.rate_interval),
            "steady_seconds": done.steady_s,
            "latency": _latency(self.latency_s[~part.failed], config),
            # Little (1961): what is in flight on average is what time is spent, by the time that passes
            "in_flight_mean": float(self.series.raw_s.sum()) / wall if wall > 0.0 else None,
            "in_flight_peak": int(self.in_flight.max()) if self.calls else 0,
            "waiting_s": self.waiting_s,
            "waiting_share": self.waiting_share,
            "cores_used": self.cores_used,
            "fairness": fairness(shares),
            "fewest_calls_of_a_user": int(shares.min()),
            "most_calls_of_a_user": int(shares.max()),
        }


def _latency(values: Floats, config: BenchmarkConfig) -> dict[str, Any]:
    if len(values) == 0:
        return {"mean_s": None, "mean_interval_s": None, **dict.fromkeys(_QUANTILES), "max_s": None}
    found = interval(values, level=config.confidence, resamples=_RESAMPLES, seed=config.seed)
    return {
        "mean_s": float(values.mean()),
        "mean_interval_s": None if found is None else [found.low, found.high],
        **dict(zip(_QUANTILES, quantiles(values, tuple(_QUANTILES.values())).tolist(), strict=True)),
        "max_s": float(values.max()),
    }


def _series(part: Part, timer: Timer) -> Series:
    """CPU time of the process cannot be told apart by calls at once: each gets its part by how long it took."""
    cores = math.nan if part.cpu_s is None or part.seconds <= 0.0 else part.cpu_s / part.seconds
    records, ones = part.records, np.ones(len(part.records), np.int64)
    return Series.of(records, timer, ones, part.failed.astype(np.int64), records["wall_ns"] / 1e9 * cores)


def _in_flight(start_s: Floats, end_s: Floats) -> Integers:
    """Calls under way at each start; `start_s` ascends."""
    ended: Integers = np.searchsorted(np.sort(end_s), start_s, "right")
    begun: Integers = np.arange(1, len(start_s) + 1)
    return begun - ended


def joined(levels: Sequence[Level]) -> dict[str, Any]:
    """The columns of a LoadOutcome from all levels, in their order."""
    rows = {
        field.name: np.concatenate([getattr(level.series, field.name) for level in levels])
        for field in fields(Series)
        if field.name != "loops"
    }
    return {
        "series": Series(loops=1, **rows),
        "latency_s": np.concatenate([level.latency_s for level in levels]),
        "wait_s": np.concatenate([level.wait_s for level in levels]),
        "lag_s": np.concatenate([level.lag_s for level in levels]),
        "user": np.concatenate([level.part.user for level in levels]),
        "users": np.concatenate([np.full(level.calls, level.users) for level in levels]),
        "in_flight": np.concatenate([level.in_flight for level in levels]),
    }


class LoadFailures(FailureLog):
    """The failures of all levels by their row, and whether they come with the load."""

    def __init__(self, levels: Sequence[Level], alone: Level | None) -> None:
        """`alone` is the level of one user, among `levels` or not."""
        super().__init__()
        self._alone, self._alone_calls = failed_calls([] if alone is None else [alone])
        self._beside, self._beside_calls = failed_calls([level for level in levels if level.users > 1])
        self._several = len(levels) > 1
        first = 0
        for level in levels:
            rows = {number: first + row for row, number in enumerate(level.part.number.tolist())}
            for key, one in level.part.failures._classes.items():
                numbers = [rows[number] for number in one.iterations if number in rows]
                if key in self._classes:
                    self._classes[key].iterations.extend(numbers)
                elif numbers:
                    self._classes[key] = replace(one, iterations=numbers)
            first += level.calls

    def failures(self, times_s: Floats, success_s: float | None) -> list[Failure]:
        found = []
        for failure in super().failures(times_s, success_s):
            kept = failure.patterns
            if self._several:
                kept = tuple(pattern for pattern in kept if not pattern.startswith(_OF_ORDER))
            found.append(replace(failure, patterns=kept + self._with_load((failure.type, failure.place))))
        return found

    def _with_load(self, key: tuple[str, str]) -> tuple[str, ...]:
        before, failed = self._alone[key], self._beside[key]
        if not self._alone_calls or not self._beside_calls:
            return ()
        if chance_of_excess(failed, self._beside_calls, before, self._alone_calls) >= _RARE:
            return ()
        often = f"in {failed:,} of {self._beside_calls:,} calls beside others, in {before or 'none'} of "
        often += f"{self._alone_calls:,} alone"
        return (f"It comes {'more often' if before else 'only'} under concurrency: {often}.",)


def failed_calls(levels: Sequence[Level]) -> tuple[Counter[tuple[str, str]], int]:
    """How often each type of exception came from each place in these levels, and of how many calls."""
    found: Counter[tuple[str, str]] = Counter()
    for level in levels:
        for key, one in level.part.failures._classes.items():
            found[key] += len(one.iterations)
    return found, sum(level.calls for level in levels)


def not_counted(parts: Sequence[Part]) -> list[str]:
    """What a reader must know of calls that are in no number: sentences."""
    said = []
    running, cut_off = sum(part.running for part in parts), sum(part.cut_off for part in parts)
    if running:
        were = "1 call was" if running == 1 else f"{running:,} calls were"
        said.append(f"{were} still running at the end and could not be ended: in no number, and in the background now.")
    if cut_off:
        were = "1 call was" if cut_off == 1 else f"{cut_off:,} calls were"
        said.append(f"{were} cut off at the end: in no number.")
    said += [lost for part in parts for lost in part.lost]
    return said
