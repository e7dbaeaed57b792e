"""structlog events: hotlap.report (per site), hotlap.finding, and hotlap.cycle at the end of each cycle.

Each has `cycle` and `pid`. Numbers stay numbers, of six digits; names carry their units (p95_s, memory_mb). A
finding from its warning limit on is logged as a warning. A cycle in which no call ended says no more than
that the recorder is alive: it is for debugging. Everything else is info.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, cast

import structlog

from . import fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from ..model import Cycle

_LEVELS = ("debug", "info", "warning", "error")


class LogSink:
    """Logs through the host's structlog set-up; where there is none, in structlog's own form to stderr."""

    def __init__(self, *, level: str = "info") -> None:
        self.level = level  # of _LEVELS: events below it are left out
        self._shown = _LEVELS[_LEVELS.index(level) :]

    def emit(self, cycle: Cycle) -> None:
        log = _logger().bind(cycle=cycle.number, pid=os.getpid())
        for report in cycle.reports:
            if "info" in self._shown:
                log.info("hotlap.report", **short(fields.of_report(report)))
            for finding in report.findings:
                level = "warning" if finding.level == "warning" else "info"
                if level in self._shown:
                    getattr(log, level)("hotlap.finding", **short(fields.of_finding(finding)))
        level = "info" if cycle.reports else "debug"
        if level in self._shown:
            getattr(log, level)("hotlap.cycle", **short(fields.of_cycle(cycle)))


def short(flat: Mapping[str, fields.Field]) -> dict[str, fields.Field]:
    """The fields with floats of six significant digits, and never fewer than three after the point.

    That is within 0.001 %, where the quantiles themselves are within 1.1 %, and short enough to be read and
    stored; the three are for unix times.
    """
    return {name: _short(value) if isinstance(value, float) else value for name, value in flat.items()}


def _short(value: float) -> float:
    return round(value, 3) if abs(value) >= 1000.0 else float(f"{value:.6g}")


def _logger() -> FilteringBoundLogger:
    # Asked for anew in each cycle: the host may configure structlog after the recorder was started.
    if structlog.is_configured():
        return cast("FilteringBoundLogger", structlog.get_logger("hotlap"))
    # structlog's own default prints to stdout, which belongs to the host's output. Not its PrintLogger: that
    # writes a line and its end apart, and the lines of forked workers would run into each other.
    return cast("FilteringBoundLogger", structlog.wrap_logger(structlog.WriteLogger(sys.stderr)))
