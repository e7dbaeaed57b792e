"""`with measure("x")` against the standard library's cheapest context manager, both over an empty loop."""

from __future__ import annotations

from contextlib import nullcontext

import hotlap

from . import recording
from .table import Row
from .timing import ROUNDS, Variant, interleave, loop

TITLE = "A measured block, over no block"

NULL = "with nullcontext()"
MEASURE = 'with measure("x")'
SIZED = 'with measure("x", size=3)'


def run(rounds: int = ROUNDS) -> list[Row]:
    variants = [
        Variant("nothing", loop(None, "pass")),
        Variant(NULL, loop(nullcontext, "with f(): pass")),
        Variant(MEASURE, loop(hotlap.measure, 'with f("benchmarks.block"): pass')),
        Variant(SIZED, loop(hotlap.measure, 'with f("benchmarks.sized", size=3): pass')),
    ]
    with recording.running():
        timings = interleave(variants, rounds, between=hotlap.flush)
    return [
        Row(
            name,
            timings.least(name, "nothing"),
            timings.median(name, "nothing"),
            ratio=timings.ratio(name, "nothing", NULL, "nothing"),
            against="nullcontext",
            limit=limit,
        )
        for name, limit in ((NULL, None), (MEASURE, 1.5), (SIZED, None))
    ]
