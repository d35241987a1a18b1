"""Weaviate 1.33 or newer, over its REST and GraphQL routes. Tested against a strict fake only.

Vectors are given, never made there. Facts are one property of texts; orders are not narrowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import httpx
import numpy as np

from lmstack.core import InputError, StoreError, shown
from lmstack.rag.filters import Fields
from lmstack.rag.stores import facts
from lmstack.rag.stores.http import HttpApi, key_for
from lmstack.rag.stores.rows import StoredRow, Vectors, dump, load
from lmstack.rag.stores.store import VectorStore

__all__ = ["WeaviateStore"]

_MARK = "lmstack vectors of {} dimensions"
_PREFIX = 0x6C6D7376 << 96
_HNSW = {"distance": "cosine", "efConstruction": 128, "maxConnections": 32, "ef": 256}
_TEXT = {"tokenization": "field", "indexSearchable": False}
_PROPERTIES = [
    {"name": "facts", "dataType": ["text[]"], "indexFilterable": True, **_TEXT},
    {"name": "fields", "dataType": ["text"], "indexFilterable": False, **_TEXT},
]
# A fact ends with this: white space at the ends of a text would be trimmed.
_END = "|"


class WeaviateStore(VectorStore):
    """Approximate. Any number of threads and processes. ``most``: a Weaviate gives no more
    results unless it was told to (QUERY_MAXIMUM_RESULTS)."""

    batch, page, most = 200, 100, 10_000
    key = "WEAVIATE_API_KEY"
    hint = "check that it is running, and its log; lmstack needs Weaviate 1.33 or newer"

    def __init__(self, base: str, collection: str, dimensions: int, *, create: bool = True) -> None:
        if not re.fullmatch(r"[A-Z][A-Za-z0-9_]{0,200}", collection):
            raise InputError(
                f"{shown(collection)} cannot be the name of a collection",
                hint="a capital letter, then letters, digits and _",
                param="store",
            )
        super().__init__(f"weaviate+{base}/{collection}", dimensions)
        self._class = collection
        key = key_for(base, self.key)
        self._api = HttpApi(base, {"Authorization": f"Bearer {key}"} if key else {})
        self._open(create)

    def _width(self) -> int | None:
        about = self._api.call("GET", f"/v1/schema/{self._class}", absent=(404,))
        if about is None:
            return None
        mark = re.escape(_MARK).replace(r"\{\}", r"(\d+)")
        held = re.fullmatch(mark, about.get("description") or "")
        if held is None:
            raise self._foreign()
        return int(held[1])

    def _create(self) -> None:
        schema = {
            "class": self._class,
            "description": _MARK.format(self.dimensions),
            "vectorizer": "none",
            "vectorIndexType": "hnsw",
            "vectorIndexConfig": _HNSW,
            "properties": _PROPERTIES,
        }
        # Of two that make it at once one is refused (422), and finds it made.
        self._api.call("POST", "/v1/schema", schema, absent=(422,))

    def _put(self, ids: list[int], vectors: Vectors, fields: Sequence[Fields]) -> None:
        objects = [
            {
                "class": self._class,
                "id": _uuid(id),
                "vector": vector.tolist(),
                "properties": {
                    "facts": [fact + _END for fact in facts.facts_of(one)],
                    "fields": dump(one),
                },
            }
            for id, vector, one in zip(ids, vectors, fields, strict=True)
        ]
        for one in self._api.call("POST", "/v1/batch/objects", {"objects": objects}):
            if one.get("result", {}).get("status", "SUCCESS") != "SUCCESS":
                raise self._refused(one["result"].get("errors"))

    def _take(self, ids: list[int]) -> None:
        where = {
            "operator": "ContainsAny",
            "path": ["id"],
            "valueTextArray": [_uuid(id) for id in ids],
        }
        body = {"match": {"class": self._class, "where": where}}
        answer = self._api.call("DELETE", "/v1/batch/objects", body)
        if answer["results"]["failed"]:
            raise self._refused(answer["results"])

    def _nearest(self, vector: Vectors, n: int, where: Any) -> Iterator[facts.Candidate]:
        near = f"limit: {n}, nearVector: {{vector: {json.dumps(vector.tolist())}}}"
        filtered = near if where is None else f"{near}, where: {where}"
        for row in self._find(filtered, "fields _additional { id distance }"):
            about = row["_additional"]
            yield _number(about["id"]), 1.0 - about["distance"], load(row["fields"])

    def _leaf(self, leaf: facts.Leaf) -> str | None:
        if isinstance(leaf, facts.Order):
            return None
        operator = "ContainsAny" if isinstance(leaf, facts.Has) else "ContainsNone"
        # GraphQL writes texts as JSON does, but for pairs of surrogates: no escapes for them.
        text = json.dumps(leaf.fact + _END, ensure_ascii=False)
        return f'{{operator: {operator}, path: ["facts"], valueText: [{text}]}}'

    def _join(self, kind: type, parts: list[Any]) -> str:
        operator = "And" if kind is facts.All else "Or"
        return f"{{operator: {operator}, operands: [{', '.join(parts)}]}}"

    def _get(self, ids: list[int]) -> Iterator[StoredRow]:
        wanted = json.dumps([_uuid(id) for id in ids])
        where = f'where: {{operator: ContainsAny, path: ["id"], valueText: {wanted}}}'
        for row in self._find(f"limit: {len(ids)}, {where}", "fields _additional { id vector }"):
            vector = np.array(row["_additional"]["vector"], np.float32)
            yield StoredRow(_number(row["_additional"]["id"]), vector, load(row["fields"]))

    def _list(self) -> Iterator[int]:
        params = httpx.QueryParams({"class": self._class, "limit": self.page})
        while True:
            rows = self._api.call("GET", "/v1/objects", params=params).get("objects", [])
            yield from (_number(row["id"]) for row in rows)
            if len(rows) < self.page:
                return
            params = params.set("after", rows[-1]["id"])

    def _count(self) -> int:
        data = self._graphql(f"{{ Aggregate {{ {self._class} {{ meta {{ count }} }} }} }}")
        return int(data["Aggregate"][self._class][0]["meta"]["count"])

    def _close(self) -> None:
        self._api.close()

    def _find(self, arguments: str, wanted: str) -> list[dict[str, Any]]:
        data = self._graphql(f"{{ Get {{ {self._class}({arguments}) {{ {wanted} }} }} }}")
        rows: list[dict[str, Any]] = data["Get"][self._class]
        return rows

    def _graphql(self, query: str) -> dict[str, Any]:
        answer = self._api.call("POST", "/v1/graphql", {"query": query})
        if answer.get("errors"):
            raise self._refused([one.get("message") for one in answer["errors"]])
        data: dict[str, Any] = answer["data"]
        return data

    def _refused(self, what: object) -> StoreError:
        return StoreError(f"{self.name} failed: {shown(what, 200)}", hint=self.hint, param="store")


def _uuid(id: int) -> str:
    return str(UUID(int=_PREFIX | id))


def _number(uuid: str) -> int:
    return UUID(uuid).int ^ _PREFIX
