"""Generators and async generators of measured functions behave as those of undecorated ones."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import gc
import inspect
import types
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from hotlap import core
from hotlap.probe import benchmark, sites


def counts(name: str) -> dict[str, int]:
    return dict(zip(core.COUNTERS, sites[name].read(), strict=True))


def both(func: Callable[..., Any]) -> list[Callable[..., Any]]:
    """A function and its measured twin."""
    return [func, benchmark(func)]


class TestGenerator:
    def test_protocol(self) -> None:
        """It is a generator to every question, with send, throw, close and a return value."""

        def f(log: list[Any]) -> Generator[int, Any, str]:
            try:
                log.append((yield 1))
                try:
                    yield 2
                except KeyError:
                    yield 3
                return "end"
            finally:
                log.append("finally")

        for make in both(f):
            log: list[Any] = []
            generator = make(log)
            assert inspect.isgenerator(generator)
            assert isinstance(generator, types.GeneratorType)
            assert isinstance(generator, collections.abc.Generator)
            assert isinstance(generator, collections.abc.Iterator)
            assert iter(generator) is generator
            assert generator.__name__ == "f"
            assert generator.gi_code is f.__code__
            assert inspect.getgeneratorstate(generator) == inspect.GEN_CREATED
            assert next(generator) == 1
            assert inspect.getgeneratorstate(generator) == inspect.GEN_SUSPENDED
            assert generator.send("in") == 2
            assert generator.throw(KeyError("k")) == 3
            with pytest.raises(StopIteration) as end:
                next(generator)
            assert end.value.value == "end"
            assert log == ["in", "finally"]
            assert inspect.getgeneratorstate(generator) == inspect.GEN_CLOSED
            assert next(generator, "over") == "over"
            closed = make(log)
            next(closed)
            closed.close()
            assert log == ["in", "finally", "finally"]

    def test_yield_from(self) -> None:
        """yield from hands values in and out and gives the return value."""

        @benchmark(name="generators.inner")
        def inner() -> Generator[int, int, str]:
            x = yield 1
            yield x
            return "inner"

        @benchmark(name="generators.outer")
        def outer() -> Generator[int, int, str]:
            return (yield from inner()) + " outer"

        generator = outer()
        assert next(generator) == 1
        assert generator.send(7) == 7
        with pytest.raises(StopIteration) as end:
            next(generator)
        assert end.value.value == "inner outer"
        for name in ("generators.inner", "generators.outer"):
            found = counts(name)
            assert (found["calls"], found["errors"], found["cancelled"]) == (1, 0, 0)

    def test_ends(self) -> None:
        """Exhausted, failed, closed, dropped: each counts once; a generator never started is no call."""

        @benchmark(name="generators.ends")
        def f(n: int) -> Generator[int, None, None]:
            yield from range(n)
            if n == 2:
                raise ValueError("mine")

        assert list(f(3)) == [0, 1, 2]
        with pytest.raises(ValueError, match="mine"):
            list(f(2))
        closed = f(5)
        next(closed)
        closed.close()
        dropped = f(5)
        next(dropped)
        del dropped
        gc.collect()
        f(1)
        unstarted = f(1)
        unstarted.close()
        found = counts("generators.ends")
        assert (found["calls"], found["errors"], found["cancelled"], found["in_flight"]) == (4, 1, 2, 0)

    def test_error_identity(self) -> None:
        """Errors thrown in and out are the very objects; StopIteration inside is the usual RuntimeError."""

        def f() -> Generator[int, None, None]:
            yield 1

        def stops() -> Generator[int, None, None]:
            yield 1
            raise StopIteration

        error = KeyError("k")
        for make in both(f):
            generator = make()
            next(generator)
            with pytest.raises(KeyError) as caught:
                generator.throw(error)
            assert caught.value is error
        for make in both(stops):
            with pytest.raises(RuntimeError, match="generator raised StopIteration"):
                list(make())

    def test_reentered(self) -> None:
        """A generator that runs itself is the usual ValueError."""

        def f(box: list[Any]) -> Generator[int, None, None]:
            yield next(box[0])

        for make in both(f):
            box: list[Any] = []
            box.append(make(box))
            with pytest.raises(ValueError, match="already executing"):
                next(box[0])

    def test_consumer_is_not_billed(self) -> None:
        """With a clock that only the consumer advances, a generator took no time."""
        now = [0]
        core.set_clock(lambda: now[0])
        try:

            @benchmark(name="generators.consumer")
            def f() -> Generator[int, None, None]:
                for i in range(3):
                    now[0] += 10
                    yield i

            for _ in f():
                now[0] += 1_000
        finally:
            core.set_clock(None)
        found = counts("generators.consumer")
        assert (found["total_ns"], found["run_ns"], found["longest_ns"]) == (30, 30, 10)


class TestAsyncGenerator:
    def test_protocol(self) -> None:
        """asend, athrow, aclose and async for, as without measuring."""

        async def f(log: list[Any]) -> AsyncGenerator[int, Any]:
            try:
                log.append((yield 1))
                await asyncio.sleep(0)
                try:
                    yield 2
                except KeyError:
                    yield 3
            finally:
                await asyncio.sleep(0)
                log.append("finally")

        async def main(make: Callable[..., Any]) -> None:
            log: list[Any] = []
            generator = make(log)
            assert inspect.isasyncgen(generator)
            assert isinstance(generator, types.AsyncGeneratorType)
            assert isinstance(generator, collections.abc.AsyncGenerator)
            assert generator.__aiter__() is generator
            assert generator.__name__ == "f"
            assert generator.ag_code is f.__code__
            assert await generator.__anext__() == 1
            assert await generator.asend("in") == 2
            assert await generator.athrow(KeyError("k")) == 3
            with pytest.raises(StopAsyncIteration):
                await generator.__anext__()
            assert log == ["in", "finally"]
            assert [x async for x in make(log)] == [1, 2]
            closed = make(log)
            await closed.asend(None)
            await closed.aclose()
            assert log == ["in", "finally", None, "finally", "finally"]
            error = ValueError("mine")
            failed = make(log)
            await failed.asend(None)
            with pytest.raises(ValueError, match="mine") as caught:
                await failed.athrow(error)
            assert caught.value is error

        for make in both(f):
            asyncio.run(main(make))

    def test_counts(self) -> None:
        """One call from the first step to the end, whatever the end; one that is closed is cancelled."""

        @benchmark(name="agen.counts")
        async def f(n: int) -> AsyncGenerator[int, None]:
            for i in range(n):
                await asyncio.sleep(0)
                yield i
            if n == 2:
                raise ValueError("mine")

        async def main() -> None:
            assert [x async for x in f(3)] == [0, 1, 2]
            with pytest.raises(ValueError, match="mine"):
                [x async for x in f(2)]
            async with contextlib.aclosing(f(5)) as generator:
                async for _ in generator:
                    break
            f(1)

        asyncio.run(main())
        found = counts("agen.counts")
        assert (found["calls"], found["errors"], found["cancelled"], found["in_flight"]) == (3, 1, 1, 0)

    def test_unfinished_is_closed_by_the_loop(self) -> None:
        """An async generator left behind is finalized by the event loop's hooks, as without measuring."""

        async def f(log: list[str]) -> AsyncGenerator[int, None]:
            try:
                yield 1
                yield 2
            finally:
                log.append("finally")

        for make in both(f):
            log: list[str] = []

            async def main(make: Callable[..., Any] = make, log: list[str] = log) -> None:
                async for _ in make(log):
                    break
                gc.collect()
                await asyncio.sleep(0)
                await asyncio.sleep(0)

            asyncio.run(main())
            assert log == ["finally"]

    def test_cancelled_while_waiting(self) -> None:
        """Cancelling the consumer's task reaches the generator."""

        @benchmark(name="agen.cancelled")
        async def f() -> AsyncGenerator[int, None]:
            yield 1
            await asyncio.sleep(60)
            yield 2

        async def consume() -> None:
            async for _ in f():
                pass

        async def main() -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(consume(), 0.01)

        asyncio.run(main())
        found = counts("agen.cancelled")
        assert (found["calls"], found["errors"], found["cancelled"]) == (1, 0, 1)


