"""What several test modules share. HOTLAP_CORE decides which core is under test: the suite runs once over
each.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hotlap import core, probe, sites


def pytest_collection_finish() -> None:
    """The lab collects garbage some hundred times a run: what pytest and its plugins hold need not be gone through
    each time.
    """
    gc.collect()
    gc.freeze()


class FakeClock:
    """A clock that stands still until it is told: `core.set_clock(clock)`."""

    def __init__(self, now: int = 1_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, ns: int) -> None:
        self.now += ns


@pytest.fixture(autouse=True)
def core_state() -> Iterator[None]:
    """Each test leaves the core as it found it after import: real clock, nobody listening, the registry's
    hooks.
    """
    yield
    core.set_clock(None)
    core.set_ring(None)
    core.set_trace(None)
    core.set_fault(None)
    core.set_sites(sites.sites, sites._missing)
    core.set_decorate(probe._decorate)
    core.enable(True)


@pytest.fixture
def fake() -> FakeClock:
    """The core's clock, in the test's hand."""
    clock = FakeClock()
    core.set_clock(clock)
    return clock


@pytest.fixture
def ring() -> core.Ring:
    """A ring that the core writes to."""
    ring = core.Ring(65536)
    core.set_ring(ring)
    return ring


@pytest.fixture
def records(ring: core.Ring) -> Callable[[], Any]:
    """Drains the ring: a numpy array of records."""
    import numpy

    return lambda: numpy.frombuffer(ring.drain(), core.record_dtype())


@pytest.fixture
def registry() -> dict[str, core.Site]:
    """An own registry behind `Measurement(name)`, with a site for each new name."""
    own: dict[str, core.Site] = {}

    def missing(name: str, options: Any) -> core.Site:
        return own.setdefault(name, core.Site(1000 + len(own), name))

    core.set_sites(own, missing)
    return own


def counts(site: core.Site) -> dict[str, int]:
    """The counters by name."""
    return dict(zip(core.COUNTERS, site.read(), strict=True))
