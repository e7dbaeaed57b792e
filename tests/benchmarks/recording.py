"""A recorder that runs as it does by default, and the states a variant is timed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import hotlap
from hotlap import core

COUNT, TIME = 1, 2


@contextmanager
def running() -> Iterator[None]:
    """A recorder with default sampling, and with nobody who listens."""
    hotlap.start(sinks=[])
    try:
        yield
    finally:
        hotlap.stop()


def timed(probe: Any) -> Callable[[], AbstractContextManager[None]]:
    """Fully timed, whatever the governor thinks of a function that does nothing."""
    return _in_mode(probe, TIME)


def counting(probe: Any) -> Callable[[], AbstractContextManager[None]]:
    """On counting alone, as the governor leaves a site whose recording costs more than its share."""
    return _in_mode(probe, COUNT)


@contextmanager
def switched_off() -> Iterator[None]:
    hotlap.disable()
    try:
        yield
    finally:
        hotlap.enable()


def describe() -> str:
    """Which core and clock are under test, in one line."""
    clock = core.clock()
    return f"{core.NAME} core ({core.REASON}), clock {clock['kind']} ({clock['reason']})"


def _in_mode(probe: Any, mode: int) -> Callable[[], AbstractContextManager[None]]:
    site: Any = probe._self_site

    @contextmanager
    def in_mode() -> Iterator[None]:
        before, site.mode = site.mode, mode
        try:
            yield
        finally:
            site.mode = before

    return in_mode
