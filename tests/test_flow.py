"""Coroutines, generators and async generators: measured to their end, and otherwise as they are."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import types
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from conftest import FakeClock, counts
from hotlap import core
from hotlap.core import record

Records = Callable[[], Any]


def make(func: Callable[..., Any], flow: int = core.FOLLOW_COROUTINE, id: int = 5) -> tuple[Any, core.Site]:
    site = core.Site(id, func.__name__)
    site.sample(1.0, 2**40, 0)
    return core.FunctionProbe(func, site, flow), site


@types.coroutine
def pause(value: Any = None) -> Generator[Any, Any, Any]:
    """One suspension."""
    return (yield value)


def run(coroutine: Any, between: Callable[[], Any] = lambda: None) -> Any:
    """Drives a coroutine to its end; `between` happens in each suspension."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        between()


class TestCoroutine:
    def test_times(self, fake: FakeClock, records: Records) -> None:
        """Wall from the first step to the end, running time without the suspensions, the longest step."""

        async def f() -> str:
            fake.advance(5)
            await pause()
            fake.advance(30)
            await pause()
            fake.advance(7)
            return "done"

        probe, site = make(f)
        coroutine = probe()
        fake.advance(1000)  # not begun: not its time
        start = fake.now
        assert run(coroutine, lambda: fake.advance(100)) == "done"
        read = counts(site)
        assert (read["calls"], read["total_ns"], read["run_ns"]) == (1, 242, 42)
        assert (read["suspensions"], read["longest_ns"], read["in_flight"]) == (2, 30, 0)
        (row,) = records()
        assert (row["start_ns"], row["wall_ns"], row["run_ns"], row["longest_ns"]) == (start, 242, 42, 30)
        assert (row["suspensions"], row["flags"]) == (2, core.FLAG_ASYNC | core.FLAG_EVIDENCE)

    def test_identity(self) -> None:
        """It passes for the coroutine that it stands in for."""

        async def f() -> None:
            await pause()

        probe, _ = make(f)
        assert inspect.iscoroutinefunction(probe)
        coroutine = probe()
        assert inspect.iscoroutine(coroutine)
        assert inspect.isawaitable(coroutine)
        assert asyncio.iscoroutine(coroutine)
        assert isinstance(coroutine, types.CoroutineType)
        assert coroutine.__name__ == "f"
        assert coroutine.__qualname__ == f.__qualname__
        assert coroutine.cr_code is f.__code__
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
        coroutine.send(None)
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
        assert coroutine.cr_await is not None
        coroutine.close()
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
        assert coroutine.cr_frame is None
        with pytest.raises(AttributeError):
            coroutine.no_such_thing

    def test_values_pass(self) -> None:
        """What is yielded, sent, thrown and returned passes as it is."""

        async def f() -> Any:
            got = [await pause("a")]
            try:
                await pause("b")
            except KeyError as error:
                got.append(error)
            return (got,)

        probe, site = make(f)
        coroutine = probe()
        assert coroutine.send(None) == "a"
        assert coroutine.send(11) == "b"
        error = KeyError("k")
        with pytest.raises(StopIteration) as stop:
            coroutine.throw(error)
        assert stop.value.value == ([11, error],)
        assert counts(site)["errors"] == 0

    @pytest.mark.filterwarnings("ignore:the \\(type, exc, tb\\):DeprecationWarning")
    def test_throw_with_three_arguments(self) -> None:
        """The old form of throw."""

        async def f() -> str:
            try:
                await pause()
            except ValueError as error:
                return str(error)
            return ""

        coroutine = make(f)[0]()
        coroutine.send(None)
        with pytest.raises(StopIteration) as stop:
            coroutine.throw(ValueError, ValueError("three"), None)
        assert stop.value.value == "three"

    def test_reuse(self) -> None:
        """An awaited coroutine cannot be awaited again; closing it twice is fine."""

        async def f() -> int:
            return 1

        coroutine = make(f)[0]()
        assert run(coroutine) == 1
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            coroutine.send(None)
        coroutine.close()
        coroutine.close()

        async def again() -> None:
            await coroutine

        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            run(again())

    def test_never_awaited(self) -> None:
        """Python's own warning, with the function's name; nothing is counted."""

        async def forgotten() -> None: ...

        probe, site = make(forgotten)
        with pytest.warns(RuntimeWarning, match="'.*forgotten' was never awaited"):
            probe()
        assert counts(site)["started"] == 0

    @pytest.mark.parametrize("how", ["close", "throw"])
    def test_ended_before_it_began(self, how: str) -> None:
        """Closed or thrown into before its first step: it does not run, no warning, nothing is counted."""

        async def f() -> None:
            raise AssertionError

        probe, site = make(f)
        coroutine = probe()
        if how == "close":
            coroutine.close()
        else:
            with pytest.raises(KeyError):
                coroutine.throw(KeyError())
        assert counts(site)["calls"] == counts(site)["in_flight"] == 0
        with pytest.raises(RuntimeError, match="cannot reuse"):
            coroutine.send(None)
        assert counts(site)["calls"] == 0

    def test_closed(self, records: Records) -> None:
        """Closed on the way: its finally runs, and the call counts as cancelled."""
        left = []

        async def f() -> None:
            try:
                await pause()
            finally:
                left.append(1)

        probe, site = make(f)
        coroutine = probe()
        coroutine.send(None)
        assert counts(site)["in_flight"] == 1
        coroutine.close()
        read = counts(site)
        assert (left, read["calls"], read["cancelled"], read["errors"], read["in_flight"]) == (
            [1],
            1,
            1,
            0,
            0,
        )
        assert records()["flags"][0] & core.FLAG_CANCELLED

    def test_ignores_close(self) -> None:
        """A coroutine that goes on when closed: RuntimeError, as without a probe."""

        async def f() -> None:
            try:
                await pause()
            except GeneratorExit:
                await pause()

        coroutine = make(f)[0]()
        coroutine.send(None)
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            coroutine.close()

    def test_dropped(self) -> None:
        """Dropped on the way: its finally runs, and the call counts as cancelled."""
        left = []

        async def f() -> None:
            try:
                await pause()
            finally:
                left.append(1)

        probe, site = make(f)
        coroutine = probe()
        coroutine.send(None)
        del coroutine
        gc.collect()
        read = counts(site)
        assert (left, read["calls"], read["cancelled"], read["in_flight"]) == ([1], 1, 1, 0)

    def test_exceptions(self) -> None:
        """They pass as they are and count as errors; cancellation counts as cancelled."""
        error = ValueError()

        async def f() -> None:
            await pause()
            raise error

        probe, site = make(f)
        with pytest.raises(ValueError) as caught:
            run(probe())
        assert caught.value is error
        assert (counts(site)["calls"], counts(site)["errors"]) == (1, 1)

        async def main() -> None:
            task = asyncio.create_task(slow())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        async def forever() -> None:
            await asyncio.Event().wait()

        slow, site = make(forever)
        asyncio.run(main())
        read = counts(site)
        assert (read["calls"], read["errors"], read["cancelled"], read["in_flight"]) == (1, 0, 1, 0)

    def test_wrong_arguments(self) -> None:
        """A call that never made a coroutine is an error."""

        async def f(a: int) -> None: ...

        probe, site = make(f)
        with pytest.raises(TypeError, match="f\\(\\) missing"):
            probe()
        read = counts(site)
        assert (read["calls"], read["errors"], read["in_flight"]) == (1, 1, 0)

    def test_parents(self, fake: FakeClock, records: Records) -> None:
        """The site is the parent of what it calls and awaits, in every step; own time is without theirs."""
        leaf, _ = make(lambda: fake.advance(3), id=1)

        async def inner() -> None:
            leaf()
            await pause()
            fake.advance(20)

        async def outer() -> None:
            fake.advance(1)
            await middle()
            leaf()

        middle, _ = make(inner, id=2)
        probe, _ = make(outer, id=3)
        run(probe(), lambda: fake.advance(1000))
        rows = records()
        assert rows["site"].tolist() == [1, 2, 1, 3]
        assert rows["parent"].tolist() == [2, 3, 3, record.NO_PARENT]
        assert rows["run_ns"].tolist() == [3, 23, 3, 27]
        assert rows["own_ns"].tolist() == [3, 20, 3, 1]
        loose, _ = make(lambda: None)
        loose()
        assert records()["parent"].tolist() == [record.NO_PARENT]

    def test_interleaved(self, records: Records) -> None:
        """Tasks that take turns: each call finds its own parent, and the counts are whole."""
        leaf, _ = make(lambda: None, id=1)

        async def worker() -> None:
            for _ in range(5):
                leaf()
                await asyncio.sleep(0)
                leaf()

        one, first = make(worker, id=2)
        two, second = make(worker, id=3)

        async def main() -> None:
            await asyncio.gather(*(probe() for probe in (one, two) for _ in range(3)))
            assert counts(first)["in_flight"] == 0

        asyncio.run(main())
        rows = records()
        leaves = rows[rows["site"] == 1]
        assert sorted(leaves["parent"].tolist()) == [2] * 30 + [3] * 30
        for site in (first, second):
            read = counts(site)
            assert (read["calls"], read["in_flight"], read["in_flight_peak"]) == (3, 0, 3)
            assert read["suspensions"] == 15

    def test_returned_by_a_function(self, fake: FakeClock, records: Records) -> None:
        """A plain function that returns a coroutine is that coroutine's call, once."""

        async def f() -> int:
            fake.advance(8)
            return 4

        def plain(ready: bool) -> Any:
            return 4 if ready else f()

        probe, site = make(plain)
        assert run(probe(False)) == 4
        assert probe(True) == 4
        read = counts(site)
        assert (read["calls"], read["total_ns"], read["in_flight"]) == (2, 8, 0)
        first, second = records()
        assert first["flags"] == core.FLAG_ASYNC | core.FLAG_EVIDENCE
        assert (first["wall_ns"], second["flags"]) == (8, core.FLAG_EVIDENCE)

    def test_not_followed(self) -> None:
        """Without its flow bit a coroutine is a value like any other."""

        async def f() -> int:
            return 1

        probe, site = make(f, 0)
        coroutine = probe()
        assert type(coroutine) is types.CoroutineType
        assert counts(site)["calls"] == 1
        assert run(coroutine) == 1
        assert counts(site)["calls"] == 1

    def test_size_and_tail(self, fake: FakeClock, records: Records) -> None:
        """Sizes come from the call's arguments; a slow one leaves a tail record."""

        async def f(n: int) -> None:
            fake.advance(n)

        probe, site = make(f)
        site.size_of = lambda n: n
        run(probe(70))
        (row,) = records()
        assert row["size"] == 70
        site.sample(0.0, 1, 0)
        site.tail_ns = 90
        run(probe(90))
        run(probe(91))
        (row,) = records()
        assert (row["wall_ns"], row["flags"], row["weight"]) == (91, core.FLAG_TAIL | core.FLAG_ASYNC, 0)

    def test_count_mode(self, fake: FakeClock, records: Records) -> None:
        """On counting alone."""

        async def f() -> None:
            await pause()
            raise KeyError

        probe, site = make(f)
        site.mode = core.COUNT
        with pytest.raises(KeyError):
            run(probe())
        read = counts(site)
        assert (read["calls"], read["timed"], read["errors"], read["in_flight"]) == (1, 0, 1, 0)
        assert len(records()) == 0

    def test_switched_off(self) -> None:
        """Off at the first step: not counted. Off on the way: counted."""

        async def f() -> int:
            await pause()
            return 1

        probe, site = make(f)
        coroutine = probe()
        core.enable(False)
        assert run(coroutine) == 1
        assert run(probe()) == 1
        core.enable(True)
        assert counts(site)["calls"] == 0
        coroutine = probe()
        coroutine.send(None)
        core.enable(False)
        assert run(coroutine) == 1
        read = counts(site)
        assert (read["calls"], read["in_flight"]) == (1, 0)

    def test_many_at_once(self, fake: FakeClock) -> None:
        """A thousand in flight, all ended: nothing is lost."""

        async def f() -> None:
            await pause()
            fake.advance(1)

        probe, site = make(f)
        coroutines = [probe() for _ in range(1000)]
        for coroutine in coroutines:
            coroutine.send(None)
        assert counts(site)["in_flight"] == 1000
        for coroutine in coroutines:
            run(coroutine)
        read = counts(site)
        assert (read["calls"], read["in_flight"], read["in_flight_peak"]) == (1000, 0, 1000)
        assert sum(site.histogram()) == 1000


