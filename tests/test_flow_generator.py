"""Generators and async generators: measured to their end, and otherwise as they are, over both cores."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import types
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest

from conftest import FakeClock, counts
from flows import make, pause, run
from hotlap import core
from hotlap.core import record
from probes import Records


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

    @pytest.mark.parametrize("how", ["athrow", "aclose"])
    def test_ended_before_it_began(self, how: str) -> None:
        """What is thrown into or closed before its first step never ran, and is no call."""

        async def f() -> AsyncGenerator[int, None]:
            yield 1

        probe, site = make(f, core.FOLLOW_ASYNC_GENERATOR)
        items = probe()
        if how == "aclose":
            run(items.aclose())
        else:
            with pytest.raises(KeyError):
                run(items.athrow(KeyError))
        with pytest.raises(StopAsyncIteration):
            run(items.asend(None))
        assert items.ag_frame is None
        read = counts(site)
        assert (read["calls"], read["errors"], read["in_flight"], read["in_flight_peak"]) == (0, 0, 0, 0)

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
