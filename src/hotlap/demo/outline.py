"""What a source consists of: the names it defines, the words it uses, and a fingerprint of its lines."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from hotlap import benchmark

_DEFINITION = re.compile(r"(?:async )?(def|class) (\w+)")
_WORD = re.compile(r"[a-z_]{3,}")


class Definition(NamedTuple):
    name: str
    kind: str
    line: int


@benchmark(size=len)
def definitions(text: str) -> list[Definition]:
    """What is defined at the top level, in the order of the lines."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        match = _DEFINITION.match(line)
        if match:
            found.append(Definition(match[2], "class" if match[1] == "class" else "function", number))
    return found


@benchmark(size=len)
def words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


@benchmark(size=len)
def fingerprint(text: str) -> frozenset[int]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return frozenset(hash(pair) for pair in pairwise(lines))
