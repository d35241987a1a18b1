"""Chroma, in this process over a folder or as a server.

Each row keeps its fields as one JSON text beside the facts and measures by which Chroma narrows
a search (`facts`). Chroma embeds nothing here, and its telemetry is off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lmstack.core import (
    FormatError,
    InputError,
    LmstackError,
    NotFoundError,
    StoreError,
    require,
    shown,
)
from lmstack.rag.filters import Fields, Filter
from lmstack.rag.stores import facts
from lmstack.rag.stores.chroma_server import ServerClient
from lmstack.rag.stores.protocol import Found, Ids, Stored, Vectors
from lmstack.rag.stores.rows import batches, checked_ids, checked_query, checked_rows, dump, load
from lmstack.rag.stores.single import one_process

__all__ = ["ChromaStore"]

_MARK = "lmstack_dimensions"
_BATCH = 1000
_MOST = 10_000
_HNSW = {"space": "cosine", "ef_construction": 128, "max_neighbors": 32, "ef_search": 256}
_SIGNS = {"<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte"}


class ChromaStore:
    """Approximate. A folder is open in one process at a time; a server takes any number.
    Make with `in_folder` or `on_server`."""

    def __init__(self, client: Any, name: str, dimensions: int, closing: ExitStack) -> None:
        self._client, self._closing = client, closing
        self._name, self._dimensions = name, dimensions
        self._opened: Any = None

    @classmethod
    def in_folder(
        cls, folder: Path, collection: str, dimensions: int, *, create: bool = True
    ) -> ChromaStore:
        chromadb = require("chromadb", "chroma")
        name = f"chroma:{folder}#{collection}"
        if not create and not (folder / "chroma.sqlite3").exists():
            raise _absent(name)
        with ExitStack() as stack:
            stack.enter_context(one_process(folder, name))
            # Nothing from a file ``.env`` in the current folder, and nothing sent anywhere.
            settings = chromadb.Settings(
                _env_file=None, anonymized_telemetry=False, is_persistent=True
            )
            with _errors(name):
                client = chromadb.PersistentClient(path=str(folder.absolute()), settings=settings)
            stack.callback(client.close)
            store = cls(client, name, dimensions, stack)
            store._open(collection, create, embedding_function=None)
            store._closing = stack.pop_all()
        return store

    @classmethod
    def on_server(
        cls, base: str, collection: str, dimensions: int, *, create: bool = True
    ) -> ChromaStore:
        name = f"chroma+{base}/{collection}"
        with ExitStack() as stack:
            client = ServerClient(base, name)
            stack.callback(client.close)
            store = cls(client, name, dimensions, stack)
            store._open(collection, create)
            store._closing = stack.pop_all()
        return store

    def _open(self, collection: str, create: bool, **embedding: None) -> None:
        about = {"metadata": {_MARK: self._dimensions}, "configuration": {"hnsw": _HNSW}}
        with self._errors():
            self._opened = (
                self._client.get_or_create_collection(collection, **about, **embedding)
                if create
                else self._client.get_collection(collection, **embedding)
            )
        held = (self._opened.metadata or {}).get(_MARK)
        if held is None:
            raise FormatError(
                f"the collection {shown(self._name)} was not made by lmstack",
                hint="give another name after the last # or /",
                param="store",
            )
        if held != self._dimensions:
            raise InputError(
                f"{self._name} holds vectors of {held} dimensions, not {self._dimensions}",
                hint="use the embedder it was filled with, or another store",
                param="store",
            )

    @property
    def _collection(self) -> Any:
        if self._opened is None:
            raise StoreError("the store is closed", hint="open it again")
        return self._opened

    @property
    def name(self) -> str:
        return self._name

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def exact(self) -> bool:
        return False

    def upsert(self, ids: Ids, vectors: Vectors, fields: Sequence[Fields]) -> None:
        ids, vectors, fields = checked_rows(ids, vectors, fields, self._dimensions)
        for part in batches(len(ids), _BATCH):
            with self._errors():
                # Chroma adds to the metadata of a row that is there. What stays of the old are
                # measures, and none is asked for without the fact that belongs to it.
                self._collection.upsert(
                    ids=[str(id) for id in ids[part].tolist()],
                    embeddings=vectors[part],
                    metadatas=[_metadata(one) for one in fields[part]],
                )

    def delete(self, ids: Ids) -> None:
        ids = np.unique(checked_ids(ids))  # Chroma refuses one that is given twice
        for part in batches(len(ids), _BATCH):
            with self._errors():
                self._collection.delete(ids=[str(id) for id in ids[part].tolist()])

    def search(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Found]:
        vector = checked_query(vector, k, self._dimensions)
        tree = facts.narrow(where)
        if tree == facts.Any(()):
            return []
        condition = None if tree is None else _condition(tree)

        def ask(n: int) -> list[facts.Candidate]:
            with self._errors():
                rows = self._collection.query(
                    query_embeddings=vector[None],
                    n_results=n,
                    where=condition,
                    include=["distances", "metadatas"],
                )
            # A row that another thread deletes meanwhile is found with nothing in it.
            return [
                (int(id), 1.0 - distance, metadata and load(metadata["fields"]))
                for id, distance, metadata in zip(
                    rows["ids"][0], rows["distances"][0], rows["metadatas"][0], strict=True
                )
            ]

        return facts.fill(ask, k, where, _MOST, self._name)

    def fetch(self, ids: Ids) -> list[Stored]:
        ids = checked_ids(ids)
        wanted = np.unique(ids)
        found: dict[int, Stored] = {}
        for part in batches(len(wanted), _BATCH):
            with self._errors():
                rows = self._collection.get(
                    ids=[str(id) for id in wanted[part].tolist()],
                    include=["embeddings", "metadatas"],
                )
            for id, vector, metadata in zip(
                rows["ids"], rows["embeddings"], rows["metadatas"], strict=True
            ):
                if metadata is None:
                    continue
                row = Stored(int(id), np.asarray(vector, np.float32), load(metadata["fields"]))
                found[row.id] = row
        return [found[id] for id in ids.tolist() if id in found]

    def ids(self) -> Iterator[int]:
        with self._errors():
            rows = self._collection.get(include=[])
        return (int(id) for id in rows["ids"])

    def count(self) -> int:
        with self._errors():
            return int(self._collection.count())

    def clear(self) -> None:
        self.delete(np.fromiter(self.ids(), np.int64))

    def _errors(self) -> AbstractContextManager[None]:
        return _errors(self._name)

    def close(self) -> None:
        self._opened = None
        self._closing.close()


def _metadata(fields: Fields) -> dict[str, Any]:
    return {
        "fields": dump(fields),
        "facts": facts.facts_of(fields),
        **facts.measures_of(fields),
    }


def _condition(tree: facts.Tree) -> dict[str, Any]:
    match tree:
        case facts.Has(fact):
            return {"facts": {"$contains": fact}}
        case facts.Lacks(fact):
            return {"facts": {"$not_contains": fact}}
        case facts.Order(measure, op, value):
            return {measure: {_SIGNS[op]: value}}
    parts = [_condition(part) for part in tree.parts]
    if not parts:
        return _condition(facts.Has("row") if isinstance(tree, facts.All) else facts.Has("none"))
    if len(parts) == 1:
        return parts[0]
    return {"$and" if isinstance(tree, facts.All) else "$or": parts}


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """What Chroma raises, in our words. Its types are known by name: for a server its package
    need not be there."""
    try:
        yield
    except NotFoundError:
        raise _absent(name) from None
    except LmstackError:
        raise
    except Exception as error:
        if type(error).__name__ == "NotFoundError":
            raise _absent(name) from None
        raise StoreError(
            f"{name} failed: {shown(str(error), 200)}",
            hint="check the folder and the space on its disk",
            param="store",
        ) from error


def _absent(name: str) -> NotFoundError:
    return NotFoundError(
        f"there is no store {shown(name)}",
        hint="check the address, or let lmstack make it",
        param="store",
    )
