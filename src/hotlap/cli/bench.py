"""`hotlap bench module:function`: one benchmark from a shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import OptionError
from ..options import BenchmarkType
from . import target
from .output import console

__all__ = ["bench"]

Level = typer.Option(help="basic: time alone; detailed; profiling: also where time and memory go.")


def bench(
    function: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="Or path/file.py:function.")],
    arg: Annotated[list[str] | None, typer.Option(help="A positional argument, a Python literal; repeat it.")] = None,
    kw: Annotated[list[str] | None, typer.Option(help="A keyword argument, name=value; repeat it.")] = None,
    kind: Annotated[BenchmarkType, typer.Option("--type", help="What to look at.")] = BenchmarkType.FUNCTION,
    iterations: Annotated[int, typer.Option(help="Iterations to measure.")] = 100,
    warmup: Annotated[int, typer.Option(help="Iterations before that.")] = 10,
    users: Annotated[int, typer.Option(help="Concurrent users.")] = 1,
    rate: Annotated[float | None, typer.Option(help="Calls per second of an open model.")] = None,
    isolate: Annotated[int, typer.Option(help="Run in this many fresh processes.")] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds for the whole run.")] = 30.0,
    level: Annotated[str, Level] = "detailed",
    json: Annotated[Path | None, typer.Option(help="Write the report to this file.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="A report to compare with: see --max-slower.")] = None,
    max_slower: Annotated[float, typer.Option(help="Percent slower than the baseline from which on it fails.")] = 10.0,
) -> None:
    """Benchmark a function. Exit status 1 when it passed a limit, or is slower than the baseline."""
    from ..lab import BenchmarkConfig, PerformanceBenchmarker
    from ..lab.baseline import judged
    from ..lab.export import load
    from .lab import lines, measured

    lab = PerformanceBenchmarker(level)
    config = BenchmarkConfig(
        iterations=iterations,
        warmup_iterations=warmup,
        concurrent_users=users,
        arrival_rate=rate,
        isolate=isolate,
        timeout=timeout,
    )
    before = None if baseline is None else load(baseline)
    method = {
        BenchmarkType.FUNCTION: lab.benchmark_function,
        BenchmarkType.MEMORY: lab.benchmark_memory,
        BenchmarkType.CPU: lab.benchmark_cpu,
        BenchmarkType.I_O: lab.benchmark_io,
        BenchmarkType.NETWORK: lab.benchmark_network,
        BenchmarkType.CONCURRENT: lab.benchmark_concurrent,
        BenchmarkType.STRESS: lab.benchmark_stress,
    }.get(kind)
    if method is None:
        raise OptionError("--type comparison needs two functions: hotlap compare a:f b:g")
    called = target.load(function)
    report = method(called, *target.arguments(arg or ()), config=config, **target.keywords(kw or ()))
    screen = console()
    screen.print(f"[bold]{function}[/bold]  {report.benchmark_type.value}")
    screen.print(measured(report))
    for line in lines(report):
        screen.print(line)
    failed = not report.verdict.passed
    if before is not None:
        change = judged(before, report, max_slower / 100.0)
        screen.print(f"baseline: {change.sentence}", style="red" if change.regressed else "green")
        failed = failed or change.regressed
    if json is not None:
        screen.print(f"report: {lab.export_report(report, json)}")
    raise typer.Exit(1 if failed else 0)
