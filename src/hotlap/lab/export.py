"""Reports as JSON files: written as a whole or not at all, and read back to what was written.

Numbers are not rounded: json writes a float so that reading gives the same float. What is not finite has no place in
JSON and is written as null, as None is.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import fields
from pathlib import Path
from typing import Any, TextIO, TypedDict

from .. import readers
from ..errors import OptionError, OptionTypeError
from .config import BenchmarkConfig
from .plain import FUNCTIONS, plain
from .report import BenchmarkReport
from .typed import Signed, typed

__all__ = ["FORMAT", "VERSION", "check", "dumps", "export", "load", "loads"]

FORMAT = "hotlap.benchmark"
VERSION = 1


def dumps(report: BenchmarkReport) -> str:
    """The report as JSON text. Raises OptionTypeError for anything else."""
    if not isinstance(report, BenchmarkReport):
        raise OptionTypeError(f"report={report!r} is no BenchmarkReport: give what a benchmark method returned")
    return json.dumps({"format": FORMAT, "version": VERSION, **plain(report)}, indent=1, allow_nan=False) + "\n"


def export(report: BenchmarkReport, path: str | os.PathLike[str] | None = None) -> Path:
    """Write the report, to a file of its own in the working directory unless told where. Returns the path.

    Raises OptionError where no file can be written, as in a directory that does not exist; OptionTypeError for what
    is no report, or no path.
    """
    text = dumps(report)
    target = _free_name(report) if path is None else _path(path)
    part, file = _begun(target)
    try:
        with file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target


def check(path: str | os.PathLike[str], name: str = "path") -> None:
    """Raise what `export` would, before the work is done whose report is to be written; `name` is that of the option.

    Nothing is written but an empty file beside it, which is removed.
    """
    part, file = _begun(_path(path, name), name)
    file.close()
    part.unlink()


def _path(path: Any, name: str = "path") -> Path:
    if path is None:
        raise OptionTypeError(f"{name}=None has the wrong type: give the path of a file")
    return Path(str(readers.path(path, name, False)))


def _begun(target: Path, name: str = "path") -> tuple[Path, TextIO]:
    """The file that takes the place of the target once all is written."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if target.is_dir():
            raise OptionError(f"{name}={str(target)!r} is a directory: give the path of a file in it")
        if not target.parent.is_dir():
            raise OptionError(f"{name}={str(target)!r} is in no existing directory: create {target.parent} first")
        if target.exists() and not target.is_file():
            raise OptionError(f"{name}={str(target)!r} is no regular file, and would be replaced: give another path")
        return part, part.open("w", encoding="utf-8")
    except OptionError:
        raise
    except (OSError, ValueError) as error:
        raise OptionError(
            f"{name}={str(target)!r} cannot be written ({_why(error)}): give the path of a file that can"
        ) from error


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _free_name(report: BenchmarkReport) -> Path:
    """ "benchmark_parse_20260131_120000.json", with a number when that is taken."""
    name = re.sub(r"[^\w.-]+", "_", report.benchmark_name).strip("._") or "report"
    stem = f"benchmark_{name}_{time.strftime('%Y%m%d_%H%M%S', time.localtime(report.timestamp))}"
    path, number = Path(f"{stem}.json"), 1
    while path.exists():
        number += 1
        path = Path(f"{stem}_{number}.json")
    return path


def load(path: str | os.PathLike[str], name: str = "path") -> BenchmarkReport:
    """Read a report; `name` is that of the option, for messages.

    Raises OptionError, with what is wrong, for a file that is damaged or no report of ours, and OptionTypeError for
    what is no path.
    """
    source = _path(path, name)
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise OptionError(f"{source} is no report: it is not text ({error.reason} at byte {error.start})") from error
    except (OSError, ValueError) as error:
        raise OptionError(f"{name}={str(source)!r} cannot be read: {_why(error)}; give the path of a report") from error
    return loads(text, str(source))


def loads(text: str, name: str = "the text") -> BenchmarkReport:
    """A report from its JSON text; `name` is what messages call it. Raises OptionError."""
    try:
        document = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise OptionError(f"{name} is damaged, or no report: {why}") from error
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
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name} is damaged: {error}; take a copy of it that is whole, or measure again") from error


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _report(given: dict[str, Any]) -> BenchmarkReport:
    report: BenchmarkReport = typed(given, BenchmarkReport, own={BenchmarkConfig: _config})
    typed(report.summary, _Summary, "summary")
    if report.summary["iterations"] != len(report.metrics):
        raise ValueError(
            f"summary.iterations={report.summary['iterations']} must be the number of metrics, which is "
            f"{len(report.metrics)}"
        )
    return report


def _config(value: Any, place: str) -> BenchmarkConfig:
    """It checks itself."""
    if not isinstance(value, dict):
        raise ValueError(f"{place} must be an object")
    known = {field.name for field in fields(BenchmarkConfig)}
    if unknown := sorted(value.keys() - known):
        raise ValueError(f"{place} has {unknown[0]!r}, which no BenchmarkConfig has")
    try:
        return BenchmarkConfig(
            **{name: each for name, each in value.items() if name not in FUNCTIONS or isinstance(each, bool)}
        )
    except (OptionError, OptionTypeError) as error:
        raise ValueError(f"{place}.{error}") from error


_Ends = tuple[Signed, Signed]


class _Intervals(TypedDict, total=False):
    avg_execution_time: _Ends | None
    p50_execution_time: _Ends | None
    p95_execution_time: _Ends | None
    p99_execution_time: _Ends | None


class _ProcessMeans(TypedDict):
    processes: int
    means_s: list[float]
    mean_s: float
    interval_s: _Ends | None


class _MaySay(TypedDict, total=False):
    confidence_intervals: _Intervals
    process_means: _ProcessMeans


class _Summary(_MaySay):
    """What a summary has, as far as anybody reads it: see summarise()."""

    avg_execution_time: float | None
    min_execution_time: float | None
    max_execution_time: float | None
    std_execution_time: float | None
    p50_execution_time: float | None
    p95_execution_time: float | None
    p99_execution_time: float | None
    avg_memory_usage: float | None
    min_memory_usage: float | None
    max_memory_usage: float | None
    std_memory_usage: float | None
    avg_cpu_usage: float | None
    min_cpu_usage: float | None
    max_cpu_usage: float | None
    std_cpu_usage: float | None
    avg_throughput: float | None
    avg_latency: float | None
    success_rate: float | None
    error_rate: float | None
    iterations: int
    loops: int
    calls: int
    seconds: float
