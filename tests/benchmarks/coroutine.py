"""An awaited call that ends at once and one that suspends once, driven by hand."""

from __future__ import annotations

from typing import Any

import hotlap

from . import recording
from .subjects import async_closure, bare_async, bare_suspending, empty, suspension
from .table import Row
from .timing import ROUNDS, Timings, Variant, awaited, interleave

TITLE = "An awaited call, over a bare one"


def run(rounds: int = ROUNDS) -> list[Row]:
    @hotlap.benchmark(name="benchmarks.coroutine.plain")
    async def plain(x: int) -> int:
        return x

    @hotlap.benchmark(name="benchmarks.coroutine.suspending")
    async def suspending(x: int) -> int:
        await suspension
        return x

    variants = [
        Variant("bare", awaited(bare_async)),
        Variant("empty @wrapt.decorator", awaited(empty(bare_async))),
        Variant("hand-written closure", awaited(async_closure(bare_async))),
        _probed("hotlap", plain),
        Variant("bare, one suspension", awaited(bare_suspending)),
        Variant("hand-written closure, one suspension", awaited(async_closure(bare_suspending))),
        _probed("hotlap, one suspension", suspending),
    ]
    with recording.running():
        timings = interleave(variants, rounds, between=hotlap.flush)
    plain_closure, closure = "hand-written closure", "hand-written closure, one suspension"
    return [
        _row(timings, "empty @wrapt.decorator", "bare", plain_closure),
        _row(timings, plain_closure, "bare", plain_closure),
        _row(timings, "hotlap", "bare", plain_closure, aim=0.1, limit=0.25),
        _row(timings, closure, "bare, one suspension", closure),
        _row(timings, "hotlap, one suspension", "bare, one suspension", closure, limit=0.25),
    ]


def _probed(name: str, probe: Any) -> Variant:
    return Variant(name, awaited(probe), recording.timed(probe))


def _row(
    timings: Timings, name: str, base: str, other: str, aim: float | None = None, limit: float | None = None
) -> Row:
    return Row(
        name,
        timings.least(name, base),
        timings.median(name, base),
        ratio=timings.ratio(name, base, other, base),
        against="closure, one suspension" if other.endswith("suspension") else "closure",
        aim=aim,
        limit=limit,
    )
