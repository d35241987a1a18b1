"""A strict fake of Pinecone's data plane, after its OpenAPI description of 2025-10."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from tests.rag.stores.fakes import RefusedError, Request, shaped

__all__ = ["FakePinecone"]

KEY = "key-of-pinecone"
_VERSION = "2025-10"
_REQUEST_BYTES = 2 * 2**20
_METADATA_BYTES = 40 * 2**10
_COMPARE = {
    "$gt": lambda held, asked: held > asked,
    "$gte": lambda held, asked: held >= asked,
    "$lt": lambda held, asked: held < asked,
    "$lte": lambda held, asked: held <= asked,
}


def is_text(value: object) -> bool:
    return isinstance(value, str)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_flag(value: object) -> bool:
    return isinstance(value, bool)


def are_ids(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= 1000
        and all(isinstance(id, str) and 1 <= len(id) <= 512 for id in value)
    )


class FakePinecone:
    """One index, its namespaces made by the first row in them."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.metric = "cosine"
        self.namespaces: dict[str, dict[str, tuple[list[float], dict[str, Any]]]] = {}

    def answer(self, request: Request) -> object:
        if request.headers.get("Api-Key") != KEY:
            raise RefusedError(401, {"code": 16, "message": "Invalid API Key"})
        if request.headers.get("X-Pinecone-Api-Version") != _VERSION:
            raise RefusedError(400, {"code": 3, "message": "unknown API version"})
        if request.size > _REQUEST_BYTES:
            raise RefusedError(413, {"code": 3, "message": "request larger than 2 MB"})
        match request.method, request.path:
            case "POST", "/describe_index_stats":
                shaped(request.body, {})
                return self.stats()
            case "POST", "/vectors/upsert":
                return self.upsert(request.body)
            case "POST", "/vectors/delete":
                return self.delete(request.body)
            case "POST", "/query":
                return self.find(request.body)
            case "GET", "/vectors/fetch":
                return self.fetch(request.query)
            case "GET", "/vectors/list":
                return self.list(request.query)
        raise RefusedError(404, {"code": 12, "message": "Not Found"})

    def stats(self) -> object:
        counts = {name: {"vectorCount": len(rows)} for name, rows in self.namespaces.items()}
        return {
            "namespaces": counts,
            "dimension": self.dimension,
            "indexFullness": 0,
            "totalVectorCount": sum(len(rows) for rows in self.namespaces.values()),
            "metric": self.metric,
            "vectorType": "dense",
        }

    def is_vector(self, value: Any) -> bool:
        whole = isinstance(value, list) and len(value) == self.dimension
        return whole and all(map(is_number, value)) and any(value)

    def upsert(self, body: object) -> object:
        shaped(
            body,
            {
                "vectors": lambda v: isinstance(v, list) and 1 <= len(v) <= 1000,
                "namespace": is_text,
            },
            ("vectors",),
        )
        for row in body["vectors"]:
            shaped(
                row,
                {"id": lambda id: are_ids([id]), "values": self.is_vector, "metadata": is_metadata},
                ("id", "values"),
            )
        rows = self.namespaces.setdefault(body.get("namespace", ""), {})
        rows.update(
            {row["id"]: (row["values"], row.get("metadata", {})) for row in body["vectors"]}
        )
        return {"upsertedCount": len(body["vectors"])}

    def delete(self, body: object) -> object:
        shaped(body, {"ids": are_ids, "deleteAll": is_flag, "namespace": is_text})
        if ("ids" in body) == bool(body.get("deleteAll")):
            raise RefusedError(400, {"code": 3, "message": "either ids or deleteAll"})
        name = body.get("namespace", "")
        if name not in self.namespaces and body.get("deleteAll"):
            raise RefusedError(404, {"code": 5, "message": "Namespace not found"})
        rows = self.namespaces.get(name, {})
        for id in body.get("ids", list(rows)):
            rows.pop(id, None)
        if not rows:
            self.namespaces.pop(name, None)
        return {}

    def find(self, body: object) -> object:
        shaped(
            body,
            {
                "namespace": is_text,
                "topK": lambda k: type(k) is int and 1 <= k <= 10_000,
                "vector": self.is_vector,
                "filter": lambda f: isinstance(f, dict),
                "includeMetadata": is_flag,
                "includeValues": is_flag,
            },
            ("topK", "vector"),
        )
        vector, found = np.array(body["vector"]), []
        for id, (values, metadata) in self.namespaces.get(body.get("namespace", ""), {}).items():
            if matches(body.get("filter", {}), metadata):
                score = float(vector @ values / np.linalg.norm(vector) / np.linalg.norm(values))
                one = {"id": id, "score": score}
                found.append({**one, "metadata": metadata} if body.get("includeMetadata") else one)
        found.sort(key=lambda one: -one["score"])
        return {"matches": found[: body["topK"]], "namespace": body.get("namespace", "")}

    def fetch(self, query: dict[str, list[str]]) -> object:
        shaped(query, {"ids": are_ids, "namespace": lambda v: len(v) == 1}, ("ids",))
        name = query.get("namespace", [""])[0]
        rows = self.namespaces.get(name, {})
        found = {
            id: {"id": id, "values": rows[id][0], "metadata": rows[id][1]}
            for id in query["ids"]
            if id in rows
        }
        return {"vectors": found, "namespace": name}

    def list(self, query: dict[str, list[str]]) -> object:
        shaped(
            query,
            {
                "namespace": lambda v: len(v) == 1,
                "limit": lambda v: 1 <= int(v[0]) <= 100,
                "paginationToken": lambda v: len(v) == 1,
            },
        )
        rows = sorted(self.namespaces.get(query.get("namespace", [""])[0], {}))
        after = query.get("paginationToken", [""])[0]
        limit = int(query.get("limit", ["100"])[0])
        rest = [id for id in rows if id > after]
        page: dict[str, Any] = {"vectors": [{"id": id} for id in rest[:limit]]}
        if len(rest) > limit:
            page["pagination"] = {"next": rest[limit - 1]}
        return page


