"""Weaviate 1.33 or newer, over its REST and GraphQL routes. Tested against a strict fake only.

Vectors are given, never made there. Facts are one property of texts; orders are not narrowed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import httpx
import numpy as np

from lmstack.core import FormatError, InputError, NotFoundError, StoreError, shown
from lmstack.rag.filters import Fields, Filter
from lmstack.rag.stores import facts
from lmstack.rag.stores.http import HttpApi
from lmstack.rag.stores.protocol import Found, Ids, Stored, Vectors
from lmstack.rag.stores.rows import batches, checked_ids, checked_query, checked_rows, dump, load

__all__ = ["WeaviateStore"]

_KEY = "WEAVIATE_API_KEY"
_MARK = "lmstack vectors of {} dimensions"
_BATCH = 200
_PAGE = 100
# A Weaviate gives at most 10,000 results unless it was told otherwise (QUERY_MAXIMUM_RESULTS).
_MOST = 10_000
_PREFIX = 0x6C6D7376 << 96
_HNSW = {"distance": "cosine", "efConstruction": 128, "maxConnections": 32, "ef": 256}
# A fact ends with this: white space at the ends of a text would be trimmed.
_END = "|"


class WeaviateStore:
    """Approximate. Any number of threads and processes."""

    def __init__(self, base: str, collection: str, dimensions: int, *, create: bool = True) -> None:
        if not re.fullmatch(r"[A-Z][A-Za-z0-9_]{0,200}", collection):
            raise InputError(
                f"{shown(collection)} cannot be the name of a collection",
                hint="a capital letter, then letters, digits and _",
                param="store",
            )
        self._base, self._class, self._dimensions = base, collection, dimensions
        key = os.environ.get(_KEY)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._api = HttpApi(base, self.name, headers, _KEY)
        try:
            self._open(create)
        except BaseException:
            self.close()
            raise

    def _open(self, create: bool) -> None:
        path = f"/v1/schema/{self._class}"
        about = self._api.call("GET", path, absent=(404,))
        if about is None and create:
            # Of two that make it at once one is refused (422), and finds it made.
            self._api.call("POST", "/v1/schema", self._schema(), absent=(422,))
            about = self._api.call("GET", path, absent=(404,))
        if about is None:
            raise NotFoundError(
                f"there is no store {shown(self.name)}",
                hint="check the address, or let lmstack make it",
                param="store",
            )
        mark = re.escape(_MARK).replace(r"\{\}", r"(\d+)")
        held = re.fullmatch(mark, about.get("description") or "")
        if held is None:
            raise FormatError(
                f"the collection {shown(self.name)} was not made by lmstack",
                hint="give another name",
                param="store",
            )
        if int(held[1]) != self._dimensions:
            raise InputError(
                f"{self.name} holds vectors of {held[1]} dimensions, not {self._dimensions}",
                hint="use the embedder it was filled with, or another store",
                param="store",
            )

    def _schema(self) -> dict[str, Any]:
        text = {"tokenization": "field", "indexSearchable": False}
        return {
            "class": self._class,
            "description": _MARK.format(self._dimensions),
            "vectorizer": "none",
            "vectorIndexType": "hnsw",
            "vectorIndexConfig": _HNSW,
            "properties": [
                {"name": "facts", "dataType": ["text[]"], "indexFilterable": True, **text},
                {"name": "fields", "dataType": ["text"], "indexFilterable": False, **text},
            ],
        }

    @property
    def name(self) -> str:
        return f"weaviate+{self._base}/{self._class}"

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def exact(self) -> bool:
        return False

    def upsert(self, ids: Ids, vectors: Vectors, fields: Sequence[Fields]) -> None:
        ids, vectors, fields = checked_rows(ids, vectors, fields, self._dimensions)
        for part in batches(len(ids), _BATCH):
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
                for id, vector, one in zip(
                    ids[part].tolist(), vectors[part], fields[part], strict=True
                )
            ]
            for one in self._api.call("POST", "/v1/batch/objects", {"objects": objects}):
                if one.get("result", {}).get("status", "SUCCESS") != "SUCCESS":
                    raise self._failed(one["result"].get("errors"))

    def delete(self, ids: Ids) -> None:
        ids = checked_ids(ids)
        for part in batches(len(ids), _BATCH):
            where = {
                "operator": "ContainsAny",
                "path": ["id"],
                "valueTextArray": [_uuid(id) for id in ids[part].tolist()],
            }
            body = {"match": {"class": self._class, "where": where}}
            answer = self._api.call("DELETE", "/v1/batch/objects", body)
            if answer["results"]["failed"]:
                raise self._failed(answer["results"])

    def search(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Found]:
        vector = checked_query(vector, k, self._dimensions)
        tree = facts.narrow(where)
        condition = None if tree is None else _condition(tree)
        filtered = "" if condition is None else f", where: {condition}"
        near = f"nearVector: {{vector: {json.dumps(vector.tolist())}}}"

        def ask(n: int) -> list[facts.Candidate]:
            rows = self._get(f"limit: {n}, {near}{filtered}", "fields _additional { id distance }")
            return [
                (
                    _number(row["_additional"]["id"]),
                    1.0 - row["_additional"]["distance"],
                    load(row["fields"]),
                )
                for row in rows
            ]

        return facts.fill(ask, k, where, _MOST, self.name)

    def fetch(self, ids: Ids) -> list[Stored]:
        ids = checked_ids(ids)
        found: dict[int, Stored] = {}
        for part in batches(len(ids), _PAGE):
            wanted = json.dumps([_uuid(id) for id in ids[part].tolist()])
            where = f'where: {{operator: ContainsAny, path: ["id"], valueText: {wanted}}}'
            for row in self._get(f"limit: {_PAGE}, {where}", "fields _additional { id vector }"):
                id = _number(row["_additional"]["id"])
                vector = np.array(row["_additional"]["vector"], np.float32)
                found[id] = Stored(id, vector, load(row["fields"]))
        return [found[id] for id in ids.tolist() if id in found]

    def ids(self) -> Iterator[int]:
        params = httpx.QueryParams({"class": self._class, "limit": _PAGE})
        while True:
            answer = self._api.call("GET", "/v1/objects", params=params)
            rows = answer.get("objects", [])
            yield from (_number(row["id"]) for row in rows)
            if len(rows) < _PAGE:
                return
            params = params.set("after", rows[-1]["id"])

    def count(self) -> int:
        data = self._graphql(f"{{ Aggregate {{ {self._class} {{ meta {{ count }} }} }} }}")
        return int(data["Aggregate"][self._class][0]["meta"]["count"])

    def clear(self) -> None:
        self.delete(np.fromiter(self.ids(), np.int64))

    def close(self) -> None:
        self._api.close()

    def _get(self, arguments: str, wanted: str) -> list[dict[str, Any]]:
        data = self._graphql(f"{{ Get {{ {self._class}({arguments}) {{ {wanted} }} }} }}")
        rows: list[dict[str, Any]] = data["Get"][self._class]
        return rows

    def _graphql(self, query: str) -> dict[str, Any]:
        answer = self._api.call("POST", "/v1/graphql", {"query": query})
        if answer.get("errors"):
            raise self._failed([one.get("message") for one in answer["errors"]])
        data: dict[str, Any] = answer["data"]
        return data

    def _failed(self, what: object) -> StoreError:
        return StoreError(
            f"{self.name} failed: {shown(what, 200)}",
            hint="check the server's log; lmstack needs Weaviate 1.33 or newer",
            param="store",
        )


def _condition(tree: facts.Tree) -> str | None:
    """A `where` in GraphQL; None where nothing can be said."""
    match tree:
        case facts.Has(fact):
            return _contains("ContainsAny", fact)
        case facts.Lacks(fact):
            return _contains("ContainsNone", fact)
        case facts.Order():
            return None
    parts = [_condition(part) for part in tree.parts]
    said = [part for part in parts if part is not None]
    if isinstance(tree, facts.All):
        operator = "And"
        if not said:
            return None
    else:
        operator = "Or"
        if len(said) < len(parts):
            return None
        if not said:
            return _contains("ContainsAny", "none")
    return said[0] if len(said) == 1 else f"{{operator: {operator}, operands: [{', '.join(said)}]}}"


def _contains(operator: str, fact: str) -> str:
    # GraphQL writes texts as JSON does, but for pairs of surrogates: hence no escapes for them.
    text = json.dumps(fact + _END, ensure_ascii=False)
    return f'{{operator: {operator}, path: ["facts"], valueText: [{text}]}}'


def _uuid(id: int) -> str:
    return str(UUID(int=_PREFIX | id))


def _number(uuid: str) -> int:
    return UUID(uuid).int ^ _PREFIX