class TestGenerator:
    def test_times(self, fake: FakeClock, records: Records) -> None:
        """Its steps alone are its time: the consumer is not billed to it."""

        def f() -> Generator[int, None, str]:
            fake.advance(5)
            yield 1
            fake.advance(30)
            yield 2
            return "end"

        probe, site = make(f, core.FOLLOW_GENERATOR)
        assert inspect.isgeneratorfunction(probe)
        values = []
        for value in probe():
            values.append(value)
            fake.advance(1000)
        assert values == [1, 2]
        read = counts(site)
        assert (read["calls"], read["total_ns"], read["run_ns"], read["suspensions"]) == (1, 35, 35, 2)
        assert read["longest_ns"] == 30
        (row,) = records()
        assert (row["wall_ns"], row["own_ns"]) == (35, 35)
        assert row["flags"] == core.FLAG_GENERATOR | core.FLAG_EVIDENCE

    def test_identity(self) -> None:
        """It passes for the generator."""

        def f() -> Generator[int, Any, None]:
            yield 1

        generator = make(f, core.FOLLOW_GENERATOR)[0]()
        assert inspect.isgenerator(generator)
        assert isinstance(generator, Generator)
        assert iter(generator) is generator
        assert generator.__name__ == "f"
        assert generator.gi_code is f.__code__
        assert inspect.getgeneratorstate(generator) == inspect.GEN_CREATED
        assert next(generator) == 1
        assert inspect.getgeneratorstate(generator) == inspect.GEN_SUSPENDED
        generator.close()
        generator.close()
        assert inspect.getgeneratorstate(generator) == inspect.GEN_CLOSED
        assert generator.gi_frame is None
        with pytest.raises(StopIteration):
            next(generator)

    def test_protocol(self) -> None:
        """send, throw, the return value, and `yield from`."""

        def f() -> Generator[Any, Any, Any]:
            got = [(yield "a")]
            try:
                yield "b"
            except KeyError:
                got.append((yield "caught"))
            return (got,)

        probe, site = make(f, core.FOLLOW_GENERATOR)
        generator = probe()
        assert next(generator) == "a"
        assert generator.send(1) == "b"
        assert generator.throw(KeyError) == "caught"
        with pytest.raises(StopIteration) as stop:
            generator.send(2)
        assert stop.value.value == ([1, 2],)

        def outer() -> Generator[Any, Any, Any]:
            return (yield from probe())

        generator = outer()
        assert [next(generator), generator.send(1), generator.throw(KeyError())] == ["a", "b", "caught"]
        with pytest.raises(StopIteration) as stop:
            generator.send(2)
        assert stop.value.value == ([1, 2],)
        read = counts(site)
        assert (read["calls"], read["errors"], read["cancelled"]) == (2, 0, 0)

    def test_exceptions(self) -> None:
        """They pass; a StopIteration that escapes is the RuntimeError that Python makes of it."""

        def f(error: Exception) -> Generator[None, None, None]:
            yield
            raise error

        probe, site = make(f, core.FOLLOW_GENERATOR)
        error = ValueError()
        with pytest.raises(ValueError) as caught:
            list(probe(error))
        assert caught.value is error
        with pytest.raises(RuntimeError, match="generator raised StopIteration"):
            list(probe(StopIteration()))
        assert (counts(site)["calls"], counts(site)["errors"]) == (2, 2)

    def test_never_finished(self) -> None:
        """Dropped on the way: cancelled. Dropped before it began: nothing."""
        left = []

        def f() -> Generator[None, None, None]:
            try:
                yield
            finally:
                left.append(1)

        probe, site = make(f, core.FOLLOW_GENERATOR)
        probe()
        gc.collect()
        assert counts(site)["started"] == 0
        next(probe())
        gc.collect()
        read = counts(site)
        assert (left, read["calls"], read["cancelled"], read["in_flight"]) == ([1], 1, 1, 0)

    def test_ended_before_it_began(self) -> None:
        """Closed or thrown into before the first step: nothing is counted."""

        def f() -> Generator[None, None, None]:
            yield

        probe, site = make(f, core.FOLLOW_GENERATOR)
        generator = probe()
        generator.close()
        assert list(generator) == []
        generator = probe()
        with pytest.raises(KeyError):
            generator.throw(KeyError("x"))
        assert list(generator) == []
        assert counts(site)["in_flight"] == 0

    def test_running(self) -> None:
        """A generator that steps itself is refused, as without a probe."""

        def f() -> Generator[None, None, None]:
            with pytest.raises(ValueError, match="already executing"):
                next(generator)
            yield

        probe, site = make(f, core.FOLLOW_GENERATOR)
        generator = probe()
        next(generator)
        assert list(generator) == []
        assert (counts(site)["calls"], counts(site)["errors"]) == (1, 0)

    def test_parent(self, records: Records) -> None:
        """Calls made in its steps are its children, the consumer's are not."""
        leaf, _ = make(lambda: None, id=1)

        def f() -> Generator[None, None, None]:
            leaf()
            yield
            leaf()

        for _ in make(f, core.FOLLOW_GENERATOR, id=2)[0]():
            leaf()
        assert records()["parent"].tolist() == [2, record.NO_PARENT, 2, record.NO_PARENT]

    def test_not_followed(self) -> None:
        """By default a generator is a value."""

        def f() -> Generator[int, None, None]:
            yield 1

        assert type(make(f)[0]()) is types.GeneratorType


