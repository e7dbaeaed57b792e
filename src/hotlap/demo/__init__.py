"""The demo's workload: a small code-search service over the running Python's own standard library.

Plain user code: it imports `benchmark` and `measure` from hotlap and nothing else of it, and nothing in the
recorder knows it. Five ordinary mistakes were left in on purpose, so that there is something to find; please
leave them in. They are named in tests/test_demo.py and not here.

    corpus     finds and reads the source files
    outline    takes a source apart: definitions, words, fingerprint
    index      keeps files, definitions and words in SQLite
    search     answers a query, best hits first
    similar    finds near-duplicates within a package
    archive    keeps a compressed copy of each source
    imports    follows the imports of a module (asyncio)
    workload   runs all that in rounds, for some seconds
"""

from .workload import Summary, run

__all__ = ["Summary", "run"]
