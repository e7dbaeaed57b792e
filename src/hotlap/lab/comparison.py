"""COMPARISON: several functions against each other, measured in turn.

Functions that are measured one after the other are compared under different conditions: the machine warms up, a
neighbour wakes. So they take turns, in an order that is drawn anew for each round. In one process the rounds are what
is compared, in pairs; with isolate=N the means of N fresh processes each are, which also covers what processes differ
by.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ..options import BenchmarkType
from ..stats.comparison import Comparison, Ranking, rank
from .config import BenchmarkConfig, DebugLevel
from .environment import Noise
from .examination import Examination
from .isolation import joined, run_apart
from .kinds.function import Function
from .progress import Reporter
from .runs.interrupts import Stopped
from .runs.limits import Guard
from .runs.recording import Recording
from .runs.run import Outcome, Run, collector, drive

__all__ = ["Competitor", "compared", "details", "measure"]

_ROUNDS = 20  # of turns within one process: a paired test of 20 finds what is worth finding


class Competitor(Function):
    """One of the functions that are compared."""

    type = BenchmarkType.COMPARISON


@dataclass(frozen=True, slots=True)
class Measured:
    """What a comparison measured: outcomes by name, and the times that are compared, by name and round or process."""

    outcomes: Mapping[str, Outcome]
    examinations: Mapping[str, Examination]
    means_s: Mapping[str, Sequence[float]]
    paired: bool


def measure(competitors: Mapping[str, Competitor], config: BenchmarkConfig, level: DebugLevel) -> Measured:
    """Measure them in turn: in this process, or in config.isolate fresh ones each."""
    chance = random.Random(config.seed)
    if config.isolate:
        return _apart(competitors, config, level, chance)
    return _in_turn(competitors, config, level, chance)


def compared(measured: Measured, config: BenchmarkConfig, base: str | None = None) -> Ranking | None:
    """The ranking; None when some function was never measured without a failure."""
    if any(len(means) == 0 for means in measured.means_s.values()):
        return None
    return rank(measured.means_s, base, paired=measured.paired, level=config.confidence, seed=config.seed)


def details(name: str, ranking: Ranking | None, measured: Measured) -> dict[str, Any]:
    """What the report of one competitor says of the others, as plain numbers and texts."""
    unit = "rounds" if measured.paired else "processes"
    found: dict[str, Any] = {"compared_by": unit, f"{unit}": len(measured.means_s[name])}
    if ranking is None:
        return {**found, "verdict": "not compared: some function was never measured without a failure"}
    row = next(row for row in ranking.rows if row.name == name)
    found.update(place=row.place, of=len(ranking.rows), reference=ranking.reference, mean_s=row.mean)
    if row.interval is not None:
        found["mean_interval_s"] = [row.interval.low, row.interval.high]
    if row.comparison is None:
        return {**found, "verdict": "reference", "ratio": 1.0, "sentence": "the reference"}
    return {**found, **_plain(row.comparison)}


def _plain(comparison: Comparison) -> dict[str, Any]:
    return {
        "verdict": comparison.verdict,
        "ratio": comparison.ratio,
        "ratio_interval": [comparison.low, comparison.high],
        "p": comparison.p,
        "smallest_detectable": comparison.smallest_detectable,
        "sentence": comparison.sentence(),
    }


def _apart(
    competitors: Mapping[str, Competitor], config: BenchmarkConfig, level: DebugLevel, chance: random.Random
) -> Measured:
    outcomes: dict[str, list[Outcome]] = {name: [] for name in competitors}
    examinations: dict[str, Examination] = {}
    reporter = Reporter("comparison", config)
    reporter.phase("processes", config.isolate * len(competitors))
    try:
        for _ in range(config.isolate):
            for name in chance.sample(list(competitors), len(competitors)):
                examine = name not in examinations
                outcome, examination = run_apart(competitors[name], config, level, examine)
                outcomes[name].append(outcome)
                examinations.setdefault(name, examination)
                reporter.advance()
    except KeyboardInterrupt:  # what was measured is compared
        outcomes = {name: each for name, each in outcomes.items() if each}
    finally:
        reporter.close()
    means = {
        name: [float(one.series.good.mean()) for one in each if len(one.series.good)] for name, each in outcomes.items()
    }
    return Measured({name: joined(each) for name, each in outcomes.items()}, examinations, means, paired=False)


def _in_turn(
    competitors: Mapping[str, Competitor], config: BenchmarkConfig, level: DebugLevel, chance: random.Random
) -> Measured:
    rounds = min(_ROUNDS, config.iterations)
    shared = replace(config, timeout=config.timeout * len(competitors))
    reporter = Reporter("comparison", config)
    quiet = Reporter("comparison", replace(config, progress=False))
    runs = {name: Run(one.subject, config, level, quiet, one.observers()) for name, one in competitors.items()}
    borders: dict[str, list[int]] = {name: [0] for name in competitors}

    async def take_turns() -> None:
        reporter.phase("warming up", len(runs))
        for run in runs.values():
            await run.prepare()
            reporter.advance()
        reporter.phase("measuring in turn", rounds)
        for number in range(rounds):
            share = config.iterations * (number + 1) // rounds - config.iterations * number // rounds
            for name in chance.sample(list(runs), len(runs)):
                await runs[name].measure(share)
                borders[name].append(runs[name].measured)
            if any(run.over for run in runs.values()):
                return
            reporter.advance()

    with ExitStack() as stack:
        stack.enter_context(collector(config.gc))
        guard = stack.enter_context(Guard(shared))
        for run in runs.values():
            run.attach(guard, stack.enter_context(Recording(level is not DebugLevel.BASIC)))
        noise = Noise.begin()
        try:
            drive(take_turns(), any(one.subject.asynchronous for one in competitors.values()))
        except (Stopped, KeyboardInterrupt):
            pass
        finally:
            reporter.close()
        ended = Noise.end(noise)
        outcomes = {name: run.outcome(ended) for name, run in runs.items()}
    whole = min(len(each) for each in borders.values()) - 1
    means = {name: _round_means(outcomes[name], borders[name][: whole + 1]) for name in competitors}
    kept = [number for number in range(whole) if all(np.isfinite(each[number]) for each in means.values())]
    return Measured(
        outcomes,
        {name: one.examine(outcomes[name], guard, quiet) for name, one in competitors.items()},
        {name: [each[number] for number in kept] for name, each in means.items()},
        paired=True,
    )


def _round_means(outcome: Outcome, borders: Sequence[int]) -> list[float]:
    """Mean time of a call in each round; NaN for one without a success."""
    means = []
    for first, last in pairwise(borders):
        part = slice(first, last)
        times = outcome.series.time_s[part][outcome.series.failed[part] == 0]
        means.append(float(times.mean()) if len(times) else float("nan"))
    return means
