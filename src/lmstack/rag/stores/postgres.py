"""pgvector: a table in PostgreSQL with an HNSW index, filters in SQL.

Needs pgvector 0.8 or newer, whose iterative scans go on until enough rows match. The password
comes from ``$PGPASSWORD`` or ``~/.pgpass``, never from the address.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from lmstack.core import FormatError, InputError, NotFoundError, StoreError, require, shown
from lmstack.rag.filters import Fields, Filter
from lmstack.rag.stores.protocol import Found, Ids, Stored, Vectors
from lmstack.rag.stores.rows import batches, checked_ids, checked_query, checked_rows, dump, load
from lmstack.rag.stores.sql import to_sql

__all__ = ["PostgresStore"]

_BATCH = 1000
# pgvector indexes no wider vectors; a table of wider ones is scanned, exactly.
WIDEST_INDEXED = 2000
_SEARCH_WIDTH = 200
_CONNECT_S = 5
_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,50}")
_MARK = "lmstack vectors"


class PostgresStore:
    """Approximate up to 2,000 dimensions, exact above. Any number of threads and processes."""

    def __init__(self, url: str, table: str, dimensions: int, *, create: bool = True) -> None:
        if not _TABLE.fullmatch(table):
            raise InputError(
                f"{shown(table)} cannot be the name of a table",
                hint="small letters, digits and _, at most 51: postgresql://host/database#vectors",
                param="store",
            )
        if urlsplit(url).password is not None:
            raise InputError(
                "the address of the store holds a password",
                hint="take it out, and set PGPASSWORD or write ~/.pgpass",
                param="store",
            )
        self._psycopg = require("psycopg", "postgres")
        self._url, self._table, self._dimensions = url, table, dimensions
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._closed = False
        try:
            with self._connection() as connection:
                self._open(connection, create)
        except BaseException:
            self.close()
            raise

    def _open(self, connection: Any, create: bool) -> None:
        # Two processes that make the same table at once would both fail at something.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (0x6C6D7376,))
        about = connection.execute(
            "SELECT c.oid, obj_description(c.oid, 'pg_class'), a.atttypmod FROM pg_class c "
            "LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'vector' "
            "WHERE c.oid = to_regclass(%s)",
            (self._table,),
        ).fetchone()
        if about is None and not create:
            raise NotFoundError(
                f"there is no store {shown(self.name)}",
                hint="check the address, or let lmstack make it",
                param="store",
            )
        if about is None:
            self._create(connection)
            return
        if about[1] != _MARK:
            raise FormatError(
                f"the table {shown(self._table)} was not made by lmstack",
                hint="give another name after the #",
                param="store",
            )
        if about[2] != self._dimensions:
            raise InputError(
                f"{self.name} holds vectors of {about[2]} dimensions, not {self._dimensions}",
                hint="use the embedder it was filled with, or another store",
                param="store",
            )

    def _create(self, connection: Any) -> None:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(
            f"CREATE TABLE {self._table} (id bigint PRIMARY KEY, "
            f"vector vector({self._dimensions}) NOT NULL, fields jsonb NOT NULL)"
        )
        connection.execute(f"COMMENT ON TABLE {self._table} IS '{_MARK}'")
        if self._dimensions <= WIDEST_INDEXED:
            connection.execute(
                f"CREATE INDEX ON {self._table} USING hnsw (vector vector_ip_ops) "
                "WITH (m = 24, ef_construction = 100)"
            )

    @property
    def name(self) -> str:
        return f"{self._url}#{self._table}"

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def exact(self) -> bool:
        return self._dimensions > WIDEST_INDEXED

    def upsert(self, ids: Ids, vectors: Vectors, fields: Sequence[Fields]) -> None:
        ids, vectors, fields = checked_rows(ids, vectors, fields, self._dimensions)
        statement = (
            f"INSERT INTO {self._table} (id, vector, fields) SELECT * FROM unnest("
            "%s::bigint[], %s::text[]::vector[], %s::text[]::jsonb[]) ON CONFLICT (id) DO "
            "UPDATE SET vector = excluded.vector, fields = excluded.fields"
        )
        with self._connection() as connection:
            for part in batches(len(ids), _BATCH):
                texts = [_vector_text(vector) for vector in vectors[part]]
                rows = (ids[part].tolist(), texts, [dump(one) for one in fields[part]])
                connection.execute(statement, rows)

    def delete(self, ids: Ids) -> None:
        wanted = checked_ids(ids).tolist()
        with self._connection() as connection:
            connection.execute(f"DELETE FROM {self._table} WHERE id = ANY(%s)", (wanted,))

    def search(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Found]:
        vector = checked_query(vector, k, self._dimensions)
        condition, values = to_sql(where) if where is not None else ("true", [])
        text = _vector_text(vector)
        statement = (
            f"SELECT id, -(vector <#> %s::vector) FROM {self._table} WHERE {condition} "
            "ORDER BY vector <#> %s::vector LIMIT %s"
        )
        with self._connection() as connection:
            connection.execute(
                "SELECT set_config('hnsw.ef_search', %s, true), "
                "set_config('hnsw.iterative_scan', 'relaxed_order', true)",
                (str(min(max(_SEARCH_WIDTH, 2 * k), 1000)),),
            )
            rows = connection.execute(statement, (text, *values, text, k)).fetchall()
            if len(rows) < k and not self.exact:
                # The scan gave up (a filter that few rows pass), or there are no more.
                connection.execute("SET LOCAL enable_indexscan = off")
                rows = connection.execute(statement, (text, *values, text, k)).fetchall()
        found = [Found(id, float(score)) for id, score in rows]
        return sorted(found, key=lambda one: (-one.score, one.id))

    def fetch(self, ids: Ids) -> list[Stored]:
        wanted = checked_ids(ids).tolist()
        with self._connection() as connection:
            rows = connection.execute(
                f"SELECT id, vector::text, fields FROM {self._table} WHERE id = ANY(%s)", (wanted,)
            ).fetchall()
        found = {
            id: Stored(id, np.array(vector[1:-1].split(","), np.float32), load(fields))
            for id, vector, fields in rows
        }
        return [found[id] for id in wanted if id in found]

    def ids(self) -> Iterator[int]:
        with self._connection() as connection:
            rows = connection.execute(f"SELECT id FROM {self._table} ORDER BY id").fetchall()
        return (row[0] for row in rows)

    def count(self) -> int:
        with self._connection() as connection:
            row = connection.execute(f"SELECT count(*) FROM {self._table}").fetchone()
        return int(row[0])

    def clear(self) -> None:
        with self._connection() as connection:
            connection.execute(f"TRUNCATE {self._table}")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """A connection for one transaction, kept for the next one if nothing went wrong."""
        with self._lock:
            if self._closed:
                raise StoreError("the store is closed", hint="open it again")
            connection = self._idle.pop() if self._idle else None
        try:
            if connection is None or connection.broken:
                connection = self._psycopg.connect(self._url, connect_timeout=_CONNECT_S)
            with connection.transaction():
                yield connection
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, self._psycopg.Error):
                raise self._failed(error) from error
            raise
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _failed(self, error: Exception) -> StoreError:
        if "extension" in str(error):
            hint = "install pgvector on the server, or let an owner run: CREATE EXTENSION vector"
        else:
            hint = "check that the server runs and lets this user in"
        return StoreError(
            f"{self.name} failed: {shown(str(error).strip(), 200)}", hint=hint, param="store"
        )


def _vector_text(vector: Vectors) -> str:
    return f"[{','.join(map(repr, vector.tolist()))}]"
