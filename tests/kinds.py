"""Runs one kind of benchmark as the lab does: the timed iterations, and then the examination."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hotlap.lab.config import BenchmarkConfig, DebugLevel
from hotlap.lab.examination import Examination
from hotlap.lab.kinds.kind import Kind
from hotlap.lab.progress import Reporter
from hotlap.lab.runs.limits import Guard
from hotlap.lab.runs.run import Outcome
from hotlap.lab.runs.subject import Subject


def examined(
    kind_of: type[Kind],
    func: Callable[..., Any],
    *args: Any,
    level: DebugLevel = DebugLevel.DETAILED,
    budget_s: float = 30.0,  # for the examination
    **options: Any,
) -> tuple[Outcome, Examination]:
    config = BenchmarkConfig(progress=False, **options)
    kind = kind_of(Subject(func, args), config, level)
    reporter = Reporter("test", config)
    outcome = kind.run(reporter)
    with Guard(BenchmarkConfig(timeout=budget_s)) as guard:
        return outcome, kind.examine(outcome, guard, reporter)
