"""Interleaved rounds: every round runs a chunk of every variant, so that noise hits all alike.

A variant is a loop in a code object of its own: the interpreter specialises code for the callable it sees,
and a loop that is shared between variants would be specialised for none of them.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

WARM_UP = 5_000
CHUNK_NS = 4_000_000
ROUNDS = 45

_PLAIN = """
def make(f, clock, repeat):
    def loop(n):
        begin = clock()
        for _ in repeat(None, n):
            {statement}
        return clock() - begin
    return loop
"""

# One outer coroutine awaits n times and is driven by hand: no event loop, and no StopIteration for each call.
_AWAITED = """
def make(f, clock, repeat):
    async def awaits(n):
        for _ in repeat(None, n):
            {statement}
    def loop(n):
        step = awaits(n).send
        begin = clock()
        try:
            while True:
                step(None)
        except StopIteration:
            return clock() - begin
    return loop
"""

Loop = Callable[[int], int]
"""Runs the statement n times; returns the nanoseconds that took."""


def loop(target: object, statement: str = "f(1)") -> Loop:
    """The loop that runs `statement`, in which `f` is `target`."""
    return _make(_PLAIN, target, statement)


def awaited(target: object, statement: str = "await f(1)") -> Loop:
    """The same for a statement that awaits."""
    return _make(_AWAITED, target, statement)


def _make(template: str, target: object, statement: str) -> Loop:
    from itertools import repeat
    from time import perf_counter_ns

    names: dict[str, Any] = {}
    exec(template.format(statement=statement), names)
    made: Loop = names["make"](target, perf_counter_ns, repeat)
    return made


@dataclass(frozen=True)
class Variant:
    """One thing to time: its loop, and the state to run it in, which is entered and left untimed."""

    name: str
    loop: Loop
    around: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True)
class Timings:
    """Nanoseconds per call of each variant in each round."""

    rounds: Mapping[str, Sequence[float]]

    def cost(self, name: str, base: str) -> list[float]:
        """What `name` costs over `base`, round by round."""
        return [whole - bare for whole, bare in zip(self.rounds[name], self.rounds[base], strict=True)]

    def least(self, name: str, base: str) -> float:
        """The fastest round of `name` less the fastest round of `base`."""
        return min(self.rounds[name]) - min(self.rounds[base])

    def median(self, name: str, base: str) -> float:
        return statistics.median(self.cost(name, base))

    def ratio(self, name: str, base: str, other: str, other_base: str) -> float:
        """The median over the rounds of: cost of `name` / cost of `other`, both from the same round."""
        pairs = zip(self.cost(name, base), self.cost(other, other_base), strict=True)
        return statistics.median(cost / reference for cost, reference in pairs)


def interleave(
    variants: Sequence[Variant], rounds: int = ROUNDS, between: Callable[[], object] | None = None
) -> Timings:
    """Time each variant once a round, in an order that turns; call `between` before each round."""
    sizes = {variant.name: _calibrate(variant) for variant in variants}
    results: dict[str, list[float]] = {variant.name: [] for variant in variants}
    for number in range(rounds):
        if between is not None:
            between()
        gc.collect()
        turn = number % len(variants)
        for variant in (*variants[turn:], *variants[:turn]):
            calls = sizes[variant.name]
            results[variant.name].append(_chunk(variant, calls) / calls)
    return Timings(results)


def _chunk(variant: Variant, calls: int) -> int:
    with variant.around():
        was_on = gc.isenabled()
        gc.disable()
        try:
            return variant.loop(calls)
        finally:
            if was_on:
                gc.enable()


def _calibrate(variant: Variant) -> int:
    """How many calls fill a chunk. Warms the variant up, too."""
    _chunk(variant, WARM_UP)  # a site's first calls are all sampled, which is not what its calls cost
    calls = 16
    while (taken := _chunk(variant, calls)) < CHUNK_NS // 4:
        calls *= 2
    return max(16, int(calls * CHUNK_NS / taken))
