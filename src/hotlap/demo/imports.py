"""Which modules a module needs: follows its import statements to their sources (asyncio)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from hotlap import benchmark

from .corpus import Source
from .index import Index

_IMPORT = re.compile(r"^(?:import|from) (\w[\w.]*)", re.MULTILINE)


@benchmark
def source_of(module: str, directory: Path) -> Path:
    """The file that holds a module's source. Raises LookupError when there is none."""
    path = directory.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    raise LookupError(f"no source for module {module!r}")


def imported(text: str) -> list[str]:
    """The modules that a source imports at its top level, each once."""
    return list(dict.fromkeys(_IMPORT.findall(text)))


@benchmark
async def needed_by(source: Source, index: Index, directory: Path) -> dict[str, int]:
    """The modules that a source imports, with the number of their definitions."""
    needed = {}
    for module in imported(source.text):
        try:
            path = source_of(module, directory)
        except LookupError:
            continue
        needed[module] = len(index.defined_in(path))
        await asyncio.sleep(0)
    return needed


async def follow(sources: list[Source], index: Index, directory: Path) -> int:
    """How many imports of these sources could be followed; takes three sources at a time."""
    gate = asyncio.Semaphore(3)

    async def one(source: Source) -> int:
        async with gate:
            return len(await needed_by(source, index, directory))

    return sum(await asyncio.gather(*(one(source) for source in sources)))
