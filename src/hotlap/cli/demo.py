"""`hotlap demo`: the recorder at work on real input, the running Python's standard library."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

import hotlap

from ..config import Config, load
from ..errors import HotlapError
from ..model import Cycle
from ..sinks.jsonfile import FileSink
from . import report
from .output import console, count, duration, table

if TYPE_CHECKING:
    from ..demo import Summary

# In a run, so that a finding can come back; the last one is half a window and what comes over time.
_WINDOWS = 5
_SHORTEST_WINDOW_S = 1.0
_LIVE_ROWS = 20


def demo(
    seconds: Annotated[float, typer.Option(min=0.1, help="How long the workload runs.")] = 20.0,
    save: Annotated[Path | None, typer.Option(help="Also write the reports to this file, as JSON.")] = None,
) -> None:
    """Index, search and compare Python's own standard library, and report on the code that does it."""
    try:
        from ..demo import Summary, run  # here, because the other commands need none of what it imports
    except ModuleNotFoundError as error:
        raise HotlapError(f"the demo needs {error.name}, which this Python was built without") from None

    out = console()
    cycles: list[Cycle] = []
    file = FileSink(save, "--save") if save is not None else None
    interval_s = max(_SHORTEST_WINDOW_S, seconds / (_WINDOWS - 0.5))
    out.print(f"Working on Python's own standard library for {duration(seconds)}. Ctrl-C ends it earlier.")
    hotlap.start(interval=interval_s, sinks=[cycles.append])
    started = time.monotonic()
    done = Summary()
    try:
        with _progress(out, started, seconds, done) as shown, contextlib.suppress(KeyboardInterrupt):
            run(seconds, done, after_round=shown)
    finally:
        hotlap.stop()  # with a last cycle
    _show(out, done, time.monotonic() - started, cycles, interval_s)
    if file is not None and cycles:
        file.emit(report.fullest(cycles))
        out.print(f"\nReports of one window are in {save}. What each rule says about a site:")
        out.print(f"  hotlap rules --report {save} --site NAME", soft_wrap=True)


@contextlib.contextmanager
def _progress(out: Console, started: float, seconds: float, done: Summary) -> Iterator[Callable[[], None]]:
    """Shows how it goes: a live table on a terminal, otherwise a line now and then. Gives what to call."""

    def line() -> str:
        return f"{time.monotonic() - started:5.1f} s of {seconds:g}: {_done(done)}"

    if out.is_terminal:
        with Live(
            get_renderable=lambda: Group(Text(line()), _live_table()),
            console=out,
            refresh_per_second=2,
            transient=True,
        ):
            yield lambda: None
        return
    next_at = started + min(2.0, seconds / 4)

    def print_line() -> None:
        nonlocal next_at
        if time.monotonic() >= next_at:
            out.print(line())
            next_at = time.monotonic() + max(2.0, seconds / 10)

    yield print_line


def _done(done: Summary) -> str:
    return (
        f"{count(len(done.files), 'file')} indexed, {done.archived:,} archived, "
        f"{count(done.searches, 'search', 'searches')}, {count(done.imports, 'import')} followed, "
        f"{count(len(done.duplicates), 'pair')} of near-duplicates"
    )


def _live_table() -> Any:
    """The busiest sites so far, exact since the start."""
    rows = table("site", *(numbers := ("calls", "errors", "in flight", "time", "p50", "p99")), right=numbers)
    sites = sorted(hotlap.snapshot().items(), key=lambda item: -item[1].total_ns)
    for name, site in sites[:_LIVE_ROWS]:
        if site.calls:
            rows.add_row(
                name,
                f"{site.calls:,}",
                f"{site.errors:,}",
                f"{site.in_flight}",
                duration(site.total_ns / 1e9),
                duration(site.quantiles.get(0.5)),
                duration(site.quantiles.get(0.99)),
            )
    return rows


def _show(out: Console, done: Summary, took_s: float, cycles: list[Cycle], interval_s: float) -> None:
    out.print(f"\n{_done(done)}, in {duration(took_s)}.")
    if not any(cycle.reports for cycle in cycles):
        off = load().disabled
        out.print("Nothing was recorded: " + ("HOTLAP_DISABLED is set." if off else "the log says what failed."))
        return
    out.print("\n[bold]Sites[/bold] (calls, errors and time: the whole run; the rest: the last window)\n")
    out.print(report.scores(cycles))
    out.print("\n[bold]Findings[/bold] (from measurement alone)\n")
    for paragraph in report.findings(report.lasting(cycles)):
        out.print(paragraph)
    # Short windows make it look dear: what a cycle costs hardly depends on the window's length.
    out.print(
        "[bold]The recorder's own cost[/bold] (as it measured it; "
        f"a cycle every {duration(interval_s)} here, every {duration(Config().interval)} by default)"
    )
    for line in report.cost(cycles):
        out.print(f"  {line}")
