"""Pinecone, over its HTTP API of version 2025-10. Tested against a strict fake of it only.

The index must be there, with the metric cosine or dot product. Pinecone shows a write to readers
some moments after it acknowledged it: a search may miss what was written just before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np

from lmstack.core import AuthError, FormatError, InputError, StoreError
from lmstack.rag.filters import Fields, Filter
from lmstack.rag.stores import facts
from lmstack.rag.stores.http import HttpApi
from lmstack.rag.stores.protocol import Found, Ids, Stored, Vectors
from lmstack.rag.stores.rows import batches, checked_ids, checked_query, checked_rows, dump, load

__all__ = ["PineconeStore"]

_VERSION = "2025-10"
_KEY = "PINECONE_API_KEY"
# A request may have 1,000 rows and 2 MB.
_BATCH = 1000
_BYTES = 1_800_000
_PAGE = 100
_MOST = 1000
_SIGNS = {"<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte"}


class PineconeStore:
    """Approximate. Any number of threads and processes."""

    def __init__(self, base: str, namespace: str, dimensions: int) -> None:
        key = os.environ.get(_KEY)
        if not key:
            raise AuthError("Pinecone needs a key", hint=f"set {_KEY}", param="store")
        self._namespace, self._dimensions = namespace, dimensions
        self._host = urlsplit(base).netloc
        headers = {"Api-Key": key, "X-Pinecone-Api-Version": _VERSION}
        self._api = HttpApi(base, self.name, headers, _KEY)
        try:
            about = self._stats()
            self._check(about)
        except BaseException:
            self.close()
            raise

    def _check(self, about: dict[str, Any]) -> None:
        if about.get("metric", "cosine") not in ("cosine", "dotproduct"):
            raise FormatError(
                f"the index {self.name} measures {about['metric']}",
                hint="make one with the metric cosine",
                param="store",
            )
        held = about.get("dimension")
        if held != self._dimensions:
            raise InputError(
                f"{self.name} holds vectors of {held} dimensions, not {self._dimensions}",
                hint="use the embedder it was filled with, or another index",
                param="store",
            )

    @property
    def name(self) -> str:
        return f"pinecone://{self._host}" + (f"#{self._namespace}" if self._namespace else "")

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def exact(self) -> bool:
        return False

    def upsert(self, ids: Ids, vectors: Vectors, fields: Sequence[Fields]) -> None:
        ids, vectors, fields = checked_rows(ids, vectors, fields, self._dimensions)
        waiting: list[dict[str, Any]] = []
        size = 0
        for id, vector, one in zip(ids.tolist(), vectors, fields, strict=True):
            row = {"id": str(id), "values": vector.tolist(), "metadata": _metadata(one)}
            length = len(json.dumps(row))
            if waiting and (len(waiting) == _BATCH or size + length > _BYTES):
                self._post("/vectors/upsert", vectors=waiting)
                waiting, size = [], 0
            waiting.append(row)
            size += length
        if waiting:
            self._post("/vectors/upsert", vectors=waiting)

    def delete(self, ids: Ids) -> None:
        ids = checked_ids(ids)
        for part in batches(len(ids), _BATCH):
            self._post("/vectors/delete", ids=[str(id) for id in ids[part].tolist()])

    def search(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Found]:
        vector = checked_query(vector, k, self._dimensions)
        tree = facts.narrow(where)
        condition = {} if tree is None else {"filter": _condition(tree)}

        def ask(n: int) -> list[facts.Candidate]:
            answer = self._post(
                "/query", vector=vector.tolist(), topK=n, includeMetadata=True, **condition
            )
            return [
                (int(row["id"]), float(row["score"]), load(row["metadata"]["fields"]))
                for row in answer["matches"]
            ]

        return facts.fill(ask, k, where, _MOST, self.name)

    def fetch(self, ids: Ids) -> list[Stored]:
        ids = checked_ids(ids)
        found: dict[int, Stored] = {}
        for part in batches(len(ids), _PAGE):
            params = httpx.QueryParams({"namespace": self._namespace})
            for id in ids[part].tolist():
                params = params.add("ids", str(id))
            answer = self._api.call("GET", "/vectors/fetch", params=params)
            for row in answer["vectors"].values():
                vector = np.array(row["values"], np.float32)
                found[int(row["id"])] = Stored(
                    int(row["id"]), vector, load(row["metadata"]["fields"])
                )
        return [found[id] for id in ids.tolist() if id in found]

    def ids(self) -> Iterator[int]:
        params = httpx.QueryParams({"namespace": self._namespace, "limit": _PAGE})
        while True:
            answer = self._api.call("GET", "/vectors/list", params=params, absent=(404,)) or {}
            yield from (int(row["id"]) for row in answer.get("vectors", ()))
            token = answer.get("pagination", {}).get("next")
            if not token:
                return
            params = params.set("paginationToken", token)

    def count(self) -> int:
        about = self._stats().get("namespaces", {}).get(self._namespace, {})
        return int(about.get("vectorCount", 0))

    def clear(self) -> None:
        # A namespace without rows is absent.
        body = {"deleteAll": True, "namespace": self._namespace}
        self._api.call("POST", "/vectors/delete", body, absent=(404,))

    def close(self) -> None:
        self._api.close()

    def _stats(self) -> dict[str, Any]:
        about = self._api.call("POST", "/describe_index_stats", {})
        if not isinstance(about, dict):
            raise StoreError(f"{self.name} did not describe itself", hint="check the address")
        return about

    def _post(self, path: str, **body: Any) -> Any:
        return self._api.call("POST", path, {**body, "namespace": self._namespace})


def _metadata(fields: Fields) -> dict[str, Any]:
    return {"fields": dump(fields), "facts": facts.facts_of(fields), **facts.measures_of(fields)}


def _condition(tree: facts.Tree) -> dict[str, Any]:
    match tree:
        case facts.Has(fact):
            return {"facts": {"$in": [fact]}}
        case facts.Lacks(fact):
            return {"facts": {"$nin": [fact]}}
        case facts.Order(measure, op, value):
            return {measure: {_SIGNS[op]: value}}
    if not tree.parts:
        return _condition(facts.Has("row") if isinstance(tree, facts.All) else facts.Has("none"))
    return {
        "$and" if isinstance(tree, facts.All) else "$or": [_condition(part) for part in tree.parts]
    }
