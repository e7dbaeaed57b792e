"""What a command is to call: "module:function" or "path/file.py:function", its arguments, and how."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import OptionError
from ..readers import nearest
from .output import near

__all__ = ["Arg", "Kw", "Set", "arguments", "keywords", "load", "settings"]

_LITERALS = "a Python literal, or plain text that does not begin like one; repeat it."
Arg = Annotated[list[str] | None, typer.Option(help=f"A positional argument: {_LITERALS}")]
Kw = Annotated[list[str] | None, typer.Option(help=f"A keyword argument, name=value: {_LITERALS}")]

_EXAMPLES = "memory_limit=200, loops=1 or gc=off"
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help=f"Another option of BenchmarkConfig: {_EXAMPLES}; repeat it."),
]

_LITERAL = re.compile(r"""\s*([\[({'"]|[-+]?\d)""")  # begins like one
_FRAMES = 5  # of a traceback: the innermost


def load(target: str) -> Callable[..., Any]:
    """The function, imported from the working directory or from where Python finds modules.

    Raises OptionError when there is no such module, file or function, and when it cannot be imported.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise OptionError(f"{target!r} names no function: write module:function, or path/file.py:function")
    module = _file(place) if place.endswith(".py") else _module(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = [each for each in dir(found) if callable(getattr(found, each)) and not each.startswith("_")]
            raise OptionError(f"{place} has no {name}: {nearest(part, names) if names else 'it has no functions'}")
        found = getattr(found, part)
    if not callable(found):
        raise OptionError(f"{target} is {found!r}, which cannot be called: name a function")
    function: Callable[..., Any] = found
    return function


def _module(name: str) -> Any:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    return _imported(name, name)


def _file(place: str) -> Any:
    """A file is imported under its own name, from its directory, so that fresh processes find it as well."""
    path = Path(place)
    if not path.is_file():
        raise OptionError(f"there is no file {place}: give the path of a Python file, or the name of a module")
    if not path.stem.isidentifier():
        raise OptionError(f"{place} cannot be imported: {path.stem!r} is no Python name")
    sys.path.insert(0, str(path.resolve().parent))
    module = _imported(path.stem, place)
    if Path(getattr(module, "__file__", None) or "").resolve() != path.resolve():
        raise OptionError(f"{place} is hidden by the module {path.stem} that is imported already: rename the file")
    return module


def _imported(name: str, place: str) -> Any:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        lost = error.name if isinstance(error, ModuleNotFoundError) else None
        if lost is not None and (name == lost or name.startswith(lost + ".")):
            raise OptionError(
                f"there is no module {name!r}: give one that can be imported from here, or the path of a file"
            ) from error
        raise OptionError(f"{place} cannot be imported: {_told(error)}") from error


def _told(error: BaseException) -> str:
    """What importing raised, and in which of the user's lines, the innermost first."""
    said = [f"{type(error).__name__}: {error}"]
    if isinstance(error, SyntaxError) and error.filename is not None:
        said = [f"{type(error).__name__}: {error.msg}", f"  {near(error.filename)}:{error.lineno or 1}"]
        said += [f"    {error.text.strip()}"] if error.text else []
    elif isinstance(error, SystemExit):
        said[0] += " (put what a script does under `if __name__ == '__main__':`)"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    said += [f"  {near(frame.filename)}:{frame.lineno} in {frame.name}" for frame in reversed(frames[-_FRAMES:])]
    return "\n".join(said)


def _is_ours(file: str) -> bool:
    """A frame of the import, not of what is imported."""
    return file in {__file__, importlib.__file__} or file.startswith("<frozen importlib")


def arguments(texts: Sequence[str]) -> tuple[Any, ...]:
    """Positional arguments: Python literals; plain text is itself. Raises OptionError for what only begins like a
    literal.
    """
    return tuple(_value(text, f"--arg {text!r}") for text in texts)


def keywords(texts: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments, "name=value" each. Raises OptionError for a text without a name, and as `arguments`."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise OptionError(f"--kw {text!r} is no keyword argument: write name=value")
        found[name] = _value(value, f"--kw {text!r}")
    return found


def settings(texts: Sequence[str], *own: str) -> dict[str, Any]:
    """Options of BenchmarkConfig, "name=value" each, but for those that have an option of their `own`.

    Raises OptionError for what is no such option, and for a value that it cannot have.
    """
    from ..lab.config import from_text

    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise OptionError(f"--set {text!r} is no setting: write name=value, such as {_EXAMPLES}")
        if name in own:
            raise OptionError(f"--set {text!r}: {name} has an option of its own, see --help")
        found[name] = from_text(name, value)
    return found


def _value(text: str, option: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if _LITERAL.match(text):
            raise OptionError(
                f"{option} begins like a Python literal but is none: correct it, or quote what is meant as text, "
                "\"'like this'\""
            ) from None
        return text
