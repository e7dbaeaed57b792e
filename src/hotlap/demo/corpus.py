"""The sources: the modules of the standard library, package by package, without its tests."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import NamedTuple

from hotlap import benchmark

_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "lib-dynload", "__pycache__"}
_SHORTEST_BYTES, _LONGEST_BYTES = 2_000, 25_000  # without stubs and generated tables


class Source(NamedTuple):
    path: Path
    package: str
    text: str


def root() -> Path:
    """The directory of the running Python's standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def files(directory: Path) -> list[tuple[str, Path]]:
    """The source files below a directory, each with the name of its package."""
    found = []
    for path in sorted(directory.rglob("*.py")):
        parents = path.relative_to(directory).parts[:-1]
        if _LEFT_OUT.isdisjoint(parents) and _SHORTEST_BYTES <= path.stat().st_size <= _LONGEST_BYTES:
            found.append((".".join(parents) or "(top)", path))
    return found


@benchmark(type="i_o")
def read(path: Path, package: str) -> Source:
    return Source(path, package, path.read_text(encoding="utf-8", errors="replace"))
