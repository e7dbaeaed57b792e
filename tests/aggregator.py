"""What the tests of the running aggregator share: none runs before or after a test, and waiting for one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hotlap
from hotlap import monitor

FOREVER = 3600  # an interval: no cycle but those that are asked for
SOON_S = 10.0  # long enough for a busy machine


@contextmanager
def alone() -> Iterator[None]:
    """No aggregator runs before or after the block, and nothing is configured."""
    _forget()
    try:
        yield
    finally:
        _forget()


def _forget() -> None:
    hotlap.stop()
    monitor._options.clear()
    monitor._monitor = None


def current() -> monitor.Monitor:
    assert monitor._monitor is not None
    return monitor._monitor


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hotlap"]


def until(condition: Callable[[], object]) -> None:
    """Wait for another thread."""
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
