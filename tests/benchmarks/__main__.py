"""`python -m tests.benchmarks [section ...] [--rounds N]`: measure, and print a table for each section."""

from __future__ import annotations

import argparse
import os
import platform

from . import block, call, coroutine, cycle, importing, memory, processes, recording, twin
from .table import Row, render
from .timing import ROUNDS

SECTIONS = {
    module.__name__.rpartition(".")[2]: module for module in (call, block, coroutine, twin, memory, importing, cycle)
}
TIMED = (call, block, coroutine, twin)  # in nanoseconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("section", nargs="*", metavar="section", help=f"one of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds per section (default: %(default)s)")
    options = parser.parse_args()
    unknown = [name for name in options.section if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {unknown[0]!r}; the sections are {', '.join(SECTIONS)}")
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: give a number above 0")

    print(f"Python {platform.python_version()}, {recording.describe()}")
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {options.rounds} rounds")
    print("Ratios are medians over the rounds of cost / cost in the same round, and over five processes.\n")
    over: list[Row] = []
    for name in options.section or SECTIONS:
        section = SECTIONS[name]
        rows = processes.run(section, options.rounds) if section in TIMED else section.run(options.rounds)
        print(render(section.TITLE, rows), flush=True)
        over += [row for row in rows if row.verdict == "OVER"]
    print("Over its limit: " + ", ".join(row.name for row in over) if over else "Every limit is kept.")


if __name__ == "__main__":
    main()
