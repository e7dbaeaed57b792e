"""The clock: on the monotonic scale, never backwards, and replaceable."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import FakeClock, counts
from hotlap import core
from probes import Records, make


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


def test_kind_is_the_kernels() -> None:
    """The counter where the kernel's own clock source is tsc, the monotonic clock anywhere else."""
    source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    trusted = platform.machine() == "x86_64" and source.exists() and source.read_text() == "tsc\n"
    assert core.clock()["kind"] == ("tsc" if trusted and core.NAME == "native" else "monotonic")


def test_each_look_bends_the_rate() -> None:
    """What has gathered is worked off: the rate doesn't stay as it is."""
    core.FunctionProbe(lambda: None, core.Site(1, "f"))()
    rates = []
    for _ in range(5):
        time.sleep(0.02)
        error = core.calibrate()
        clock = core.clock()
        assert clock["error_ns"] == error
        assert abs(error) <= clock["max_error_ns"]
        rates.append(clock["frequency_hz"])
    if clock["kind"] == "tsc":
        assert len(set(rates)) > 1


def test_clock_that_falls(records: Records, registry: Any) -> None:
    readings = iter(range(1000, 0, -10))
    core.set_clock(lambda: next(readings, 0))
    probe, site = make(lambda: None, p=1.0)
    probe()
    with core.measure("block"):
        pass
    assert (counts(site)["total_ns"], counts(registry["block"])["total_ns"]) == (0, 0)
