"""What a command is to call: "module:function" or "path/file.py:function", and its arguments."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import OptionError
from ..readers import nearest

__all__ = ["arguments", "keywords", "load"]


def load(target: str) -> Callable[..., Any]:
    """The function, imported from the working directory or from where Python finds modules.

    Raises OptionError when there is no such module, file or function; what importing it raises goes through.
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
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise  # something that the module itself wants
        raise OptionError(
            f"there is no module {name!r}: give one that can be imported from here, or the path of a file"
        ) from error


def _file(place: str) -> Any:
    """A file is imported under its own name, from its directory, so that fresh processes find it as well."""
    path = Path(place)
    if not path.is_file():
        raise OptionError(f"there is no file {place}: give the path of a Python file, or the name of a module")
    if not path.stem.isidentifier():
        raise OptionError(f"{place} cannot be imported: {path.stem!r} is no Python name")
    sys.path.insert(0, str(path.resolve().parent))
    module = importlib.import_module(path.stem)
    if Path(getattr(module, "__file__", None) or "").resolve() != path.resolve():
        raise OptionError(f"{place} is hidden by the module {path.stem} that is imported already: rename the file")
    return module


def arguments(texts: Sequence[str]) -> tuple[Any, ...]:
    """Positional arguments: Python literals, and what is none is the text itself."""
    return tuple(_value(text) for text in texts)


def keywords(texts: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments, "name=value" each. Raises OptionError for a text without a name."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise OptionError(f"--kw {text!r} is no keyword argument: write name=value")
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
