"""Coroutines of measured functions behave as those of undecorated ones."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import inspect
import sys
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

from hotlap import core
from hotlap.probe import benchmark, sites


def counts(name: str) -> dict[str, int]:
    return dict(zip(core.COUNTERS, sites[name].read(), strict=True))


def both(func: Callable[..., Any]) -> list[Callable[..., Any]]:
    """A function and its measured twin."""
    return [func, benchmark(func)]


class TestCoroutine:
    def test_protocol(self) -> None:
        """It is a coroutine to every question, and its state and frame can be seen."""

        async def f() -> int:
            """Doc."""
            return 1

        coroutine = benchmark(f)()
        assert inspect.iscoroutine(coroutine)
        assert asyncio.iscoroutine(coroutine)
        assert inspect.isawaitable(coroutine)
        assert isinstance(coroutine, types.CoroutineType)
        assert isinstance(coroutine, collections.abc.Coroutine)
        assert isinstance(coroutine, collections.abc.Awaitable)
        assert coroutine.__class__ is types.CoroutineType
        assert coroutine.__name__ == "f"  # type: ignore[attr-defined]
        assert coroutine.__qualname__.endswith("f")  # type: ignore[attr-defined]
        assert coroutine.cr_code is f.__code__  # type: ignore[attr-defined]
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
        with pytest.raises(StopIteration) as end:
            coroutine.send(None)
        assert end.value.value == 1
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            coroutine.send(None)

    def test_driven_by_hand(self) -> None:
        """send, throw and close reach the coroutine, and what it answers comes back."""

        @types.coroutine
        def pause(x: Any) -> Generator[Any, Any, Any]:
            return (yield x)

        async def f(log: list[Any]) -> str:
            log.append(await pause(1))
            try:
                await pause(2)
            except KeyError:
                log.append("caught")
            try:
                await pause(3)
            finally:
                log.append("finally")
            return "end"

        for make in both(f):
            log: list[Any] = []
            coroutine = make(log)
            assert coroutine.send(None) == 1
            assert coroutine.send("in") == 2
            assert coroutine.throw(KeyError("k")) == 3
            coroutine.close()
            coroutine.close()
            assert log == ["in", "caught", "finally"]
            with pytest.raises(TypeError, match="just-started"):
                started = make(log)
                try:
                    started.send(1)
                finally:
                    started.close()

    def test_never_awaited(self) -> None:
        """A coroutine that nobody awaits is still warned about, and is no call."""

        @benchmark(name="coroutines.unawaited")
        async def f() -> None: ...

        with pytest.warns(RuntimeWarning, match="coroutine .*f' was never awaited"):
            f()
        assert counts("coroutines.unawaited")["calls"] == 0

    def test_awaited_twice(self) -> None:
        """The second await is the usual error."""

        @benchmark
        async def f() -> None: ...

        async def main() -> None:
            coroutine = f()
            await coroutine
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                await coroutine

        asyncio.run(main())

    def test_asyncio(self) -> None:
        """Tasks, gather, wait_for, shield, as_completed and task groups run measured coroutines."""

        @benchmark(name="coroutines.asyncio")
        async def f(x: int) -> int:
            await asyncio.sleep(0)
            return x

        async def main() -> list[Any]:
            found: list[Any] = [await asyncio.create_task(f(1), name="n")]
            found += await asyncio.gather(f(2), f(3))
            found.append(await asyncio.wait_for(f(4), 5))
            found.append(await asyncio.shield(f(5)))
            found += sorted([await future for future in asyncio.as_completed([f(6), f(7)])])
            task = asyncio.ensure_future(f(8))
            assert task.get_coro().cr_code is f.__wrapped__.__code__  # type: ignore[attr-defined, union-attr]
            assert "f()" in repr(task)
            assert task.get_stack()
            found.append(await task)
            loop = asyncio.get_running_loop()
            runner = asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(f(9), loop).result(5))
            found.append(await runner)
            if sys.version_info >= (3, 11):
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(f(10)), group.create_task(f(11))]
                found += [task.result() for task in tasks]
                async with asyncio.timeout(5):
                    found.append(await f(12))
            return found

        expected = list(range(1, 13 if sys.version_info >= (3, 11) else 10))
        assert asyncio.run(main()) == expected
        found = counts("coroutines.asyncio")
        assert (found["calls"], found["errors"], found["in_flight"]) == (len(expected), 0, 0)
        assert found["suspensions"] == len(expected)

    def test_cancelled(self) -> None:
        """Cancellation and time-outs reach the coroutine and count as cancelled, not as errors."""
        log: list[str] = []

        @benchmark(name="coroutines.cancelled")
        async def f() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                log.append("cancelled")
                raise

        async def main() -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(f(), 0.01)
            task = asyncio.create_task(f())
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert task.cancelled()
            if sys.version_info >= (3, 11):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await f()

        asyncio.run(main())
        found = counts("coroutines.cancelled")
        assert found["cancelled"] == found["calls"] == len(log) == (3 if sys.version_info >= (3, 11) else 2)
        assert (found["errors"], found["in_flight"]) == (0, 0)

    def test_failed_in_a_group(self) -> None:
        """One task's error cancels the others."""
        if sys.version_info < (3, 11):
            pytest.skip("task groups are new in 3.11")

        @benchmark(name="coroutines.group")
        async def f(error: Exception | None) -> None:
            await asyncio.sleep(0 if error else 60)
            if error:
                raise error

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(f(None))
                group.create_task(f(ValueError("mine")))

        with pytest.raises(ExceptionGroup) as caught:  # noqa: F821
            asyncio.run(main())
        assert [str(error) for error in caught.value.exceptions] == ["mine"]
        found = counts("coroutines.group")
        assert (found["calls"], found["errors"], found["cancelled"]) == (2, 1, 1)

    def test_errors(self) -> None:
        """Any exception comes out as it is, with the cause and context it had."""
        for kind in (ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError):
            error, cause = kind("mine"), OSError("cause")

            async def f(error: BaseException = error, cause: BaseException = cause) -> None:
                raise error from cause

            for make in both(f):
                error.__traceback__ = error.__context__ = None
                with pytest.raises(kind) as caught:
                    make().send(None)
                assert caught.value is error
                assert caught.value.__cause__ is cause
                assert caught.value.__context__ is None

    def test_stop_iteration(self) -> None:
        """A raised StopIteration is the usual RuntimeError, a returned one a value like any other."""

        async def fails() -> None:
            raise StopIteration(1)

        async def gives(value: Any) -> Any:
            return value

        for make in both(fails):
            with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
                asyncio.run(make())
        for value in (None, (1, 2), StopIteration(3), ValueError(), [None]):
            assert asyncio.run(both(gives)[1](value)) is value

    def test_nested(self) -> None:
        """Measured coroutines await measured coroutines, and one function recurses."""

        @benchmark(name="coroutines.nested")
        async def f(n: int) -> int:
            await asyncio.sleep(0)
            return n and 1 + await f(n - 1)

        assert asyncio.run(f(20)) == 20
        found = counts("coroutines.nested")
        assert found["calls"] == 21
        assert found["in_flight_peak"] == 21

    def test_context_variables_and_current_task(self) -> None:
        """Context variables set inside are seen outside, as without measuring."""
        import contextvars

        var: contextvars.ContextVar[int] = contextvars.ContextVar("var")

        @benchmark
        async def f() -> asyncio.Task[Any] | None:
            var.set(5)
            return asyncio.current_task()

        async def main() -> None:
            assert await f() is asyncio.current_task()
            assert var.get() == 5

        asyncio.run(main())

    def test_awaitable_object(self) -> None:
        """An object with __await__ that a measured function returns is awaited by its own rules."""

        class Ready:
            def __await__(self) -> Generator[Any, None, int]:
                return asyncio.sleep(0, 5).__await__()

        @benchmark
        def f() -> Awaitable[int]:
            return Ready()

        async def main() -> int:
            return await f()

        assert asyncio.run(main()) == 5
