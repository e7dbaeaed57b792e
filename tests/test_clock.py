"""The clock: on the monotonic scale, never backwards, and replaceable."""

from __future__ import annotations

import time

import pytest

from conftest import FakeClock, counts
from hotlap import core


def test_scale() -> None:
    """now_ns() lies on the scale of time.monotonic_ns()."""
    before = time.monotonic_ns()
    now = core.now_ns()
    after = time.monotonic_ns()
    assert before - 100_000 <= now <= after + 100_000


def test_never_backwards() -> None:
    """Successive readings never fall."""
    readings = [core.now_ns() for _ in range(10_000)]
    assert readings == sorted(readings)


def test_calibration() -> None:
    """The error against the monotonic clock is measured, and shown."""
    error = core.calibrate()
    shown = core.clock()
    assert isinstance(error, int)
    assert abs(error) < 10_000_000
    assert shown["kind"] in {"tsc", "monotonic"}
    assert shown["reason"]
    assert shown["frequency_hz"] > 0
    assert {"error_ns", "max_error_ns"} <= shown.keys()


def test_fake(fake: FakeClock) -> None:
    """With set_clock() time is what the test says, and the clock says so; None brings the real one back."""
    fake.now = 42_000
    assert core.now_ns() == 42_000
    assert core.clock()["kind"] == "fake"
    core.set_clock(None)
    assert core.clock()["kind"] != "fake"
    assert abs(core.now_ns() - time.monotonic_ns()) < 1_000_000_000


def test_fake_in_calls_made_before(fake: FakeClock) -> None:
    """A probe that was made before the clock was set is timed by it."""
    core.set_clock(None)
    site = core.Site(1, "f")
    probe = core.FunctionProbe(lambda ns: fake.advance(ns), site)
    core.set_clock(fake)
    probe(77)
    assert counts(site)["total_ns"] == 77


def test_real_time() -> None:
    """Against real time: a call that sleeps takes at least that long, and a bare one next to nothing."""
    site = core.Site(1, "f")
    core.FunctionProbe(lambda: time.sleep(0.01), site)()
    assert 9_000_000 <= counts(site)["total_ns"] < 5_000_000_000
    quick = core.Site(2, "g")
    probe = core.FunctionProbe(lambda: None, quick)
    for _ in range(1000):
        probe()
    assert 0 <= counts(quick)["min_ns"] < 1_000_000


@pytest.mark.parametrize("ns", [0, 1, 10**6, 360_000 * 10**9])
def test_durations(fake: FakeClock, ns: int) -> None:
    """From zero to 100 hours."""
    site = core.Site(1, "f")
    core.FunctionProbe(lambda: fake.advance(ns), site)()
    read = counts(site)
    assert (read["total_ns"], read["min_ns"], read["max_ns"]) == (ns, ns, ns)
    assert site.histogram()[core.bucket_index(ns)] == 1
