"""Functions for the lab at the top of a module, where a fresh process finds them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path


def work(n: int = 200) -> int:
    return sum(i * i for i in range(n))


def more_work(n: int = 200) -> int:
    return work(30 * n)


async def work_async(n: int = 200) -> int:
    await asyncio.sleep(0)
    return work(n)


def note_process(path: str) -> None:
    """Leaves the number of the process that it runs in."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")


def fail() -> None:
    raise LookupError("not here")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_long() -> None:
    time.sleep(600)
