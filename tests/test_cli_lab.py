"""`hotlap bench` and `hotlap compare`: the lab from a shell, with tables, files and exit statuses."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hotlap import BenchmarkType, DebugLevel
from hotlap.cli import bench, kinds

MAIN = "from hotlap.cli import main; main()"
SOURCE = """
import os
import signal
import time

CALLS = []

def quick(n=100):
    return sum(range(n))

def slow(n=100):
    return sum(range(200 * n))

def stopped_by_hand(after, pause_s=0.0):
    CALLS.append(1)
    time.sleep(pause_s)
    if len(CALLS) == after:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10.0)

def echo(*args, **kwargs):
    CALLS.append((args, kwargs))
    assert args == (7, "some text", [1, 2]) and kwargs == {"flag": True}, (args, kwargs)

def fail():
    raise ValueError("no luck")

def note():
    open("called", "a").close()

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


def hotlap(
    here: Path, *arguments: str, traced: bool = True, columns: int = 160, code: str = MAIN
) -> subprocess.CompletedProcess[str]:
    """Not `traced`: without coverage, which takes the place of what tells lines apart."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    environment = {key: value for key, value in os.environ.items() if traced or not key.startswith("COVERAGE")}
    environment |= {"COLUMNS": str(columns), "NO_COLOR": "1"}
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
        here, "bench", "subjects:echo", "--arg", "7", "--arg", "some text", "--arg", "[1, 2]", "--kw", "flag=True",
        "--iterations", "3",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_failures_end_with_status_1(here: Path) -> None:
    done = hotlap(here, "bench", "subjects:fail", "--iterations", "5")
    assert done.returncode == 1
    assert "ValueError: no luck" in done.stdout
    assert "of the calls failed" in done.stdout


class TestBaseline:
    """The gate of a CI. What it allows is far more than noise does, and a regression far more than that."""

    def test_a_report_is_written_and_is_a_baseline(self, here: Path) -> None:
        """0 against itself, 1 when it has become slower."""
        assert hotlap(here, "bench", "subjects:quick", "--json", "before.json").returncode == 0
        assert json.loads((here / "before.json").read_text())["benchmark_name"] == "quick"
        gate = ("--baseline", "before.json", "--max-slower", "900")
        same = hotlap(here, "bench", "subjects:quick", *gate)
        assert same.returncode == 0, same.stdout
        assert "one process is one throw of the dice" in " ".join(same.stdout.split())
        worse = hotlap(here, "bench", "subjects:slow", *gate, "--any-name")
        assert worse.returncode == 1, worse.stdout
        assert "baseline: slower by a factor of" in worse.stdout

    def test_what_other_work_explains_is_undecided(self, here: Path) -> None:
        """Some times slower, while the others left next to nothing of the CPUs: neither passed nor failed."""
        hotlap(here, "bench", "subjects:quick", "--json", "before.json")
        before = json.loads((here / "before.json").read_text())
        before["summary"]["avg_execution_time"] /= 8
        interval = before["summary"]["confidence_intervals"]["avg_execution_time"]
        before["summary"]["confidence_intervals"]["avg_execution_time"] = [end / 8 for end in interval]
        (here / "before.json").write_text(json.dumps(before))
        noisy = (
            "from hotlap.lab.environment import Noise\n"
            "Noise.end = classmethod(lambda cls, began: cls(9.0, 0.0, 0.97))\n"
        )
        done = hotlap(here, "bench", "subjects:quick", "--baseline", "before.json", code=noisy + MAIN)
        assert done.returncode == 3, done.stdout + done.stderr
        said = " ".join(done.stdout.split())
        assert "baseline: slower by a factor of" in said
        assert "but others took 97 % of the machine's CPU time meanwhile, which can make calls take 33 times as" in said

    def test_what_always_fails_now_has_failed(self, here: Path) -> None:
        hotlap(here, "bench", "subjects:quick", "--json", "before.json", "--iterations", "5")
        done = hotlap(here, "bench", "subjects:fail", "--baseline", "before.json", "--any-name", "--iterations", "5")
        assert done.returncode == 1, done.stderr
        assert "baseline: no call succeeded" in done.stdout

    @pytest.fixture
    def made(self, here: Path) -> Path:
        """A report of quick, one of fail, and one with a second user."""
        run = ("--iterations", "5", "--json")
        hotlap(here, "bench", "subjects:quick", *run, "quick.json")
        hotlap(here, "bench", "subjects:fail", *run, "fail.json")
        hotlap(here, "bench", "subjects:note", "--type", "concurrent", "--users", "2", *run, "users.json")
        (here / "called").unlink()
        return here

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--baseline", "quick.json"], "is of 'quick', and this is 'note': give a report of the same function, or"),
            (["--baseline", "quick.json", "--type", "memory"], "is of type function, this is of type memory"),
            (["--baseline", "fail.json", "--any-name"], "has no successful call: there is nothing to compare with"),
            (["--baseline", "users.json", "--type", "concurrent"], "is of --users 2, and this is of 1"),
            (["--json", "none/x.json"], "--json='none/x.json' is in no existing directory"),
        ],
    )
    def test_what_cannot_be_compared_or_written_is_said_before_the_run(
        self, made: Path, arguments: list[str], message: str
    ) -> None:
        done = hotlap(made, "bench", "subjects:note", *arguments)
        assert done.returncode == 2, done.stdout
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not (made / "called").exists()


class TestInterrupted:
    """Ctrl-C ends with 130, and shows what there is."""

    def test_in_the_run(self, here: Path) -> None:
        stop = ("--arg", "40", "--kw", "pause_s=0.002", "--json", "report.json")
        done = hotlap(here, "bench", "subjects:stopped_by_hand", *stop)
        assert done.returncode == 130, done.stdout + done.stderr
        assert "mean time" in done.stdout
        assert "interrupted" in done.stdout
        assert json.loads((here / "report.json").read_text())["verdict"]["interrupted"] is True

    def test_in_a_comparison(self, here: Path) -> None:
        stop = ("--arg", "40", "--kw", "pause_s=0.002")
        done = hotlap(here, "compare", "subjects:stopped_by_hand", "subjects:stopped_by_hand", *stop)
        assert done.returncode == 130, done.stdout + done.stderr

    def test_before_there_is_anything(self, here: Path) -> None:
        (here / "early.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
        assert hotlap(here, "bench", "early:f").returncode == 130
        assert hotlap(here, "bench", "subjects:stopped_by_hand", "--arg", "1").returncode == 130


@pytest.mark.parametrize(
    ("kind", "options", "labels"),
    [
        ("memory", ["--level", "detailed"], ["peak of a call", "held by its result", "kept by a call", "No leak"]),
        ("cpu", [], ["CPU time of a call", "in user mode", "cores used", "CPU efficiency"]),
        ("i_o", [], ["reads", "writes", "fsync"]),
        ("network", [], ["connections", "sent", "received"]),
        ("concurrent", ["--users", "2"], ["alone", "speed-up", "calls at once", "fairness"]),
        ("concurrent", ["--rate", "200"], ["calls due", "utilisation", "generator's lag"]),
        ("stress", [], ["one user", "highest throughput", "users", "p99"]),
    ],
)
def test_each_kind_shows_what_a_person_wants(here: Path, kind: str, options: list[str], labels: list[str]) -> None:
    """A dozen numbers or so, by name; no names of fields, no NaN, no line without a number."""
    done = hotlap(here, "bench", "subjects:quick", "--type", kind, "--iterations", "40", *options)
    assert done.returncode in {0, 1}, done.stderr
    table, _, below = done.stdout.partition("verdict: ")
    for label in labels:
        assert re.search(rf"^ *{re.escape(label)}\b", table + below, re.M), label
    assert "nan" not in re.findall(r"\w+", done.stdout)
    _, *rows = filter(str.strip, table.splitlines())
    assert not re.search(r"\w_\w", " ".join(rows))
    assert len(rows) <= 32
    assert all(re.search(r"\d|─|-|users", row) for row in rows)


def test_what_is_not_known_is_not_shown() -> None:
    """None and NaN are no numbers; a note without its own is left out, and a rare thing that was not there, too."""
    details = {
        "peak_bytes": {"median": 6.6, "max": 1234567.0},
        "result_bytes": {"median": 0.0, "max": None},
        "cyclic_bytes": {"median": 0.0},
        "kept_bytes": {"median": math.nan},
        "gc": {"share_of_time": 0.5, "longest_pause_s": math.nan},
        "rss": {"not_readable": "no such file"},
    }
    assert list(kinds.rows(BenchmarkType.MEMORY, details)) == [
        ("peak of a call", "6.6 bytes", "at most 1.23 MB"),
        ("held by its result", "0 bytes", ""),
        ("garbage collector", "50 %", ""),
    ]
    assert list(kinds.sentences(details)) == ["rss: no such file"]


def test_every_other_option_can_be_set(here: Path) -> None:
    """By its name in BenchmarkConfig; a wrong one is refused with what is right, before anything runs."""
    settings = ("--set", "loops=3", "--set", "performance_threshold=1e-9", "--set", "gc=off")
    done = hotlap(here, "bench", "subjects:quick", "--iterations", "5", *settings)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "of 3 calls each" in done.stdout
    assert "garbage collector off" in done.stdout
    assert "on average, more than 1e-09 s" in done.stdout
    assert hotlap(here, "compare", "subjects:quick", "subjects:slow", "--iterations", "8", "--set", "loops=2").stdout
    for setting, says in {
        "memory_limt=3": "did you mean 'memory_limit'?",
        "loops=many": "is no number: give a whole number from 1",
        "loops": "is no setting: write name=value",
        "timeout=3": "timeout has an option of its own",
        "setup=f": "no option that can be given as text",
    }.items():
        for command in (("bench", "subjects:quick"), ("compare", "subjects:quick", "subjects:slow")):
            done = hotlap(here, *command, "--set", setting)
            assert done.returncode == 2
            assert says in " ".join(done.stderr.split())


def test_a_comparison_ranks(here: Path) -> None:
    done = hotlap(here, "compare", "subjects:slow", "subjects:quick", "--iterations", "40", "--json", ".")
    assert done.returncode == 0, done.stdout + done.stderr
    quick, slow = done.stdout.index("subjects:quick"), done.stdout.index("subjects:slow")
    assert quick < slow
    assert "faster by a factor of" in done.stdout
    assert "the reference" in done.stdout
    assert sorted(path.name for path in here.glob("*.json")) == ["subjects_quick.json", "subjects_slow.json"]


def test_a_function_is_compared_with_itself(here: Path) -> None:
    """A/A: what a comparison makes of no difference."""
    done = hotlap(here, "compare", *["subjects:quick"] * 3, "--iterations", "10", "--json", ".")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("subjects:quick ", "subjects:quick (2)", "subjects:quick (3)"):
        assert name in done.stdout
    assert len(list(here.glob("*.json"))) == 3


def test_names_are_whole_where_the_terminal_is_narrow(here: Path) -> None:
    for columns in (60, 40, 20):
        done = hotlap(here, "compare", "subjects:Tool.use", "subjects:quick", "--iterations", "10", columns=columns)
        assert "subjects:Tool.use" in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= columns


def test_a_comparison_may_be_a_gate(here: Path) -> None:
    gate = ["--iterations", "40", "--max-slower", "100"]
    assert hotlap(here, "compare", "subjects:quick", "subjects:slow", *gate).returncode == 1
    assert hotlap(here, "compare", "subjects:slow", "subjects:quick", *gate).returncode == 0


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def f(:\n", ["broken.py cannot be imported: SyntaxError: ", "  broken.py:1"]),
        (
            "def half(x):\n    return 1 / x\n\nhalf(0)\n",
            ["cannot be imported: ZeroDivisionError: ", "  broken.py:2 in half", "  broken.py:4 in <module>"],
        ),
        ("import nothing_of_that_name\n", ["No module named 'nothing_of_that_name'", "  broken.py:1 in <module>"]),
        ("raise SystemExit(0)\n", ["SystemExit: 0 (put what a script does under", "  broken.py:1 in <module>"]),
    ],
)
@pytest.mark.parametrize("target", ["broken.py:f", "broken:f"])
def test_what_cannot_be_imported_is_told_by_its_own_lines(
    here: Path, source: str, said: list[str], target: str
) -> None:
    """Wrong usage: nothing was measured, and no limit passed."""
    (here / "broken.py").write_text(source)
    done = hotlap(here, "bench", target)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) <= 4
    assert len(lines) >= len(said)
    for line, text in zip(lines, said, strict=False):
        assert text in line or f"hotlap: {text.replace('.py', '')}" in line


def test_help_lists_what_can_be_typed(here: Path) -> None:
    said = hotlap(here, "bench", "--help").stdout
    assert "comparison" not in said
    for word in ("function", "stress", "basic|detailed|profiling", "130"):
        assert word in said
    assert tuple(bench._LEVELS) == tuple(DebugLevel)


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
        (
            ["bench", "subjects:quick", "--level", "loud"],
            "--level='loud' is not allowed: give one of basic, detailed, profiling",
        ),
        (["bench", "subjects:quick", "--type", "memry"], "did you mean 'memory'?"),
        (["bench", "subjects:quick", "--users", "4"], "--users=4 is not allowed with --type function: leave it out"),
        (["bench", "subjects:quick", "--rate", "100"], "--rate=100.0 is not allowed with --type function"),
        (["bench", "subjects:quick", "--rate", "9", "--type", "stress"], "leave it out, or take concurrent"),
        (["bench", "subjects:quick", "--isolate", "2", "--type", "concurrent"], "--isolate=2 is not allowed with"),
        (["bench", "subjects:quick", "--max-slower", "5"], "--max-slower is not allowed without --baseline"),
        (["bench", "subjects:quick", "--any-name"], "--any-name is not allowed without --baseline"),
        (["bench", "subjects:quick", "--baseline", "b", "--max-slower", "nan"], "--max-slower=nan is not allowed"),
        (["bench", "subjects:quick", "--baseline", "b", "--max-slower", "-500"], "--max-slower=-500.0 is not allowed"),
        (["bench", "subjects:quick", "--arg", "[1,"], "--arg '[1,' begins like a Python literal but is none"),
        (["bench", "subjects:quick", "--kw", "n=1o0"], "--kw 'n=1o0' begins like a Python literal but is none"),
        (["bench", "subjects:quick", "--baseline", "none.json"], "cannot be read"),
        (["bench", "subjects:quick", "--type", "comparison"], "hotlap compare"),
        (["compare", "subjects:quick"], "nothing to compare subjects:quick with"),
        (["compare", "subjects:quick", "subjects:slow", "--max-slower", "nan"], "--max-slower=nan is not allowed"),
        (["compare", "subjects:quick", "subjects:slow", "--json", "none"], "is no directory"),
    ],
)
def test_wrong_usage_is_said_in_one_line(here: Path, arguments: list[str], message: str) -> None:
    done = hotlap(here, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
