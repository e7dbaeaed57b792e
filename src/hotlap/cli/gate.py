"""Gate: how much slower a function may be, and the exit statuses beside 0, 1 and 2."""

from __future__ import annotations

from typing import Annotated

import typer

from ..readers import number

__all__ = ["INTERRUPTED", "UNDECIDED", "MaxSlower", "allowed"]

UNDECIDED = 3  # neither passed nor failed: what else ran on the machine may be why
INTERRUPTED = 130  # as shells have it: 128 and the number of SIGINT

MaxSlower = Annotated[float | None, typer.Option(help="Percent that it may be slower; more is a failure.")]


def allowed(percent: float) -> float:
    """--max-slower as a fraction. Raises OptionError for what is no percentage."""
    read = number(0.0, 1e6, "percent from 0 to 1,000,000")
    return float(read(percent, "--max-slower", False)) / 100.0