def is_metadata(value: Any) -> bool:
    def is_value(one: Any) -> bool:
        return is_text(one) or is_number(one) or is_flag(one) or is_text_list(one)

    if not isinstance(value, dict) or len(json.dumps(value).encode()) > _METADATA_BYTES:
        return False
    return all(not name.startswith("$") and is_value(one) for name, one in value.items())


def is_text_list(value: object) -> bool:
    return isinstance(value, list) and all(map(is_text, value))


def matches(where: dict[str, Any], metadata: dict[str, Any]) -> bool:
    return all(judged(name, condition, metadata) for name, condition in where.items())


def judged(name: str, condition: Any, metadata: dict[str, Any]) -> bool:
    if name in ("$and", "$or"):
        if not isinstance(condition, list) or not condition:
            raise RefusedError(400, {"code": 3, "message": f"{name} needs a list"})
        return (all if name == "$and" else any)([matches(part, metadata) for part in condition])
    if name.startswith("$") or not isinstance(condition, dict) or len(condition) != 1:
        raise RefusedError(400, {"code": 3, "message": f"bad filter {name}"})
    ((op, asked),) = condition.items()
    held = metadata.get(name)
    if op in ("$in", "$nin"):
        if not is_text_list(asked) or not 1 <= len(asked) <= 10_000:
            raise RefusedError(400, {"code": 3, "message": f"{op} needs a list of texts"})
        any_held = bool({*(held if isinstance(held, list) else [held])} & {*asked})
        return any_held == (op == "$in")
    if op in _COMPARE:
        if not is_number(asked):
            raise RefusedError(400, {"code": 3, "message": f"{op} needs a number"})
        return is_number(held) and _COMPARE[op](held, asked)
    raise RefusedError(400, {"code": 3, "message": f"unknown {op}"})
