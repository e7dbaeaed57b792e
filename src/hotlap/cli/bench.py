"""`hotlap bench module:function`: one benchmark from a shell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ..errors import OptionError
from ..options import BenchmarkType
from ..readers import choice
from . import target
from .gate import INTERRUPTED, UNDECIDED, MaxSlower, allowed
from .output import console

if TYPE_CHECKING:
    from ..lab import BenchmarkReport

__all__ = ["bench"]

_KINDS = tuple(kind.value for kind in BenchmarkType if kind is not BenchmarkType.COMPARISON)
_LOADS = ("concurrent", "stress")
_LEVELS = ("basic", "detailed", "profiling")
_KNOW = {  # the kinds that know an option
    "--users": _LOADS,
    "--rate": ("concurrent",),
    "--isolate": tuple(kind for kind in _KINDS if kind not in _LOADS),
}
_OWN = ("iterations", "warmup_iterations", "concurrent_users", "arrival_rate", "isolate", "timeout")
_SLOWER = 10.0  # percent

_Kind = typer.Option("--type", metavar="|".join(_KINDS), help="What to look at.")
_Level = typer.Option(metavar="|".join(_LEVELS), help="basic: time alone; profiling: also where time and memory go.")


def bench(
    function: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="Or path/file.py:function.")],
    arg: target.Arg = None,
    kw: target.Kw = None,
    kind: Annotated[str, _Kind] = "function",
    iterations: Annotated[int, typer.Option(help="Iterations to measure.")] = 100,
    warmup: Annotated[int, typer.Option(help="Iterations before that.")] = 10,
    users: Annotated[int, typer.Option(help="Concurrent users, of --type concurrent and stress.")] = 1,
    rate: Annotated[float | None, typer.Option(help="Calls per second of an open model, of --type concurrent.")] = None,
    isolate: Annotated[int, typer.Option(help="Run in this many fresh processes.")] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds for the whole run.")] = 30.0,
    level: Annotated[str, _Level] = "detailed",
    more: target.Set = None,
    json: Annotated[Path | None, typer.Option(help="Write the report to this file.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="A report to compare with, of the same function.")] = None,
    any_name: Annotated[bool, typer.Option("--any-name", help="The baseline may be of another function.")] = False,
    max_slower: MaxSlower = None,
) -> None:
    """Benchmark a function.

    \b
    Exit status:
    0    it passed
    1    it passed a limit, or is slower than the baseline by more than --max-slower (10 percent)
    2    wrong usage
    3    it is slower, but what else ran on the machine may be why: run it again
    130  after Ctrl-C, with what was measured until then
    """
    chosen = _kind(kind)
    for name, value, default in (("--users", users, 1), ("--rate", rate, None), ("--isolate", isolate, 0)):
        if value != default and kind not in _KNOW[name]:
            known = " or ".join(_KNOW[name])
            raise OptionError(f"{name}={value} is not allowed with --type {kind}: leave it out, or take {known}")
    for name, given in (("--max-slower", max_slower is not None), ("--any-name", any_name)):
        if given and baseline is None:
            raise OptionError(f"{name} is not allowed without --baseline: name the report to compare with")
    limit = allowed(_SLOWER if max_slower is None else max_slower)

    from ..lab import BenchmarkConfig, PerformanceBenchmarker
    from ..lab.baseline import judged
    from ..lab.export import check
    from .lab import lines, measured

    lab = PerformanceBenchmarker(choice(_LEVELS)(level, "--level", True))
    config = BenchmarkConfig(
        iterations=iterations,
        warmup_iterations=warmup,
        concurrent_users=users,
        arrival_rate=rate,
        isolate=isolate,
        timeout=timeout,
        **target.settings(more or (), *_OWN),
    )
    called = target.load(function)
    args, kwargs = target.arguments(arg or ()), target.keywords(kw or ())
    before = None if baseline is None else _before(baseline, called, chosen, config, any_name)
    if json is not None:
        check(json, "--json")
    method = {
        BenchmarkType.FUNCTION: lab.benchmark_function,
        BenchmarkType.MEMORY: lab.benchmark_memory,
        BenchmarkType.CPU: lab.benchmark_cpu,
        BenchmarkType.I_O: lab.benchmark_io,
        BenchmarkType.NETWORK: lab.benchmark_network,
        BenchmarkType.CONCURRENT: lab.benchmark_concurrent,
        BenchmarkType.STRESS: lab.benchmark_stress,
    }[chosen]
    report = method(called, *args, config=config, **kwargs)
    screen = console()
    screen.print(Text.assemble((function, "bold"), f"  {chosen}"))
    screen.print(measured(report, screen))
    for line in lines(report, screen):
        screen.print(line)
    status = 0 if report.verdict.passed else 1
    if before is not None and not report.verdict.interrupted:
        change = judged(before, report, limit)
        screen.print(Text(f"baseline: {change.sentence}", "red" if change.regressed or change.doubtful else "green"))
        status = 1 if change.regressed else status or UNDECIDED * change.doubtful
    if json is not None:
        screen.print(Text(f"report: {lab.export_report(report, json)}"))
    raise typer.Exit(INTERRUPTED if report.verdict.interrupted else status)


def _kind(text: str) -> BenchmarkType:
    if text == BenchmarkType.COMPARISON.value:
        raise OptionError("--type comparison needs two functions: hotlap compare a:f b:g")
    return BenchmarkType(choice(_KINDS)(text, "--type", True))


def _before(path: Path, called: Any, kind: BenchmarkType, config: Any, any_name: bool) -> BenchmarkReport:
    """The baseline. Raises OptionError unless it is of the same function, kind and load."""
    from ..lab.baseline import check
    from ..lab.export import load
    from ..lab.runs.subject import Subject

    before, name = load(path, "--baseline"), Subject(called).name
    check(before, kind)
    if before.benchmark_name != name and not any_name:
        raise OptionError(
            f"--baseline={str(path)!r} is of {before.benchmark_name!r}, and this is {name!r}: give a report of the "
            "same function, or --any-name to compare another implementation with it"
        )
    if kind is BenchmarkType.CONCURRENT:
        for option, field in (("--users", "concurrent_users"), ("--rate", "arrival_rate")):
            old, new = getattr(before.config, field), getattr(config, field)
            if old != new:
                raise OptionError(f"--baseline={str(path)!r} is of {option} {old}, and this is of {new}: give the same")
    return before
