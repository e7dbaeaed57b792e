"""What 1,000 sites hold: resident memory of fresh processes, less that of the same functions undecorated."""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from .table import Row

TITLE = "1,000 sites, resident memory over the same functions undecorated"

SITES = 1000
CALLS = 200
PROCESSES = 5


def run(rounds: int = PROCESSES) -> list[Row]:
    grown: dict[str, list[float]] = {state: [] for state in STATES}
    for _ in range(min(rounds, PROCESSES)):
        for state in STATES:
            command = [sys.executable, "-m", __name__, state]
            output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            grown[state].append(int(output) / 1e6)

    def row(name: str, state: str, control: str, limit: float | None = None) -> Row:
        over = [whole - base for whole, base in zip(grown[state], grown[control], strict=True)]
        return Row(name, min(over), statistics.median(over), "MB", limit=limit)

    return [
        row("1,000 sites, not called", "probed", "plain", limit=2),
        row(f"1,000 sites, each called {CALLS} times", "called", "plain called", limit=16),
        row("the same, with a recorder after a cycle", "recorded", "plain called"),
    ]


def grow(state: str) -> int:
    """Bytes of resident memory that bringing 1,000 functions into `state` takes, in this process."""
    import psutil

    import hotlap

    process = psutil.Process()
    functions: list[Any] = [_function(number) for number in range(SITES)]
    # Whatever is made once, by the first site and the first call, is not counted as a site's.
    once = hotlap.benchmark(_function(SITES))
    once(1)
    if state == "recorded":
        hotlap.start(sinks=[])
        hotlap.flush()
    gc.collect()
    before = int(process.memory_info().rss)
    held = STATES[state](functions)
    gc.collect()
    after = int(process.memory_info().rss)
    del held
    return after - before


def _function(number: int) -> Callable[[int], int]:
    names: dict[str, Any] = {}
    exec(f"def function_{number}(x): return x", names)
    function: Callable[[int], int] = names[f"function_{number}"]
    return function


def _probed(functions: list[Any]) -> list[Any]:
    import hotlap

    return [hotlap.benchmark(function) for function in functions]


def _plain(functions: list[Any]) -> list[Any]:
    return list(functions)


def _called(functions: list[Any]) -> list[Any]:
    for function in functions:
        for number in range(CALLS):
            function(number)
    return functions


def _recorded(functions: list[Any]) -> list[Any]:
    import hotlap

    probes = _called(_probed(functions))
    hotlap.flush()
    return probes


STATES: dict[str, Callable[[list[Any]], list[Any]]] = {
    "plain": _plain,
    "plain called": lambda functions: _called(_plain(functions)),
    "probed": _probed,
    "called": lambda functions: _called(_probed(functions)),
    "recorded": _recorded,
}


if __name__ == "__main__":
    print(grow(sys.argv[1]))
