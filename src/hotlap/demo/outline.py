"""What a source consists of: the names it defines, the words it uses, and a fingerprint of its lines."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from typing import NamedTuple

from hotlap import benchmark

_WORD = re.compile(r"[a-z_]{3,}")


class Definition(NamedTuple):
    name: str
    kind: str
    line: int


@benchmark(size=len)
def definitions(text: str) -> list[Definition]:
    found = []
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append(Definition(node.name, "function", node.lineno))
        elif isinstance(node, ast.ClassDef):
            found.append(Definition(node.name, "class", node.lineno))
    return found


@benchmark(size=len)
def words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


@benchmark(size=len)
def fingerprint(text: str) -> frozenset[int]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return frozenset(hash(pair) for pair in pairwise(lines))
