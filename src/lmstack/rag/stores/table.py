"""Rows in one SQLite file, with a log of what changed: the durable half of our own stores.

Any number of processes may share the file. Covers keeping rows; `mirror` searches them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmstack.core import FormatError, InputError, NotFoundError, StoreError, shown
from lmstack.rag.filters import Fields
from lmstack.rag.stores.protocol import Ids, Stored, Vectors
from lmstack.rag.stores.rows import batches, dump, load

__all__ = ["Change", "RowTable"]

# "lmsv" in ASCII: tells a store of vectors from any other SQLite file.
APPLICATION_ID = 0x6C6D7376
_VARIABLES = 500
_SCHEMA = """
CREATE TABLE facts (dimensions INTEGER NOT NULL, tag TEXT NOT NULL);
CREATE TABLE rows (id INTEGER PRIMARY KEY, vector BLOB NOT NULL, fields TEXT NOT NULL);
CREATE TABLE log (revision INTEGER PRIMARY KEY AUTOINCREMENT, id INTEGER NOT NULL);
CREATE TABLE cleared (revision INTEGER NOT NULL);
INSERT INTO cleared VALUES (0);
"""


@dataclass(frozen=True, slots=True)
class Change:
    """A row that was put in or, where ``vector`` is None, taken out."""

    id: int
    vector: Vectors | None
    fields: str


class RowTable:
    """Thread-safe. What returned survives ``kill -9``. ``tag`` is another one in every file."""

    def __init__(self, path: Path | None, dimensions: int, *, create: bool) -> None:
        self.path = path
        self.dimensions = dimensions
        self._lock = threading.RLock()
        self._closed = False
        if path is not None and not path.exists() and not create:
            raise NotFoundError(
                f"there is no store in {shown(str(path))}",
                hint="check the address, or let lmstack make it",
                param="store",
            )
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                ":memory:" if path is None else path,
                timeout=30,
                isolation_level=None,
                check_same_thread=False,
            )
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from None
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        with self._errors():
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
        with self.changing() as connection:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if empty:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(
                    "INSERT INTO facts VALUES (?, ?)", (self.dimensions, os.urandom(16).hex())
                )
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            elif application != APPLICATION_ID:
                raise FormatError(
                    f"{shown(str(self.path))} is a SQLite file, but not a store of lmstack",
                    hint="give another place for the store",
                    param="store",
                )
            held, self.tag = connection.execute("SELECT dimensions, tag FROM facts").fetchone()
        if held != self.dimensions:
            raise InputError(
                f"the store {shown(str(self.path))} holds vectors of {held} dimensions, not "
                f"{self.dimensions}",
                hint="use the embedder it was filled with, or another store",
                param="store",
            )

    def put(self, ids: Ids, vectors: Vectors, fields: Sequence[Fields]) -> None:
        rows = [
            (int(id), vector.astype("<f4").tobytes(), dump(one))
            for id, vector, one in zip(ids, vectors, fields, strict=True)
        ]
        with self.changing() as connection:
            connection.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", rows)
            self._note(connection, [row[0] for row in rows])

    def take(self, ids: Ids) -> None:
        wanted = [(int(id),) for id in ids]
        with self.changing() as connection:
            connection.executemany("DELETE FROM rows WHERE id = ?", wanted)
            self._note(connection, [row[0] for row in wanted])

    def _note(self, connection: sqlite3.Connection, ids: list[int]) -> None:
        connection.executemany("INSERT INTO log (id) VALUES (?)", [(id,) for id in ids])
        # One entry an id is enough: the newest.
        due = "SELECT max(revision) % 4096 < ? FROM log"
        if ids and connection.execute(due, (len(ids),)).fetchone()[0]:
            connection.execute(
                "DELETE FROM log WHERE revision NOT IN (SELECT max(revision) FROM log GROUP BY id)"
            )

    def clear(self) -> None:
        with self.changing() as connection:
            connection.execute("DELETE FROM rows")
            connection.execute("DELETE FROM log")
            connection.execute("INSERT INTO log (id) VALUES (-1)")
            connection.execute("UPDATE cleared SET revision = (SELECT max(revision) FROM log)")

    def fetch(self, ids: Ids) -> list[Stored]:
        found: dict[int, Stored] = {}
        with self._errors():
            for part in batches(len(ids), _VARIABLES):
                wanted = [int(id) for id in ids[part]]
                marks = ",".join("?" * len(wanted))
                for id, vector, fields in self._connection.execute(
                    f"SELECT id, vector, fields FROM rows WHERE id IN ({marks})", wanted
                ):
                    found[id] = Stored(id, np.frombuffer(vector, "<f4"), load(fields))
        return [found[int(id)] for id in ids if int(id) in found]

    def ids(self) -> list[int]:
        with self._errors():
            return [row[0] for row in self._connection.execute("SELECT id FROM rows ORDER BY id")]

    def count(self) -> int:
        with self._errors():
            return int(self._connection.execute("SELECT count(*) FROM rows").fetchone()[0])

    def changes(self, since: int) -> tuple[int, bool, list[Change]]:
        """(revision now, whether everything before is void, what changed after ``since``)."""
        with self._errors(), self._snapshot() as connection:
            cleared = connection.execute("SELECT revision FROM cleared").fetchone()[0]
            now = connection.execute("SELECT coalesce(max(revision), 0) FROM log").fetchone()[0]
            if now == since:
                return now, False, []
            void = cleared > since
            rows = connection.execute(
                "SELECT DISTINCT log.id, vector, fields FROM log LEFT JOIN rows USING (id) "
                "WHERE revision > ? AND log.id >= 0 ORDER BY log.id",
                (max(since, cleared),),
            ).fetchall()
        return (
            now,
            void,
            [Change(id, None if v is None else np.frombuffer(v, "<f4"), f) for id, v, f in rows],
        )

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._connection.close()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN")
        try:
            yield self._connection
        finally:
            self._connection.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise StoreError("the store is closed", hint="open it again")
            try:
                yield
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def _failed(self, error: Exception) -> StoreError:
        return StoreError(
            f"the store {shown(str(self.path))} failed: {error}",
            hint="check the folder's permissions and the space on its disk",
        )
