"""Near-duplicates: files of one package that share most of their lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hotlap import benchmark


class Print(NamedTuple):
    path: Path
    lines: frozenset[int]


@benchmark(size=len)
def near_duplicates(prints: Sequence[Print]) -> list[tuple[Path, Path]]:
    found = []
    for one in prints:
        for other in prints:
            if one.path < other.path:
                shared = len(one.lines & other.lines)
                if shared > 0.6 * len(one.lines | other.lines):
                    found.append((one.path, other.path))
    return found
