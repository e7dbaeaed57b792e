"""Reports as JSON files: written as a whole or not at all, and read back to what was written.

Numbers are not rounded: json writes a float so that reading gives the same float. What is not finite has no place in
JSON and is written as null, as None is.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..errors import OptionError, OptionTypeError
from ..model import BenchmarkResult, Finding
from ..options import BenchmarkType
from .config import BenchmarkConfig
from .report import BenchmarkMetrics, BenchmarkReport, Failure, Mark, RunVerdict

__all__ = ["FORMAT", "VERSION", "dumps", "export", "load", "loads"]

FORMAT = "hotlap.benchmark"
VERSION = 1
_FUNCTIONS = ("setup", "teardown", "progress")  # of a config: named in the file, not kept


def dumps(report: BenchmarkReport) -> str:
    """The report as JSON text. Raises OptionTypeError for anything else."""
    if not isinstance(report, BenchmarkReport):
        raise OptionTypeError(f"report={report!r} is no BenchmarkReport: give what a benchmark method returned")
    return json.dumps({"format": FORMAT, "version": VERSION, **_plain(report)}, indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """The value in the types that JSON has."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, BenchmarkConfig):
        config = {field.name: getattr(value, field.name) for field in fields(value)}
        for name in _FUNCTIONS:
            given = config[name]
            config[name] = getattr(given, "__qualname__", type(given).__name__) if callable(given) else given
        return config
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)  # a parameter of a grid may be anything


def export(report: BenchmarkReport, path: str | os.PathLike[str] | None = None) -> Path:
    """Write the report, to a file of its own in the working directory unless told where. Returns the path.

    Raises OptionError when the directory does not exist or the path is one.
    """
    text = dumps(report)
    target = Path(path) if path is not None else _free_name(report)
    if not target.parent.is_dir():
        raise OptionError(f"path={str(target)!r} is in no existing directory: create {target.parent} first")
    if target.is_dir():
        raise OptionError(f"path={str(target)!r} is a directory: give the path of a file in it")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _free_name(report: BenchmarkReport) -> Path:
    """ "benchmark_parse_20260131_120000.json", with a number when that is taken."""
    name = re.sub(r"[^\w.-]+", "_", report.benchmark_name).strip("._") or "report"
    stem = f"benchmark_{name}_{time.strftime('%Y%m%d_%H%M%S', time.localtime(report.timestamp))}"
    path, number = Path(f"{stem}.json"), 1
    while path.exists():
        number += 1
        path = Path(f"{stem}_{number}.json")
    return path


def load(path: str | os.PathLike[str]) -> BenchmarkReport:
    """Read a report. Raises OptionError, with what is wrong, for a file that is damaged or no report of ours."""
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise OptionError(f"path={str(source)!r} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise OptionError(f"{source} is no report: it is not text ({error.reason} at byte {error.start})") from error
    return loads(text, str(source))


def loads(text: str, name: str = "the text") -> BenchmarkReport:
    """A report from its JSON text; `name` is what messages call it. Raises OptionError."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise OptionError(f"{name} is damaged, or no report: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise OptionError(f"{name} is no report of a benchmark: its format is {found!r}, not {FORMAT!r}")
    if document.get("version") != VERSION:
        raise OptionError(
            f"{name} has version {document.get('version')!r} of the format, this hotlap reads {VERSION}: "
            "read it with the hotlap that wrote it"
        )
    try:
        return _report({key: value for key, value in document.items() if key not in {"format", "version"}})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OptionError(f"{name} is damaged: {type(error).__name__}: {error}") from error


def _report(given: dict[str, Any]) -> BenchmarkReport:
    _check(given, BenchmarkReport)
    config = {key: value for key, value in given["config"].items() if key not in _FUNCTIONS}
    verdict = given["verdict"]
    return BenchmarkReport(
        **{
            **given,
            "benchmark_type": BenchmarkType(given["benchmark_type"]),
            "config": BenchmarkConfig(**config),
            "metrics": [BenchmarkMetrics(**each) for each in given["metrics"]],
            "result_category": None if given["result_category"] is None else BenchmarkResult(given["result_category"]),
            "findings": [Finding(**each) for each in given["findings"]],
            "failures": [Failure(**{**each, "patterns": tuple(each["patterns"])}) for each in given["failures"]],
            "verdict": RunVerdict(
                complete=verdict["complete"],
                marks=tuple(Mark(**each) for each in verdict["marks"]),
                notes=tuple(verdict["notes"]),
            ),
        }
    )


def _check(given: Mapping[str, Any], kind: type) -> None:
    """All fields are there, and of the kind of container that they must be."""
    names = {field.name for field in fields(kind)}
    if missing := sorted(names - set(given)):
        raise ValueError(f"it has no {', '.join(missing)}")
    if unknown := sorted(set(given) - names):
        raise ValueError(f"it has {', '.join(unknown)}, which no report has")
    for name in ("metrics", "recommendations", "findings", "failures"):
        if not isinstance(given[name], list):
            raise TypeError(f"{name} is no list")
    for name in ("config", "summary", "environment", "verdict", "overhead", "details", "parameters"):
        if not isinstance(given[name], dict):
            raise TypeError(f"{name} is no object")
    if not isinstance(given["benchmark_name"], str):
        raise TypeError("benchmark_name is no text")
    for name in ("timestamp", "performance_score"):
        if given[name] is not None and (isinstance(given[name], bool) or not isinstance(given[name], (int, float))):
            raise TypeError(f"{name} is no number")