class TestContextManagers:
    def test_contextmanagers(self) -> None:
        """Context managers over measured generators, and measured functions that return context managers."""
        log: list[str] = []

        @contextlib.contextmanager
        @benchmark(name="transparency.cm")
        def inside() -> Generator[int, None, None]:
            log.append("in")
            try:
                yield 1
            except KeyError:
                log.append("caught")
            finally:
                log.append("out")

        @benchmark(name="transparency.cm.outside")
        @contextlib.contextmanager
        def outside() -> Generator[int, None, None]:
            yield 2

        @contextlib.asynccontextmanager
        @benchmark(name="transparency.acm")
        async def later_inside() -> AsyncGenerator[int, None]:
            log.append("ain")
            try:
                yield 3
            finally:
                log.append("aout")

        with inside() as one, outside() as two:
            assert (one, two) == (1, 2)
        with inside():
            raise KeyError
        with pytest.raises(ValueError, match="mine"), inside():
            raise ValueError("mine")

        @inside()
        def decorated() -> int:
            return 4

        async def main() -> None:
            async with later_inside() as three:
                assert three == 3
            with pytest.raises(ValueError, match="mine"):
                async with later_inside():
                    raise ValueError("mine")

        assert decorated() == 4
        asyncio.run(main())
        assert log == ["in", "out", "in", "caught", "out", "in", "out", "in", "out", *["ain", "aout"] * 2]
        assert sites["transparency.cm"].read()[0] == 4
        assert sites["transparency.acm"].read()[0] == 2
