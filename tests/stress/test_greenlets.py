"""Greenlets that switch in the middle of measured calls: counters stay exact, no scope outlives its call."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

from conftest import counts
from hotlap import core

greenlet = pytest.importorskip("greenlet")

FOLLOW_ALL = core.FOLLOW_COROUTINE | core.FOLLOW_GENERATOR | core.FOLLOW_ASYNC_GENERATOR


@pytest.mark.parametrize("seed", range(60))
def test_random_switches(seed: int) -> None:
    """Calls, generators and blocks in greenlets that take turns at random."""
    chance = random.Random(seed)
    ring = core.Ring(65536)
    core.set_ring(ring)
    own = {name: core.Site(number, name) for number, name in enumerate(("call", "items", "block", "leaf"))}
    for site in own.values():
        site.sample(1.0, 10**9, first=0)
    core.set_sites(own, lambda name, options: own[name])
    waiting: list[Any] = []
    expected = dict.fromkeys(own, 0)

    def switch() -> None:
        waiting.append(greenlet.getcurrent())
        main.switch()

    def call(depth: int) -> None:
        for _ in range(chance.randrange(3)):
            body(depth + 1)
        if chance.random() < 0.5:
            switch()

    def generate(depth: int) -> Any:
        for number in range(2):
            if chance.random() < 0.5:
                switch()
            yield number

    measured = core.FunctionProbe(call, own["call"])
    items = core.FunctionProbe(generate, own["items"], FOLLOW_ALL)
    leaf = core.FunctionProbe(lambda: None, own["leaf"])

    def body(depth: int = 0) -> None:
        if depth > 4:
            return
        kind = chance.choice(["call", "items", "block"])
        expected[kind] += 1
        if kind == "call":
            measured(depth)
        elif kind == "items":
            list(items(depth))
        else:
            with core.measure("block"):
                body(depth + 1)
                if chance.random() < 0.5:
                    switch()
                expected["leaf"] += 1
                leaf()

    main = greenlet.getcurrent()
    waiting += [greenlet.greenlet(body) for _ in range(60)]
    while waiting:
        waiting.pop(chance.randrange(len(waiting))).switch()
    expected["leaf"] += 1
    ring.drain()
    leaf()
    assert np.frombuffer(ring.drain(), core.record_dtype())["parent"].tolist() == [core.NO_PARENT]
    for name, site in own.items():
        read = counts(site)
        assert (read["calls"], read["in_flight"]) == (expected[name], 0)
        assert sum(site.histogram()) == expected[name]


def test_killed() -> None:
    """A greenlet that is let go in the middle of a call ends it with GreenletExit."""
    site = core.Site(1, "killed")
    probe = core.FunctionProbe(lambda: greenlet.getcurrent().parent.switch(), site)
    for _ in range(100):
        one = greenlet.greenlet(probe)
        one.switch()
        del one
    read = counts(site)
    assert (read["calls"], read["in_flight"]) == (100, 0)


def test_gevent() -> None:
    """A server's worth of gevent greenlets, with everything patched."""
    pytest.importorskip("gevent")
    program = """
        import gevent.monkey
        gevent.monkey.patch_all()
        import gevent, random, time, threading
        import gevent.pool
        from hotlap import core

        site = core.Site(1, "handler")
        own = {"block": core.Site(2, "block")}
        core.set_sites(own, lambda name, options: own[name])
        core.set_ring(core.Ring(256))

        def handler(number):
            with core.measure("block"):
                time.sleep(random.random() / 500)
            inner(number)

        inner = core.FunctionProbe(lambda number: time.sleep(random.random() / 500), site)
        handler = core.FunctionProbe(handler, site)
        pool = gevent.pool.Pool(50)
        pool.map(handler, range(3000))
        threads = [threading.Thread(target=handler, args=(1,)) for _ in range(20)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        try:
            with gevent.Timeout(0.001):
                core.FunctionProbe(lambda: time.sleep(1), site)()
        except gevent.Timeout:
            pass
        read = dict(zip(core.COUNTERS, site.read()))
        assert (read["calls"], read["in_flight"], read["errors"]) == (6041, 0, 1), read
        assert dict(zip(core.COUNTERS, own["block"].read()))["calls"] == 3020
    """
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
