"""What comes out of a measured callable: results and exceptions, unchanged."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hotlap import core
from hotlap.probe import benchmark, measure

native_only = pytest.mark.skipif(core.NAME != "native", reason="what only the native core can do")


class TestErrors:
    @pytest.mark.parametrize(
        "kind",
        [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, asyncio.CancelledError],
    )
    def test_pass_unchanged(self, kind: type[BaseException]) -> None:
        """Every exception, BaseExceptions too, is the very object, with cause and context as they were."""
        error, cause, context = kind("mine"), LookupError("cause"), OSError("context")

        @benchmark
        def explicit() -> None:
            raise error from cause

        @benchmark
        def implicit() -> None:
            try:
                raise context
            except OSError:
                raise error  # noqa: B904 - the implicit context is what is tested

        for f in (explicit, implicit):
            error.__cause__ = error.__context__ = error.__traceback__ = None
            with pytest.raises(kind) as caught:
                f()
            assert caught.value is error
            assert caught.value.__cause__ is (cause if f is explicit else None)
            assert caught.value.__context__ is (None if f is explicit else context)

    def test_context_of_the_caller(self) -> None:
        """A call inside an except block sees that exception, and leaves it handled after."""

        @benchmark
        def seen() -> BaseException | None:
            return sys.exc_info()[1]

        @benchmark
        def fails() -> None:
            raise KeyError

        outer = ValueError("outer")
        found: list[Any] = []
        try:
            raise outer
        except ValueError:
            found.append(seen())
            with pytest.raises(KeyError) as caught:
                fails()
            found.append(sys.exc_info()[1])
        assert found == [outer, outer]
        assert caught.value.__context__ is outer
        assert sys.exc_info()[1] is None

    @native_only
    def test_no_frame_of_ours(self) -> None:
        """A traceback shows the user's frames and no other."""

        @benchmark
        def fails() -> None:
            raise ValueError

        @benchmark
        async def fails_later() -> None:
            await asyncio.sleep(0)
            raise ValueError

        @benchmark
        def fails_inside() -> Iterator[int]:
            yield 1
            raise ValueError

        async def main() -> None:
            await fails_later()

        def frames(run: Callable[[], Any]) -> list[str]:
            with pytest.raises(ValueError) as caught:
                run()
            names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
            return names[names.index("frames") + 1 :]

        assert frames(lambda: fails()) == ["<lambda>", "fails"]
        assert frames(lambda: list(fails_inside())) == ["<lambda>", "fails_inside"]
        assert [name for name in frames(lambda: asyncio.run(main())) if "fail" in name] == ["fails_later"]
        with pytest.raises(ValueError) as caught:
            asyncio.run(main())
        files = {frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)}
        assert not [file for file in files if os.sep + "hotlap" + os.sep in file]

    def test_wrong_arguments(self) -> None:
        """A call with wrong arguments gives the same TypeError."""

        def f(a: int) -> None: ...

        with pytest.raises(TypeError) as expected:
            f()  # type: ignore[call-arg]
        with pytest.raises(TypeError) as found:
            benchmark(f)()  # type: ignore[call-arg]
        assert str(found.value) == str(expected.value)

    def test_results(self) -> None:
        """Every object is returned as it is."""
        for obj in (None, NotImplemented, Ellipsis, (), [], object(), float("nan"), ValueError(), int):
            assert benchmark(lambda obj=obj: obj)() is obj


@native_only
def test_no_frame_of_ours_in_any_form() -> None:
    """Methods of each kind, properties, instances, async generators, blocks, sampled and with a size."""

    class Fails:
        @benchmark(size="n", sample=1e6)
        def method(self, n: int = 1) -> None:
            raise ValueError

        @benchmark
        @classmethod
        def made(cls) -> None:
            raise ValueError

        @benchmark
        @property
        def value(self) -> None:
            raise ValueError

        @benchmark
        def __call__(self) -> None:
            raise ValueError

        @benchmark
        async def stream(self) -> Any:
            yield 1
            raise ValueError

    async def consume() -> None:
        async with measure("outcomes.block"):
            async for _ in fails.stream():
                pass

    fails = Fails()
    core.set_ring(core.Ring(64))
    for run in (
        fails.method,
        Fails.made,
        lambda: fails.value,
        benchmark(fails, name="outcomes.instance"),
        benchmark(functools.partial(fails.method, 2), name="outcomes.partial"),
        lambda: asyncio.run(consume()),
    ):
        with pytest.raises(ValueError) as caught:
            run()
        files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert not [file for file in files if os.sep + "hotlap" + os.sep in file or "wrapt" in file]
