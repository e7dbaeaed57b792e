"""What happens in a call: the closures that a probe puts in its place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import CoroutineType, FunctionType
from typing import Any

from ._base import FREE_THREADED, local, new_scope, outcome_of, scope_now, state
from ._flow import FOLLOW_ASYNC_GENERATOR, FOLLOW_COROUTINE, FOLLOW_GENERATOR, Coroutine, stand_ins
from ._sample import Sample, arm, leave_record
from ._site import COUNT, Site, Tally, count_back, count_here, count_in, count_out, number
from .record import FLAG_ERROR


def _failed(  # noqa: PLR0917 - passed by position: keywords cost more
    tally: Tally, sample: Sample | None, top: Any, begin: int, wall: int, children: int, error: BaseException
) -> None:
    """Counts a call that ended in an exception. Raises RecursionError before it counted, or not at all."""
    flags = outcome_of(error)
    count_out(tally, wall, flags)
    site = tally.site
    try:
        if sample is not None:
            sample.close()
        if sample is not None or wall > site.tail_ns:
            own = max(0, wall - children)
            leave_record(site, tally, sample, top, begin, wall, own, wall, wall, 0, flags)
    except RecursionError:
        pass


def _timed(fn: Callable[..., Any], tally: Tally) -> Callable[..., Any]:
    """The closure that a timed call goes through: every line of it, and every free variable, is paid by every
    call.

    Nothing is called between the counting and the `try`, so that no signal handler's exception can come in
    between.
    """
    tick = state.tick

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            scope = local.scope
        except AttributeError:
            scope = new_scope()
        n = tally.n + 1
        tally.n = n
        if n >= tally.stop:
            try:
                sample = arm(tally.site, tally, n, scope.top, args, kwargs)
            except BaseException:
                tally.room += 1
                raise
            if sample is not None:
                try:
                    return _sampled(fn, tally, sample, args, kwargs)
                except RecursionError:
                    if not sample.begun:
                        tally.room += 1
                    raise
        top = scope.top
        outer = scope.children
        scope.top = tally
        if n > tally.room:
            tally.peak += n - tally.room
            tally.room = n
        begin = 0
        try:
            begin = tick()
            result = fn(*args, **kwargs) if kwargs else fn(*args)
            wall = tick() - begin
        except BaseException as error:
            children = scope.children - outer
            scope.top = top
            scope.children = outer
            wall = tick() - begin if begin else 0
            scope.children = outer + wall
            try:
                _failed(tally, None, top, begin, wall, children, error)
            except RecursionError:  # no room left to look closer: then this is what it died of
                tally.room += 1
                tally.errors += 1
                tally.pending.append(wall)
            raise
        scope.top = top
        tally.room += 1
        if type(result) is CoroutineType:  # counted when that ends, not now
            scope.children = outer
            return Coroutine(result, tally.site, None)
        if wall < tally.limit:
            tally.short[wall] += 1
        else:
            pending = tally.pending
            pending.append(wall)
            if wall > tally.tail or len(pending) >= tally.lot:
                _slow(tally, top, begin, wall, scope.children - outer)
        if top is not None:
            scope.children = outer + wall
        return result

    return call


def _slow(tally: Tally, top: Any, begin: int, wall: int, children: int) -> None:
    site = tally.site
    if wall > site.tail_ns:
        leave_record(site, tally, None, top, begin, wall, max(0, wall - children), wall, wall, 0, 0)
    if len(tally.pending) >= tally.lot:
        tally.fold_if_free()


def _sampled(
    fn: Callable[..., Any], tally: Tally, sample: Sample, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """A call that leaves a record with evidence; it is counted in already."""
    scope = scope_now()
    top, outer = scope.top, scope.children
    sample.begun = True
    scope.top = tally
    begin = 0
    try:
        count_here(tally)
        sample.open()
        begin = state.tick()
        result = fn(*args, **kwargs)
        wall = state.tick() - begin
    except BaseException as error:
        children = scope.children - outer
        scope.top = top
        scope.children = outer
        wall = state.tick() - begin if begin else 0
        scope.children = outer + wall
        try:
            _failed(tally, sample, top, begin, wall, children, error)
        except RecursionError:
            tally.room += 1
            tally.errors += 1
            tally.pending.append(wall)
        raise
    sample.close()
    children = scope.children - outer
    scope.top = top
    if type(result) is CoroutineType:
        tally.room += 1
        scope.children = outer
        return Coroutine(result, tally.site, sample)
    scope.children = outer + wall
    count_out(tally, wall, 0)
    leave_record(tally.site, tally, sample, top, begin, wall, max(0, wall - children), wall, wall, 0, 0)
    return result


def _careful(fn: Callable[..., Any], tally: Tally, follow: dict[Any, Any]) -> Callable[..., Any]:
    """As `_timed`, for other kinds of results, and for builds without a GIL: counts under a lock there."""
    site = tally.site

    def call(*args: Any, **kwargs: Any) -> Any:
        scope = scope_now()
        top, outer = scope.top, scope.children
        n = number(tally)
        try:
            sample = arm(site, tally, n, top, args, kwargs) if n >= tally.stop else None
        except BaseException:
            tally.room += 1
            raise
        begin = state.tick()
        try:
            scope.top = tally
            count_here(tally)
            if sample is not None:
                sample.open()
            begin = state.tick()
            result = fn(*args, **kwargs)
        except BaseException as error:
            wall = state.tick() - begin
            children, scope.top, scope.children = scope.children - outer, top, outer + wall
            try:
                _failed(tally, sample, top, begin, wall, children, error)
            except RecursionError:
                tally.room += 1
                tally.errors += 1
                tally.pending.append(wall)
            raise
        wall = state.tick() - begin
        children, scope.top = scope.children - outer, top
        if sample is not None:
            sample.close()
        if type(result) in follow:
            scope.children = outer
            count_back(tally)
            return follow[type(result)](result, site, sample)
        scope.children = outer + wall
        count_out(tally, wall, 0)
        if sample is not None or wall > site.tail_ns:
            leave_record(site, tally, sample, top, begin, wall, max(0, wall - children), wall, wall, 0, 0)
        return result

    return call


def _flowing(
    fn: Callable[..., Any], site: Site, stand_in: Callable[[Any, Site, Sample | None], Any]
) -> Callable[..., Any]:
    """The closure for a coroutine or generator function: the call only makes what is measured."""

    def call(*args: Any, **kwargs: Any) -> Any:
        tally = site.tally
        sample = None
        if site._mode != COUNT:
            n = tally.n + 1
            tally.n = n
            tally.room += 1  # in flight from its first step on
            if n >= tally.stop:
                sample = arm(site, tally, n, scope_now().top, args, kwargs)
        try:
            result = fn(*args, **kwargs)
        except BaseException:  # wrong arguments: it failed before it began
            tally.room -= 1
            count_out(tally, None, FLAG_ERROR)
            raise
        return stand_in(result, site, sample)

    return call


def _counted(fn: Callable[..., Any], site: Site, follow: dict[Any, Any]) -> Callable[..., Any]:
    """The closure for a site on counting alone: no clock, no scope, no samples."""

    def call(*args: Any, **kwargs: Any) -> Any:
        tally = site.tally
        count_in(tally)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            try:
                count_out(tally, None, outcome_of(error))
            except RecursionError:
                tally.room += 1
                tally.errors += 1
                tally.counted += 1
            raise
        if type(result) in follow:
            count_back(tally)
            return follow[type(result)](result, site, None)
        count_out(tally, None, 0)
        return result

    return call


_KINDS = (
    (inspect.CO_COROUTINE, FOLLOW_COROUTINE),
    (inspect.CO_GENERATOR, FOLLOW_GENERATOR),
    (inspect.CO_ASYNC_GENERATOR, FOLLOW_ASYNC_GENERATOR),
)
_FOLLOW = {flow: stand_ins(flow) for flow in range(8)}


def call_for(fn: Callable[..., Any], site: Site, flow: int) -> Callable[..., Any]:
    """What a probe over `fn` calls now."""
    if not state.enabled:
        return fn
    if flow and type(fn) is FunctionType:
        flags = fn.__code__.co_flags
        for flag, bit in _KINDS:
            if flags & flag and flow & bit and not flags & inspect.CO_ITERABLE_COROUTINE:
                return _flowing(fn, site, next(iter(stand_ins(bit).values())))
    if site._mode == COUNT:
        return _counted(fn, site, _FOLLOW[flow])
    if FREE_THREADED or flow != FOLLOW_COROUTINE:
        return _careful(fn, site.tally, _FOLLOW[flow])
    return _timed(fn, site.tally)
