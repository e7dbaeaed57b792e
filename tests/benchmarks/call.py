"""One call of a function that does nothing: what each way of watching it adds."""

from __future__ import annotations

from typing import Any

import hotlap

from . import peers, recording
from .subjects import bare, closure, empty
from .table import Row
from .timing import ROUNDS, Timings, Variant, interleave, loop

TITLE = "A call, over a bare call"


class Bare:
    def method(self, x: int) -> int:
        return x


class Probed:
    @hotlap.benchmark(name="benchmarks.call.method")
    def method(self, x: int) -> int:
        return x


def run(rounds: int = ROUNDS) -> list[Row]:
    function = _probe("benchmarks.call.function")
    off = _probe("benchmarks.call.off")
    counted = _probe("benchmarks.call.counted")
    method: Any = vars(Probed)["method"]
    others, missing = peers.available()
    variants = [
        Variant("bare", loop(bare)),
        Variant("bare method", loop(Bare(), "f.method(1)")),
        Variant("empty @wrapt.decorator", loop(empty(bare))),
        Variant("hand-written closure", loop(closure(bare))),
        Variant("hotlap", loop(function), recording.timed(function)),
        Variant("hotlap, a method", loop(Probed(), "f.method(1)"), recording.timed(method)),
        Variant("hotlap, counting only", loop(counted), recording.counting(counted)),
        Variant("hotlap, switched off", loop(off), recording.switched_off),
        *others,
    ]
    with recording.running():
        timings = interleave(variants, rounds, between=hotlap.flush)
    return [
        _row(timings, "empty @wrapt.decorator", "bare", note=""),
        _row(timings, "hand-written closure", "bare"),
        _row(timings, "hotlap", "bare", aim=0.06, limit=0.10, note=_untimed(function)),
        _method(timings),
        _row(timings, "hotlap, counting only", "bare"),
        _row(timings, "hotlap, switched off", "bare", limit=0.04),
        *(_row(timings, peer.name, "bare") for peer in others),
        *(Row(sentence.split(" is ")[0], note=sentence) for sentence in missing),
    ]


def _probe(name: str) -> Any:
    # A function of its own for each: decorating one function twice would give one site.
    def nothing(x: int) -> int:
        return x

    return hotlap.benchmark(name=name)(nothing)


def _row(
    timings: Timings,
    name: str,
    base: str,
    aim: float | None = None,
    limit: float | None = None,
    note: str = "",
) -> Row:
    reference = "empty @wrapt.decorator"
    return Row(
        name,
        timings.least(name, base),
        timings.median(name, base),
        ratio=timings.ratio(name, base, reference, "bare"),
        against="empty wrapt",
        aim=aim,
        limit=limit,
        note=note,
    )


def _method(timings: Timings) -> Row:
    name, base = "hotlap, a method", "bare method"
    return Row(
        name,
        timings.least(name, base),
        timings.median(name, base),
        ratio=timings.ratio(name, base, "hotlap", "bare"),
        against="hotlap, a function",
        limit=1.3,
    )


def _untimed(probe: Any) -> str:
    """Says so when calls that should have been timed were only counted: the figure would flatter."""
    calls, timed = probe._self_site.read()[:2]
    return "" if calls == timed else f"{calls - timed:,} of {calls:,} calls were counted, not timed"
