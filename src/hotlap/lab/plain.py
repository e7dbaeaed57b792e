"""Plain: values in the types that JSON has, so that a report is read back as it was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from .config import BenchmarkConfig

__all__ = ["FUNCTIONS", "plain"]

FUNCTIONS = ("setup", "teardown", "progress")  # of a config: named in the file, not kept


def plain(value: Any) -> Any:
    """The value in the types that JSON has."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, BenchmarkConfig):
        config = {field.name: getattr(value, field.name) for field in fields(value)}
        for name in FUNCTIONS:
            given = config[name]
            config[name] = getattr(given, "__qualname__", type(given).__name__) if callable(given) else given
        return config
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(each) for each in value]
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)  # a parameter of a grid may be anything
