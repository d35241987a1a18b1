"""An index in a PostgreSQL database, for several servers on one index.

    postgresql://user@host/database            postgresql:///database#team

The part after # names the schema that holds the tables (``lmstack`` unless given), so that one
database may hold several indexes. The password comes from ``$PGPASSWORD`` or ``~/.pgpass``,
never from the address. Readers see one snapshot (REPEATABLE READ); writers take turns by an
advisory lock that ends with their transaction; a process that dies loses its locks with its
connections. What was committed is as durable as the server makes it.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from lmstack.core import FormatError, InputError, NotFoundError, StoreError, require, shown
from lmstack.rag.catalogue.database import Lock, index_option
from lmstack.rag.catalogue.schema import FORMAT_VERSION, METADATA, meta

__all__ = ["PostgresDatabase"]

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,50}")
_CONNECT_S = 5
_POLL_S = 0.05
_FORMAT = "format"


class PostgresDatabase:
    """One schema of one database. A `Database`."""

    def __init__(self, address: str, *, create: bool, timeout_s: float) -> None:
        self.place = address
        self.folder: Path | None = None
        parts = urlsplit(address)
        if parts.password is not None:
            raise InputError(
                "the address of the index holds a password",
                hint="take it out, and set PGPASSWORD or write ~/.pgpass",
                param="index",
            )
        self._schema = parts.fragment or "lmstack"
        if not _SCHEMA.fullmatch(self._schema):
            raise InputError(
                f"{shown(self._schema)} cannot be the name of a schema",
                hint="small letters, digits and _, at most 51: postgresql://host/database#team",
                param="index",
            )
        self._address = address.partition("#")[0]
        self._timeout_s = timeout_s
        self._psycopg: Any = require("psycopg", "postgres")
        self._engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            pool_size=4,
            max_overflow=28,
            pool_pre_ping=True,
        )
        try:
            self._prepare(create)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        with self._translated(), self._engine.connect() as connection:
            # The first statement takes the snapshot, and every later one reads it.
            yield connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        with self._translated(), self._engine.connect() as connection:
            # READ COMMITTED: what is read after the lock was had is what its last holder left.
            connection = connection.execution_options(isolation_level="READ COMMITTED")
            connection.execute(
                sa.text(f"SET LOCAL lock_timeout = {_milliseconds(self._timeout_s)}")
            )
            connection.execute(_XACT_LOCK, {"key": self._key("transaction")})
            yield connection
            connection.commit()

    @contextmanager
    def locked(self, lock: Lock, timeout_s: float) -> Iterator[None]:
        deadline = time.monotonic() + timeout_s
        with self._translated(), self._engine.connect() as held:
            held = held.execution_options(isolation_level="AUTOCOMMIT")
            while not held.execute(_TRY_LOCK, {"key": self._key(lock)}).scalar_one():
                if time.monotonic() >= deadline:
                    raise StoreError(
                        f"the index {shown(self.place)} is locked by another process",
                        hint="wait for it to finish, or stop it",
                    )
                time.sleep(_POLL_S)
            try:
                yield
            finally:
                # A connection with a lock on it must not go back to the pool.
                held.invalidate()

    def size(self) -> int:
        query = sa.text(
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = :schema AND c.relkind = 'r'"
        )
        with self.reading() as connection:
            return int(connection.execute(query, {"schema": self._schema}).scalar_one())

    def findings(self, connection: sa.Connection) -> list[str]:
        """None: PostgreSQL refuses rows that refer to nothing, and checks its own pages."""
        del connection
        return []

    def close(self) -> None:
        self._engine.dispose()

    def _connect(self) -> Any:
        connection = self._psycopg.connect(
            self._address, connect_timeout=_CONNECT_S, application_name="lmstack"
        )
        connection.execute(f"SET search_path TO {self._schema}")
        connection.commit()
        return connection

    def _key(self, name: str) -> int:
        """The number of a lock: one for each index and purpose."""
        data = f"lmstack {self._schema} {name}".encode()
        return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big", signed=True)

    def _prepare(self, create: bool) -> None:
        with self.reading() as connection:
            made = self._format(connection)
        if made is None:
            if not create:
                raise NotFoundError(
                    f"there is no index at {shown(self.place)}",
                    hint=f"make one: lmstack index add {index_option(self.place)} PATH",
                    param="index",
                )
            with self.writing() as connection:
                made = self._format(connection) or self._make(connection)
        if made != FORMAT_VERSION:
            raise FormatError(
                f"{shown(self.place)} has index format {made}; this lmstack reads {FORMAT_VERSION}",
                hint="update lmstack: pip install -U lmstack",
                param="index",
            )

    def _format(self, connection: sa.Connection) -> int | None:
        exists = sa.text("SELECT to_regclass(:name) IS NOT NULL")
        if not connection.execute(exists, {"name": f"{self._schema}.meta"}).scalar_one():
            return None
        row = connection.execute(sa.select(meta.c.value).where(meta.c.key == _FORMAT))
        return int(row.scalar() or 0)

    def _make(self, connection: sa.Connection) -> int:
        connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {self._schema}"))
        METADATA.create_all(connection)
        connection.execute(sa.insert(meta).values(key=_FORMAT, value=str(FORMAT_VERSION)))
        return FORMAT_VERSION

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise self._error(error.orig) from error
        except sa.exc.TimeoutError as error:
            raise StoreError(
                f"too many searches at once on {shown(self.place)}",
                hint="try again in a moment",
            ) from error
        except self._psycopg.Error as error:
            raise self._error(error) from error

    def _error(self, error: BaseException | None) -> Exception:
        errors = self._psycopg.errors
        what = " ".join(str(error).split())
        if isinstance(error, errors.LockNotAvailable):
            return StoreError(
                f"the index {shown(self.place)} is locked by another process",
                hint="wait for it to finish, or stop it",
            )
        if isinstance(error, errors.InsufficientPrivilege):
            return StoreError(
                f"PostgreSQL does not allow this on {shown(self.place)}: {what}",
                hint="grant the user CREATE on the database, or the tables of the schema",
            )
        if isinstance(error, self._psycopg.OperationalError):
            return StoreError(
                f"PostgreSQL at {shown(self.place)} cannot be reached: {what}",
                hint="check that it runs, the address, PGPASSWORD and the space on its disk; what "
                "was committed is kept",
            )
        return StoreError(
            f"the index {shown(self.place)} failed: {what}", hint="lmstack index verify"
        )


_XACT_LOCK = sa.text("SELECT pg_advisory_xact_lock(:key)")
_TRY_LOCK = sa.text("SELECT pg_try_advisory_lock(:key)")


def _milliseconds(seconds: float) -> int:
    """At least one: 0 would mean to wait for ever."""
    return max(1, int(seconds * 1000))
