"""`hotlap compare a:f b:g`: several functions against each other from a shell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ..errors import OptionError
from . import target
from .gate import INTERRUPTED, MaxSlower, allowed
from .output import console

__all__ = ["compare"]

_OWN = ("iterations", "warmup_iterations", "isolate", "timeout")


def compare(
    functions: Annotated[
        list[str], typer.Argument(metavar="MODULE:FUNCTION...", help="Two or more; the first is the base.")
    ],
    arg: target.Arg = None,
    kw: target.Kw = None,
    iterations: Annotated[int, typer.Option(help="Iterations of each.")] = 100,
    warmup: Annotated[int, typer.Option(help="Iterations before that.")] = 10,
    isolate: Annotated[int, typer.Option(help="Compare the means of this many fresh processes each.")] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds for each function.")] = 30.0,
    more: target.Set = None,
    json: Annotated[Path | None, typer.Option(help="Write the reports to files in this directory.")] = None,
    max_slower: MaxSlower = None,
) -> None:
    """Compare functions, measured in turn; one that is named twice is compared with itself.

    \b
    Exit status:
    0    all passed
    1    one passed a limit, or is slower than the first by more than --max-slower
    2    wrong usage
    130  after Ctrl-C
    """
    if len(functions) < 2:
        raise OptionError(f"there is nothing to compare {functions[0]} with: name two functions or more")
    limit = None if max_slower is None else allowed(max_slower)

    from ..lab import BenchmarkConfig, PerformanceBenchmarker
    from ..lab.export import check
    from .lab import comparison

    names = _names(functions)
    files = {} if json is None else _files(names, json)
    for file in files.values():
        check(file, "--json")
    lab = PerformanceBenchmarker()
    config = BenchmarkConfig(
        iterations=iterations,
        warmup_iterations=warmup,
        isolate=isolate,
        timeout=timeout,
        **target.settings(more or (), *_OWN),
    )
    pairs = [(target.load(function), name) for function, name in zip(functions, names, strict=True)]
    reports = lab.compare_functions(
        pairs, *target.arguments(arg or ()), config=config, base=names[0], **target.keywords(kw or ())
    )
    screen = console()
    screen.print(comparison(reports, screen))
    failed = False
    for name, report in reports.items():
        found = report.details["comparison"]
        slower = found["verdict"] == "slower" and limit is not None and found["ratio"] > 1.0 + limit
        failed = failed or slower or not report.verdict.passed
        for mark in report.verdict.marks:
            screen.print(Text(f"{name}: {mark.sentence}", "red"))
    for note in dict.fromkeys(note for report in reports.values() for note in report.verdict.notes):
        screen.print(Text(note, "dim"))
    for name, file in files.items():
        screen.print(Text(f"report: {lab.export_report(reports[name], file)}"))
    interrupted = any(report.verdict.interrupted for report in reports.values())
    raise typer.Exit(INTERRUPTED if interrupted else int(failed))


def _names(functions: Sequence[str]) -> list[str]:
    """One for each: "a:f", and "a:f (2)" where it comes again."""
    return [
        function if (times := functions[: index + 1].count(function)) == 1 else f"{function} ({times})"
        for index, function in enumerate(functions)
    ]


def _files(names: Sequence[str], directory: Path) -> dict[str, Path]:
    """A file for each report, with a number where its name is taken."""
    if not directory.is_dir():
        raise OptionError(f"--json={str(directory)!r} is no directory: create it first")
    files: dict[str, Path] = {}
    for name in names:
        stem = re.sub(r"[^\w.-]+", "_", name).strip("_")
        path, number = directory / f"{stem}.json", 1
        while path in files.values():
            number += 1
            path = directory / f"{stem}_{number}.json"
        files[name] = path
    return files
