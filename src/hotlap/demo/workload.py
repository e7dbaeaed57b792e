"""The service at work: rounds of indexing, archiving, searching, comparing and following imports."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

from hotlap import measure

from . import corpus, imports, outline, similar
from .archive import Archive
from .corpus import Source
from .index import Index
from .search import Searcher

_ROUND_FILES = 24
_ROUND_SEARCHES = 14
_ROUND_FOLLOWED = 6
_ASKED_FOR = """
    append argument buffer bytes cache callable close codec connection count data decode default encode error
    exception file format function header import index input iterator length line list lock loop message mode
    module name number object open output parse path pattern process queue read request return search socket
    start state string thread time token type value version warning write
"""


@dataclass
class Summary:
    """What the service has done so far."""

    rounds: int = 0
    files: set[Path] = field(default_factory=set)
    searches: int = 0
    imports: int = 0
    duplicates: set[tuple[Path, Path]] = field(default_factory=set)
    archived: int = 0


class Service:
    def __init__(self, directory: Path, work: Path, threads: ThreadPoolExecutor, done: Summary) -> None:
        self.directory = directory
        self.index = Index(work / "index.sqlite")
        self.searcher = Searcher(self.index)
        self.archive = Archive()
        self.threads = threads
        self.prints: dict[str, dict[Path, similar.Print]] = {}
        self.done = done
        self._random = random.Random(2)  # the same queries in each run
        self._words = _ASKED_FOR.split()
        self._files = cycle(corpus.files(directory))

    def round(self) -> None:
        sources = [corpus.read(path, package) for package, path in islice(self._files, _ROUND_FILES)]
        for source in sources:
            self.take_in(source)
        self.archive_all(sources)
        for number in range(_ROUND_SEARCHES):
            self.answer(number, " ".join(self._random.sample(self._words, 2)))
        for prints in self.prints.values():
            self.done.duplicates.update(similar.near_duplicates(list(prints.values())))
        some = self._random.sample(sources, _ROUND_FOLLOWED)
        self.done.imports += asyncio.run(imports.follow(some, self.index, self.directory))
        self.done.searches += _ROUND_SEARCHES
        self.done.archived = len(self.archive)
        self.done.rounds += 1

    def take_in(self, source: Source) -> None:
        with measure("take in", size=len(source.text)):
            words = outline.words(source.text)
            file = self.index.add(source, outline.definitions(source.text), words)
            self.searcher.add(file, words)
            prints = self.prints.setdefault(source.package, {})
            prints[source.path] = similar.Print(source.path, outline.fingerprint(source.text))
            self.done.files.add(source.path)

    def archive_all(self, sources: list[Source]) -> None:
        names = [str(source.path) for source in sources]
        list(self.threads.map(self.archive.keep, names, [source.text.encode() for source in sources]))
        for name in names:
            self.archive.checksum(name)

    def answer(self, number: int, query: str) -> None:
        best = self.searcher.search(query)
        self.archive.keep(f"answer {number}", "\n".join(file.path for file in best).encode())


def run(seconds: float, done: Summary, after_round: Callable[[], object] = lambda: None) -> None:
    """Works for about `seconds`, at least one round; keeps `done` up to date."""
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="hotlap-demo-") as work, ThreadPoolExecutor(4) as threads:
        service = Service(corpus.root(), Path(work), threads, done)
        try:
            while done.rounds == 0 or time.monotonic() < until:
                service.round()
                after_round()
        finally:
            service.index.close()