class TestAsyncGenerator:
    def test_times(self, fake: FakeClock, records: Records) -> None:
        """Billed from each asend() to its answer, suspensions included; the consumer is not billed."""

        async def f() -> AsyncGenerator[int, None]:
            fake.advance(5)
            await pause()
            fake.advance(30)
            yield 1
            fake.advance(2)

        probe, site = make(f, core.FOLLOW_ASYNC_GENERATOR)

        async def consume() -> list[int]:
            values = []
            async for value in probe():
                values.append(value)
                fake.advance(1000)
            return values

        assert run(consume(), lambda: fake.advance(100)) == [1]
        read = counts(site)
        assert (read["calls"], read["total_ns"], read["run_ns"]) == (1, 137, 37)
        assert (read["suspensions"], read["longest_ns"], read["in_flight"]) == (1, 30, 0)
        (row,) = records()
        assert (row["wall_ns"], row["run_ns"]) == (137, 37)
        assert row["flags"] == core.FLAG_ASYNC | core.FLAG_GENERATOR | core.FLAG_EVIDENCE

    def test_identity(self) -> None:
        """It passes for the async generator."""

        async def f() -> AsyncGenerator[int, None]:
            yield 1

        probe, _ = make(f, core.FOLLOW_ASYNC_GENERATOR)
        assert inspect.isasyncgenfunction(probe)
        generator = probe()
        assert inspect.isasyncgen(generator)
        assert isinstance(generator, AsyncGenerator)
        assert generator.__aiter__() is generator
        assert generator.ag_code is f.__code__
        assert generator.__name__ == "f"
        step = generator.__anext__()
        assert inspect.isawaitable(step)
        assert asyncio.iscoroutine(step) or sys.version_info >= (3, 12)
        step.close()

    def test_protocol(self) -> None:
        """asend, athrow, aclose."""

        async def f() -> AsyncGenerator[Any, Any]:
            got = yield "a"
            try:
                yield got
            except KeyError:
                yield "caught"

        probe, site = make(f, core.FOLLOW_ASYNC_GENERATOR)

        async def main() -> None:
            generator = probe()
            assert await generator.__anext__() == "a"
            assert await generator.asend(7) == 7
            assert await generator.athrow(KeyError()) == "caught"
            with pytest.raises(StopAsyncIteration):
                await generator.asend(None)
            with pytest.raises(StopAsyncIteration):
                await generator.__anext__()
            await generator.aclose()
            assert (counts(site)["calls"], counts(site)["cancelled"]) == (1, 0)
            generator = probe()
            assert await generator.asend(None) == "a"
            await generator.aclose()
            await generator.aclose()
            assert (counts(site)["calls"], counts(site)["cancelled"]) == (2, 1)
            generator = probe()
            await generator.aclose()
            assert counts(site)["calls"] == 2

        asyncio.run(main())
        assert counts(site)["in_flight"] == 0

    def test_exceptions(self) -> None:
        """They pass and count."""
        error = ValueError()

        async def f() -> AsyncGenerator[int, None]:
            yield 1
            raise error

        probe, site = make(f, core.FOLLOW_ASYNC_GENERATOR)

        async def main() -> None:
            with pytest.raises(ValueError) as caught:
                async for _ in probe():
                    pass
            assert caught.value is error

        asyncio.run(main())
        read = counts(site)
        assert (read["calls"], read["errors"], read["in_flight"]) == (1, 1, 0)

    def test_never_finished(self) -> None:
        """Left on the way: cancelled, once."""

        async def f() -> AsyncGenerator[int, None]:
            yield 1
            yield 2

        probe, site = make(f, core.FOLLOW_ASYNC_GENERATOR)

        async def main() -> None:
            async for _ in probe():
                break
            gc.collect()
            await asyncio.sleep(0)

        asyncio.run(main())
        gc.collect()
        read = counts(site)
        assert (read["calls"], read["cancelled"], read["in_flight"]) == (1, 1, 0)

    def test_cancelled(self) -> None:
        """A task that is cancelled while it waits for the next value."""

        async def f() -> AsyncGenerator[int, None]:
            await asyncio.Event().wait()
            yield 1

        probe, site = make(f, core.FOLLOW_ASYNC_GENERATOR)

        async def consume() -> None:
            async for _ in probe():
                pass

        async def main() -> None:
            task = asyncio.create_task(consume())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        read = counts(site)
        assert (read["calls"], read["cancelled"], read["errors"], read["in_flight"]) == (1, 1, 0, 0)

    def test_step_as_a_task(self) -> None:
        """asend() can be awaited through asyncio's own tools."""

        async def f() -> AsyncGenerator[int, None]:
            await asyncio.sleep(0)
            yield 1

        probe, site = make(f, core.FOLLOW_ASYNC_GENERATOR)

        async def main() -> None:
            generator = probe()
            assert await asyncio.wait_for(generator.__anext__(), 10) == 1
            with pytest.raises(StopAsyncIteration):
                await generator.__anext__()

        asyncio.run(main())
        assert counts(site)["calls"] == 1


