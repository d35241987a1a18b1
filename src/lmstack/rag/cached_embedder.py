"""An embedder that remembers: each text is embedded once per model and kind, across runs.

Keys are hashes of the model's identity (its digest, or name and size), the kind and the text; no
text is written down. A vector that does not fit is made again.

`BlobCache` is one SQLite file for any number of threads and processes. It is a cache, not a store:
losing it costs time and nothing else, and the oldest entries are dropped when there are too many.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lmstack.core import Embedder, ModelInfo, StoreError, TextKind, check_whole, shown

__all__ = ["BlobCache", "CachedEmbedder", "KeptLines"]

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


class CachedEmbedder:
    """`Embedder` over ``embedder`` and a cache that several embedders may share. Thread-safe.
    ``num_embedded`` counts texts that had to be embedded."""

    def __init__(self, embedder: Embedder, cache: BlobCache) -> None:
        self._embedder, self._cache = embedder, cache
        self.num_embedded = 0

    @property
    def info(self) -> ModelInfo:
        return self._embedder.info

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    @property
    def max_tokens(self) -> int:
        return self._embedder.max_tokens

    @property
    def counts_by_word(self) -> bool:
        return bool(getattr(self._embedder, "counts_by_word", False))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._embedder.count_tokens(texts)

    def embed(self, texts: Sequence[str], kind: TextKind = "passage") -> npt.NDArray[np.float32]:
        if isinstance(texts, str):
            return self._embedder.embed(texts, kind)  # refuses it in its own words
        keys = [self._key(text, kind) for text in texts]
        wanted = dict(zip(keys, texts, strict=True))
        size = 4 * self.dimensions
        kept = {
            key: np.frombuffer(data, "<f4")
            for key, data in self._cache.get(list(wanted)).items()
            if len(data) == size
        }
        missing = [key for key in wanted if key not in kept or not _is_unit(kept[key])]
        if missing:
            fresh = self._embedder.embed([wanted[key] for key in missing], kind)
            self.num_embedded += len(missing)
            made = dict(zip(missing, np.ascontiguousarray(fresh, "<f4"), strict=True))
            self._cache.put({key: vector.tobytes() for key, vector in made.items()})
            kept |= made
        rows = np.zeros((len(keys), self.dimensions), np.float32)
        for number, key in enumerate(keys):
            rows[number] = kept[key]
        return rows

    def _key(self, text: str, kind: TextKind) -> bytes:
        info = self._embedder.info
        name = info.digest or f"name:{info.name}:{self.dimensions}"
        hasher = hashlib.blake2b(digest_size=20)
        for part in (name, kind, text):
            data = part.encode("utf-8", "surrogatepass")
            hasher.update(len(data).to_bytes(8) + data)
        return hasher.digest()


def _is_unit(vector: npt.NDArray[np.float32]) -> bool:
    """Unit length, or zero, which a text without tokens has."""
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return abs(length - 1) < 1e-3 or length == 0
