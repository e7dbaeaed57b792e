"""measure: blocks of code as sites, and numbers recorded in them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from hotlap import core
from hotlap.errors import HotlapError, OptionError, OptionTypeError
from hotlap.options import BenchmarkType, SiteOptions
from hotlap.probe import benchmark, measure, restore, sites

np = pytest.importorskip("numpy")


def counts(name: str) -> dict[str, int]:
    return dict(zip(core.COUNTERS, sites[name].read(), strict=True))


@pytest.fixture
def ring() -> Iterator[Any]:
    """A ring in use; `ring()` gives the records in it, as an array."""
    made = core.Ring(1024)
    core.set_ring(made)
    layout = {
        "names": [row[0] for row in core.RECORD_LAYOUT],
        "formats": [row[1] for row in core.RECORD_LAYOUT],
        "offsets": [row[2] for row in core.RECORD_LAYOUT],
        "itemsize": core.RECORD_BYTES,
    }
    yield lambda: np.frombuffer(made.drain(), dtype=np.dtype(layout))
    core.set_ring(None)


@pytest.fixture
def clock() -> Iterator[Any]:
    """A clock that moves only when it is called with nanoseconds."""
    now = [1_000]

    def move(ns: int) -> None:
        now[0] += ns

    core.set_clock(lambda: now[0])
    yield move
    core.set_clock(None)


class TestBlock:
    def test_counts_and_time(self, clock: Any) -> None:
        """Each entry is a call of the site."""
        for ns in (10, 30):
            with measure("block.time"):
                clock(ns)
        found = counts("block.time")
        assert (found["calls"], found["timed"], found["errors"]) == (2, 2, 0)
        assert (found["total_ns"], found["min_ns"], found["max_ns"]) == (40, 10, 30)

    def test_site(self) -> None:
        """The first use makes the site, at the place where it stands."""
        with measure("block.site"):
            pass
        file, _, line = sites["block.site"].info.location.rpartition(":")
        assert file == __file__
        assert int(line) > 0
        assert sites["block.site"].info.options == SiteOptions()

    def test_gives_itself(self) -> None:
        """`as m` is the object that was entered."""
        block = measure("block.itself")
        with block as m:
            assert m is block

    def test_error(self) -> None:
        """An exception counts as an error and passes through, the very object, with its context."""
        error = KeyError("mine")
        with pytest.raises(KeyError) as caught, measure("block.error"):
            raise error
        assert caught.value is error
        assert caught.value.__context__ is None
        found = counts("block.error")
        assert (found["calls"], found["errors"], found["cancelled"], found["in_flight"]) == (1, 1, 0, 0)

    @pytest.mark.parametrize(
        ("kind", "field"),
        [
            (KeyboardInterrupt, "errors"),
            (SystemExit, "errors"),
            (StopIteration, None),
            (StopAsyncIteration, None),
            (GeneratorExit, "cancelled"),
            (asyncio.CancelledError, "cancelled"),
        ],
    )
    def test_other_ends(self, kind: type[BaseException], field: str | None) -> None:
        """Cancellation and the ends of iterators are no errors; nothing is swallowed."""
        name = f"block.end.{kind.__name__}"
        with pytest.raises(kind), measure(name):
            raise kind
        found = counts(name)
        assert found["calls"] == 1
        assert {key: found[key] for key in ("errors", "cancelled")} == {
            "errors": int(field == "errors"),
            "cancelled": int(field == "cancelled"),
        }

    def test_left_early(self) -> None:
        """return, break and continue end the block as its end does."""

        def f() -> int:
            with measure("block.early"):
                return 1

        assert f() == 1
        for n in (1, 2, 3):
            with measure("block.early"):
                if n == 2:
                    break
        assert counts("block.early")["calls"] == 3
        assert counts("block.early")["in_flight"] == 0

    def test_nested(self, clock: Any, ring: Any) -> None:
        """An inner block's time is not the outer's own, and the outer is its parent."""
        with measure("block.outer"):
            clock(5)
            with measure("block.inner"):
                clock(20)
            clock(7)
        inner, outer = ring()
        assert (outer["wall_ns"], outer["own_ns"]) == (32, 12)
        assert (inner["wall_ns"], inner["own_ns"]) == (20, 20)
        assert inner["parent"] == sites["block.outer"].id
        assert outer["parent"] == 0xFFFFFFFF
        assert inner["flags"] & core.FLAG_BLOCK

    def test_inside_and_around_probes(self, clock: Any, ring: Any) -> None:
        """Blocks and measured functions nest in each other."""

        @benchmark(name="block.probe")
        def f() -> None:
            with measure("block.in.probe"):
                clock(10)

        with measure("block.around.probe"):
            f()
        inner, probe, outer = ring()
        assert [record["own_ns"] for record in (inner, probe, outer)] == [10, 0, 0]
        assert [inner["parent"], probe["parent"]] == [sites["block.probe"].id, sites["block.around.probe"].id]

    def test_reentrant(self, clock: Any) -> None:
        """One object can be entered again while it is entered, and used again afterwards."""
        block = measure("block.reentrant")
        with block:
            clock(1)
            with block:
                clock(10)
                with block:
                    clock(100)
        with block:
            clock(1_000)
        found = counts("block.reentrant")
        assert (found["calls"], found["in_flight"], found["in_flight_peak"]) == (4, 0, 3)
        assert found["total_ns"] == 111 + 110 + 100 + 1_000

    def test_exited_too_often(self) -> None:
        """An exit without an entry is refused."""
        with pytest.raises(HotlapError, match=r"block\.exit.*exited more often than entered"):
            measure("block.exit").__exit__(None, None, None)

    def test_threads(self) -> None:
        """Blocks in many threads, of one object or of several, are all counted."""
        block = measure("block.threads")
        start = threading.Barrier(4)

        def run() -> None:
            start.wait()
            for _ in range(500):
                with block, measure("block.threads"):
                    pass

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = counts("block.threads")
        assert (found["calls"], found["in_flight"]) == (4_000, 0)

    def test_size(self, ring: Any) -> None:
        """`size` is this block's number."""
        for size in (3, 2.5):
            with measure("block.size", size=size):
                pass
        with measure("block.size"):
            pass
        first, second, third = ring()["size"]
        assert (first, second) == (3.0, 2.5)
        assert np.isnan(third)


