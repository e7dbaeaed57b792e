"""What happens in a call: the closures that a probe puts in its place.

Between the counting in and the `try`, and after that up to the counting out, nothing is called: so no exception of a
signal handler comes in between, and whatever happens nothing stays in flight.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import CodeType, CoroutineType, FunctionType
from typing import Any

from ._base import FREE_THREADED, local, new_scope, outcome_of, scope_now, state
from ._depth import CROWD, levels, look_down
from ._flow import FOLLOW_ASYNC_GENERATOR, FOLLOW_COROUTINE, FOLLOW_GENERATOR, Coroutine, stand_ins
from ._sample import Sample, arm, leave_record
from ._site import COUNT, Site, Tally, count_in, count_lock, count_out, count_outcome
from .record import FLAG_ERROR


def _failed(  # noqa: PLR0917 - passed by position: keywords cost more
    tally: Tally, sample: Sample | None, top: Any, begin: int | None, wall: int, children: int, error: BaseException
) -> None:
    """What a call died of, which is counted out already. Raises RecursionError where there is no room for a look:
    then it died of that.
    """
    flags = outcome_of(error)
    count_outcome(tally, flags)
    try:  # noqa: SIM105 - suppress() needs room itself
        _leave(tally, sample, top, begin or 0, wall, children, flags)
    except RecursionError:
        pass


def _leave(  # noqa: PLR0917
    tally: Tally, sample: Sample | None, top: Any, begin: int, wall: int, children: int, flags: int
) -> None:
    """What is left to do for a few of the calls, when they are over and counted."""
    site = tally.site
    if sample is not None or wall > site.tail_ns:
        leave_record(site, tally, sample, top, begin, wall, max(0, wall - children), wall, wall, 0, flags)
    if len(tally.pending) >= tally.lot:
        tally.fold_if_free()


def _timed(fn: Callable[..., Any], tally: Tally) -> Callable[..., Any]:
    """The closure that a timed call goes through: every line of it, and every free variable, is paid by every
    call.
    """
    tick = state.tick

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            scope = local.scope
        except AttributeError:
            scope = new_scope()
        for _ in tally.gap:
            break
        else:
            sample = arm(tally.site, tally, scope.top, args, kwargs)
            if sample is not None:
                return _measured(fn, tally, _FOLLOW[FOLLOW_COROUTINE], sample, args, kwargs)
        top = scope.top
        outer = scope.children
        if not tally.busy:
            tally.busy = alone = True
        else:
            if tally.more >= CROWD:
                look_down(tally.more)
            more = tally.more + 1
            tally.more = more
            alone = not more
            if more >= tally.peak:
                tally.peak = more + 1
        scope.top = tally
        begin = None
        try:
            begin = tick()
            result = fn(*args, **kwargs) if kwargs else fn(*args)
            wall = tick() - begin
        except BaseException as error:
            children = scope.children - outer
            scope.top = top
            tally.more -= 1
            wall = 0
            try:
                if begin is not None:
                    wall = tick() - begin
            finally:
                scope.children = outer + wall
                tally.pending.append(wall)
            try:
                _failed(tally, None, top, begin, wall, children, error)
            except RecursionError:
                tally.errors += 1
            raise
        scope.top = top
        if alone:
            tally.busy = False
        else:
            tally.more -= 1
        if type(result) is CoroutineType:  # counted when that ends, not now
            scope.children = outer
            return Coroutine(result, tally.site, None)
        if wall < tally.limit:
            tally.short[wall] += 1
        else:
            pending = tally.pending
            pending.append(wall)
            if wall > tally.tail or len(pending) >= tally.lot:
                _leave(tally, None, top, begin, wall, scope.children - outer, 0)
        if top is not None:
            scope.children = outer + wall
        return result

    return call


def _measured(  # noqa: PLR0917
    fn: Callable[..., Any],
    tally: Tally,
    follow: dict[Any, Any],
    sample: Sample | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """As `_timed`, for all that is no plain call: for sampled ones, for other kinds of results, and for builds
    without a GIL.
    """
    scope = scope_now()
    top, outer = scope.top, scope.children
    begin = wall = None
    children = 0
    count_in(tally)
    scope.top = tally
    try:
        try:
            if sample is not None:
                sample.open()
            begin = state.tick()
            result = fn(*args, **kwargs)
            wall = state.tick() - begin
        finally:
            children = scope.children - outer
            scope.top = top
            if not FREE_THREADED:
                tally.more -= 1
            else:
                with count_lock:
                    tally.more -= 1
            if wall is None:
                wall = 0 if begin is None else state.tick() - begin
            scope.children = outer + wall
            if sample is not None:
                try:  # noqa: SIM105
                    sample.close()
                except RecursionError:
                    pass
    except BaseException as error:
        wall = wall or 0
        tally.pending.append(wall)
        try:
            _failed(tally, sample, top, begin, wall, children, error)
        except RecursionError:
            tally.errors += 1
        raise
    if type(result) in follow:
        scope.children = outer
        return follow[type(result)](result, tally.site, sample)
    tally.pending.append(wall)
    _leave(tally, sample, top, begin, wall, children, 0)
    return result


def _careful(fn: Callable[..., Any], tally: Tally, follow: dict[Any, Any]) -> Callable[..., Any]:
    """The closure for calls that are all `_measured`."""

    def call(*args: Any, **kwargs: Any) -> Any:
        sample = None
        for _ in tally.gap:
            break
        else:
            sample = arm(tally.site, tally, scope_now().top, args, kwargs)
        return _measured(fn, tally, follow, sample, args, kwargs)

    return call


def _flowing(fn: Callable[..., Any], site: Site, kind: Any, stand_in: Any) -> Callable[..., Any]:
    """The closure for a coroutine or generator function: the call only makes what is measured."""

    def call(*args: Any, **kwargs: Any) -> Any:
        tally = site.tally
        sample = None
        if site._mode != COUNT:
            for _ in tally.gap:
                break
            else:
                sample = arm(site, tally, scope_now().top, args, kwargs)
        try:
            result = fn(*args, **kwargs) if kwargs else fn(*args)
        except BaseException:  # wrong arguments: it failed before it began
            count_out(tally, None, FLAG_ERROR, 0)
            raise
        if type(result) is kind:
            return stand_in(result, site, sample)
        count_out(tally, None, 0, 0)  # the function has got other code since
        return result

    return call


def _counted(fn: Callable[..., Any], site: Site, follow: dict[Any, Any]) -> Callable[..., Any]:
    """The closure for a site on counting alone: no clock, no scope, no samples."""

    def call(*args: Any, **kwargs: Any) -> Any:
        tally = site.tally
        count_in(tally)
        counted = 1
        try:
            result = fn(*args, **kwargs) if kwargs else fn(*args)
            if type(result) in follow:
                counted = 0
        except BaseException as error:
            try:
                count_outcome(tally, outcome_of(error))
            except RecursionError:
                tally.errors += 1
            raise
        finally:
            if not FREE_THREADED:
                tally.more -= 1
                tally.counted += counted
            else:
                with count_lock:
                    tally.more -= 1
                    tally.counted += counted
        return result if counted else follow[type(result)](result, site, None)

    return call


def _passed(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The closure for a probe that is switched off, where the recursion limit is beyond what the stack holds."""
    flying = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal flying
        if flying >= CROWD:
            look_down(flying)
        flying += 1
        try:
            return fn(*args, **kwargs)
        finally:
            flying -= 1

    return call


