"""The core in Python against a hand-written closure, in processes of its own because a core is chosen once."""

from __future__ import annotations

import hotlap

from . import recording
from .subjects import async_closure, bare, bare_async, closure
from .table import Row
from .timing import Variant, awaited, interleave, loop

TITLE = "The core in Python, over a bare call"
ENVIRONMENT = {"HOTLAP_CORE": "python"}


def run(rounds: int) -> list[Row]:
    @hotlap.benchmark(name="benchmarks.twin.function")
    def function(x: int) -> int:
        return x

    @hotlap.benchmark(name="benchmarks.twin.off")
    def off(x: int) -> int:
        return x

    @hotlap.benchmark(name="benchmarks.twin.coroutine")
    async def coroutine(x: int) -> int:
        return x

    variants = [
        Variant("bare", loop(bare)),
        Variant("bare async", awaited(bare_async)),
        Variant("hand-written closure", loop(closure(bare))),
        Variant("hand-written async closure", awaited(async_closure(bare_async))),
        Variant("twin", loop(function), recording.timed(function)),
        Variant("twin, switched off", loop(off), recording.switched_off),
        Variant("twin, async", awaited(coroutine), recording.timed(coroutine)),
    ]
    with recording.running():
        timings = interleave(variants, rounds, between=hotlap.flush)

    def row(name: str, base: str, other: str, against: str, limit: float | None = None) -> Row:
        least, median = timings.least(name, base), timings.median(name, base)
        ratio = timings.ratio(name, base, other, base)
        return Row(name, least, median, ratio=ratio, against=against, limit=limit)

    plain, awaiting = "hand-written closure", "hand-written async closure"
    return [
        row(plain, "bare", plain, "closure"),
        row("twin", "bare", plain, "closure", limit=2.0),
        row("twin, switched off", "bare", plain, "closure"),
        row(awaiting, "bare async", awaiting, "async closure"),
        row("twin, async", "bare async", awaiting, "async closure"),
    ]
