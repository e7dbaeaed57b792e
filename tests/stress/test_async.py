"""Event loops: trees of tasks that wait, fail, are cancelled or time out, over each installed loop."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from conftest import counts
from hotlap import core

FOLLOW_ALL = core.FOLLOW_COROUTINE | core.FOLLOW_GENERATOR | core.FOLLOW_ASYNC_GENERATOR

pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")


def uvloop() -> Any:
    return pytest.importorskip("uvloop").new_event_loop()


def eager() -> Any:
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks are of Python 3.12")
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


class Tree:
    """Random work below one root; `entered` and `left` count the measured bodies that really ran."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.site = core.Site(1, "node")
        self.stream_site = core.Site(2, "stream")
        self.own = {"block": core.Site(3, "block")}
        core.set_sites(self.own, lambda name, options: self.own[name])
        core.set_ring(core.Ring(1024))
        self.entered = self.left = 0
        self.node = core.FunctionProbe(self.run.__func__, self.site)  # type: ignore[attr-defined]
        self.stream = core.FunctionProbe(self.items.__func__, self.stream_site, FOLLOW_ALL)  # type: ignore[attr-defined]

    async def items(self) -> Any:
        try:
            for number in range(self.chance.randrange(4)):
                await asyncio.sleep(self.chance.choice([0, 0, 0.0003]))
                yield number
        finally:
            await asyncio.sleep(0)

    async def run(self, depth: int) -> int:
        self.entered += 1
        try:
            choice = self.chance.randrange(9) if depth < 5 else self.chance.randrange(3)
            if choice == 0:
                raise ValueError("node")
            if choice in (1, 2):
                await asyncio.sleep(self.chance.choice([0, 0.0002, 0.001]))
                return 1
            if choice == 3:
                return await self.node(self, depth + 1) + await self.node(self, depth + 1)
            if choice == 4:
                tasks = [asyncio.ensure_future(self.node(self, depth + 1)) for _ in range(3)]
                results = await asyncio.gather(*tasks, return_exceptions=True)
                return sum(result for result in results if isinstance(result, int))
            if choice == 5:
                return int(await asyncio.wait_for(self.node(self, depth + 1), 0.0005))
            if choice == 6:
                total = 0
                async for number in self.stream(self):
                    total += number
                    if self.chance.random() < 0.2:
                        break
                return total
            if choice == 7:
                task = asyncio.ensure_future(self.node(self, depth + 1))
                await asyncio.sleep(0)
                task.cancel()
                try:
                    return await task
                except (asyncio.CancelledError, ValueError, TimeoutError, asyncio.TimeoutError):
                    return 0
            async with core.measure("block"):
                return int(await self.node(self, depth + 1))
        finally:
            self.left += 1


@pytest.mark.parametrize("make", [asyncio.new_event_loop, uvloop, eager], ids=["asyncio", "uvloop", "eager"])
@pytest.mark.parametrize("debug", [False, True])
def test_trees(make: Callable[[], Any], debug: bool) -> None:
    """Every body that was entered is a call that ended, whatever ended it."""
    loop = make()
    loop.set_debug(debug)
    loop.slow_callback_duration = 10
    tree = Tree(7)

    async def roots() -> None:
        for _ in range(40):
            await asyncio.gather(*(tree.node(tree, 0) for _ in range(10)), return_exceptions=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            loop.run_until_complete(roots())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
        gc.collect()
    read = counts(tree.site)
    assert tree.entered == tree.left == read["calls"]
    assert read["in_flight"] == counts(tree.stream_site)["in_flight"] == counts(tree.own["block"])["in_flight"] == 0
    assert 0 < read["errors"] + read["cancelled"] < read["calls"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="task groups are of Python 3.11")
def test_task_group() -> None:
    """One task's error cancels its siblings; timeouts cancel from outside."""
    site = core.Site(1, "task")

    async def body(seconds: float, fail: bool) -> None:
        await asyncio.sleep(seconds)
        if fail:
            raise ValueError

    probe = core.FunctionProbe(body, site)

    async def main() -> None:
        for _ in range(50):
            with pytest.raises(BaseExceptionGroup):  # noqa: F821
                async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined]
                    for number in range(5):
                        group.create_task(probe(0.001 if number == 3 else 1, number == 3))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):  # type: ignore[attr-defined]
                    await probe(1, False)

    asyncio.run(main())
    read = counts(site)
    assert (read["calls"], read["errors"], read["cancelled"], read["in_flight"]) == (300, 50, 250, 0)


def test_trio() -> None:
    """trio drives coroutines by send and throw alone, and cancels by exceptions of its own."""
    trio = pytest.importorskip("trio")
    site = core.Site(1, "trio")

    async def body(seconds: float) -> None:
        async with core.measure("block"):
            await trio.sleep(seconds)

    own = {"block": core.Site(2, "block")}
    core.set_sites(own, lambda name, options: own[name])
    probe = core.FunctionProbe(body, site)

    async def main() -> None:
        for _ in range(50):
            with trio.move_on_after(0.002):
                async with trio.open_nursery() as nursery:
                    for number in range(5):
                        nursery.start_soon(probe, 0 if number else 1)
            assert await trio.to_thread.run_sync(trio.from_thread.run, probe, 0) is None

    trio.run(main)
    read = counts(site)
    assert (read["calls"], read["in_flight"]) == (300, 0)
    assert counts(own["block"])["in_flight"] == 0


def test_abandoned_loop() -> None:
    """A loop that is closed with tasks suspended: their stand-ins end when they are collected."""
    site = core.Site(1, "left")

    async def body() -> None:
        await asyncio.sleep(100)

    probe = core.FunctionProbe(body, site)
    for _ in range(20):
        loop = asyncio.new_event_loop()
        tasks = [loop.create_task(probe()) for _ in range(5)]
        loop.run_until_complete(asyncio.sleep(0))
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        del tasks, task, loop
    gc.collect()
    read = counts(site)
    assert (read["calls"], read["cancelled"], read["in_flight"]) == (100, 100, 0)
