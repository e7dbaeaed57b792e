"""The command line's console, and numbers as text."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from hotlap.cli import output


def test_durations_have_three_digits_and_a_unit() -> None:
    """As in the rules' own sentences; a dash where there is none."""
    assert [output.duration(value) for value in (None, 25e-9, 0.0357)] == ["-", "25 ns", "35.7 ms"]


def test_numbers() -> None:
    """Whole numbers in full, others to three digits, texts as they are, nothing as a dash."""
    values = (None, "wall", True, 12345, 0.012345, 99.96, float("nan"))
    assert [output.number(value) for value in values] == [
        "-",
        "wall",
        "True",
        "12,345",
        "0.0123",
        "100",
        "nan",
    ]
    assert output.share(None) == "-"
    assert output.share(0.0021) == "0.21 %"


def test_one_is_singular() -> None:
    """Also where the plural is no noun with an s."""
    files = [output.count(number, "file") for number in (0, 1, 1200)]
    assert files == ["0 files", "1 file", "1,200 files"]
    assert output.count(1, "search", "searches") == "1 search"
    assert output.count(2, "search", "searches") == "2 searches"


def test_a_pipe_has_a_fixed_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines in a file do not depend on somebody's terminal; COLUMNS still says."""
    monkeypatch.delenv("COLUMNS", raising=False)
    assert output.console().width == 120
    monkeypatch.setenv("COLUMNS", "90")
    assert output.console().width == 90


def _shown(width: int, *drop: int) -> list[str]:
    screen = Console(width=width, file=io.StringIO())
    rows = output.table("function", "mean time", "verdict", right=("mean time",))
    rows.columns[0].no_wrap = True
    rows.add_row(Text("fns.py:Class.method"), "12.35 ms", "slower by 12 % [10 %, 14 %]")
    screen.print(output.fitted(rows, screen, *drop))
    return [line.rstrip() for line in screen.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_a_narrow_table_keeps_names_and_numbers_whole() -> None:
    """Words fold; then columns go, in the order that is given; a number is never cut off."""
    assert _shown(80)[-1] == "fns.py:Class.method    12.35 ms   slower by 12 % [10 %, 14 %]"
    folded = _shown(46, 2)
    assert folded[2].startswith("fns.py:Class.method    12.35 ms   slower by")
    assert "[10 %," in folded[3]
    assert _shown(35, 2) == ["function              mean time", "─" * 31, "fns.py:Class.method    12.35 ms"]
    assert _shown(20, 2, 1) == ["function", "─" * 19, "fns.py:Class.method"]


def test_where_not_even_the_name_has_room_it_folds() -> None:
    assert "".join(_shown(12, 2, 1)[2:]) == "fns.py:Class.method"


def test_a_place_is_as_short_as_it_is_still_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Relative to here, else to where Python finds modules, else as it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/somewhere/lib"])
    assert output.near(f"{tmp_path}/app/pay.py:12") == "app/pay.py:12"
    assert output.near("/somewhere/lib/shop/pay.py:3") == "shop/pay.py:3"
    assert output.near("/elsewhere/pay.py:3") == "/elsewhere/pay.py:3"
