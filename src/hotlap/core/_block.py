"""`with measure(name)`: a block of code as a site."""

from __future__ import annotations

import math
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import HotlapError, OptionTypeError
from ._base import Block, current_task, outcome_of, report_fault, scope_now, state
from ._sample import NAN, Sample, arm, leave_record
from ._site import COUNT, Site, count_in, count_out
from .record import FLAG_BLOCK

_F = TypeVar("_F")


def _enter(site: Site, size: float) -> Block:
    scope = scope_now()
    block = Block()
    block.site = site
    block.scope = scope
    block.open = True
    block.above = None
    block.tally = tally = site.tally
    block.task = current_task()
    below = scope.top
    sample: Sample | None = None
    if site._mode == COUNT:
        count_in(tally)
        block.open = False  # is nobody's parent, and not timed
        return block
    for _ in tally.gap:
        break
    else:
        sample = arm(site, tally, below, (), {}, size)
    count_in(tally)
    block.sample = sample
    block.below = below
    if isinstance(below, Block):
        below.above = block
    block.turn = scope.turn
    if block.task is None:  # in a loop the children's time belongs to whichever task runs
        block.children = scope.children
    scope.top = block
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
    own = -1  # another coroutine may have run in between
    if block.task is None and scope.turn == block.turn and scope.top is block:
        own = max(0, wall - (scope.children - block.children))
        scope.children = block.children + wall
    if scope.top is block:
        scope.top = below
    count_out(tally, wall, flags)
    if sample is not None or wall > block.site.tail_ns:
        flags |= FLAG_BLOCK
        leave_record(block.site, tally, sample, below, block.begin, wall, own, wall, wall, 0, flags)


shared_lock = threading.RLock()  # entries of an object that is entered several times at once


class Measurement:
    """Measures a block of code as the site `name`: `with measure("rerank", size=len(docs)) as m:
    m.record(rows=17)`.

    Also `async with`, and a decorator. One object may be entered several times, nested, in threads and in
    tasks. `size` is a number for the block (below 0 or NaN is none). An exception counts as an error and goes through.
    """

    __slots__ = ("__weakref__", "_block", "_more", "_options", "_site", "_size")

    if TYPE_CHECKING:

        def __init__(self, name: str, *, size: float | None = None, **options: Any) -> None: ...
        def record(self, **numbers: float) -> None: ...

    def __init__(self, *args: Any, size: float | None = None, **options: Any) -> None:  # type: ignore[no-redef]
        name = args[0] if len(args) == 1 else _name(args, options)
        if not isinstance(name, str):
            raise OptionTypeError(f"measure name {name!r}: must be a string")
        try:
            self._size = NAN if size is None else float(size)
        except (TypeError, ValueError, OverflowError):
            raise OptionTypeError(f"measure({name!r}, size={size!r}): must be a number") from None
        site = None if options else state.sites.get(name)
        if site is None:
            site = state.missing(name, options)
        if not isinstance(site, Site):
            raise HotlapError(f"measure({name!r}): the site registry gave {site!r}, which is no Site of this core")
        self._options = options
        self._site: Site = site
        self._block: Block | None = None
        self._more: list[Block] | None = None

    def record(self, *args: Any, **numbers: float) -> None:  # type: ignore[no-redef]
        """Adds each number to the site's metric of that name (count, total, min, max).

        What is not finite is left out, and told as a fault: what data brings along must not end the block.
        """
        if args:
            raise OptionTypeError(f"record({args[0]!r}): takes keyword arguments alone, as in record(rows=17)")
        values = {key: _float(key, number) for key, number in numbers.items()}
        if not state.enabled or not numbers:
            return
        site = self._site
        metrics = site.metrics
        if metrics is None:
            metrics = site.metrics = {}
        for key, value in values.items():
            if not math.isfinite(value):
                error = OptionTypeError(f"record({key}={value!r}): must be a finite number")
                report_fault("record", site, error)
                continue
            entry = metrics.get(key)
            if entry is None:
                entry = metrics.setdefault(key, [0, 0.0, math.inf, -math.inf])
            entry[0] += 1
            entry[1] += value
            if value < entry[2]:  # noqa: PLR1730 - min() would let another thread in before the store
                entry[2] = value
            if value > entry[3]:  # noqa: PLR1730
                entry[3] = value

    def __call__(self, func: _F) -> _F:
        """As a decorator: a probe around `func` with this name and these options."""
        name = self._site.name
        if state.decorate is None:
            raise HotlapError(f"measure({name!r}): no decorator is set")
        options = self._options if math.isnan(self._size) else {**self._options, "size": self._size}
        probe: _F = state.decorate(name, options, func)
        return probe

    def __repr__(self) -> str:
        return f"measure({self._site.name!r})"

    def __enter__(self) -> Measurement:
        if state.enabled:
            block = _enter(self._site, self._size)
        else:
            block = Block()
            block.tally, block.scope, block.task = None, scope_now(), current_task()
        if self._block is None and self._more is None:
            self._block = block
        else:
            with shared_lock:
                self._more = [*(self._more or ()), block]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._more is None:  # only ever entered once at a time
            block, self._block = self._block, None
        else:
            with shared_lock:
                block = self._pick()
        if block is None:
            raise HotlapError(f"measure({self._site.name!r}): exited more often than entered")
        _leave(block, error)

    def _pick(self) -> Block | None:
        """Of several open entries the last one of this thread and task; without one, the last of all."""
        scope, task = scope_now(), current_task()
        entries = [*filter(None, (self._block,)), *(self._more or ())]
        mine = [entry for entry in entries if entry.scope is scope and entry.task is task]
        block: Block | None = mine[-1] if mine else entries[-1] if entries else None
        self._block = None
        self._more = [entry for entry in entries if entry is not block]
        return block

    async def __aenter__(self) -> Measurement:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.__exit__(kind, error)


def _name(args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The name of a block where it is not the one positional argument."""
    if args:
        raise OptionTypeError(f"measure() takes one positional argument, the name, but got {len(args)}")
    if "name" not in options:
        raise OptionTypeError('measure() needs the name of the block, as in measure("rerank")')
    return options.pop("name")


def _float(name: str, number: Any) -> float:
    if not isinstance(number, bool | str):
        try:
            return float(number)
        except OverflowError:
            return math.inf
        except Exception:  # whatever the number's own __float__ raises
            pass
    raise OptionTypeError(f"record({name}={number!r}): must be a number")
