"""The demo: its workload, and that measurement alone finds the mistakes left in it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import hotlap
from hotlap import core, monitor
from hotlap.cli import report
from hotlap.demo import Summary, archive, corpus, imports, index, outline, run, search, similar
from hotlap.model import Cycle

SITE = "hotlap.demo."

# The five mistakes: what is wrong, the site where it shows, and the rules of which one at least must say so.
PLANTED = {
    "one query for each hit instead of one for all (N+1)": ("index.Index.file", {"io.n_plus_one"}),
    "each file is compared with each other one": ("similar.near_duplicates", {"algorithm.growth"}),
    "a word's rarity is computed again for each hit": (
        "search.Searcher.rarity",
        {"io.n_plus_one", "algorithm.repeated"},
    ),
    "the lock is held while compressing": ("archive.Archive.keep", {"concurrency.contention", "io.waiting"}),
    "imports without source end in an exception": ("imports.source_of", {"errors.rate"}),
}

# These do their work as well as can be, and must not be accused of anything.
HEALTHY = [
    "archive.Archive.checksum",
    "corpus.read",
    "index.Index.add",
    "index.Index.defined_in",
    "index.Index.files_with",
    "outline.definitions",
    "outline.fingerprint",
    "outline.words",
]


@pytest.fixture(scope="module")
def own_options() -> Iterator[None]:
    """What the recorder is started with here is not left to the next test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor, "_options", {})
        yield


@pytest.fixture(scope="module")
def cycles(own_options: None) -> list[Cycle]:
    """Some seconds of the demo, as the recorder saw them: more where a tracer makes it do less in each."""
    seen: list[Cycle] = []
    # The core in Python would stop timing the most called functions to stay within 1 % of a core.
    hotlap.start(interval=2.0, budget=0.01 if core.NAME == "native" else 0.05, sinks=[seen.append])
    try:
        run(8.0 if sys.gettrace() is None else 20.0, Summary())
    finally:
        hotlap.stop()
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("mistake", PLANTED)
def test_each_planted_mistake_is_found(cycles: list[Cycle], mistake: str) -> None:
    """A finding of a fitting rule stands at the mistake's own site and line."""
    site, rules = PLANTED[mistake]
    found = [one.finding for one in report.lasting(cycles) if one.finding.site == SITE + site]
    assert rules & {finding.rule for finding in found}, found
    module = "/".join(("demo", site.partition(".")[0] + ".py:"))
    assert all(module in (finding.location or "") for finding in found)


@pytest.mark.slow
@pytest.mark.parametrize("site", HEALTHY)
def test_healthy_functions_are_not_accused(cycles: list[Cycle], site: str) -> None:
    """There is no lasting finding at a site that does nothing wrong."""
    assert [one.finding for one in report.lasting(cycles) if one.finding.site == SITE + site] == []


@pytest.mark.slow
def test_all_sites_are_scored_and_nothing_is_lost(cycles: list[Cycle]) -> None:
    """Each site of the workload has a report with a score; the ring kept all records."""
    scored = {site: each.score.value for site, each in report.latest(cycles).items()}
    wanted = {SITE + name for name in [*HEALTHY, *(site for site, _ in PLANTED.values())]} | {
        "search",
        "take in",
    }
    assert wanted <= set(scored)
    assert None not in scored.values()
    assert sum(cycle.context.records_lost for cycle in cycles) == 0


def test_the_workload_does_at_least_one_round() -> None:
    """However short the time, files are indexed, archived, searched and followed; each round is told."""
    done = Summary()
    rounds: list[int] = []
    run(0.0, done, after_round=lambda: rounds.append(done.rounds))
    assert rounds == [1]
    assert 10 < len(done.files) < done.archived
    assert done.searches > 0
    assert done.imports > 0


def test_the_corpus_is_the_standard_library_without_its_tests() -> None:
    """Modules everyone has are there, with their packages; test packages and what was installed are not."""
    files = corpus.files(corpus.root())
    names = {(package, path.name) for package, path in files}
    assert {("json", "decoder.py"), ("(top)", "shelve.py"), ("concurrent.futures", "thread.py")} <= names
    assert not any({"test", "tests", "site-packages"} & set(package.split(".")) for package, _ in files)


def test_outline_takes_a_source_apart() -> None:
    """Definitions at the top level with kind and line, words of three letters and more in lower case."""
    text = "import os\nclass Tree:\n    def leaf(self): ...\nasync def grow(): pass\n"
    assert outline.definitions(text) == [("Tree", "class", 2), ("grow", "function", 4)]
    assert outline.words(text) >= {"import", "class", "tree", "leaf", "self", "async", "grow"}
    assert len(outline.fingerprint(text)) == 3


def test_the_index_replaces_a_file_that_comes_again(tmp_path: Path) -> None:
    """The same path keeps its id; its old words are gone; another thread sees the same."""
    store = index.Index(tmp_path / "index.sqlite")
    path = tmp_path / "tree.py"
    first = store.add(corpus.Source(path, "wood", "x" * 7), [outline.Definition("Tree", "class", 1)], {"tree"})
    again = store.add(corpus.Source(path, "wood", "x" * 9), [outline.Definition("Bush", "class", 3)], {"bush"})
    assert first == again
    assert store.files_with("tree") == []
    assert store.files_with("bush") == [first]
    assert store.file(first) == (first, str(path), "wood", 9, 1, 1)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(store.defined_in(path)))
    thread.start()
    thread.join()
    assert seen == [[("Bush", "class", 3)]]
    store.close()


def test_search_puts_the_shortest_file_with_the_rarest_words_first(tmp_path: Path) -> None:
    """Files with one of the words are hits; more and rarer words, and less text, come first."""
    store = index.Index(tmp_path / "index.sqlite")
    searcher = search.Searcher(store)
    for name, words, length in (
        ("a", "tree leaf", 90),
        ("b", "tree", 90),
        ("c", "tree leaf", 10),
        ("d", "", 9),
    ):
        known = frozenset(words.split())
        searcher.add(store.add(corpus.Source(tmp_path / name, "wood", "x" * length), [], known), known)
    assert [Path(file.path).name for file in searcher.search("leaf tree")] == ["c", "a", "b"]
    store.close()


def test_near_duplicates_share_most_lines() -> None:
    """A pair is named once, in order."""
    prints = [
        similar.Print(Path(name), frozenset(lines))
        for name, lines in (("b", range(10)), ("a", range(1, 10)), ("c", range(5, 20)))
    ]
    assert similar.near_duplicates(prints) == [(Path("a"), Path("b"))]


def test_the_archive_keeps_one_copy_per_name() -> None:
    """Kept twice is there once; a checksum needs something kept."""
    kept = archive.Archive()
    kept.keep("a", b"1")
    one = kept.checksum("a")
    kept.keep("a", b"2")
    assert len(kept) == 1
    assert kept.checksum("a") != one


def test_imports_without_source_are_left_out(tmp_path: Path) -> None:
    """sys is built in and has no source; json has, and os.path is no file of its own."""
    with pytest.raises(LookupError, match="no source for module 'sys'"):
        imports.source_of("sys", corpus.root())
    store = index.Index(tmp_path / "index.sqlite")
    source = corpus.Source(tmp_path / "a.py", "", "import sys\nimport json\nfrom shutil import copy\nfrom . import b\n")
    needed = asyncio.run(imports.needed_by(source, store, corpus.root()))
    assert needed == {"json": 0, "shutil": 0}
    assert asyncio.run(imports.follow([source, source], store, corpus.root())) == 4
    store.close()
