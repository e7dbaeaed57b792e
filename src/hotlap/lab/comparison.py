"""COMPARISON: several functions against each other, measured in turn.

Functions that are measured one after the other are compared under different conditions: the machine warms up, a
neighbour wakes. So they take turns, in an order that is drawn anew for each round. In one process the rounds are what
is compared, in pairs; with isolate=N the means of N fresh processes each are, which also covers what processes differ
by.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ..options import BenchmarkType
from ..stats.comparison import Comparison, Ranking, fewest, rank
from .config import BenchmarkConfig, DebugLevel
from .environment import Noise
from .examination import Examination
from .isolation import Processes, joined
from .kinds.function import Function
from .progress import Reporter
from .runs.interrupts import Stopped
from .runs.limits import Guard
from .runs.recording import Recording
from .runs.run import Outcome, Run, collector, drive
from .runs.timer import Timer

__all__ = ["Competitor", "compared", "details", "measure"]

logger = logging.getLogger("hotlap")

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
    interrupted: bool  # by the user: what was measured until then is compared


def measure(competitors: Mapping[str, Competitor], config: BenchmarkConfig, level: DebugLevel) -> Measured:
    """Measure them in turn: in this process, or in config.isolate fresh ones each."""
    _warn(len(competitors), config)
    chance = random.Random(config.seed)
    if config.isolate:
        return _apart(competitors, config, level, chance)
    return _in_turn(competitors, config, level, chance)


def _warn(count: int, config: BenchmarkConfig) -> None:
    """Say before the run what cannot come of it: ratios do, but no verdict."""
    if count < 2:
        return
    option, given = ("isolate", config.isolate) if config.isolate else ("iterations", config.iterations)
    needed = fewest(config.confidence, math.comb(count, 2), paired=not config.isolate)
    if given < needed:
        logger.warning(
            "%s=%d is too little to tell a difference between %d functions from chance: their ratios will be measured, "
            "but none be called faster or slower; give %s=%d or more",
            option,
            given,
            count,
            option,
            needed,
        )


def compared(measured: Measured, config: BenchmarkConfig, base: str | None = None) -> Ranking | None:
    """The ranking of those that have times to compare; None when the base has none, or there is nobody to compare."""
    timed = {name: means for name, means in measured.means_s.items() if len(means)}
    if len(timed) < min(2, len(measured.means_s)) or (base is not None and base not in timed):
        return None
    return rank(timed, base, paired=measured.paired, level=config.confidence, seed=config.seed)


def details(name: str, ranking: Ranking | None, measured: Measured) -> dict[str, Any]:
    """What the report of one competitor says of the others, as plain numbers and texts: always by the same keys, with
    None where there is no value.

    "verdict" is "faster", "slower", "equivalent", "no evidence", "reference" or "not compared", "sentence" says it
    with numbers. "mean_s" and "mean_interval_s" are seconds, "ratio" and "ratio_interval" those to the "reference",
    "smallest_detectable" is a fraction; "compared_by" names the unit of comparison, of which there are so many.
    """
    unit = "rounds" if measured.paired else "processes"
    found: dict[str, Any] = {"compared_by": unit, unit: len(measured.means_s[name])}
    row = None if ranking is None else next((row for row in ranking.rows if row.name == name), None)
    if ranking is None or row is None:
        times = measured.outcomes[name].series.good
        mean = float(times.mean()) if len(times) else None
        place = {"place": None, "of": len(measured.outcomes), "reference": None, "mean_s": mean}
        return {**found, **place, "mean_interval_s": None, **_plain(None, "not compared", _why_not(measured))}
    found.update(
        place=row.place,
        of=len(ranking.rows),
        reference=ranking.reference,
        mean_s=row.mean,
        mean_interval_s=None if row.interval is None else [row.interval.low, row.interval.high],
    )
    if row.comparison is None:
        return {**found, **_plain(None, "reference", "the reference"), "ratio": 1.0}
    return {**found, **_plain(row.comparison)}


def _why_not(measured: Measured) -> str:
    """Why there is nothing to rank."""
    unit = "round" if measured.paired else "process"
    failing = [name for name, one in measured.outcomes.items() if len(one.failures) and not len(one.series.good)]
    if failing:
        return f"not compared: every call of {', '.join(failing)} failed"
    if any(len(one.series.good) and not one.series.good.any() for one in measured.outcomes.values()):
        return "not compared: calls are too short to be timed one by one; leave `loops` to hotlap"
    if measured.interrupted:
        return f"not compared: interrupted before each function had been measured in a {unit}"
    if any(one.ended is not None for one in measured.outcomes.values()):
        return f"not compared: a limit was reached before each function had been measured in a {unit}"
    return f"not compared: there is no {unit} in which each function had a call without a failure"


def _plain(comparison: Comparison | None, verdict: str = "", sentence: str = "") -> dict[str, Any]:
    if comparison is None:
        keys = ("ratio", "ratio_interval", "p", "smallest_detectable")
        return {"verdict": verdict, **dict.fromkeys(keys), "sentence": sentence}
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
    interrupted = False
    processes = Processes(config, level, config.timeout * len(competitors))
    order = (name for _ in range(config.isolate) for name in chance.sample(list(competitors), len(competitors)))
    try:
        for name in order:
            done = processes.run(competitors[name], examine=name not in examinations)
            if done is not None:
                outcomes[name].append(done[0])
                examinations.setdefault(name, done[1])
                interrupted = done[0].interrupted  # by the function itself: nobody else can
                reporter.advance()
            if processes.over:
                break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        reporter.close()
    means = {
        name: [float(one.series.good.mean()) for one in each if one.series.good.any()]
        for name, each in outcomes.items()
    }
    planned = config.isolate * config.iterations
    return Measured(
        {name: joined(each, planned, interrupted, processes.ending) for name, each in outcomes.items()},
        {name: examinations.get(name, Examination()) for name in competitors},
        means,
        paired=False,
        interrupted=interrupted,
    )


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
        timers: dict[bool, Timer] = {}
        for run in runs.values():
            timers[run.asynchronous] = await run.prepare(timers.get(run.asynchronous))
            if run.over:
                return
            reporter.advance()
        reporter.phase("measuring in turn", rounds)
        for number in range(rounds):
            share = config.iterations * (number + 1) // rounds - config.iterations * number // rounds
            for name in chance.sample(list(runs), len(runs)):
                await runs[name].measure(share)
                borders[name].append(runs[name].measured)
                if runs[name].over:
                    return
            reporter.advance()

    with ExitStack() as stack:
        stack.enter_context(collector(config.gc))
        guard = stack.enter_context(Guard(shared))
        for run in runs.values():
            run.attach(guard, stack.enter_context(Recording(level is not DebugLevel.BASIC)))
        noise = Noise.begin()
        interrupted = False
        try:
            drive(take_turns(), any(one.subject.asynchronous for one in competitors.values()))
        except Stopped:
            pass
        except KeyboardInterrupt:
            interrupted = True
        finally:
            reporter.close()
        ended = Noise.end(noise)
        outcomes = {name: run.outcome(ended) for name, run in runs.items()}
    interrupted |= any(one.interrupted for one in outcomes.values())
    outcomes = {name: replace(one, interrupted=interrupted) for name, one in outcomes.items()}
    whole = min(len(each) for each in borders.values()) - 1
    means = {name: _round_means(outcomes[name], borders[name][: whole + 1]) for name in competitors}
    able = [each for each in means.values() if np.isfinite(each).any()]  # one that always fails is no hindrance
    kept = [number for number in range(whole) if all(np.isfinite(each[number]) for each in able)]
    return Measured(
        outcomes,
        {name: one.examine(outcomes[name], guard, quiet) for name, one in competitors.items()},
        {name: [each[number] for number in kept] if each in able else [] for name, each in means.items()},
        paired=True,
        interrupted=interrupted,
    )


def _round_means(outcome: Outcome, borders: Sequence[int]) -> list[float]:
    """Mean time of a call in each round; NaN for one without a success, or without a time that could be told."""
    means = []
    for first, last in pairwise(borders):
        part = slice(first, last)
        times = outcome.series.time_s[part][outcome.series.failed[part] == 0]
        means.append(float(times.mean()) if times.any() else float("nan"))
    return means
