"""`hotlap bench` and `hotlap compare`: the lab from a shell, with tables, files and exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = """
import time

CALLS = []

def quick(n=100):
    return sum(range(n))

def slow(n=100):
    return sum(range(20 * n))

def echo(*args, **kwargs):
    CALLS.append((args, kwargs))
    assert args == (7, "text", [1, 2]) and kwargs == {"flag": True}, (args, kwargs)

def fail():
    raise ValueError("no luck")

class Tool:
    @staticmethod
    def use():
        return 1

text = "no function"
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "subjects.py").write_text(SOURCE)
    return tmp_path


def hotlap(here: Path, *arguments: str, traced: bool = True) -> subprocess.CompletedProcess[str]:
    """Not `traced`: without coverage, which takes the place of what tells lines apart."""
    command = [sys.executable, "-W", "error", "-c", "from hotlap.cli import main; main()", *arguments]
    environment = {key: value for key, value in os.environ.items() if traced or not key.startswith("COVERAGE")}
    environment |= {"COLUMNS": "160", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_benchmark_shows_its_numbers(here: Path) -> None:
    done = hotlap(here, "bench", "subjects:quick", "--iterations", "20")
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("mean time", "median", "p99", "throughput", "CPU", "failures", "verdict: passed", "score"):
        assert word in done.stdout
    assert done.stderr == ""


def test_profiling_shows_the_hottest_lines(here: Path) -> None:
    """`--level profiling` says where the time goes, with the lines of the subject's file."""
    (here / "profiled.py").write_text(
        "def work():\n    total = 0\n    for number in range(20000):\n        total += number\n    return total\n"
    )
    options = ("--iterations", "5", "--level", "profiling", "--json", "r.json")
    done = hotlap(here, "bench", "profiled:work", *options, traced=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hottest lines" in done.stdout
    assert "profiled.py" in done.stdout
    lines = json.loads((here / "r.json").read_text())["details"]["profile"]["lines"]
    assert {line["line"] for line in lines[:2]} <= {3, 4}
    assert hotlap(here, "bench", "profiled:work", "--level", "deep").returncode == 2


def test_a_file_and_a_method_may_be_named(here: Path) -> None:
    (here / "sub").mkdir()
    (here / "sub" / "other.py").write_text(SOURCE)
    assert hotlap(here, "bench", "sub/other.py:Tool.use", "--iterations", "3").returncode == 0


def test_arguments_are_literals_or_text(here: Path) -> None:
    done = hotlap(
        here, "bench", "subjects:echo", "--arg", "7", "--arg", "text", "--arg", "[1, 2]", "--kw", "flag=True",
        "--iterations", "3",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_failures_end_with_status_1(here: Path) -> None:
    done = hotlap(here, "bench", "subjects:fail", "--iterations", "5")
    assert done.returncode == 1
    assert "ValueError: no luck" in done.stdout
    assert "verdict: 1 of the calls failed" in done.stdout


def test_a_report_is_written_and_is_a_baseline(here: Path) -> None:
    """The gate of a CI: 0 against itself, 1 when it has become slower."""
    assert hotlap(here, "bench", "subjects:quick", "--json", "before.json").returncode == 0
    assert json.loads((here / "before.json").read_text())["benchmark_name"] == "quick"
    same = hotlap(here, "bench", "subjects:quick", "--baseline", "before.json", "--max-slower", "200")
    assert same.returncode == 0, same.stdout
    worse = hotlap(here, "bench", "subjects:slow", "--baseline", "before.json", "--max-slower", "200")
    assert worse.returncode == 1, worse.stdout
    assert "baseline: slower by" in worse.stdout


def test_a_comparison_ranks(here: Path) -> None:
    done = hotlap(here, "compare", "subjects:slow", "subjects:quick", "--iterations", "40", "--json", ".")
    assert done.returncode == 0, done.stdout + done.stderr
    quick, slow = done.stdout.index("subjects:quick"), done.stdout.index("subjects:slow")
    assert quick < slow
    assert "faster by" in done.stdout
    assert "the reference" in done.stdout
    assert sorted(path.name for path in here.glob("*.json")) == ["subjects_quick.json", "subjects_slow.json"]


def test_a_comparison_may_be_a_gate(here: Path) -> None:
    gate = ["--iterations", "40", "--max-slower", "100"]
    assert hotlap(here, "compare", "subjects:quick", "subjects:slow", *gate).returncode == 1
    assert hotlap(here, "compare", "subjects:slow", "subjects:quick", *gate).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "subjects"], "'subjects' names no function: write module:function"),
        (["bench", "nothing:f"], "there is no module 'nothing'"),
        (["bench", "nothing.py:f"], "there is no file nothing.py"),
        (["bench", "subjects:quik"], "did you mean 'quick'?"),
        (["bench", "subjects:text"], "which cannot be called"),
        (["bench", "subjects:quick", "--kw", "7"], "write name=value"),
        (["bench", "subjects:quick", "--iterations", "0"], "iterations=0 is not allowed"),
        (["bench", "subjects:quick", "--level", "loud"], "debug_level='loud' is not known"),
        (["bench", "subjects:quick", "--baseline", "none.json"], "cannot be read"),
        (["bench", "subjects:quick", "--type", "comparison"], "hotlap compare"),
        (["compare", "subjects:quick"], "nothing to compare subjects:quick with"),
        (["compare", "subjects:quick", "subjects:quick"], "named twice"),
        (["compare", "subjects:quick", "subjects:slow", "--json", "none"], "is no directory"),
    ],
)
def test_wrong_usage_is_said_in_one_line(here: Path, arguments: list[str], message: str) -> None:
    done = hotlap(here, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
