"""STRESS: a ramp of users, doubled from level to level up to `concurrent_users`, to see where throughput stops growing,
what becomes of latency, and how the subject fails.

`iterations` are the calls of all levels together: one half is shared evenly, the other in proportion to the users, so
that each level lasts about as long as the others where the subject scales. A level that would have fewer than 4 calls
for each user is not tried. No level takes more than its part of the time that is left. At each level the generator is
tried with an empty function, too: it is Python, and may be the limit itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ...errors import OptionError
from ...options import BenchmarkType
from ...rules.words import duration, number, share
from ...stats.capacity import FITS, Capacity, capacity
from ..environment import cpus
from ..examination import Examination
from ..load.crew import Part
from ..load.level import Level, LoadOutcome, failed_calls, not_counted
from ..load.session import Session
from ..runs.run import Outcome
from .concurrent import generator_limits, interpreter_lock
from .kind import Kind

if TYPE_CHECKING:
    from ..config import BenchmarkConfig
    from ..progress import Reporter
    from ..runs.limits import Guard

__all__ = ["Stress", "ramp", "stressed"]

_EACH = 4  # calls of a user at a level, at least
_MOST_ITERATIONS = 10**7
_MOST_S = 1e7
_OF_THE_TIME = 0.8  # of a level's part of it: the rest is for warming up, and for the empty function


def stressed(config: BenchmarkConfig) -> BenchmarkConfig:
    """What benchmark_stress makes of a config: 10 times the iterations, twice the time, and twice the users but no more
    than there are CPUs; never fewer than were asked for.
    """
    users = config.concurrent_users
    return replace(
        config,
        iterations=min(10 * config.iterations, _MOST_ITERATIONS),
        concurrent_users=max(users, min(2 * users, cpus())),
        timeout=min(2.0 * config.timeout, _MOST_S),
    )


def ramp(most: int, iterations: int) -> list[tuple[int, int]]:
    """Users and calls of each level, the fewest users first: 1, 2, 4, ... and `most`, as far as iterations last."""
    users = [1]
    while 2 * users[-1] < most:
        users.append(2 * users[-1])
    if most > 1:
        users.append(most)
    while True:
        calls = [int(iterations * (0.5 / len(users) + 0.5 * count / sum(users))) for count in users]
        if len(users) == 1 or all(made >= _EACH * count for made, count in zip(calls, users, strict=True)):
            break
        users.pop()
    calls[-1] += iterations - sum(calls)
    return list(zip(users, calls, strict=True))


class Stress(Kind):
    """A ramp of users."""

    type = BenchmarkType.STRESS

    def run(self, reporter: Reporter) -> LoadOutcome:
        """Level after level, until the last, a limit, or one in which every call fails."""
        config = self.config
        if config.arrival_rate is not None:
            raise OptionError(
                f"arrival_rate={config.arrival_rate!r} is not allowed here: a stress benchmark is a ramp of users; "
                "benchmark_concurrent has the open model"
            )
        planned = ramp(config.concurrent_users, config.iterations)
        parts: list[Part] = []
        generator: dict[int, float | None] = {}
        with Session(self.subject, config, self.level, reporter, planned[-1][0]) as session:
            for index, (users, calls) in enumerate(planned):
                if config.warmup_iterations:
                    session.warm_up(users, config.warmup_iterations if users == 1 else users)
                seconds = _OF_THE_TIME * session.guard.left_s / (len(planned) - index)
                part = session.perform(_users(users), calls=calls, users=users, seconds=seconds)
                if part is None:
                    break
                parts.append(part)
                generator[users] = session.generator_rate(users)
                if part.failed.all():
                    break
        levels = [session.level(part) for part in parts or [session.nothing(1)]]
        examination = self._examined(levels, generator, planned[-1][0], session)
        return session.outcome(levels, levels[0], examination)

    def examine(self, outcome: Outcome, guard: Guard, reporter: Reporter) -> Examination:
        """What run() has put together."""
        return outcome.examination if isinstance(outcome, LoadOutcome) else Examination()

    def _examined(
        self, levels: list[Level], generator: dict[int, float | None], top: int, session: Session
    ) -> Examination:
        config = self.config
        notes, advice = not_counted(session.parts), []
        if top < config.concurrent_users:
            notes.append(
                f"{config.concurrent_users} users were not tried: {config.iterations:,} iterations are too few for "
                f"more than {top}, with {_EACH} calls of each user at each level."
            )
        last = levels[-1]
        if last.calls and last.users < top:
            why = "every call failed" if last.calls == last.failed else "the run was over"
            notes.append(f"The ramp ended at {_users(last.users)} of {top}: {why}.")
        for level in levels:
            if level.calls < level.part.planned and not session.over and level.calls > level.failed:
                made = f"{level.calls:,} of {level.part.planned:,} calls"
                notes.append(f"{_users(level.users)} made {made} in their part of the time.")
            if level.rate_interval is None and level.calls > level.failed:
                why = level.throughput.note or "too few calls"
                notes.append(f"Throughput with {_users(level.users)} is not judged: {why}.")
        found = _capacity(levels)
        limits = _generator_limits(levels, generator)
        notes += limits
        lock, said = interpreter_lock(session.kind, last)
        if found is not None and not limits:  # else these are about the generator
            advice.append(" ".join([found.sentence, *_price(found, levels)]))
            advice += _why(found)
            advice += said
        failing = _first_failing(levels, config.error_threshold)
        if failing is not None:
            advice.append(_failing_sentence(failing, levels))
        details: dict[str, Any] = {
            "model": "closed",
            "kind_of_users": session.kind,
            "levels": [
                {
                    **level.details(config),
                    "planned": level.part.planned,
                    "generator": generator.get(level.users),
                    "errors": dict(errors := _errors(level)),
                    "timeouts": sum(count for name, count in errors.items() if "timeout" in name.lower()),
                }
                for level in levels
            ],
            "capacity": None if found is None else _plain(found),
            "first_failing_level": None if failing is None else failing.users,
            "interpreter_lock": lock,
        }
        return Examination(details=details, advice=advice, notes=notes)


def _users(count: int) -> str:
    return "1 user" if count == 1 else f"{count} users"


def _capacity(levels: list[Level]) -> Capacity | None:
    """Of the levels whose throughput is known with an interval; None when that of the first is not."""
    known = [level for level in levels if level.rate_interval is not None]
    if not known or known[0] is not levels[0]:
        return None
    return capacity(
        [level.users for level in known],
        [level.rate or 0.0 for level in known],
        [level.rate_interval[0] for level in known if level.rate_interval],
        [level.rate_interval[1] for level in known if level.rate_interval],
    )


def _plain(found: Capacity) -> dict[str, Any]:
    plain = asdict(found)
    plain["efficiency"] = found.efficiency
    plain["sentence"] = found.sentence
    if found.law is not None:
        plain["law"] = {**asdict(found.law), "peak": found.law.peak, "fits": found.law.error <= FITS}
    return plain


def _generator_limits(levels: list[Level], generator: dict[int, float | None]) -> list[str]:
    """The first level at which the generator was the limit: a sentence."""
    said = (generator_limits(level, generator.get(level.users)) for level in levels)
    return next(filter(None, said), [])


def _price(found: Capacity, levels: list[Level]) -> list[str]:
    """What the users beyond the knee pay."""
    first, last = levels[0].mean_s, next(level.mean_s for level in levels if level.users == found.tried)
    if not found.bends or first is None or last is None or last <= first:
        return []
    others = "1 other" if found.tried == 2 else f"{found.tried - 1} others"
    return [f"A call takes {duration(first)} alone, and {duration(last)} beside {others}."]


def _why(found: Capacity) -> list[str]:
    """What the law that fits says of the causes."""
    law = found.law
    if not found.bends or law is None or law.error > FITS:
        return []
    said = []
    if law.contention >= 0.01:
        said.append(f"{share(min(1.0, law.contention))} of a call excludes other calls, as a lock does")
    if found.falls and law.peak is not None and law.peak < found.tried:
        said.append(f"users also slow each other down, so that throughput is highest with {_users(round(law.peak))}")
    if not said:
        return []
    return [f"By the universal scalability law, which fits within {share(law.error)}: {'; '.join(said)}."]


def _errors(level: Level) -> Counter[str]:
    """How often each type of failure came."""
    found: Counter[str] = Counter()
    for (name, _), count in failed_calls([level])[0].items():
        found[name] += count
    return found


def _first_failing(levels: list[Level], threshold: float) -> Level | None:
    """The fewest users of whose calls more than `threshold` fail."""
    return next((level for level in levels if level.calls and level.failed / level.calls > threshold), None)


def _failing_sentence(failing: Level, levels: list[Level]) -> str:
    rates = [level.failed / level.calls for level in levels if level.users < failing.users and level.calls]
    before = "" if not rates else f", at most {share(max(rates))} with fewer" if max(rates) else ", none with fewer"
    kinds = ", ".join(f"{count:,} {name}" for name, count in _errors(failing).most_common(3))
    return (
        f"It fails from {_users(failing.users)} on: {failing.failed:,} of {failing.calls:,} calls "
        f"({share(failing.failed / failing.calls)}){before}: {kinds}; {number(failing.rate or 0.0)} calls/s succeed."
    )