_KINDS = (
    (inspect.CO_COROUTINE, FOLLOW_COROUTINE),
    (inspect.CO_GENERATOR, FOLLOW_GENERATOR),
    (inspect.CO_ASYNC_GENERATOR, FOLLOW_ASYNC_GENERATOR),
)
_FOLLOW = {flow: stand_ins(flow) for flow in range(8)}

levels.update(
    code
    for closure in (_timed, _careful, _counted, _passed)
    for code in closure.__code__.co_consts
    if isinstance(code, CodeType)
)
levels.add(Coroutine._step.__code__)


def call_for(fn: Callable[..., Any], site: Site, flow: int) -> Callable[..., Any]:
    """What a probe over `fn` calls now."""
    if not state.enabled:
        return fn if sys.getrecursionlimit() <= scope_now().deepest else _passed(fn)
    if flow and type(fn) is FunctionType:
        flags = fn.__code__.co_flags
        for flag, bit in _KINDS:
            if flags & flag and flow & bit and not flags & inspect.CO_ITERABLE_COROUTINE:
                return _flowing(fn, site, *next(iter(_FOLLOW[bit].items())))
    if site._mode == COUNT:
        return _counted(fn, site, _FOLLOW[flow])
    if FREE_THREADED or flow != FOLLOW_COROUTINE:
        return _careful(fn, site.tally, _FOLLOW[flow])
    return _timed(fn, site.tally)
