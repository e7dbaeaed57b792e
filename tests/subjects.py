"""Something to measure, and programs in processes of their own with the core that is under test."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any

from hotlap import core

FOLLOW_ALL = core.FOLLOW_COROUTINE | core.FOLLOW_GENERATOR | core.FOLLOW_ASYNC_GENERATOR


def site(name: str = "subject") -> core.Site:
    return core.Site(1, name)


def plain(x: Any = 0) -> Any:
    return x


def generate(n: int = 1) -> Any:
    yield from range(n)


async def answer(x: int = 0) -> int:
    return x


async def stream(n: int = 1) -> Any:
    for index in range(n):
        yield index


def drive(coroutine: Any) -> Any:
    try:
        while True:
            coroutine.send(None)
    except StopIteration as stop:
        return stop.value


def run(program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, since it may take that down."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HOTLAP_CORE": core.NAME},
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done
