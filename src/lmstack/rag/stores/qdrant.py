"""Qdrant inside this process (`qdrant-client` in local mode).

For development and small indexes: everything is in memory and each search reads all of it; the
client itself advises against more than 20,000 rows. Its files hold Python pickles, which run
what they say when they are read, so a folder that someone else owns or may write to is refused.
"""

from __future__ import annotations

import os
import shlex
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lmstack.core import FormatError, InputError, NotFoundError, StoreError, require, shown
from lmstack.rag.filters import Fields, Filter
from lmstack.rag.stores import facts
from lmstack.rag.stores.protocol import Found, Ids, Stored, Vectors
from lmstack.rag.stores.rows import batches, checked_ids, checked_query, checked_rows, dump, load
from lmstack.rag.stores.single import one_process

__all__ = ["QdrantStore"]

_BATCH = 500
_MOST = 1_000_000
_SIGNS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


class QdrantStore:
    """Exact. A folder is open in one process at a time."""

    def __init__(
        self, folder: Path, collection: str, dimensions: int, *, create: bool = True
    ) -> None:
        qdrant = require("qdrant_client", "qdrant")
        self._models: Any = require("qdrant_client.models", "qdrant")
        self._folder, self._collection, self._dimensions = folder, collection, dimensions
        self._lock = threading.RLock()
        if not create and not (folder / "meta.json").exists():
            raise self._absent()
        with ExitStack() as stack, self._errors():
            stack.enter_context(one_process(folder, self.name))
            _check_owner(folder)
            self._client: Any = qdrant.QdrantClient(
                path=str(folder), force_disable_check_same_thread=True
            )
            stack.callback(self._client.close)
            self._open(create)
            self._closing = stack.pop_all()

    def _open(self, create: bool) -> None:
        models = self._models
        if not self._client.collection_exists(self._collection):
            if not create:
                raise self._absent()
            self._client.create_collection(
                self._collection,
                vectors_config=models.VectorParams(
                    size=self._dimensions, distance=models.Distance.DOT
                ),
            )
        held = self._client.get_collection(self._collection).config.params.vectors
        if getattr(held, "distance", None) != models.Distance.DOT:
            raise FormatError(
                f"the collection {shown(self.name)} was not made by lmstack",
                hint="give another name after the #",
                param="store",
            )
        if held.size != self._dimensions:
            raise InputError(
                f"{self.name} holds vectors of {held.size} dimensions, not {self._dimensions}",
                hint="use the embedder it was filled with, or another store",
                param="store",
            )

    @property
    def name(self) -> str:
        return f"qdrant:{self._folder}#{self._collection}"

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def exact(self) -> bool:
        return True

    def upsert(self, ids: Ids, vectors: Vectors, fields: Sequence[Fields]) -> None:
        ids, vectors, fields = checked_rows(ids, vectors, fields, self._dimensions)
        for part in batches(len(ids), _BATCH):
            batch = self._models.Batch(
                ids=ids[part].tolist(),
                vectors=vectors[part].tolist(),
                payloads=[_payload(one) for one in fields[part]],
            )
            with self._errors():
                self._client.upsert(self._collection, batch)

    def delete(self, ids: Ids) -> None:
        ids = checked_ids(ids)
        if not len(ids):
            return
        with self._errors():
            self._client.delete(self._collection, self._models.PointIdsList(points=ids.tolist()))

    def search(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Found]:
        vector = checked_query(vector, k, self._dimensions)
        tree = facts.narrow(where)
        condition = None if tree is None else self._models.Filter(must=[self._condition(tree)])

        def ask(n: int) -> list[facts.Candidate]:
            with self._errors():
                rows = self._client.query_points(
                    self._collection, query=vector.tolist(), limit=n, query_filter=condition
                ).points
            return [(row.id, row.score, load(row.payload["fields"])) for row in rows]

        return facts.fill(ask, k, where, _MOST, self.name)

    def _condition(self, tree: facts.Tree) -> Any:
        models = self._models
        match tree:
            case facts.Has(fact):
                return models.FieldCondition(key="facts", match=models.MatchValue(value=fact))
            case facts.Lacks(fact):
                return models.Filter(must_not=[self._condition(facts.Has(fact))])
            case facts.Order(measure, op, value):
                limits = models.Range(**{_SIGNS[op]: value})
                return models.FieldCondition(key=f"measures.{measure}", range=limits)
        if not tree.parts:  # an empty `should` would hold of everything
            return self._condition(facts.Has("row" if isinstance(tree, facts.All) else "none"))
        parts = [self._condition(part) for part in tree.parts]
        kind = "must" if isinstance(tree, facts.All) else "should"
        return models.Filter(**{kind: parts})

    def fetch(self, ids: Ids) -> list[Stored]:
        ids = checked_ids(ids)
        with self._errors():
            rows = self._client.retrieve(self._collection, ids.tolist(), with_vectors=True)
        found = {row.id: row for row in rows}
        return [
            Stored(id, np.asarray(found[id].vector, np.float32), load(found[id].payload["fields"]))
            for id in ids.tolist()
            if id in found
        ]

    def ids(self) -> Iterator[int]:
        with self._errors():
            rows = self._client.scroll(
                self._collection, limit=self.count() + 1, with_payload=False, with_vectors=False
            )[0]
        return (int(row.id) for row in rows)

    def count(self) -> int:
        with self._errors():
            return int(self._client.count(self._collection).count)

    def clear(self) -> None:
        self.delete(np.fromiter(self.ids(), np.int64))

    def close(self) -> None:
        with self._lock:
            self._closing.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The client is used by one thread at a time: it has no locks of its own."""
        with self._lock, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Local mode is not recommended", UserWarning)
            try:
                yield
            except (RuntimeError, ValueError, OSError) as error:
                raise StoreError(
                    f"{self.name} failed: {shown(str(error), 200)}",
                    hint="check the folder and the space on its disk",
                    param="store",
                ) from error

    def _absent(self) -> NotFoundError:
        return NotFoundError(
            f"there is no store {shown(self.name)}",
            hint="check the address, or let lmstack make it",
            param="store",
        )


def _payload(fields: Fields) -> dict[str, Any]:
    return {
        "fields": dump(fields),
        "facts": facts.facts_of(fields),
        "measures": facts.measures_of(fields),
    }


def _check_owner(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        about = path.lstat()
        if about.st_uid != os.geteuid() or about.st_mode & 0o022:
            raise StoreError(
                f"{shown(str(path))} belongs to someone else, or others may write to it",
                hint=f"chmod -R go-w {shlex.quote(str(folder))}, if you made it; its files can run"
                " code when opened",
                param="store",
            )
