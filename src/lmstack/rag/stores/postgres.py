"""pgvector: a table in PostgreSQL with an HNSW index, filters in SQL.

Needs pgvector 0.8 or newer, whose iterative scans go on until enough rows match. The password
comes from ``$PGPASSWORD`` or ``~/.pgpass``, never from the address.

Every part of a filter is true or false, never unknown, so that ``NOT`` is the complement. Texts
compare by code points (collation "C" over UTF-8), numbers as decimals.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from lmstack.core import InputError, LmstackError, require, shown
from lmstack.rag.filters import And, Condition, Fields, Filter, Not, Or, Scalar
from lmstack.rag.stores import facts
from lmstack.rag.stores.rows import (
    StoredRow,
    StoreHit,
    Vectors,
    checked_query,
    dump,
    load,
    storable,
)
from lmstack.rag.stores.store import VectorStore

__all__ = ["PostgresStore", "to_sql"]

Sql = tuple[str, list[object]]
_FALSE: Sql = ("false", [])


def to_sql(where: Filter) -> Sql:
    """An expression with ``%s`` for each of the values."""
    if isinstance(where, Not):
        inner, values = to_sql(where.part)
        return f"(NOT {inner})", values
    if isinstance(where, Condition):
        return _condition(where)
    parts = [to_sql(part) for part in where.parts]
    if not parts:
        return ("true" if isinstance(where, And) else "false"), []
    sign = " OR " if isinstance(where, Or) else " AND "
    joined = sign.join(part for part, _ in parts)
    return f"({joined})", [value for _, values in parts for value in values]


def _condition(condition: Condition) -> Sql:
    name, op, value = condition.name, condition.op, condition.value
    if op == "!=":
        equal, values = _condition(Condition(name, "=", value))
        return f"(NOT {equal})", values
    if op == "in":
        assert isinstance(value, tuple)
        texts = [one for one in value if storable(one)]
        return _typed(name, "string", "fields->>%s = ANY(%s)", [name, texts])
    assert not isinstance(value, tuple)
    if isinstance(value, str) and not storable(value) and op in ("=", "has", "under"):
        return _FALSE
    if op == "has":
        return _typed(name, "array", "fields->%s ? %s", [name, value])
    if op == "under":
        folder = str(value).rstrip("/")
        test = "(fields->>%s = %s OR starts_with(fields->>%s, %s))"
        return _typed(name, "string", test, [name, folder, name, f"{folder}/"])
    return _compared(name, op, value)


def _compared(name: str, op: str, value: Scalar) -> Sql:
    if isinstance(value, bool):
        test = "(fields->>%s)::boolean = %s"
        return _typed(name, "boolean", test, [name, value]) if op == "=" else _FALSE
    if isinstance(value, str):
        if not storable(value):
            return _against_unstorable(name, op, value)
        return _typed(name, "string", f'fields->>%s COLLATE "C" {op} %s', [name, value])
    test = f"(fields->>%s)::numeric {op} %s::numeric"
    return _typed(name, "number", test, [name, _decimal(value)])


def _against_unstorable(name: str, op: str, value: str) -> Sql:
    """No field equals ``value``, so what comes before its first bad character decides, and
    then whether that character is NUL (before all others) or half of a pair (in their midst)."""
    good = next(i for i in range(len(value)) if not storable(value[: i + 1]))
    head, bad = value[:good], value[good]
    if bad == "\0":
        # `head` itself and all that comes before it are less; what goes on after it is more.
        return _typed(
            name,
            "string",
            f'fields->>%s COLLATE "C" {"<=" if op[0] == "<" else ">"} %s',
            [name, head],
        )
    edge = head + "\ue000"
    return _typed(
        name, "string", f'fields->>%s COLLATE "C" {"<" if op[0] == "<" else ">="} %s', [name, edge]
    )


def _decimal(value: float) -> str:
    text = repr(value)
    return {"inf": "Infinity", "-inf": "-Infinity"}.get(text, text)


def _typed(name: str, kind: str, test: str, values: list[object]) -> Sql:
    """False where the field is missing or of another type; the test is not tried there."""
    guard = f"CASE WHEN jsonb_typeof(fields->%s) = '{kind}' THEN {test} ELSE false END"
    return guard, [name, *values]


# pgvector indexes no wider vectors; a table of wider ones is scanned, exactly.
WIDEST_INDEXED = 2000
_SEARCH_WIDTH = 200
_CONNECT_S = 5
_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,50}")
_MARK = "lmstack vectors"


class PostgresStore(VectorStore):
    """Approximate up to 2,000 dimensions, exact above. Any number of threads and processes."""

    batch, page = 1000, 5000
    hint = "check that the server runs and lets this user in"

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
        super().__init__(f"{url}#{table}", dimensions)
        self._psycopg = require("psycopg", "postgres")
        self._url, self._table = url, table
        self.exact = dimensions > WIDEST_INDEXED
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._open(create)

    def _width(self) -> int | None:
        (about,) = self._ask(
            "SELECT to_regclass(%s), obj_description(to_regclass(%s), 'pg_class'), "
            "(SELECT atttypmod FROM pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attname = 'vector')",
            (self._table,) * 3,
        )
        if about[0] is None:
            return None
        if about[1] != _MARK:
            raise self._foreign()
        return int(about[2])

    def _create(self) -> None:
        with self._connection() as connection:
            # Two processes that make the same table at once would both fail at something.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (0x6C6D7376,))
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self._table} (id bigint PRIMARY KEY, "
                f"vector vector({self.dimensions}) NOT NULL, fields jsonb NOT NULL)"
            )
            connection.execute(f"COMMENT ON TABLE {self._table} IS '{_MARK}'")
            if not self.exact:
                connection.execute(
                    f"CREATE INDEX IF NOT EXISTS {self._table}_nearest ON {self._table} "
                    "USING hnsw (vector vector_ip_ops) WITH (m = 24, ef_construction = 100)"
                )

    def _put(self, ids: list[int], vectors: Vectors, fields: Sequence[Fields]) -> None:
        self._ask(
            f"INSERT INTO {self._table} (id, vector, fields) SELECT * FROM unnest("
            "%s::bigint[], %s::text[]::vector[], %s::text[]::jsonb[]) ON CONFLICT (id) DO "
            "UPDATE SET vector = excluded.vector, fields = excluded.fields",
            (ids, [_text(vector) for vector in vectors], [dump(one) for one in fields]),
        )

    def _take(self, ids: list[int]) -> None:
        self._ask(f"DELETE FROM {self._table} WHERE id = ANY(%s)", (ids,))

    def search(self, vector: Vectors, k: int, where: Filter | None = None) -> list[StoreHit]:
        """As `VectorStore.search`, with the filter itself in SQL."""
        vector = checked_query(vector, k, self.dimensions)
        condition = ("true", []) if where is None else to_sql(where)
        rows = self._all(self._nearest, vector, k, condition)
        return sorted((StoreHit(*row[:2]) for row in rows), key=lambda one: (-one.score, one.id))

    def _nearest(self, vector: Vectors, n: int, where: Any) -> Iterator[facts.Candidate]:
        condition, values = where
        statement = (
            f"SELECT id, -(vector <#> %s::vector) FROM {self._table} WHERE {condition} "
            "ORDER BY vector <#> %s::vector LIMIT %s"
        )
        values = (_text(vector), *values, _text(vector), n)
        with self._connection() as connection:
            connection.execute(
                "SELECT set_config('hnsw.ef_search', %s, true), "
                "set_config('hnsw.iterative_scan', 'relaxed_order', true)",
                (str(min(max(_SEARCH_WIDTH, 2 * n), 1000)),),
            )
            rows = connection.execute(statement, values).fetchall()
            if len(rows) < n and not self.exact:
                # The scan gave up (a filter that few rows pass), or there are no more.
                connection.execute("SET LOCAL enable_indexscan = off")
                rows = connection.execute(statement, values).fetchall()
        return ((id, float(score), None) for id, score in rows)

    def _get(self, ids: list[int]) -> Iterator[StoredRow]:
        query = f"SELECT id, vector::text, fields FROM {self._table} WHERE id = ANY(%s)"
        for id, vector, fields in self._ask(query, (ids,)):
            yield StoredRow(id, np.array(vector[1:-1].split(","), np.float32), load(fields))

    def _list(self) -> Iterator[int]:
        return (id for (id,) in self._ask(f"SELECT id FROM {self._table}"))

    def _count(self) -> int:
        return int(self._ask(f"SELECT count(*) FROM {self._table}")[0][0])

    def clear(self) -> None:
        self._call(lambda: self._ask(f"TRUNCATE {self._table}"))

    def _close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _ask(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """The rows that one statement gives, in a transaction of its own."""
        with self._connection() as connection:
            done = connection.execute(statement, values)
            return done.fetchall() if done.description else []

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """A connection for one transaction, kept for the next one if nothing went wrong."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        try:
            if connection is None or connection.broken:
                connection = self._psycopg.connect(self._url, connect_timeout=_CONNECT_S)
            with connection.transaction():
                yield connection
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _failed(self, error: Exception) -> LmstackError:
        found = super()._failed(error)
        if "extension" in str(error):
            found.hint = (
                "install pgvector on the server, or let an owner run: CREATE EXTENSION vector"
            )
        return found


def _text(vector: Vectors) -> str:
    return f"[{','.join(map(repr, vector.tolist()))}]"
