"""`hotlap config`: each option, its value, where that came from, and how to set it."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text

from ..config import explain, load
from .output import console, table


def config() -> None:
    """Show every option with its value, its source and its environment variable."""
    rows = table("option", "value", "from", "help")
    for row in explain(load()):
        changed = "bold" if row.source != "default" else ""
        rows.add_row(
            Text.assemble((row.name, changed), (f"\n{row.env}" if row.env else "", "dim")),
            Text(as_text(row.value), style=changed),
            Text(row.source),
            Text(row.help),
        )
    console().print(rows)


def as_text(value: object) -> str:
    """A value as it would be written in the environment."""
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(map(as_text, value))
    if isinstance(value, Mapping):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
