"""`hotlap doctor`: what this installation measures with, how well, at what cost, and what it lacks."""

from __future__ import annotations

import platform
import re
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from rich.text import Text

from .. import __version__, config, core
from .output import console, digits, duration, table, version

_CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
_FOR_DEVELOPERS = {"test", "bench", "dev"}
_DEPENDENCIES = ("wrapt", "psutil", "numpy", "structlog", "opentelemetry-api")
_RUNS, _LOOPS = 7, 20_000


def doctor() -> None:
    """Show the core and the clock in use, what they cost here, all versions, and what is missing."""
    rows = table("", "", "")
    for name, value, note in facts():
        rows.add_row(Text(name, style="bold"), Text(value), Text(note))
    rows.show_header = False
    console().print(rows)


def facts() -> Iterator[tuple[str, str, str]]:
    """What there is to know: name, value, and a note."""
    yield from _core()
    yield from _clock()
    yield from _costs()
    yield from _python()
    yield from _dependencies()
    yield from _extras()
    yield from _telemetry()


def _core() -> Iterator[tuple[str, str, str]]:
    settings = config.load()
    yield "core", core.NAME, core.REASON
    yield (
        "recording",
        "off" if settings.disabled else "on",
        "HOTLAP_DISABLED is set" if settings.disabled else "",
    )
    yield "record", f"{core.RECORD_BYTES} bytes", f"layout version {core.LAYOUT_VERSION}"
    size_mb = settings.ring_capacity * core.RECORD_BYTES / 1e6
    yield "ring", f"{settings.ring_capacity:,} records", f"{digits(size_mb)} MB"


def _clock() -> Iterator[tuple[str, str, str]]:
    clock = core.clock()
    ticks = f"; {clock['frequency_hz'] / 1e9:.3f} GHz" if clock["kind"] == "tsc" else ""
    yield "clock", str(clock["kind"]), f"{clock['reason']}{ticks}"
    time.sleep(0.05)  # so that there is some drift to measure
    yield "clock error", f"{core.calibrate():,} ns", "against the monotonic clock, just now"
    try:
        yield "kernel clock source", _CLOCK_SOURCE.read_text().strip(), ""
    except OSError:
        yield "kernel clock source", "unknown", f"{_CLOCK_SOURCE} cannot be read"


def _costs() -> Iterator[tuple[str, str, str]]:
    def bare(x: object) -> object:
        return x

    probe = core.FunctionProbe(bare, core.Site(0, "doctor"))
    bare_s, probe_s = _per_call(lambda: bare(None)), _per_call(lambda: probe(None))
    yield "reading the clock", duration(_per_call(core.now_ns)), "with the call from Python"
    yield "measuring a call", duration(max(0.0, probe_s - bare_s)), "over a bare call"


def _per_call(call: Callable[[], object]) -> float:
    """Seconds for one call: the least of some runs, in a loop whose own share is left in."""
    least = float("inf")
    for _ in range(_RUNS):
        began = time.perf_counter()
        for _ in range(_LOOPS):
            call()
        least = min(least, time.perf_counter() - began)
    return least / _LOOPS


def _python() -> Iterator[tuple[str, str, str]]:
    yield "python", platform.python_version(), f"{platform.python_implementation()}, {sys.executable}"
    # Also on a free-threaded build the GIL may be on: an extension that needs it switches it on.
    built = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    yield "free-threaded", "yes" if built else "no", "but the GIL is on" if built and gil else ""
    yield "platform", platform.platform(), ""


def _dependencies() -> Iterator[tuple[str, str, str]]:
    yield "hotlap", __version__, "installed" if version("hotlap") else "runs from a source tree"
    for name in _DEPENDENCIES:
        found = version(name)
        yield name, found or "missing", "" if found else f"pip install {name}"


def _extras() -> Iterator[tuple[str, str, str]]:
    for extra, names in extras().items():
        missing = [name for name in names if version(name) is None]
        note = f"without {', '.join(missing)}: pip install 'hotlap[{extra}]'" if missing else ", ".join(names)
        yield f"extra {extra}", "missing" if missing else "installed", note


def extras() -> dict[str, list[str]]:
    """The distributions of each extra for users, from hotlap's own metadata; nothing in a source tree."""
    try:
        lines = requires("hotlap") or []
    except PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for line in lines:
        extra = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", line)
        name = re.match(r"[\w.-]+", line)
        if extra and name and extra[1] not in _FOR_DEVELOPERS:
            found.setdefault(extra[1], []).append(name[0])
    return found


def _telemetry() -> Iterator[tuple[str, str, str]]:
    from opentelemetry import trace

    provider = type(trace.get_tracer_provider())
    if provider.__module__.startswith("opentelemetry.trace"):  # the API's own stand-in
        note = "spans go nowhere until the program configures an OpenTelemetry SDK"
        sdk = version("opentelemetry-sdk")
        yield "opentelemetry sdk", "not configured", note + (f"; {sdk} is installed" if sdk else "")
    else:
        yield "opentelemetry sdk", "configured", f"{provider.__module__}.{provider.__qualname__}"
