"""The index: files, their definitions and their words, in a SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from hotlap import benchmark

from .corpus import Source
from .outline import Definition

_SCHEMA = """
create table file (id integer primary key, path text unique, package text, length integer);
create table definition (file integer, name text, kind text, line integer);
create table word (word text, file integer, primary key (word, file)) without rowid;
create index definition_file on definition (file);
create index word_file on word (file);
"""

_PUT = """
insert into file (path, package, length) values (?, ?, ?)
on conflict (path) do update set package = excluded.package, length = excluded.length
"""

_FILE = """
select id, path, package, length,
    (select count(*) from definition where file = file.id),
    (select count(*) from word where file = file.id)
from file
where id = ?
"""


class File(NamedTuple):
    id: int
    path: str
    package: str
    length: int
    definitions: int
    words: int


class Index:
    """Any thread may use it: each has a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._connection().executescript(_SCHEMA)

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, check_same_thread=False)
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = off")
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    @benchmark(type="i_o")
    def add(self, source: Source, definitions: Iterable[Definition], words: Iterable[str]) -> int:
        """Puts a source into the index, in place of what was there under its path; gives its id."""
        path = str(source.path)
        with self._connection() as connection:
            connection.execute(_PUT, (path, source.package, len(source.text)))
            file: int = connection.execute("select id from file where path = ?", (path,)).fetchone()[0]
            connection.execute("delete from definition where file = ?", (file,))
            connection.execute("delete from word where file = ?", (file,))
            connection.executemany(
                "insert into definition values (?, ?, ?, ?)",
                ((file, *definition) for definition in definitions),
            )
            connection.executemany("insert into word values (?, ?)", [(word, file) for word in words])
        return file

    @benchmark(type="i_o")
    def files_with(self, word: str) -> list[int]:
        rows = self._connection().execute("select file from word where word = ?", (word,))
        return [file for (file,) in rows]

    @benchmark(type="i_o")
    def file(self, id: int) -> File:
        row = self._connection().execute(_FILE, (id,))
        return File(*row.fetchone())

    @benchmark(type="i_o")
    def defined_in(self, path: Path) -> list[Definition]:
        rows = self._connection().execute(
            "select name, kind, line from definition join file on file.id = definition.file where path = ?",
            (str(path),),
        )
        return [Definition(*row) for row in rows]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
