"""The newest cycle with calls as a JSON file, for `hotlap rules --report` and whatever else reads JSON.

The file is replaced as a whole: a reader sees one cycle or the next, never half of one. Processes that write
to one path replace each other's, so a "{pid}" in the file's name stands for the process id. Ids of traces
and spans are hexadecimal text, as everywhere in OpenTelemetry; what is not finite is null.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from ..model import Verdict

if TYPE_CHECKING:
    from ..model import Cycle

FORMAT = "hotlap.cycle"
VERSION = 1
_PID = "{pid}"


class FileSink:
    """Writes each cycle with calls over the last one. Raises OptionError for a path that can be no file.

    `name` is the option that gave the path, for the message.
    """

    def __init__(self, path: str | Path, name: str = "report_path") -> None:
        self._path = Path(path)
        self._written = False
        if not self._path.parent.is_dir():
            raise OptionError(f"{name}={str(path)!r} is in no existing directory: create {self._path.parent} first")
        if self._path.is_dir():
            raise OptionError(f"{name}={str(path)!r} is a directory: give the path of a file in it")

    @property
    def path(self) -> Path:
        """Where this process writes."""
        return self._path.with_name(self._path.name.replace(_PID, str(os.getpid())))

    def emit(self, cycle: Cycle) -> None:
        if not cycle.reports and self._written:
            return  # the last cycle, at stop, is often empty: it must not take away what there is to read
        # In the same directory, so that the replacement is atomic; with the pid: a forked child has its own.
        path = self.path
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            part.write_text(dumps(cycle), encoding="utf-8")
            os.replace(part, path)
            self._written = True
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def dumps(cycle: Cycle) -> str:
    """The cycle, which is of this process, as JSON text, one line."""
    document = {"format": FORMAT, "version": VERSION, "pid": os.getpid(), **_plain(cycle)}
    return json.dumps(document, allow_nan=False, separators=(",", ":")) + "\n"


def read(path: str | Path) -> dict[str, Any]:
    """The document that FileSink wrote. Raises OptionError for a missing file or another one."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OptionError(
            f"{str(path)!r} does not exist: set report_path (HOTLAP_REPORT_PATH) where the program runs"
        ) from None
    except (OSError, ValueError) as error:
        raise OptionError(f"{str(path)!r} cannot be read as a report: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise OptionError(f"{str(path)!r} is no report of hotlap: give the file that report_path names")
    if document.get("version") != VERSION:
        raise OptionError(
            f"{str(path)!r} has version {document.get('version')!r} of the format, and this hotlap reads "
            f"version {VERSION}: use the same version of hotlap on both sides"
        )
    return document


def _plain(value: Any, name: str = "") -> Any:
    """The value in JSON's own types."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        width = {"trace_id": 32, "span_id": 16}.get(name)
        return format(value, f"0{width}x") if width else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Verdict):
        return {
            "rule": value.rule,
            "judged": value.judged,
            "reason": value.reason,
            "finding": _plain(value.finding),
        }
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name), field.name) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {key: _plain(item, key) for key, item in zip(value._fields, value, strict=True)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return str(value)