class TestAsync:
    def test_async_with(self, clock: Any) -> None:
        """`async with` measures as `with` does, and is not suspended by it."""

        async def main() -> None:
            async with measure("async.block") as m:
                m.record(rows=1)
                clock(10)
                await asyncio.sleep(0)

        asyncio.run(main())
        assert counts("async.block")["calls"] == 1
        assert counts("async.block")["total_ns"] == 10

    @pytest.mark.parametrize("one", [True, False])
    def test_interleaving_tasks(self, one: bool) -> None:
        """Blocks of tasks that interleave, with one object or with several, are each their own."""
        name = f"async.interleave.{one}"
        shared = measure(name)

        async def job(n: int) -> None:
            async with shared if one else measure(name):
                for _ in range(n):
                    await asyncio.sleep(0)
                with measure(name + ".inner"):
                    await asyncio.sleep(0)

        async def main() -> None:
            await asyncio.gather(*(job(n) for n in (5, 1, 3, 2, 4)))

        asyncio.run(main())
        found = counts(name)
        assert (found["calls"], found["errors"], found["in_flight"], found["in_flight_peak"]) == (5, 0, 0, 5)
        assert counts(name + ".inner")["calls"] == 5

    def test_times_of_interleaving_tasks(self, clock: Any) -> None:
        """Each entry of a shared object has its own time, whatever the order of the exits."""
        block = measure("async.times")

        async def main() -> None:
            first, second = asyncio.Event(), asyncio.Event()

            async def job(go: asyncio.Event) -> None:
                async with block:
                    await go.wait()

            a = asyncio.create_task(job(first))
            await asyncio.sleep(0)
            clock(10)
            b = asyncio.create_task(job(second))
            await asyncio.sleep(0)
            clock(100)
            first.set()
            await a
            clock(1_000)
            second.set()
            await b

        asyncio.run(main())
        found = counts("async.times")
        assert (found["min_ns"], found["max_ns"]) == (110, 1_100)

    def test_cancelled(self) -> None:
        """A cancelled task's block counts as cancelled."""

        async def job() -> None:
            with measure("async.cancelled"):
                await asyncio.sleep(60)

        async def main() -> None:
            task = asyncio.create_task(job())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        found = counts("async.cancelled")
        assert (found["calls"], found["cancelled"], found["errors"], found["in_flight"]) == (1, 1, 0, 0)

    def test_error(self) -> None:
        """An exception out of `async with` counts and passes."""
        error = ValueError("mine")

        async def main() -> None:
            async with measure("async.error"):
                await asyncio.sleep(0)
                raise error

        with pytest.raises(ValueError) as caught:
            asyncio.run(main())
        assert caught.value is error
        assert counts("async.error")["errors"] == 1

    def test_in_a_generator(self) -> None:
        """A block in a generator that is left unfinished ends when the generator is closed."""

        def f() -> Iterator[int]:
            with measure("async.generator"):
                yield 1

        generator = f()
        next(generator)
        assert counts("async.generator")["in_flight"] == 1
        generator.close()  # type: ignore[attr-defined]
        found = counts("async.generator")
        assert (found["calls"], found["cancelled"], found["in_flight"]) == (1, 1, 0)


