"""Qdrant as a server, through its own client over REST.

Facts have an index of keywords, measures are numbers beside them. Tested with the client against
a fake that hands each request to the client's own local engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lmstack.core import require
from lmstack.rag.filters import Fields
from lmstack.rag.stores import facts
from lmstack.rag.stores.http import is_local, key_for
from lmstack.rag.stores.rows import StoredRow, Vectors, load
from lmstack.rag.stores.store import VectorStore

__all__ = ["QdrantStore"]

_TIMEOUT_S = 20
_CONFLICT = 409
_SEARCH_WIDTH = 256


class QdrantStore(VectorStore):
    """Approximate. Any number of threads and processes."""

    key = "QDRANT_API_KEY"

    def __init__(self, base: str, collection: str, dimensions: int, *, create: bool = True) -> None:
        qdrant = require("qdrant_client", "qdrant")
        self._models: Any = require("qdrant_client.models", "qdrant")
        super().__init__(f"qdrant+{base}/{collection}", dimensions)
        self._collection = collection
        key = key_for(base, self.key)
        self._client: Any = qdrant.QdrantClient(
            base,
            # As a header: the client warns of its own parameter over http, to this machine too.
            headers={"api-key": key} if key else {},
            timeout=_TIMEOUT_S,
            check_compatibility=False,
            trust_env=not is_local(base),
        )
        self._open(create)

    def _width(self) -> int | None:
        if not self._client.collection_exists(self._collection):
            return None
        held = self._client.get_collection(self._collection).config.params.vectors
        if getattr(held, "distance", None) != self._models.Distance.DOT:
            raise self._foreign()
        return int(held.size)

    def _create(self) -> None:
        models = self._models
        try:
            self._client.create_collection(
                self._collection,
                vectors_config=models.VectorParams(
                    size=self.dimensions, distance=models.Distance.DOT
                ),
                hnsw_config=models.HnswConfigDiff(m=32, ef_construct=128),
            )
            self._client.create_payload_index(
                self._collection, "facts", models.PayloadSchemaType.KEYWORD
            )
        except Exception as error:
            if getattr(error, "status_code", None) != _CONFLICT:  # another process made it
                raise

    def _put(self, ids: list[int], vectors: Vectors, fields: Sequence[Fields]) -> None:
        payloads = list(map(facts.metadata_of, fields))
        batch = self._models.Batch(ids=ids, vectors=vectors.tolist(), payloads=payloads)
        self._client.upsert(self._collection, batch)

    def _take(self, ids: list[int]) -> None:
        self._client.delete(self._collection, self._models.PointIdsList(points=ids))

    def _nearest(self, vector: Vectors, n: int, where: Any) -> Iterator[facts.Candidate]:
        rows = self._client.query_points(
            self._collection,
            query=vector.tolist(),
            limit=n,
            query_filter=where and self._models.Filter(must=[where]),
            search_params=self._models.SearchParams(hnsw_ef=max(_SEARCH_WIDTH, 2 * n)),
            with_payload=["fields"],
        ).points
        for row in rows:
            yield row.id, row.score, load(row.payload["fields"])

    def _leaf(self, leaf: facts.Leaf) -> Any:
        models = self._models
        match leaf:
            case facts.Has(fact):
                return models.FieldCondition(key="facts", match=models.MatchValue(value=fact))
            case facts.Lacks(fact):
                return models.Filter(must_not=[self._leaf(facts.Has(fact))])
            case facts.Order(measure, op, value):
                limits = models.Range(**{facts.SIGNS[op]: value})
                return models.FieldCondition(key=measure, range=limits)

    def _join(self, kind: type, parts: list[Any]) -> Any:
        return self._models.Filter(**{"must" if kind is facts.All else "should": parts})

    def _get(self, ids: list[int]) -> Iterator[StoredRow]:
        for row in self._client.retrieve(self._collection, ids, with_vectors=True):
            yield StoredRow(row.id, np.array(row.vector, np.float32), load(row.payload["fields"]))

    def _list(self) -> Iterator[int]:
        after = None
        while True:
            rows, after = self._client.scroll(
                self._collection, limit=10_000, offset=after, with_payload=False
            )
            yield from (row.id for row in rows)
            if after is None:
                return

    def _count(self) -> int:
        return int(self._client.count(self._collection, exact=True).count)

    def _close(self) -> None:
        self._client.close()
