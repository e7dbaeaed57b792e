"""Recursion without end is a RecursionError, whatever the limit and the stack, and never a crash; over both cores."""

from __future__ import annotations

import textwrap
import threading

import pytest

from hotlap import core
from hotlap.probe import benchmark
from subjects import run

FORMS = {
    "function": """
        @benchmark
        def f(n):
            return f(n + 1)
    """,
    "method": """
        class C:
            @benchmark
            def f(self, n):
                return self.f(n + 1)

        f = C().f
    """,
    "property": """
        class C:
            @property
            @benchmark
            def f(self):
                return self.f

        f = lambda n: C().f
    """,
    "instance": """
        class C:
            @benchmark
            def __call__(self, n):
                return self(n + 1)

        f = benchmark(C())
    """,
    "partial": """
        @benchmark
        def g(n):
            return f(n + 1)

        f = benchmark(functools.partial(g))
    """,
    "generator": """
        @benchmark
        def g(n):
            yield from g(n + 1)

        f = lambda n: list(g(n))
    """,
    "coroutine": """
        @benchmark
        async def g(n):
            return await g(n + 1)

        f = lambda n: g(n).send(None)
    """,
    "async-generator": """
        @benchmark
        async def g(n):
            async for item in g(n + 1):
                yield item

        f = lambda n: g(n).__anext__().send(None)
    """,
    "block": """
        @benchmark
        def f(n):
            with hotlap.measure("block"):
                return f(n + 1)
    """,
    "others between": """
        @benchmark
        def f(n):
            return list(map(f, (n + 1,)))
    """,
    "in turn": """
        def one_of(index):
            @benchmark(name=f"f{index}")
            def f(n):
                return turns[(n + 1) % len(turns)](n + 1)

            return f

        turns = [one_of(index) for index in range(20)]
        f = turns[0]
    """,
}

PROGRAM = """
import functools, sys, threading, warnings
import hotlap
from hotlap import core
from hotlap.probe import benchmark, sites

warnings.simplefilter("ignore")  # of coroutines that are never awaited
{form}

def attempt():
    for _ in range(2):
        try:
            f(0)
        except RecursionError:
            ended.append(1)

ended = []
attempt()
sys.setrecursionlimit(200_000)
attempt()
for kilobytes in (256, 1024):
    threading.stack_size(kilobytes << 10)
    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
assert len(ended) == 8, ended
if {calls}:  # plain Python's own generators take the stack down, where the limit is beyond it
    hotlap.disable()
    attempt()
    assert len(ended) == 10, ended
for site in sites.values():
    read = dict(zip(core.COUNTERS, site.read()))
    assert read["calls"] > 0, (site, read)
    assert read["in_flight"] == 0, (site, read)
"""


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_without_end(form: str) -> None:
    """At the usual limit and a raised one, on the main stack and small ones, measured and switched off."""
    calls = "yield" not in form and "await" not in form
    run(PROGRAM.replace("{form}", textwrap.dedent(form)).replace("{calls}", str(calls)))


def test_counts_are_in_order() -> None:
    """Nothing stays in flight, with all kinds of calls on one site."""
    run(
        """
        import sys, threading
        from hotlap import core
        core.set_ring(core.Ring(64))
        sites = {}
        core.set_sites(sites, lambda name, options: sites.setdefault(name, core.Site(len(sites), name)))
        site = core.Site(1, "a")
        sys.setrecursionlimit(10**6)

        call = core.FunctionProbe(lambda: call(), site)

        class Owner:
            method = core.FunctionProbe(lambda self: self.method(), site)

        def gen():
            yield from gen()

        gen = core.FunctionProbe(gen, site, 7)

        async def co():
            await co()

        co = core.FunctionProbe(co, site)

        def block():
            with core.measure("block"):
                wrapped()

        wrapped = core.FunctionProbe(block, site)

        def attempts():
            for attempt in (call, Owner().method, lambda: next(gen()), lambda: co().send(None), wrapped):
                try:
                    attempt()
                except RecursionError:
                    done.append(1)

        done = []
        import warnings
        warnings.simplefilter("ignore")
        attempts()
        for size in (64, 128, 256, 1024):
            threading.stack_size(size * 1024)
            thread = threading.Thread(target=attempts)
            thread.start()
            thread.join()
        read = dict(zip(core.COUNTERS, site.read()))
        assert len(done) == 25, done
        assert read["in_flight"] == 0, read
        """
    )


def test_ordinary_depth() -> None:
    """An ordinary recursion fits into the usual limit, and each level counts."""

    @benchmark
    def depth(n: int) -> int:
        return n if n == 0 else 1 + depth(n - 1)

    assert depth(150) == 150
    assert depth._self_site.read()[0] == 151  # type: ignore[attr-defined]


def test_stack_size_is_the_program_s() -> None:
    """Measuring in a thread leaves the size that the next thread is to have as it is."""
    probe = core.FunctionProbe(lambda: None, core.Site(1, "thread"))
    before = threading.stack_size(512 << 10)
    try:
        thread = threading.Thread(target=probe)
        thread.start()
        thread.join()
    finally:
        left = threading.stack_size(before)
    assert left == 512 << 10
