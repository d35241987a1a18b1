"""Pinecone, over its HTTP API of version 2025-10. Tested against a strict fake of it only.

The index must be there, with the metric cosine or dot product. Pinecone shows a write to readers
some moments after it acknowledged it: a search may miss what was written just before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np

from lmstack.core import AuthError, FormatError, StoreError
from lmstack.rag.filters import Fields
from lmstack.rag.stores import facts
from lmstack.rag.stores.http import HttpApi, key_for
from lmstack.rag.stores.rows import StoredRow, Vectors, load
from lmstack.rag.stores.store import VectorStore

__all__ = ["PineconeStore"]

_VERSION = "2025-10"
# A request may have 2 MB.
_BYTES = 1_800_000


class PineconeStore(VectorStore):
    """Approximate. Any number of threads and processes."""

    batch, page, most = 1000, 100, 1000
    key = "PINECONE_API_KEY"

    def __init__(self, base: str, namespace: str, dimensions: int) -> None:
        name = f"pinecone://{urlsplit(base).netloc}" + (f"#{namespace}" if namespace else "")
        super().__init__(name, dimensions)
        key = key_for(base, self.key)
        if key is None:
            raise AuthError("Pinecone needs a key", hint=f"set {self.key}", param="store")
        self._namespace = namespace
        self._api = HttpApi(base, {"Api-Key": key, "X-Pinecone-Api-Version": _VERSION})
        self._open(create=False)

    def _width(self) -> int:
        about = self._stats()
        if about.get("metric", "cosine") not in ("cosine", "dotproduct"):
            raise FormatError(
                f"the index {self.name} measures {about['metric']}",
                hint="make one with the metric cosine",
                param="store",
            )
        return int(about["dimension"])

    def _create(self) -> None:
        raise AssertionError("an index of Pinecone is made by its owner")

    def _put(self, ids: list[int], vectors: Vectors, fields: Sequence[Fields]) -> None:
        waiting: list[dict[str, Any]] = []
        size = 0
        for id, vector, one in zip(ids, vectors, fields, strict=True):
            metadata = facts.metadata_of(one)
            row = {"id": str(id), "values": vector.tolist(), "metadata": metadata}
            length = len(json.dumps(row))
            if waiting and size + length > _BYTES:
                self._post("/vectors/upsert", vectors=waiting)
                waiting, size = [], 0
            waiting.append(row)
            size += length
        self._post("/vectors/upsert", vectors=waiting)

    def _take(self, ids: list[int]) -> None:
        self._post("/vectors/delete", ids=[str(id) for id in ids])

    def _nearest(self, vector: Vectors, n: int, where: Any) -> Iterator[facts.Candidate]:
        condition = {} if where is None else {"filter": where}
        answer = self._post(
            "/query", vector=vector.tolist(), topK=n, includeMetadata=True, **condition
        )
        for row in answer["matches"]:
            yield int(row["id"]), float(row["score"]), load(row["metadata"]["fields"])

    def _leaf(self, leaf: facts.Leaf) -> dict[str, Any]:
        match leaf:
            case facts.Has(fact):
                return {"facts": {"$in": [fact]}}
            case facts.Lacks(fact):
                return {"facts": {"$nin": [fact]}}
            case facts.Order(measure, op, value):
                return {measure: {f"${facts.SIGNS[op]}": value}}

    def _join(self, kind: type, parts: list[Any]) -> dict[str, Any]:
        return {"$and" if kind is facts.All else "$or": parts}

    def _get(self, ids: list[int]) -> Iterator[StoredRow]:
        params = httpx.QueryParams({"namespace": self._namespace, "ids": list(map(str, ids))})
        for row in self._api.call("GET", "/vectors/fetch", params=params)["vectors"].values():
            vector = np.array(row["values"], np.float32)
            yield StoredRow(int(row["id"]), vector, load(row["metadata"]["fields"]))

    def _list(self) -> Iterator[int]:
        params = httpx.QueryParams({"namespace": self._namespace, "limit": self.page})
        while True:
            answer = self._api.call("GET", "/vectors/list", params=params, absent=(404,)) or {}
            yield from (int(row["id"]) for row in answer.get("vectors", ()))
            token = answer.get("pagination", {}).get("next")
            if not token:
                return
            params = params.set("paginationToken", token)

    def _count(self) -> int:
        about = self._stats().get("namespaces", {}).get(self._namespace, {})
        return int(about.get("vectorCount", 0))

    def clear(self) -> None:
        # A namespace without rows is absent.
        body = {"deleteAll": True, "namespace": self._namespace}
        self._call(lambda: self._api.call("POST", "/vectors/delete", body, absent=(404,)))

    def _close(self) -> None:
        self._api.close()

    def _stats(self) -> dict[str, Any]:
        about = self._api.call("POST", "/describe_index_stats", {})
        if not isinstance(about, dict):
            raise StoreError(f"{self.name} did not describe itself", hint="check the address")
        return about

    def _post(self, path: str, **body: Any) -> Any:
        return self._api.call("POST", path, {**body, "namespace": self._namespace})
