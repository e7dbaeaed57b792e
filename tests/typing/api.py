"""What a type checker must see through `benchmark` and `measure`. Checked, never run: see test_typing.py."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from typing import ParamSpec, TypeVar, overload

from typing_extensions import assert_type

from hotlap.options import BenchmarkType
from hotlap.probe import benchmark, disable, enable, measure, restore, sites

P = ParamSpec("P")
R = TypeVar("R")


@benchmark
def bare(a: int, /, b: str = "", *rest: float, key: bytes, **more: bool) -> list[str]:
    return [b]


@benchmark(name="typing.called", type=BenchmarkType.CPU, slo="50ms", size="a", tags={"a": "b"}, sample=5.0)
def called(a: int) -> int:
    return a


assert_type(bare(1, "b", 2.0, key=b"", x=True), list[str])
assert_type(called(1), int)
bare("1", key=b"")  # type: ignore[arg-type]
bare(1)  # type: ignore[call-arg]
called(b=1)  # type: ignore[call-arg]
assert_type(benchmark(len)([1]), int)

# What is declared of a lambda, a partial or an object that can be called holds when it is measured.
thunk: Callable[[], int] = benchmark(name="typing.thunk")(lambda: len("ab"))
square: Callable[[float], float] = benchmark(lambda x: x * x)
assert_type(thunk(), int)
assert_type(square(2.0), float)
assert_type(benchmark(name="typing.partial")(functools.partial(called, 1)), "functools.partial[int]")
assert_type(benchmark(functools.lru_cache(called)).cache_info().hits, int)


class Callee:
    def __call__(self, a: int) -> str:
        return str(a)


assert_type(benchmark(name="typing.callee")(Callee()), Callee)


def argument_names(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    return function(*args, **kwargs)


assert_type(argument_names(called, a=1), int)


@benchmark
async def later(a: int) -> str:
    return str(a)


@benchmark(type="network")
def items(n: int) -> Generator[int, str, bool]:
    yield n
    return True


@benchmark
async def stream(n: int) -> AsyncGenerator[int, None]:
    yield n


assert_type(items(1), Generator[int, str, bool])
assert_type(stream(1), AsyncGenerator[int, None])


@overload
def several(a: int) -> int: ...
@overload
def several(a: str) -> str: ...
@benchmark
def several(a: int | str) -> int | str:
    return a


assert_type(several(1), int)
assert_type(several("a"), str)


class Methods:
    def __init__(self, x: int) -> None:
        self.x = x

    @benchmark
    def method(self, a: int) -> str:
        return str(a)

    @benchmark(slo=0.1)
    @classmethod
    def outside(cls, a: int) -> Methods:
        return cls(a)

    @classmethod
    @benchmark
    def inside(cls, a: int) -> Methods:
        return cls(a)

    @benchmark
    @staticmethod
    def static_outside(a: int) -> int:
        return a

    @staticmethod
    @benchmark
    def static_inside(a: int) -> int:
        return a

    # mypy takes a property for one only when nothing stands above it, so the probe goes below.
    @property
    @benchmark
    def value(self) -> int:
        return self.x

    @functools.cached_property
    @benchmark
    def cached(self) -> float:
        return 1.0

    @benchmark
    async def later(self, a: int) -> bool:
        return bool(a)


methods = Methods(1)
assert_type(methods.method(1), str)
assert_type(Methods.method(methods, 1), str)
assert_type(Methods.outside(1), Methods)
assert_type(Methods.inside(1), Methods)
assert_type(methods.static_outside(1), int)
assert_type(methods.static_inside(1), int)
assert_type(methods.value, int)
assert_type(methods.cached, float)
methods.method("1")  # type: ignore[arg-type]


@benchmark
class Whole:
    def f(self) -> int:
        return 1


@benchmark(private=True)
class Private:
    def __init__(self, x: int) -> None: ...


assert_type(Whole(), Whole)
assert_type(Whole().f(), int)
assert_type(Private(1), Private)
Private("x")  # type: ignore[arg-type]

benchmark("search.rank")  # type: ignore[call-overload]
benchmark(3)  # type: ignore[call-overload]
benchmark(slow=1)  # type: ignore[call-overload]
benchmark(slo=[1])  # type: ignore[call-overload]
benchmark(tags={"a": 1})  # type: ignore[dict-item]

quick = benchmark(slo=0.1)
assert_type(quick(called)(1), int)


def blocks() -> None:
    with measure("rerank", size=3, slo="1s", type="cpu", tags={"a": "b"}, sample=1) as m:
        m.record(rows=17, share=0.5)

    @measure("decorated")
    def f(a: int) -> str:
        return str(a)

    assert_type(f(1), str)
    restore(called)
    disable()
    enable()
    assert_type(sites["rerank"].name, str)


async def async_blocks() -> None:
    async with measure("rerank") as m:
        m.record(rows=17)
    assert_type(await later(1), str)
    assert_type(await methods.later(1), bool)
    assert_type([n async for n in stream(1)], list[int])
