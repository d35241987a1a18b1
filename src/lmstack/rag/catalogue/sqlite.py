"""The one SQLite file of an index: how it is opened, and what its errors mean.

Write-ahead logging lets searches read one consistent snapshot while a writer commits. Does not
cover what the tables hold (`schema`) or how an older file becomes a new one (`upgrade`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import sqlalchemy as sa

from lmstack.core import FormatError, IntegrityError, NotFoundError, StoreError, shown
from lmstack.rag.catalogue.database import Lock, index_option
from lmstack.rag.catalogue.lock import LOCK_NAME, writer_lock
from lmstack.rag.catalogue.schema import FORMAT_VERSION, METADATA
from lmstack.rag.catalogue.upgrade import upgrade

__all__ = ["FILE_NAME", "SqliteDatabase", "move_aside"]

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
