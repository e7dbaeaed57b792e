"""Search: which files are about these words, best first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hotlap import benchmark, measure

from .index import File, Index


class Searcher:
    def __init__(self, index: Index) -> None:
        self.index = index
        self.vocabularies: dict[int, frozenset[str]] = {}

    def add(self, file: int, words: frozenset[str]) -> None:
        self.vocabularies[file] = words

    @benchmark
    def rarity(self, word: str) -> float:
        """The inverse document frequency of a word, in the singular or plural."""
        plural = f"{word}s"
        among = sum(1 for words in self.vocabularies.values() if word in words or plural in words)
        return math.log(len(self.vocabularies) / (1 + among))

    @benchmark
    def hits(self, word: str) -> list[File]:
        return [self.index.file(id) for id in self.index.files_with(word)]

    @benchmark
    def ranked(self, files: Sequence[File], words: Sequence[str]) -> list[File]:
        scores = {}
        for file in files:
            vocabulary = self.vocabularies[file.id]
            matching = [word for word in words if word in vocabulary]
            scores[file] = sum(self.rarity(word) for word in matching) / math.log(2 + file.length)
        return sorted(scores, key=lambda file: -scores[file])

    def search(self, query: str) -> list[File]:
        with measure("search") as measurement:
            words = query.split()
            files = {file for word in words for file in self.hits(word)}
            best = self.ranked(sorted(files), words)
            measurement.record(hits=len(best))
        return best[:10]
