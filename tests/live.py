"""What the tests of the running recorder share: sites with names of their own, programs, records."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hotlap
from hotlap import config, monitor
from hotlap.model import Cycle, Stats

_numbers = itertools.count()


def nothing() -> None:
    """What most tests measure."""


def named(stem: str) -> str:
    """A site's name that no other test has."""
    return f"{stem}_{next(_numbers)}"


def probed(function: Callable[..., Any] = nothing, stem: str = "live", **options: Any) -> tuple[Any, str]:
    """`function` as a site with a name of its own, and that name."""
    name = named(stem)
    return hotlap.benchmark(name=name, **options)(function), name


def made(**options: Any) -> monitor.Monitor:
    """A monitor without a thread, which sees what happens from now on. The caller stops it."""
    one = monitor.Monitor(config.load({"sinks": (), **options}))
    one.recorder.start()
    one.recorder.cut()
    return one


def stats_of(cycle: Cycle, name: str) -> Stats:
    """The stats of one site."""
    (found,) = (report.stats for report in cycle.reports if report.site == name)
    return found


def flushed(name: str) -> Stats | None:
    """The stats of one site after a flush, None when it had no calls."""
    found = [report.stats for report in hotlap.flush() if report.site == name]
    return found[0] if found else None


def run_program(
    tmp_path: Path, text: str, *, timeout: float = 60.0, traced: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, in `tmp_path`, over the core that is under test.

    Not `traced`: without coverage, whose lock a thread may hold in the moment of a fork.
    """
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(file)],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if traced or not key.startswith("COVERAGE")},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def records(count: int, **fields: Any) -> Any:
    """`count` records of plain calls, as the core would leave them, with these fields set."""
    import numpy as np

    from hotlap import core

    made = np.zeros(count, core.record_dtype())
    made["weight"] = 1.0
    made["cpu_ns"] = made["own_ns"] = -1
    made["size"] = np.nan
    made["parent"] = core.NO_PARENT
    made["in_flight"] = 1
    made["flags"] = core.FLAG_EVIDENCE
    for name, values in fields.items():
        made[name] = values
    return made
