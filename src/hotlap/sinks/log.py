"""structlog events: hotlap.report (per site), hotlap.finding, and hotlap.cycle at the end of each cycle.

Numbers stay numbers; names carry their units (p95_s, memory_mb). A finding from its warning limit on is
logged as a warning, everything else as info.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import structlog

from . import fields

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from ..model import Cycle


class LogSink:
    """Logs through the host's structlog set-up; where there is none, in structlog's own form to stderr."""

    def __init__(self, *, level: str = "info") -> None:
        self.level = level  # "debug", "info", "warning" or "error": events below it are left out

    def emit(self, cycle: Cycle) -> None:
        if self.level == "error":
            return
        log = _logger()
        everything = self.level != "warning"
        for report in cycle.reports:
            if everything:
                log.info("hotlap.report", cycle=cycle.number, **fields.of_report(report))
            for finding in report.findings:
                if finding.level == "warning":
                    log.warning("hotlap.finding", cycle=cycle.number, **fields.of_finding(finding))
                elif everything:
                    log.info("hotlap.finding", cycle=cycle.number, **fields.of_finding(finding))
        if everything:
            log.info("hotlap.cycle", **fields.of_cycle(cycle))


def _logger() -> FilteringBoundLogger:
    # Asked for anew in each cycle: the host may configure structlog after the recorder was started.
    if structlog.is_configured():
        return cast("FilteringBoundLogger", structlog.get_logger("hotlap"))
    # structlog's own default prints to stdout, which belongs to the host's output.
    return cast("FilteringBoundLogger", structlog.wrap_logger(structlog.PrintLogger(sys.stderr)))