class TestRecord:
    def test_metrics(self) -> None:
        """Each number goes to the metric of its name: how many, sum, least, most."""
        with measure("record.metrics") as m:
            m.record(rows=17, hits=0.5)
            m.record(rows=3)
        with measure("record.metrics") as m:
            m.record(rows=-1)
        assert {name: list(metric) for name, metric in sites["record.metrics"].metrics.items()} == {
            "rows": [3, 19.0, -1.0, 17.0],
            "hits": [1, 0.5, 0.5, 0.5],
        }

    def test_numpy(self) -> None:
        """Numbers of numpy are numbers."""
        with measure("record.numpy") as m:
            m.record(rows=np.int64(3), share=np.float32(0.5))
        assert list(sites["record.numpy"].metrics["rows"]) == [1, 3.0, 3.0, 3.0]

    def test_nothing(self) -> None:
        """Without a number there is no metric."""
        with measure("record.nothing") as m:
            m.record()
        assert not sites["record.nothing"].metrics

    def test_has_names(self) -> None:
        """A number without a name belongs to no metric."""
        with pytest.raises(OptionTypeError, match=r"record\(17\).*record\(rows=17\)"):
            measure("record.unnamed").record(17)  # type: ignore[misc]

    @pytest.mark.parametrize(
        "value",
        ["3", None, [1], 1 + 2j, True],
        ids=repr,
    )
    def test_refused(self, value: Any) -> None:
        """What is no number is refused at once, and nothing of that call is kept."""
        with (
            measure("record.refused") as m,
            pytest.raises(OptionTypeError, match=r"record\(x=.*must be a number"),
        ):
            m.record(y=1, x=value)
        assert not sites["record.refused"].metrics
        found = counts("record.refused")
        assert found["errors"] == 0

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400], ids=lambda value: repr(value)[:5])
    def test_not_finite(self, value: Any) -> None:
        """What data can bring along doesn't end the block: that number is left out, and told as a fault."""
        told: list[tuple[str, Any, str]] = []
        core.set_fault(lambda kind, site, error: told.append((kind, site, str(error))))
        try:
            with measure("record.infinite") as m:
                m.record(x=value, y=1)
        finally:
            core.set_fault(None)
        site = sites["record.infinite"]
        assert told == [("record", site, f"record(x={float(str(value))}): must be a finite number")]
        assert list(site.metrics) == ["y"]
        assert counts("record.infinite")["errors"] == 0

    def test_refused_unless_caught(self) -> None:
        """A refusal that the block does not catch ends it as any exception does."""
        with pytest.raises(TypeError), measure("record.uncaught") as m:
            m.record(x="3")
        assert counts("record.uncaught")["errors"] == 1


