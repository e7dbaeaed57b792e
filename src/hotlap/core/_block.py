"""`with measure(name)`: a block of code as a site."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any

from ..errors import OptionError
from ._base import (
    COUNT,
    NAN,
    Block,
    Sample,
    Site,
    arm,
    count_in,
    count_out,
    current_task,
    leave_record,
    local,
    outcome_of,
    report_fault,
    state,
)
from .record import FLAG_BLOCK


def _enter(site: Site, size: float) -> Block:
    scope = local.scope
    block = Block()
    block.site = site
    block.scope = scope
    block.open = True
    block.above = None
    block.tally = tally = site.tally
    block.task = current_task()
    below = scope.site
    sample: Sample | None = None
    if site._mode == COUNT:
        count_in(tally)
        block.open = False  # is nobody's parent, and not timed
        return block
    n = tally.n + 1
    tally.n = n
    if n >= tally.stop:
        sample = arm(site, tally, n, below, (), {}, size)
    count_in(tally)
    block.sample = sample
    block.below = below
    if isinstance(below, Block):
        below.above = block
    block.turn = scope.turn
    if block.task is None:  # in a loop the children's time belongs to whichever task runs
        block.children = scope.children
        scope.children = 0
    scope.site = block
    if sample is not None:
        sample.open()
    block.begin = state.tick()
    return block


def _leave(block: Block, error: BaseException | None) -> None:
    tally = block.tally
    if tally is None:
        return
    flags = outcome_of(error) if error is not None else 0
    if not block.open:
        count_out(tally, None, flags)
        return
    wall = state.tick() - block.begin
    sample = block.sample
    if sample is not None:
        sample.close()
    block.open = False
    below, above, scope = block.below, block.above, block.scope
    if above is not None and above.below is block:
        above.below = below
    if isinstance(below, Block) and below.above is block:
        below.above = above
    own = -1
    if block.task is None:
        if scope.turn == block.turn and scope.site is block:
            own = max(0, wall - scope.children)
            scope.children = block.children + wall
        else:  # another coroutine may have run in between
            scope.children += block.children
    if scope.site is block:
        scope.site = below
    count_out(tally, wall, flags)
    if sample is not None or wall > block.site.tail_ns:
        flags |= FLAG_BLOCK
        leave_record(block.site, tally, sample, below, block.begin, wall, own, wall, wall, 0, flags)


class Measurement:
    """Measures a block of code as the site `name`: `with measure("rerank", size=len(docs)) as m: m.record(rows=17)`.

    Also `async with`, and a decorator. One object may be entered several times, nested, in threads and in tasks.
    `size` is a number for the block. An exception counts as an error and goes through.
    """

    __slots__ = ("__weakref__", "_block", "_more", "_name", "_options", "_site", "_size")

    def __init__(
        self,
        name: str,
        /,
        *,
        size: Any = None,
        type: Any = None,
        slo: Any = None,
        tags: Any = None,
        sample: Any = None,
    ) -> None:
        site: Site | None = None
        options: dict[str, Any] = {}
        if type is None and slo is None and tags is None and sample is None:
            if isinstance(name, str):
                site = state.sites.get(name)
        else:
            given = {"type": type, "slo": slo, "tags": tags, "sample": sample}
            options = {key: value for key, value in given.items() if value is not None}
        self._name = name
        self._size = size
        self._options = options
        self._site: Site = state.missing(name, options) if site is None else site
        self._block: Block | None = None
        self._more: list[Block] | None = None

    def record(self, **numbers: float) -> None:
        """Adds each number to the site's metric of that name (count, total, min, max)."""
        if not state.enabled:
            return
        site = self._site
        metrics = site.metrics
        if metrics is None:
            metrics = site.metrics = {}
        for key, number in numbers.items():
            try:
                value = float(number)
            except Exception as error:
                report_fault("record", site, error)
                continue
            entry = metrics.get(key)
            if entry is None:
                entry = metrics.setdefault(key, [0, 0.0, math.inf, -math.inf])
            entry[0] += 1
            entry[1] += value
            if value < entry[2]:
                entry[2] = value
            if value > entry[3]:
                entry[3] = value

    def __call__(self, func: Any) -> Any:
        """As a decorator: a probe around `func` with this name and these options."""
        if state.decorate is None:
            raise OptionError(f"measure({self._name!r}) as a decorator: no decorate hook is set, import hotlap first")
        options = self._options if self._size is None else {**self._options, "size": self._size}
        return state.decorate(self._name, options, func)

    def __enter__(self) -> Measurement:
        if state.enabled:
            size = self._size
            block = _enter(self._site, NAN if size is None else self._number(size))
        elif self._block is None:
            return self
        else:
            block = Block()
            block.tally, block.scope, block.task = None, local.scope, current_task()
        if self._block is None:
            self._block = block
        elif self._more is None:
            self._more = [block]
        else:
            self._more.append(block)
        return self

    def _number(self, size: Any) -> float:
        try:
            return float(size)
        except Exception as error:
            self._size = None
            report_fault("size", self._site, error)
            return NAN

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        block = self._block
        if block is None:  # entered while switched off
            return
        if self._more:
            block = self._pick()
        else:
            self._block = None
        _leave(block, error)

    def _pick(self) -> Block:
        """Of several open entries, the last one of this thread and task."""
        more = self._more or []
        scope, task = local.scope, current_task()
        for block in reversed(more):
            if block.scope is scope and block.task is task:
                more.remove(block)
                return block
        first = self._block
        if first is not None and first.scope is scope and first.task is task:
            self._block = more.pop(0)
            return first
        return more.pop()

    async def __aenter__(self) -> Measurement:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, tb)
