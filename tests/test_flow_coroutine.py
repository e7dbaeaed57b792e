"""Coroutines: measured to their end, and otherwise as they are, over both cores."""

from __future__ import annotations

import asyncio
import gc
import inspect
import types
from collections.abc import Callable, Generator
from typing import Any

import pytest

from conftest import FakeClock, counts
from flows import make, pause, run
from hotlap import core
from hotlap.core import record
from probes import Records


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


class Job:
    """Awaitable by way of a coroutine, as the documentation of `__await__` has it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self.make().__await__())


@types.coroutine
def delegating(make: Callable[[], Any]) -> Generator[Any, Any, Any]:
    return (yield from make())


def plain_generator(make: Callable[[], Any]) -> Generator[Any, Any, Any]:
    return (yield from make())


class TestYieldFrom:
    @pytest.mark.parametrize("kind", [Job, delegating])
    def test_where_coroutines_may_be(self, kind: Callable[..., Any]) -> None:
        """In an __await__(), and in a generator of types.coroutine()."""

        async def f() -> str:
            assert await pause("first") == "sent"
            return "done"

        async def outer() -> Any:
            return await kind(probe)

        probe, site = make(f)
        coroutine = outer()
        assert coroutine.send(None) == "first"
        with pytest.raises(StopIteration) as stop:
            coroutine.send("sent")
        assert stop.value.value == "done"
        read = counts(site)
        assert (read["calls"], read["suspensions"], read["errors"]) == (1, 1, 0)

    @pytest.mark.parametrize("use", [iter, list, lambda coroutine: next(plain_generator(lambda: coroutine))])
    def test_where_they_may_not_be(self, use: Callable[[Any], Any]) -> None:
        """A coroutine that somebody forgot to await is refused, as ever."""

        async def f() -> None:
            await pause()

        probe, site = make(f)
        coroutine = probe()
        with pytest.raises(TypeError, match="not iterable"):
            use(coroutine)
        assert not hasattr(coroutine, "__iter__")
        coroutine.close()
        assert counts(site)["calls"] == 0
