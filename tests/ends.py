"""Programs that end, fork or crash, and the calls that their recorders told of before."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import pytest

from live import run_program

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# A sink that appends each cycle's calls to a file, with the process they were made in.
SINK = """
import json, os, sys, threading, time, warnings
import hotlap

warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of a fork among threads

def to_file(cycle):
    with open("cycles.jsonl", "a") as file:
        for report in cycle.reports:
            print(json.dumps([os.getpid(), report.site, report.stats.calls]), file=file)

@hotlap.benchmark(name="work")
def work(): pass

@hotlap.benchmark(name="hammer")
def hammer(): pass

def hammer_on():
    while True:
        hammer()
"""


def reported(tmp_path: Path) -> dict[str, dict[int, int]]:
    """site -> process -> calls that reached the sink."""
    result: dict[str, dict[int, int]] = {}
    path = tmp_path / "cycles.jsonl"
    for line in path.read_text().splitlines() if path.exists() else ():
        process, site, calls = json.loads(line)
        of_site = result.setdefault(site, {})
        of_site[process] = of_site.get(process, 0) + calls
    return result


def run(tmp_path: Path, text: str, expected: int = 0, **options: Any) -> str:
    done = run_program(tmp_path, SINK + textwrap.dedent(text), **options)
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stderr
