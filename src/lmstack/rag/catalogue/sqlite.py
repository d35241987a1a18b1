"""The one SQLite file of an index: how it is opened, and what its errors mean.

Write-ahead logging lets searches read one consistent snapshot while a writer commits. Does not
cover what the tables hold (`schema`).

A file of an older format is upgraded in one transaction. No document is read for that: postings
are made of the stored chunks, and what the older format did not keep (fields, pages, language,
blocks) comes in when the next update reads the files again; equal passages are not embedded again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import sqlalchemy as sa

from lmstack.core import FormatError, IntegrityError, NotFoundError, StoreError, shown
from lmstack.rag.catalogue.database import LOCK_NAME, Lock, index_option, writer_lock
from lmstack.rag.catalogue.schema import (
    FORMAT_VERSION,
    METADATA,
    chunks,
    label_rules,
    postings,
    spaces,
    vectors,
)
from lmstack.rag.words import posting_blob

__all__ = ["FILE_NAME", "SqliteDatabase", "move_aside", "upgrade"]

_EMBEDDER_KEYS = "('embedder', 'embedder_digest', 'dimensions', 'max_tokens')"
_BEFORE = (
    "DROP TRIGGER chunk_added",
    "DROP TRIGGER chunk_removed",
    "DROP TABLE postings",
    "DROP INDEX ix_chunks_embed_key",
    "DROP INDEX ix_chunks_document_id",
    "ALTER TABLE chunks RENAME TO old_chunks",
    "ALTER TABLE vectors RENAME TO old_vectors",
    "ALTER TABLE documents ADD COLUMN language TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE documents ADD COLUMN fields TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE documents ADD COLUMN labels TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE texts ADD COLUMN blocks TEXT",
    "ALTER TABLE texts ADD COLUMN pages TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE texts ADD COLUMN sketch BLOB",
    # No document was read as this version reads it.
    "UPDATE documents SET recipe = ''",
)
_FILL = (
    "INSERT INTO spaces (embedder, embedder_digest, dimensions, max_tokens, recipe, state, "
    "generation) SELECT e.value, d.value, n.value, t.value, '', 'active', g.value "
    "FROM meta e, meta d, meta n, meta t, meta g WHERE e.key = 'embedder' "
    "AND d.key = 'embedder_digest' AND n.key = 'dimensions' AND t.key = 'max_tokens' "
    "AND g.key = 'generation'",
    f"DELETE FROM meta WHERE key IN {_EMBEDDER_KEYS}",
    "INSERT INTO meta SELECT 'last_chunk', seq FROM sqlite_sequence WHERE name = 'old_chunks'",
    'INSERT INTO chunks (id, space_id, document_id, ordinal, start, "end", tokens, embed_key, '
    "section, prefix, text) SELECT c.id, s.id, c.document_id, c.ordinal, c.start, "
    'c."end", c.tokens, c.embed_key, c.section, c.prefix, c.text '
    "FROM old_chunks c, spaces s",
    "INSERT INTO vectors (space_id, document_id, first_chunk, rows, dimensions, data) "
    "SELECT s.id, v.document_id, v.first_chunk, v.rows, v.dimensions, v.data "
    "FROM old_vectors v, spaces s",
    "DROP TABLE old_chunks",
    "DROP TABLE old_vectors",
)


def upgrade(connection: sa.Connection, version: int) -> None:
    """Bring the tables of format ``version`` (1 or 2) up to this one. SQLite only: PostgreSQL
    came with format 3."""
    assert version in (1, 2)  # they differ in postings only, which are made anew
    for statement in _BEFORE:
        connection.exec_driver_sql(statement)
    for table in (spaces, label_rules, chunks, vectors, postings):
        table.create(connection)
    for statement in _FILL:
        connection.exec_driver_sql(statement)
    _fill_postings(connection)


def _fill_postings(connection: sa.Connection) -> None:
    documents = connection.execute(sa.select(vectors.c.space_id, vectors.c.document_id)).all()
    for space_id, document_id in documents:
        texts = connection.execute(
            sa.select(chunks.c.prefix, chunks.c.text)
            .where((chunks.c.space_id == space_id) & (chunks.c.document_id == document_id))
            .order_by(chunks.c.ordinal)
        )
        blob = posting_blob([(row.prefix, row.text) for row in texts])
        connection.execute(
            sa.insert(postings).values(space_id=space_id, document_id=document_id, data=blob)
        )


FILE_NAME = "index.sqlite"
# "lmsk" in ASCII, in the header of the file: tells our index from any other SQLite file.
APPLICATION_ID = 0x6C6D736B
_LOCK_NAMES: dict[Lock, str] = {"writer": LOCK_NAME, "builder": "building.lock"}


class SqliteDatabase:
    """Connections to the index file of one folder. A `Database`."""

    def __init__(self, folder: Path, *, create: bool, timeout_s: float) -> None:
        self.folder: Path | None = folder
        self.place = str(folder)
        self.path = folder / FILE_NAME
        self._timeout_s = timeout_s
        if not self.path.exists() and not create:
            raise NotFoundError(
                f"there is no index in {shown(str(folder))}",
                hint=f"make one: lmstack index add {index_option(folder)} PATH",
                param="index",
            )
        if create:
            _make_folder(folder)
        self._engine = sa.create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=sa.pool.QueuePool,
            pool_size=4,
            max_overflow=28,
            pool_reset_on_return="rollback",
        )
        try:
            self._prepare(create)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def locked(self, lock: Lock, timeout_s: float) -> Iterator[None]:
        with writer_lock(self.path.parent, timeout_s, _LOCK_NAMES[lock]):
            yield

    def size(self) -> int:
        names = (self.path, self.path.with_name(f"{FILE_NAME}-wal"))
        return sum(name.stat().st_size for name in names if name.exists())

    def findings(self, connection: sa.Connection) -> list[str]:
        rows = connection.exec_driver_sql("PRAGMA quick_check").scalars().all()
        findings = [f"SQLite: {line}" for line in rows if line != "ok"]
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        return findings + [f"SQLite: a row of {row[0]} refers to nothing" for row in broken]

    def copy_to(self, folder: Path) -> None:
        """One consistent snapshot, whoever writes meanwhile, in a file of ``folder``."""
        _make_folder(folder)
        with (
            self._translated(),
            closing(self._connect()) as source,
            closing(sqlite3.connect(folder / FILE_NAME)) as target,
        ):
            source.backup(target)

    def close(self) -> None:
        self._engine.dispose()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._uri(),
            uri=True,
            timeout=self._timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA cache_size = -32000")
            connection.execute("PRAGMA temp_store = MEMORY")
        except BaseException:
            connection.close()
            raise
        return connection

    def _uri(self) -> str:
        """The file, as one that cannot change if its folder is read-only and no writer left
        anything behind: write-ahead logging could not make its side files there."""
        uri = self.path.absolute().as_uri()
        log = self.path.with_name(f"{FILE_NAME}-wal")
        fixed = not os.access(self.path.parent, os.W_OK) and not log.exists()
        return f"{uri}?immutable=1" if fixed else uri

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sa.Connection]:
        with self._translated(), self._engine.connect() as connection:
            connection.exec_driver_sql(begin)
            yield connection
            connection.commit()

    def _prepare(self, create: bool) -> None:
        """Check that the file is an index of this version; make the tables in an empty one, and
        bring an older one up to date."""
        with self._translated(), self._engine.connect() as connection:
            if not self._is_empty(connection):
                if _number(connection, "PRAGMA user_version") < FORMAT_VERSION:
                    connection.rollback()
                    self._upgrade()
                return
            if not create:
                raise NotFoundError(
                    f"the index {shown(str(self.path))} was never filled",
                    hint=f"fill it: lmstack index add {index_option(self.path.parent)} PATH",
                    param="index",
                )
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        with self.writing() as connection:
            if self._is_empty(connection):
                METADATA.create_all(connection)
                connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.exec_driver_sql(f"PRAGMA user_version = {FORMAT_VERSION}")

    def _upgrade(self) -> None:
        with self.writing() as connection:
            version = _number(connection, "PRAGMA user_version")
            if version < FORMAT_VERSION:
                upgrade(connection, version)
                connection.exec_driver_sql(f"PRAGMA user_version = {FORMAT_VERSION}")

    def _is_empty(self, connection: sa.Connection) -> bool:
        tables = _number(connection, "SELECT count(*) FROM sqlite_master")
        application = _number(connection, "PRAGMA application_id")
        version = _number(connection, "PRAGMA user_version")
        if not tables and not application:
            return True
        if application != APPLICATION_ID:
            raise FormatError(
                f"{shown(str(self.path))} is a SQLite file, but not an lmstack index",
                hint="give another folder with --index",
                param="index",
            )
        if version > FORMAT_VERSION:
            raise FormatError(
                f"{shown(str(self.path))} has index format {version}; this lmstack reads "
                f"{FORMAT_VERSION}",
                hint="update lmstack: pip install -U lmstack",
                param="index",
            )
        return False

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise self._error(error.orig) from error
        except sa.exc.TimeoutError as error:
            raise StoreError(
                f"too many searches at once on {shown(str(self.path))}",
                hint="try again in a moment",
            ) from error
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _error(self, error: BaseException | None) -> Exception:
        name = str(getattr(error, "sqlite_errorname", ""))
        path = shown(str(self.path))
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            return IntegrityError(
                f"{path} is damaged or not an index: {error}",
                hint="index your documents again with --rebuild; the damaged file is kept beside",
                param="index",
            )
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return StoreError(
                f"the index {path} is locked by another process",
                hint="wait for it to finish, or stop it",
            )
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            return StoreError(
                f"cannot write the index {path}: {error}",
                hint="free space on that disk (or check it) and run the command again; what "
                "was committed is kept",
            )
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            return StoreError(
                f"cannot open the index {path}: {error}",
                hint="check the permissions of the file and its folder",
            )
        return StoreError(f"the index {path} failed: {error}", hint="lmstack index verify")


def _number(connection: sa.Connection, query: str) -> int:
    return int(connection.exec_driver_sql(query).scalar_one())


def move_aside(folder: Path) -> Path:
    """Rename a damaged index file (and its log, which may hold what can be saved) out of the
    way; its new path."""
    number = next(n for n in count(1) if not (folder / f"damaged-{n}.sqlite").exists())
    target = folder / f"damaged-{number}.sqlite"
    for ending in ("", "-wal", "-shm"):
        path = folder / f"{FILE_NAME}{ending}"
        if path.exists():
            path.rename(folder / f"{target.name}{ending}")
    return target


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make the index folder {shown(os.fspath(folder))}: {error.strerror}",
            hint="give another folder with --index",
            param="index",
        ) from None
