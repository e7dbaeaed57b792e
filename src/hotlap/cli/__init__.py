"""The command line. Exit codes: 0 done (findings are no error), 1 something failed, 2 wrong usage, 3 undecided (of
`bench` with a baseline), 130 after Ctrl-C.

Nothing here is imported with `import hotlap`; typer and rich come with the extra `cli`:

    app       the commands put together
    output    the console, and numbers as text
    report    reports as tables and paragraphs; lab, kinds: those of the lab
    target    what the lab's commands call; gate: how they end
    doctor, config, rules, demo, bench, compare    one command each
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from ..errors import HotlapError, MissingExtraError, OptionError, OptionTypeError

__all__ = ["main"]

_NEEDED = ("typer", "rich")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line with `arguments` (default: those of the process) and exits."""
    try:
        from .app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        _fail("the command line needs typer and rich: pip install 'hotlap[cli]'", 2)
    try:
        app(args=None if arguments is None else list(arguments), prog_name="hotlap")
    except (OptionError, OptionTypeError, MissingExtraError) as error:
        _fail(str(error), 2)
    except HotlapError as error:
        _fail(str(error), 1)
    raise SystemExit(0)


def _fail(message: str, code: int) -> NoReturn:
    print(f"hotlap: {message}", file=sys.stderr)
    raise SystemExit(code)
