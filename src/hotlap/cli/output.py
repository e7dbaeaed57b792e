"""The console, and numbers as text. Numbers are formatted here and nowhere before."""

from __future__ import annotations

import importlib.metadata
import math
import os
import sys

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from ..rules import words

_PIPED_WIDTH = 120  # characters of a line when nobody's terminal says
_WIDE = 10_000  # characters: as if there were room for all


def console() -> Console:
    """A console on what is standard output now; in a pipe or file plain text of a fixed width."""
    fixed = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH
    return Console(highlight=False, soft_wrap=False, width=fixed)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table with these columns, the ones in `right` aligned to the right."""
    result = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        if column in right:
            result.add_column(column, justify="right", no_wrap=True)
        else:
            result.add_column(column, overflow="fold")
    return result


def fitted(rows: Table, screen: Console, *drop: int) -> Table:
    """The table for a screen that may be narrow: columns that do not wrap stay whole, others fold, and of those in
    `drop` (by number, the least important first) so many are left out that there is room. A number that is cut off
    would be another number.
    """
    kept = list(range(len(rows.columns)))
    for column in (None, *drop):
        kept = [each for each in kept if each != column]
        result = _of(rows, kept, screen.width)
        if Measurement.get(screen, screen.options.update_width(_WIDE), result).minimum <= screen.width:
            return result
    return _of(rows, kept, 0)  # all of it folds


def _of(rows: Table, kept: list[int], width: int) -> Table:
    """A table with some of the columns; one that does not wrap gets the room it needs."""
    columns = [rows.columns[number] for number in kept]
    result = table(*(str(column.header) for column in columns))
    result.show_header = rows.show_header
    for column, made in zip(columns, result.columns, strict=True):
        made.justify = column.justify
        whole = max((cell_len(str(cell)) for cell in (column.header, *column.cells)), default=0)
        if column.no_wrap and whole <= width:
            made.no_wrap, made.min_width = True, whole
    for cells in zip(*(column.cells for column in columns), strict=True):
        result.add_row(*cells)
    return result


def near(location: str) -> str:
    """A place in the source as short as it is still found: from here, or from where Python finds modules."""
    for start in (os.getcwd(), *sys.path):
        if start and location.startswith(start.rstrip(os.sep) + os.sep):
            return location[len(start.rstrip(os.sep)) + 1 :]
    return location


def version(distribution: str) -> str | None:
    """The installed version, or None when it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def duration(seconds: float | None) -> str:
    """Three digits and a unit: "1.24 ms"; "-" when there is none."""
    return "-" if seconds is None else words.duration(seconds)


def digits(value: float) -> str:
    """Three significant digits, or all of the whole part: 0.0123, 1.24, 35.7, 1,204."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def share(fraction: float | None) -> str:
    """A fraction as per cent: "0.21 %"; "-" when there is none."""
    return "-" if fraction is None else f"{digits(100 * fraction)} %"


def count(number: int, noun: str, nouns: str = "") -> str:
    """ "1 file", "1,200 files"; `nouns` where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def number(value: float | int | str | None) -> str:
    """A value of a finding's evidence."""
    if value is None:
        return "-"
    if isinstance(value, (str, bool)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else digits(value)
