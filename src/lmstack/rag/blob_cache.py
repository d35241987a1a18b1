"""Results worth keeping between runs, by the hash of what made them: one SQLite file.

A cache, not a store: losing it costs time and nothing else. Any number of threads and processes
may use one file. The oldest entries go when there are too many.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lmstack.core import StoreError, check_whole, shown

__all__ = ["BlobCache", "KeptLines"]

_TABLE = "CREATE TABLE IF NOT EXISTS kept (key BLOB PRIMARY KEY, value BLOB NOT NULL)"
_GET = "SELECT key, value FROM kept WHERE key IN ({})"
_AT_ONCE = 500


class BlobCache:
    """``max_entries``: more than that, and the oldest go. Thread-safe."""

    def __init__(self, path: str | Path, *, max_entries: int = 2_000_000) -> None:
        check_whole("max_entries", max_entries, 1, 10**12)
        self.path = Path(path)
        self._max_entries = max_entries
        self._lock = threading.Lock()
        with self._translated():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=30, isolation_level=None, check_same_thread=False
            )
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = NORMAL")
                self._connection.execute(_TABLE)
            except BaseException:
                self._connection.close()
                raise

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those of ``keys`` that are kept."""
        found: dict[bytes, bytes] = {}
        with self._lock, self._translated():
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                query = _GET.format(",".join("?" * len(part)))
                found.update(self._connection.execute(query, part).fetchall())
        return found

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Keep ``values``; what is kept already stays as it is."""
        with self._lock, self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO kept VALUES (?, ?)", values.items()
                )
                (count,) = self._connection.execute("SELECT count(*) FROM kept").fetchone()
                if count > self._max_entries:
                    self._connection.execute(
                        "DELETE FROM kept WHERE rowid IN"
                        " (SELECT rowid FROM kept ORDER BY rowid LIMIT ?)",
                        (count - self._max_entries,),
                    )
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> BlobCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"the cache {shown(str(self.path))} cannot be used: {error}",
                hint="delete that file; it is only a cache",
            ) from error


class KeptLines(MutableMapping[str, str]):
    """Texts in a `BlobCache`, as `ContextWriter` keeps its lines. Nothing can be taken out, and
    what is in cannot be listed."""

    def __init__(self, cache: BlobCache) -> None:
        self._cache = cache

    def __getitem__(self, key: str) -> str:
        found = self._cache.get([key.encode()])
        if not found:
            raise KeyError(key)
        return found[key.encode()].decode()

    def __setitem__(self, key: str, value: str) -> None:
        self._cache.put({key.encode(): value.encode()})

    def __delitem__(self, key: str) -> None:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
