"""What is benchmarked: any callable with its arguments, as a loop of calls."""

from __future__ import annotations

import asyncio
import functools
from itertools import repeat
from typing import Any

import pytest

import hotlap
from hotlap import core
from hotlap.lab.runs.subject import Subject, empty_loop


def seen(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


class Caller:
    def __call__(self, x: int) -> int:
        return x + 1

    def method(self, x: int) -> int:
        return x + 2


class AsyncCaller:
    async def __call__(self, x: int) -> int:
        return x + 3


async def later(x: int) -> int:
    await asyncio.sleep(0)
    return x + 4


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, 2), {}), ((), {"a": 1}), ((1, [2]), {"b": None}), ((), {"not an identifier": 1, "self": 2})],
)
def test_the_loop_passes_the_arguments_on(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Positional and keyword arguments arrive as they were given, whatever their names."""
    assert Subject(seen, args, kwargs).loop()(repeat(None, 3)) == (args, kwargs)


def test_the_loop_makes_as_many_calls_as_the_iterator_has_steps() -> None:
    calls: list[int] = []
    Subject(calls.append, (7,)).loop()(repeat(None, 5))
    assert calls == [7] * 5


def test_other_arguments_may_be_given_to_a_loop() -> None:
    assert Subject(seen, (1,)).loop(((2,), {"c": 3}))(repeat(None, 1)) == ((2,), {"c": 3})


@pytest.mark.parametrize(
    ("func", "name", "result"),
    [
        (Caller(), "Caller", 2),
        (Caller().method, "method", 3),
        (functools.partial(Caller().method), "method", 3),
        (lambda x: x, "<lambda>", 1),
        (abs, "abs", 1),
    ],
)
def test_any_callable_is_a_subject(func: Any, name: str, result: int) -> None:
    subject = Subject(func, (1,))
    assert (subject.name, subject.loop()(repeat(None, 2)), subject.asynchronous) == (name, result, False)


@pytest.mark.parametrize(("func", "result"), [(later, 5), (functools.partial(later), 5), (AsyncCaller(), 4)])
def test_async_callables_are_awaited(func: Any, result: int) -> None:
    subject = Subject(func, (1,))
    assert subject.asynchronous
    assert asyncio.run(subject.loop()(repeat(None, 2))) == result


def test_a_probed_function_is_measured_without_its_probe() -> None:
    """A lab run is no traffic: the site of the live recorder does not count it."""

    @hotlap.benchmark(name="lab.subject.probed")
    def probed(x: int) -> int:
        return x

    class Owner:
        @hotlap.benchmark(name="lab.subject.method")
        def method(self, x: int) -> int:
            return x + 1

    assert Subject(probed, (1,)).loop()(repeat(None, 4)) == 1
    assert Subject(Owner().method, (1,)).loop()(repeat(None, 4)) == 2
    snapshot = hotlap.snapshot()
    assert snapshot["lab.subject.probed"].calls == 0
    assert snapshot["lab.subject.method"].calls == 0
    assert isinstance(probed, core.Probe)


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match=r"func=7 is not callable: give the function itself"):
        Subject(7)  # type: ignore[arg-type]


def test_the_empty_loop_takes_its_steps() -> None:
    calls = repeat(None, 3)
    empty_loop()(calls)
    assert next(calls, "no more") == "no more"
    asyncio.run(empty_loop(asynchronous=True)(repeat(None, 2)))
