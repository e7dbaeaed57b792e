"""The ways out: each sink takes the reports of one cycle somewhere.

    log         structlog events                         "structlog"
    otel        OpenTelemetry spans                      "otel"
    jsonfile    the newest cycle, as a JSON file         "file"
    memory      the last cycles, in this process         "memory"
    call        a function of the user's
    fields      reports as flat fields, for log and otel

What leaves the process says which one it was: the reports of forked workers have the same names. A sink's
module, and with it structlog or OpenTelemetry, is imported when the sink is made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..config import closest
from ..errors import OptionError, OptionTypeError

if TYPE_CHECKING:
    from ..config import Config
    from ..model import Cycle

__all__ = ["BUILDERS", "Guarded", "Sink", "make"]

logger = logging.getLogger("hotlap.sinks")


@runtime_checkable
class Sink(Protocol):
    """Takes cycles out. It may also have `close()`, called once when the recorder stops."""

    def emit(self, cycle: Cycle) -> None:
        """Take one cycle out: called by the aggregator's thread or by flush(), for one cycle at a time."""


class Guarded:
    """A sink that cannot hurt its host: its first error is logged, and it is then switched off.

    `failures` counts errors, `missed` the cycles that the sink did not take, the failed one included.
    """

    __slots__ = ("failures", "missed", "name", "off", "sink")

    def __init__(self, name: str, sink: Sink) -> None:
        self.name = name
        self.sink = sink
        self.off = False
        self.failures = 0
        self.missed = 0

    def __repr__(self) -> str:
        return f"<{self.name} sink{', switched off' if self.off else ''}>"

    def emit(self, cycle: Cycle) -> bool:
        """Hand the cycle to the sink; whether it took it. Raises nothing that is an Exception."""
        if self.off:
            self.missed += 1
            return False
        try:
            self.sink.emit(cycle)
        except Exception as error:
            self.missed += 1
            self.off = True
            self._fail("emit() and is switched off until hotlap is stopped and started again", error)
            return False
        return True

    def close(self) -> None:
        """Close the sink, if it can be closed. Raises nothing that is an Exception."""
        close = getattr(self.sink, "close", None)
        if close is None:
            return
        try:
            close()
        except Exception as error:
            self._fail("close()", error)

    def _fail(self, where: str, error: Exception) -> None:
        self.failures += 1
        if self.failures > 1:
            return
        # The standard library's logger: it needs no set-up, and structlog may be what has just failed.
        logger.error(
            "the %s sink failed in %s: %s: %s",
            self.name,
            where,
            type(error).__name__,
            error,
            exc_info=error,
        )


def _log(config: Config) -> Sink:
    from .log import LogSink

    return LogSink(level=config.log_level)


def _otel(config: Config) -> Sink:
    from .otel import OtelSink

    return OtelSink(tail_spans=config.tail_spans)


def _memory(config: Config) -> Sink:
    from .memory import MemorySink

    return MemorySink()


def _file(config: Config) -> Sink:
    from .jsonfile import FileSink

    if config.report_path is None:
        raise OptionError(
            f"{config.spelled('sinks')} has 'file', which has no file to write to: "
            "set report_path (HOTLAP_REPORT_PATH) to a file"
        )
    return FileSink(config.report_path, config.spelled("report_path"))


BUILDERS: dict[str, Callable[[Config], Sink]] = {
    "structlog": _log,
    "otel": _otel,
    "memory": _memory,
    "file": _file,
}
_CHOICE = f"{', '.join(map(repr, BUILDERS))}, an object with emit(cycle), or a function of one cycle"


def make(config: Config) -> tuple[Guarded, ...]:
    """The sinks of `config.sinks`: names from BUILDERS, objects with `emit`, or functions of one cycle.

    A `report_path` adds the file sink where it is not among them. Raises OptionError for an unknown name,
    OptionTypeError for what is no sink.
    """
    made = [_guarded(entry, config) for entry in config.sinks]
    if config.report_path is not None and not any(sink.name == "file" for sink in made):
        made.append(Guarded("file", _file(config)))
    return tuple(made)


def _guarded(entry: object, config: Config) -> Guarded:
    where = config.spelled("sinks")
    if isinstance(entry, str):
        if entry not in BUILDERS:
            meant = closest(entry, BUILDERS)
            fix = f"did you mean {meant!r}?" if meant else f"give {_CHOICE}"
            raise OptionError(f"{where} has {entry!r}, which is no sink: {fix}")
        return Guarded(entry, BUILDERS[entry](config))
    if isinstance(entry, type):
        raise OptionTypeError(f"{where} has {entry!r}, which is a class: give an instance of it")
    if isinstance(entry, Sink):
        return Guarded(type(entry).__name__, entry)
    if callable(entry):
        from .call import CallSink

        return Guarded(getattr(entry, "__qualname__", type(entry).__name__), CallSink(entry))
    raise OptionTypeError(f"{where} has {entry!r}, which is no sink: give {_CHOICE}")
