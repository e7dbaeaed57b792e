"""A section in several processes, one after the other: where its code and objects happen to lie in memory is drawn
once a process, and changes what a call of some ten nanoseconds takes by a quarter.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from dataclasses import replace
from types import ModuleType

from .table import Row, dumps, loads

PROCESSES = 5


def run(section: ModuleType, rounds: int) -> list[Row]:
    """The rows of a section: each figure is the median of those of its processes, `least` the least."""
    processes = min(PROCESSES, rounds)
    command = [sys.executable, "-m", __name__, section.__name__, str(-(-rounds // processes))]
    environment = {**os.environ, **getattr(section, "ENVIRONMENT", {})}
    runs = []
    for _ in range(processes):
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        runs.append(loads(done.stdout.splitlines()[-1]))
    return [_joined(rows) for rows in zip(*runs, strict=True)]


def _joined(rows: tuple[Row, ...]) -> Row:
    medians = [row.median for row in rows if row.median is not None]
    ratios = [row.ratio for row in rows if row.ratio is not None]
    return replace(
        rows[0],
        least=min((row.least for row in rows if row.least is not None), default=None),
        median=statistics.median(medians) if medians else None,
        ratio=statistics.median(ratios) if ratios else None,
        note=next((row.note for row in rows if row.note), ""),
    )


if __name__ == "__main__":
    from importlib import import_module

    print(dumps(import_module(sys.argv[1]).run(int(sys.argv[2]))))