class TestDecorator:
    def test_function(self) -> None:
        """As a decorator it is `benchmark(name=...)`."""

        @measure("decorator.function", slo="50ms", tags={"a": "b"})
        def f(x: int) -> int:
            """Doc."""
            return x

        assert [f(1), f(2)] == [1, 2]
        assert isinstance(f, core.Probe)
        assert f.__doc__ == "Doc."
        assert f.__name__ == "f"
        assert counts("decorator.function")["calls"] == 2
        assert sites["decorator.function"].info.options == SiteOptions(slo_s=0.05, tags=(("a", "b"),))
        assert sites["decorator.function"].info.location.startswith(__file__)
        assert not isinstance(restore(f), core.Probe)

    def test_every_kind(self, clock: Any) -> None:
        """Coroutine functions, generators, methods and class methods are measured to their ends."""

        class C:
            @measure("decorator.method")
            def method(self) -> int:
                return 1

            @measure("decorator.class")
            @classmethod
            def made(cls) -> str:
                return cls.__name__

            @measure("decorator.coroutine")
            async def later(self) -> int:
                clock(5)
                await asyncio.sleep(0)
                clock(5)
                return 2

            @measure("decorator.generator")
            def items(self) -> Iterator[int]:
                clock(10)
                yield 3

            @measure("decorator.stream")
            async def stream(self) -> AsyncGenerator[int, None]:
                clock(10)
                yield 4

        async def main() -> list[int]:
            return [await C().later(), *[x async for x in C().stream()]]

        assert (C().method(), C.made(), list(C().items()), asyncio.run(main())) == (1, "C", [3], [2, 4])
        for kind in ("method", "class", "coroutine", "generator", "stream"):
            assert counts(f"decorator.{kind}")["calls"] == 1
        for kind in ("coroutine", "generator", "stream"):
            assert counts(f"decorator.{kind}")["total_ns"] == 10

    def test_size(self, ring: Any) -> None:
        """A number as size is every call's."""

        @measure("decorator.size", size=4)
        def f() -> None: ...

        f()
        assert list(ring()["size"]) == [4.0]

    def test_refused(self) -> None:
        """What cannot be measured is refused as by `benchmark`."""
        with pytest.raises(OptionTypeError, match="cannot be measured"):
            measure("decorator.refused")(3)  # type: ignore[type-var]


class TestOptions:
    def test_describe_the_site(self) -> None:
        """Options describe the site; those given later change theirs and leave the others."""
        with measure("options.site", type="i_o", slo=0.5, tags={"a": "b"}, sample=3):
            pass
        full = SiteOptions(BenchmarkType.I_O, 0.5, None, (("a", "b"),), 3.0)
        assert sites["options.site"].info.options == full
        with measure("options.site"):
            pass
        assert sites["options.site"].info.options == full
        for _ in range(2):
            with measure("options.site", slo="1s"):
                pass
        assert sites["options.site"].info.options == full._replace(slo_s=1.0)
        assert counts("options.site")["calls"] == 4

    def test_size_beside_options(self, ring: Any) -> None:
        """A block's size does not make the same options new ones."""
        for size in (1, 2):
            with measure("options.size", size=size, slo=1):
                pass
        assert list(ring()["size"]) == [1.0, 2.0]
        assert sites["options.size"].info.options == SiteOptions(slo_s=1.0)

    def test_shared_with_benchmark(self) -> None:
        """A block and a function of one name are one site."""
        f = benchmark(lambda: 1, name="options.shared", slo=2)
        with measure("options.shared"):
            f()
        assert counts("options.shared")["calls"] == 2
        assert sites["options.shared"].info.options == SiteOptions(slo_s=2.0)

    @pytest.mark.parametrize(
        ("name", "given", "error", "says"),
        [
            (5, {}, OptionTypeError, "name.*5"),
            ([1], {}, OptionTypeError, r"name.*\[1\]"),
            ("", {}, OptionError, "name=''"),
            ("options.wrong", {"slo": -1}, OptionError, "slo=-1"),
            ("options.wrong", {"type": "zz"}, OptionError, "type='zz'"),
            ("options.wrong", {"tags": 3}, OptionTypeError, "tags=3"),
            ("options.wrong", {"sample": "a"}, OptionTypeError, "sample='a'"),
            ("options.wrong", {"size": "docs"}, OptionTypeError, "size='docs'.*number"),
            ("options.wrong", {"slow": 1}, OptionTypeError, "slow.*did you mean 'slo'"),
        ],
    )
    def test_refused(self, name: Any, given: dict[str, Any], error: type[Exception], says: str) -> None:
        """A wrong name or option is refused at once, and makes no site."""
        with pytest.raises(error, match=says):
            measure(name, **given)
        assert "options.wrong" not in sites

    @pytest.mark.parametrize(
        ("given", "says"),
        [((), "needs the name"), (("a", "b"), "but got 2"), (("a", "b", "c"), "but got 3")],
    )
    def test_names(self, given: tuple[str, ...], says: str) -> None:
        """A block has one name."""
        with pytest.raises(OptionTypeError, match=says):
            measure(*given)
        assert repr(measure(name="options.named")) == "measure('options.named')"
