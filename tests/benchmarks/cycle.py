"""What the aggregator's thread does: draining and reducing records, and a whole cycle over many sites."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import hotlap

from .table import Row
from .timing import ROUNDS

TITLE = "The aggregator"

RECORDS = 1_000_000
REDUCED_SITES = 100
FILLS = 3
CYCLED_SITES = 1000
CALLS = 15


def run(rounds: int = ROUNDS) -> list[Row]:
    drained, reduced = _drain_and_reduce(min(rounds, FILLS))
    both = [one + other for one, other in zip(drained, reduced, strict=True)]
    return [
        _row(f"drain {RECORDS:,} records", drained),
        _row("reduce them to stats", reduced),
        _row("both", both, limit=100),
        _row(f"a cycle over {CYCLED_SITES:,} sites", _cycle(min(rounds, 11)), limit=20),
    ]


def _row(name: str, times: list[float], limit: float | None = None) -> Row:
    return Row(name, min(times), statistics.median(times), "ms", limit=limit)


def _drain_and_reduce(fills: int) -> tuple[list[float], list[float]]:
    """Fill a ring with real calls, all of them sampled; then time the recorder's two steps, in ms."""
    from hotlap import config
    from hotlap.model import Stats
    from hotlap.recorder import Recorder
    from hotlap.stats.summary import summarise

    recorder = Recorder(config.load({"sinks": (), "ring_capacity": 1 << (RECORDS - 1).bit_length()}))
    probes = [_probe(f"benchmarks.reduce.{number}") for number in range(REDUCED_SITES)]
    stats: list[Stats] = []

    def reduce() -> None:
        stats.extend(summarise(recorder.cut()))

    recorder.start()
    drained: list[float] = []
    reduced: list[float] = []
    try:
        recorder.cut()
        for _ in range(fills):
            for probe in probes:
                probe._self_site.sample(1.0, RECORDS)
            for _ in range(RECORDS // REDUCED_SITES):
                for probe in probes:
                    probe(1)
            stats.clear()
            drained.append(_ms(recorder.drain))
            reduced.append(_ms(reduce))
            samples = sum(one.samples for one in stats)
            if samples != RECORDS:
                raise RuntimeError(f"{samples:,} records were reduced, not {RECORDS:,}")
    finally:
        recorder.stop()
    return drained, reduced


def _cycle(rounds: int) -> list[float]:
    """Whole cycles, from the drain to the reports, in ms. In each every site has calls, all with evidence.

    Durations, from microseconds to seconds, are a fake clock's, for histograms as wide as a real program's.
    """
    from hotlap import core
    from hotlap.testing import FakeClock

    chance = random.Random(1)

    def site(number: int, clock: FakeClock) -> Any:
        typical_s = 10 ** chance.uniform(-5, 0)

        def work() -> None:
            clock.advance(typical_s * chance.lognormvariate(0, 0.5))

        return hotlap.benchmark(name=f"benchmarks.cycle.{number}")(work)

    clock = FakeClock()
    probes = [site(number, clock) for number in range(CYCLED_SITES)]
    hotlap.start(interval=3600, sinks=[])  # no cycle but these
    times: list[float] = []
    try:
        for _ in range(rounds + 1):
            core.set_clock(clock.read)
            for probe in probes:
                probe._self_site.sample(1.0, CALLS)
                for _ in range(CALLS):
                    probe()
            core.set_clock(None)
            times.append(_ms(hotlap.flush))
    finally:
        core.set_clock(None)
        hotlap.stop()
    return times[1:]  # the first one makes what the others find


def _probe(name: str) -> Any:
    def nothing(x: int) -> int:
        return x

    return hotlap.benchmark(name=name)(nothing)


def _ms(step: Callable[[], object]) -> float:
    begin = perf_counter_ns()
    step()
    return (perf_counter_ns() - begin) / 1e6
