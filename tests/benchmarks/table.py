"""The row of a benchmark's result and how rows are printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One figure. The ratio is judged, or the median if there is none; aim and limit are in its unit."""

    name: str
    least: float | None = None
    median: float | None = None
    unit: str = "ns"
    ratio: float | None = None
    against: str = ""
    aim: float | None = None
    limit: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        judged = self.median if self.ratio is None else self.ratio
        if self.limit is None:
            return ""
        if judged is None:
            return "not measured"
        if judged > self.limit:
            return "OVER"
        return "ok, over aim" if self.aim is not None and judged > self.aim else "ok"

    def cells(self) -> tuple[str, ...]:
        return (
            self.name,
            _number(self.least),
            _number(self.median),
            self.unit if self.median is not None else "",
            "" if self.ratio is None else f"{self.ratio:.3f}",
            self.against,
            _number(self.aim),
            _number(self.limit),
            self.verdict,
        )


HEAD = ("", "least", "median", "", "ratio", "of", "aim", "limit", "")
_RIGHT = (False, True, True, False, True, False, True, True, False)


def render(title: str, rows: Sequence[Row]) -> str:
    """The rows as a table of text, notes below it."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    text = [title, ""]
    for line in lines:
        cells = zip(line, widths, _RIGHT, strict=True)
        text.append("  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells))
    text += [f"  {row.name.strip()}: {row.note}" for row in rows if row.note]
    return "\n".join(line.rstrip() for line in text) + "\n"


def dumps(rows: Sequence[Row]) -> str:
    """Rows as one line of JSON, to pass them from a subprocess."""
    return json.dumps([asdict(row) for row in rows])


def loads(line: str) -> list[Row]:
    return [Row(**fields) for fields in json.loads(line)]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.3g}"
