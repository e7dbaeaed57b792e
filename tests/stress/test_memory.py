"""Running out of memory at every single allocation, and running for long without growing."""

from __future__ import annotations

import ast
import contextlib
import gc
import os
import subprocess
import sys
import textwrap
from typing import Any

import psutil
import pytest

from hotlap import core

FOLLOW_ALL = core.FOLLOW_COROUTINE | core.FOLLOW_GENERATOR | core.FOLLOW_ASYNC_GENERATOR

NO_MEMORY = """
    import _testcapi, functools, sys, copy
    from hotlap import core, errors

    FOLLOW_ALL = 7
    sites = {}
    core.set_sites(sites, lambda name, options: sites.setdefault(name, core.Site(2, name)))
    core.set_decorate(lambda name, options, function: core.FunctionProbe(function, sites["block"]))
    core.set_trace(lambda: (1, 2, 3))
    ring = core.Ring(64)
    core.set_ring(ring)
    core.measure("block")

    def plain(*args, **kwargs): return args
    def generate():
        yield 1
    async def answer(): return (1, 2)
    async def stream():
        yield 1
    def fail(): raise KeyError(1)
    def size(*args, **kwargs): return 1.5  # made here: the interpreter crashes when it cannot make a function

    class Owner: pass

    def drive(coroutine):
        try:
            while True: coroutine.send(None)
        except StopIteration as stop:
            return stop.value

    def scenario():
        site = core.Site(1, "a")
        site.tail_ns = 0
        site.size_of = size
        probe = core.FunctionProbe(plain, site, FOLLOW_ALL)
        probe(1, key=2)
        Owner.method = probe
        Owner().method(1)
        bound = Owner().method
        list(core.FunctionProbe(generate, site, FOLLOW_ALL)())
        drive(core.FunctionProbe(answer, site, FOLLOW_ALL)())
        items = core.FunctionProbe(stream, site, FOLLOW_ALL)()
        drive(items.asend(None))
        drive(items.aclose())
        try:
            core.FunctionProbe(fail, site)()
        except KeyError:
            pass
        with core.measure("block", size=2, slo=3) as block, block:
            block.record(rows=1, more=2)
        core.measure("block", size=1)(plain)
        copy.copy(core.Probe(functools.partial(plain), site))
        probe.__reduce__(), site.read(), site.histogram(), repr(site), core.clock()
        ring.drain(), core.Ring(8)
        core.collect([site], counters, histograms)
        core.sampling_cost()
        return True

    counters, histograms = bytearray(8 * len(core.COUNTERS)), bytearray(8 * core.BUCKETS)
    scenario()
    import warnings
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda about: None
    ends = set()
    start = int(sys.argv[1])
    for first in range(start, start + int(sys.argv[2])):
        for length in (1, 3):  # more in a row, and the interpreter itself loops over its own failures
            done = False
            try:
                _testcapi.set_nomemory(first, first + length)
                done = scenario()
                _testcapi.remove_mem_hooks()
            except MemoryError:
                _testcapi.remove_mem_hooks()
                ends.add("memory")
            except SystemError as error:
                _testcapi.remove_mem_hooks()
                # "returned NULL without setting an exception": as plain functions do when raising fails.
                ends.add("system" if "NULL without" in str(error) else str(error))
            except BaseException as error:
                _testcapi.remove_mem_hooks()
                ends.add(type(error).__name__ + ": " + str(error)[:80])
            if done:
                ends.add("done")
    print(sorted(ends))
"""


@pytest.mark.skipif(core.NAME != "native", reason="the Python core leaves this to the interpreter")
@pytest.mark.parametrize("start", range(0, 300, 100))
def test_no_memory(start: int) -> None:
    """Whichever allocation fails, the call ends in MemoryError or as if nothing had happened: no crash."""
    pytest.importorskip("_testcapi")
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(NO_MEMORY), str(start), "100"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HOTLAP_CORE": "native"},
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert set(ast.literal_eval(done.stdout)) <= {"done", "memory", "system"}


def test_no_growth() -> None:
    """Half a million calls of each kind leave the process as large as it was."""
    site = core.Site(1, "long")
    core.set_ring(core.Ring(1024))
    site.tail_ns = 0

    async def answer() -> int:
        return 1

    async def stream() -> Any:
        yield 1

    def generate() -> Any:
        yield 1

    def fail() -> None:
        raise KeyError

    plain = core.FunctionProbe(lambda x: x, site)
    items = core.FunctionProbe(generate, site, FOLLOW_ALL)
    answering = core.FunctionProbe(answer, site)
    streaming = core.FunctionProbe(stream, site, FOLLOW_ALL)
    failing = core.FunctionProbe(fail, site)
    own = {"block": core.Site(2, "block")}
    core.set_sites(own, lambda name, options: own[name])

    def some(number: int) -> None:
        for _ in range(number):
            plain(1)
            next(items())
            for coroutine in (answering(), streaming().asend(None)):
                with contextlib.suppress(StopIteration):
                    coroutine.send(None)
            with contextlib.suppress(KeyError):
                failing()
            with core.measure("block", size=1) as block, block:
                block.record(rows=1)

    process = psutil.Process()
    some(20_000)
    gc.collect()
    before = process.memory_info().rss
    some(100_000 if core.NAME == "native" else 20_000)
    gc.collect()
    assert process.memory_info().rss - before < 2_000_000
