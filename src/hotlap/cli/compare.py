"""`hotlap compare a:f b:g`: several functions against each other from a shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import OptionError
from . import target
from .output import console

__all__ = ["compare"]


def compare(
    functions: Annotated[
        list[str], typer.Argument(metavar="MODULE:FUNCTION...", help="Two or more; the first is the base.")
    ],
    arg: Annotated[list[str] | None, typer.Option(help="A positional argument, a Python literal; repeat it.")] = None,
    kw: Annotated[list[str] | None, typer.Option(help="A keyword argument, name=value; repeat it.")] = None,
    iterations: Annotated[int, typer.Option(help="Iterations of each.")] = 100,
    warmup: Annotated[int, typer.Option(help="Iterations before that.")] = 10,
    isolate: Annotated[int, typer.Option(help="Compare the means of this many fresh processes each.")] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds for each function.")] = 30.0,
    json: Annotated[Path | None, typer.Option(help="Write the reports to files in this directory.")] = None,
    max_slower: Annotated[
        float | None, typer.Option(help="Percent slower than the first from which on another one fails.")
    ] = None,
) -> None:
    """Compare functions, measured in turn. Exit status 1 when one passed a limit, or is slower than --max-slower."""
    from ..lab import BenchmarkConfig, PerformanceBenchmarker
    from .lab import comparison

    if len(functions) < 2:
        raise OptionError(f"there is nothing to compare {functions[0]} with: name two functions or more")
    if len(set(functions)) < len(functions):
        raise OptionError("a function is named twice: name each once")
    if json is not None and not json.is_dir():
        raise OptionError(f"--json={str(json)!r} is no directory: create it first")
    lab = PerformanceBenchmarker()
    config = BenchmarkConfig(iterations=iterations, warmup_iterations=warmup, isolate=isolate, timeout=timeout)
    pairs = [(target.load(name), name) for name in functions]
    reports = lab.compare_functions(
        pairs, *target.arguments(arg or ()), config=config, base=functions[0], **target.keywords(kw or ())
    )
    screen = console()
    screen.print(comparison(reports))
    failed = False
    for name, report in reports.items():
        found = report.details["comparison"]
        slower = found["verdict"] == "slower" and max_slower is not None and found["ratio"] > 1.0 + max_slower / 100.0
        failed = failed or slower or not report.verdict.passed
        for mark in report.verdict.marks:
            screen.print(f"{name}: {mark.sentence}", style="red")
    for note in dict.fromkeys(note for report in reports.values() for note in report.verdict.notes):
        screen.print(note, style="dim")
    if json is not None:
        for report in reports.values():
            path = json / f"{''.join(c if c.isalnum() or c in '._-' else '_' for c in report.benchmark_name)}.json"
            screen.print(f"report: {lab.export_report(report, path)}")
    raise typer.Exit(1 if failed else 0)
