"""For the tests of programs that use hotlap: a clock that moves when it is told to, and reports of a block.

with fake_clock() as clock, capture() as captured:
    search("needle")            # somewhere in it: clock.advance(0.25)
assert captured["search"].stats.max_s == pytest.approx(0.25)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import config as configuration
from . import core, monitor
from . import sites as registry
from .errors import HotlapError, OptionError, OptionTypeError
from .model import Report

__all__ = ["Capture", "FakeClock", "NotCapturedError", "capture", "fake_clock"]

_NEVER = 2**64 - 1
_EVERY_CALL = 2**31 - 1  # more samples than a ring holds
_NEW_SITE = 200  # samples of a window, until a recorder says otherwise


class NotCapturedError(HotlapError, LookupError):
    """The captured block had no call of that site."""


class FakeClock:
    """A clock that moves when it is told to, and only forward."""

    def __init__(self, start_s: float = 1_000.0) -> None:
        self.now_ns = _nanoseconds("start_s", start_s)

    def __repr__(self) -> str:
        return f"<FakeClock at {self.now_ns / 1e9} s>"

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass. Raises OptionError for a negative or infinite time."""
        self.now_ns += _nanoseconds("seconds", seconds)

    def read(self) -> int:
        """Nanoseconds, as the core's clock gives them."""
        return self.now_ns


_clocks: list[FakeClock] = []


@contextmanager
def fake_clock(start_s: float = 1_000.0) -> Iterator[FakeClock]:
    """Replace the clock that calls are timed with, in the whole process; on exit the one before is back.

    CPU time and everything else that the kernel counts stays real.
    """
    clock = FakeClock(start_s)
    _clocks.append(clock)
    core.set_clock(clock.read)
    try:
        yield clock
    finally:
        _clocks.remove(clock)
        core.set_clock(_clocks[-1].read if _clocks else None)


class Capture:
    """What `capture` gives: `reports`, complete once the block has ended."""

    def __init__(self) -> None:
        self.reports: tuple[Report, ...] = ()

    def __repr__(self) -> str:
        return f"<Capture of {', '.join(report.site for report in self.reports) or 'nothing'}>"

    def __getitem__(self, site: str) -> Report:
        """The report of a site, by its name or by the last part of it: "search" finds "shop.index.search".

        Raises NotCapturedError when there is none, OptionError when there are several.
        """
        found = [report for report in self.reports if report.site == site]
        found = found or [report for report in self.reports if report.site.endswith(f".{site}")]
        if len(found) == 1:
            return found[0]
        names = ", ".join(report.site for report in found or self.reports)
        if found:
            raise OptionError(f"{site!r} stands for several sites: write one of {names}")
        raise NotCapturedError(f"{site!r} was not called in the block; what was: {names or 'nothing'}")


_captures: list[monitor.Monitor] = []


@contextmanager
def capture(**options: Any) -> Iterator[Capture]:
    """Give the reports of what runs inside the block: every call timed, and with evidence.

    `options` are those of `hotlap.start`; nothing goes to a sink unless `sinks` names one. A recorder that is
    running goes on afterwards as before, also after an exception; it misses the records of the calls in the
    block, which are captured, but not the calls. Captures can be nested: the inner one has the records.
    """
    own = monitor.Monitor(configuration.load({"sinks": (), **options}, caller="capture()"))
    captured = Capture()
    known = [(site, site.mode, site.tail_ns) for site in registry.sites.values()]
    was_enabled = core.enabled()
    _captures.append(own)
    own.recorder.start()
    own.recorder.cut()  # what was before the block
    for site, _, _ in known:
        site.mode, site.tail_ns = core.TIME, _NEVER
        _sample_all(site)
    core.enable(True)
    try:
        yield captured
    finally:
        core.enable(was_enabled)
        captured.reports = own.cycle().reports
        _captures.remove(own)
        for site, mode, tail_ns in known:
            site.mode, site.tail_ns = mode, tail_ns
        _hand_back(own)


def _hand_back(own: monitor.Monitor) -> None:
    """Give hooks and sampling to who has them when `own` is gone: a capture around it, a recorder, nobody."""
    if _captures:
        _captures[-1].recorder.start()
        for site in registry.sites.values():
            _sample_all(site)
        return
    current = monitor._monitor
    if monitor.running() and current is not None:
        current.recorder.start()
        return
    own.recorder.stop()
    for site in registry.sites.values():
        if getattr(getattr(site.info, "options", None), "sample", None) != 0:
            site.sample(1.0, _NEW_SITE)


def _sample_all(site: core.Site) -> None:
    """Evidence for every call, unless the site's own options want none."""
    if getattr(getattr(site.info, "options", None), "sample", None) != 0:
        site.sample(1.0, _EVERY_CALL)


def _nanoseconds(name: str, seconds: float) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise OptionTypeError(f"{name}={seconds!r} is not a number: give seconds, such as 0.5")
    if not 0 <= seconds < float("inf"):
        raise OptionError(f"{name}={seconds!r} is not a duration: give seconds from 0 up")
    return round(seconds * 1e9)
