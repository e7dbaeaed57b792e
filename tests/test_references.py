"""Nothing that is measured leaks, and cycles are found; over both cores."""

from __future__ import annotations

import copy
import functools
import gc
import sys
import types
import weakref
from typing import Any

import pytest

from conftest import counts
from hotlap import core
from subjects import FOLLOW_ALL, answer, drive, generate, plain, site, stream


class TestReferences:
    def leftover(self, function: Any, *objects: Any) -> list[int]:
        """How many references to each object 200 calls of `function` leave."""
        for _ in range(100):
            function()
        gc.collect()
        before = [sys.getrefcount(thing) for thing in objects]
        for _ in range(200):
            function()
        gc.collect()
        after = [sys.getrefcount(thing) for thing in objects]
        return [now - then for now, then in zip(after, before, strict=True)]

    def test_none_leak(self, ring: core.Ring, registry: dict[str, core.Site]) -> None:
        """Nothing holds on to arguments, results, functions, sites or types, on any path."""
        where = site()
        where.tail_ns = 0
        where.size_of = lambda *args, **kwargs: 3
        core.set_trace(lambda: (1, 2, 3))
        argument, result = object(), object()
        error = ValueError("kept")

        def give(x: Any, **kwargs: Any) -> Any:
            return result

        def fail(x: Any, **kwargs: Any) -> Any:
            raise error

        giving, failing = core.FunctionProbe(give, where), core.FunctionProbe(fail, where)
        generating = core.FunctionProbe(generate, where, FOLLOW_ALL)
        answering = core.FunctionProbe(answer, where, FOLLOW_ALL)
        streaming = core.FunctionProbe(stream, where, FOLLOW_ALL)

        class Owner:
            giving = core.FunctionProbe(give, where)

        owner = Owner()

        def everything() -> None:
            giving(argument, key=argument)
            with pytest.raises(ValueError, match="kept"):
                failing(argument)
            error.__traceback__ = None
            with pytest.raises(TypeError):
                generating(1, 2, 3)
            owner.giving(key=argument)
            list(generating(3))
            half = generating(3)
            next(half)
            weakref.ref(half)
            del half
            drive(answering(argument))
            answering(argument).close()
            later = streaming(3)
            drive(later.asend(None))
            with pytest.raises(KeyError):
                drive(later.athrow(KeyError))
            drive(streaming(2).aclose())
            copy.deepcopy(core.Probe(functools.partial(give, argument), where))
            with core.measure("block", size=3) as block, block:
                block.record(rows=1)
            if core.NAME == "native":  # in the other one a block that is never left stays open
                core.Measurement("block").__enter__()
            core.Probe(give, where, 7).__reduce__()
            ring.drain()

        items, coroutine = streaming(), answering()
        step = items.asend(None)
        kinds = [type(generating()), type(items), type(step), type(coroutine)]
        drive(step)
        coroutine.close()
        del items, step, coroutine
        objects = [
            argument,
            result,
            error,
            give,
            fail,
            where,
            core.Probe,
            core.FunctionProbe,
            core.Measurement,
            *kinds,
        ]
        left = self.leftover(everything, *objects)
        assert left == [0] * len(objects)

    def test_blocks_do_not_grow(self) -> None:
        """As many memory blocks after as before."""
        where = site()
        probe = core.FunctionProbe(plain, where)
        answering = core.FunctionProbe(answer, where)

        def several() -> None:
            for index in range(300):
                probe(index)
                drive(answering(index))
                core.Probe(plain, where)

        several()
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(10):
            several()
        gc.collect()
        assert sys.getallocatedblocks() - before < 100

    def test_cycles(self) -> None:
        """Probes and stand-ins in cycles are collected."""
        where = site()

        class Marker:
            pass

        def cycle_of(kind: str) -> weakref.ref[Any]:
            marker = Marker()
            if kind == "probe":

                def function() -> Any:
                    return own, marker

                own = core.FunctionProbe(function, where)
            elif kind == "attribute":
                own = core.Probe(functools.partial(plain, marker), where)
                own.__wrapped__.itself = own  # partials have a dict
            else:
                made: Any = {"coroutine": holding, "generator": yielding, "async": streaming}[kind]
                hold: list[Any] = [marker]
                own = core.FunctionProbe(made, where, FOLLOW_ALL)(hold)
                hold.append(own)
                if kind == "generator":
                    next(own)
                else:
                    (own if kind == "coroutine" else own.asend(None)).send(None)
            return weakref.ref(marker)

        @types.coroutine
        def suspend() -> Any:
            yield

        async def holding(hold: list[Any]) -> None:
            await suspend()
            hold.clear()

        def yielding(hold: list[Any]) -> Any:
            yield 1
            hold.clear()

        async def streaming(hold: list[Any]) -> Any:
            await suspend()
            yield 1
            hold.clear()

        for kind in ("probe", "attribute", "coroutine", "generator", "async"):
            marker = cycle_of(kind)
            gc.collect()
            assert marker() is None, kind
        assert counts(where)["in_flight"] == 0

    def test_spare_stand_ins(self) -> None:
        """A coroutine's stand-in may be a used one: nothing of its last call shows, and none waits in the
        collector's lists.
        """
        where = site()
        probe = core.FunctionProbe(answer, where)
        dead: list[str] = []
        for _ in range(200):
            item = probe()
            watch = weakref.ref(item, lambda _: dead.append("gone"))
            assert gc.is_tracked(item)
            drive(item)
            del item
            assert watch() is None
            gc.collect(0)
        batch = [probe() for _ in range(200)]
        for item in batch:
            item.close()
        del batch, item
        assert len(dead) == 200
        assert sum(type(thing).__name__ == "Coroutine" for thing in gc.get_objects()) == 0