class TestBlocks:
    def test_in_a_measured_coroutine(
        self, fake: FakeClock, records: Records, registry: dict[str, core.Site]
    ) -> None:
        """A block across suspensions stays the parent of what happens in it."""
        leaf, _ = make(lambda: fake.advance(1), id=1)

        async def f() -> None:
            async with core.Measurement("block"):
                leaf()
                await pause()
                leaf()
            leaf()

        probe, _ = make(f, id=2)
        run(probe(), lambda: (fake.advance(100), leaf()))
        rows = records()
        block = registry["block"].id
        assert rows["site"].tolist() == [1, 1, 1, block, 1, 2]
        parents = rows["parent"].tolist()
        assert (parents[0], parents[1], parents[3], parents[4], parents[5]) == (
            block,
            record.NO_PARENT,
            2,
            2,
            record.NO_PARENT,
        )
        assert parents[2] in {block, 2, record.NO_PARENT}
        assert rows["wall_ns"][3] == 103

    def test_interleaved(self, records: Records, registry: dict[str, core.Site]) -> None:
        """Blocks in coroutines that nobody measures end in any order: whole counts, no foreign parents."""
        leaf, _ = make(lambda: None, id=1)
        shared = core.Measurement("shared")

        async def worker(name: str, turns: int) -> None:
            with core.Measurement(name), shared:
                for _ in range(turns):
                    await asyncio.sleep(0)
            leaf()

        async def stranger() -> None:
            for _ in range(4):
                leaf()
                await asyncio.sleep(0)

        async def main() -> None:
            await asyncio.gather(worker("a", 5), worker("b", 2), stranger(), worker("c", 7), worker("d", 1))

        asyncio.run(main())
        leaf()
        rows = records()
        assert set(rows["parent"][rows["site"] == 1].tolist()) == {record.NO_PARENT}
        for name in "abcd":
            read = counts(registry[name])
            assert (read["calls"], read["in_flight"]) == (1, 0)
        read = counts(registry["shared"])
        assert (read["calls"], read["in_flight"], read["in_flight_peak"]) == (4, 0, 4)
        blocks = rows[rows["flags"] & core.FLAG_BLOCK != 0]
        assert len(blocks) == 8
        assert set(blocks["own_ns"].tolist()) == {-1}

    def test_in_a_generator(self, records: Records, registry: dict[str, core.Site]) -> None:
        """A block left open by a plain generator, ended after the block around it: no harm."""
        leaf, _ = make(lambda: None, id=1)

        def f() -> Generator[None, None, None]:
            with core.Measurement("inner"):
                yield

        generator = f()
        with core.Measurement("outer"):
            next(generator)
        generator.close()
        leaf()
        assert counts(registry["inner"])["in_flight"] == counts(registry["outer"])["in_flight"] == 0
        rows = records()
        assert rows["parent"][rows["site"] == 1].tolist() == [record.NO_PARENT]
