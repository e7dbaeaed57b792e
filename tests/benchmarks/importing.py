"""`import hotlap` over `import wrapt`: fresh interpreters, one after the other in turn."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

from .table import Row
from .timing import ROUNDS

TITLE = "An import"

_TIMED = """
from time import perf_counter_ns
begin = perf_counter_ns()
import {module}
print(perf_counter_ns() - begin)
"""


def run(rounds: int = ROUNDS) -> list[Row]:
    modules = ("wrapt", "hotlap")
    for module in modules:
        _import_ms(module)  # writes the byte code, fills the page cache
    times: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(min(rounds, 21)):
        for module in modules:
            times[module].append(_import_ms(module))
    over = [ours - theirs for ours, theirs in zip(times["hotlap"], times["wrapt"], strict=True)]
    return [
        Row("import wrapt", min(times["wrapt"]), statistics.median(times["wrapt"]), "ms"),
        Row(
            "import hotlap, over import wrapt",
            min(times["hotlap"]) - min(times["wrapt"]),
            statistics.median(over),
            "ms",
            limit=10,
        ),
    ]


def _import_ms(module: str) -> float:
    command = [sys.executable, "-c", _TIMED.format(module=module)]
    # As in use: with byte code on disk, whatever the shell says.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return int(done.stdout) / 1e6
