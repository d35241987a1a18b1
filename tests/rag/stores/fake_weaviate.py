"""A strict fake of Weaviate's REST and GraphQL routes, after its OpenAPI description of 1.40."""

from __future__ import annotations

import re
from typing import Any

import graphql
import numpy as np
from graphql.language import ast
from tests.rag.stores.fakes import RefusedError, Request, shaped

__all__ = ["FakeWeaviate"]

KEY = "key-of-weaviate"
_MOST = 10_000
_REQUEST_BYTES = 10 * 2**20
_UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")
_TYPES = {"text": lambda v: isinstance(v, str), "text[]": lambda v: is_texts(v)}


def is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def is_text(value: object) -> bool:
    return isinstance(value, str)


def is_object(value: object) -> bool:
    return isinstance(value, dict)


class FakeWeaviate:
    def __init__(self) -> None:
        self.classes: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, dict[str, dict[str, Any]]] = {}

    def answer(self, request: Request) -> object:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            raise RefusedError(401, {"code": 401, "message": "anonymous access not enabled"})
        if request.size > _REQUEST_BYTES:
            raise RefusedError(413, None)
        match request.method, request.path.split("/")[1:]:
            case "GET", ["v1", "schema", name]:
                if name not in self.classes:
                    raise RefusedError(404, None)
                return self.classes[name]
            case "POST", ["v1", "schema"]:
                return self.create(request.body)
            case "POST", ["v1", "batch", "objects"]:
                return self.put(request.body)
            case "DELETE", ["v1", "batch", "objects"]:
                return self.delete(request.body)
            case "GET", ["v1", "objects"]:
                return self.list(request.query)
            case "POST", ["v1", "graphql"]:
                shaped(request.body, {"query": is_text}, ("query",))
                return self.graphql(request.body["query"])
        raise RefusedError(404, {"code": 404, "message": f"path {request.path} was not found"})

    def create(self, body: object) -> object:
        shaped(
            body,
            {
                "class": lambda v: is_text(v) and re.fullmatch(r"[A-Z][_0-9A-Za-z]{0,254}", v),
                "description": is_text,
                "vectorizer": lambda v: v == "none",
                "vectorIndexType": lambda v: v in ("hnsw", "flat"),
                "vectorIndexConfig": is_object,
                "properties": lambda v: isinstance(v, list),
            },
            ("class",),
        )
        shaped(
            body.get("vectorIndexConfig", {}),
            {
                "distance": lambda v: v in ("cosine", "dot", "l2-squared"),
                "efConstruction": lambda v: type(v) is int,
                "maxConnections": lambda v: type(v) is int,
                "ef": lambda v: type(v) is int,
            },
        )
        for one in body.get("properties", []):
            shaped(
                one,
                {
                    "name": lambda v: is_text(v) and re.fullmatch(r"[_A-Za-z]\w{0,230}", v),
                    "dataType": lambda v: is_texts(v) and v[0] in _TYPES,
                    "tokenization": lambda v: v == "field",
                    "indexFilterable": lambda v: isinstance(v, bool),
                    "indexSearchable": lambda v: isinstance(v, bool),
                },
                ("name", "dataType"),
            )
        if body["class"] in self.classes:
            raise RefusedError(422, {"error": [{"message": "class name already exists"}]})
        self.classes[body["class"]], self.objects[body["class"]] = body, {}
        return body

    def put(self, body: object) -> object:
        shaped(body, {"objects": lambda v: isinstance(v, list) and v}, ("objects",))
        return [{**one, "result": self.put_one(one)} for one in body["objects"]]

    def put_one(self, one: Any) -> object:
        shaped(
            one,
            {
                "class": lambda v: v in self.classes,
                "id": lambda v: is_text(v) and _UUID.fullmatch(v),
                "vector": lambda v: isinstance(v, list) and all(type(x) is float for x in v),
                "properties": is_object,
            },
            ("class", "id", "vector"),
        )
        known = {
            p["name"]: _TYPES[p["dataType"][0]] for p in self.classes[one["class"]]["properties"]
        }
        shaped(one["properties"], known)
        held = self.objects[one["class"]]
        widths = {len(other["vector"]) for other in held.values()} | {len(one["vector"])}
        if len(widths) > 1:
            return {"status": "FAILED", "errors": {"error": [{"message": "vector lengths differ"}]}}
        held[one["id"]] = one
        return {"status": "SUCCESS"}

    def delete(self, body: object) -> object:
        shaped(body, {"match": is_object}, ("match",))
        match = shaped(
            body["match"],
            {"class": lambda v: v in self.classes, "where": is_object},
            ("class", "where"),
        )
        held = self.objects[match["class"]]
        gone = [one for one in held.values() if self.holds(match["where"], one, "valueTextArray")]
        for one in gone[:_MOST]:
            del held[one["id"]]
        count = min(len(gone), _MOST)
        results = {"matches": len(gone), "limit": _MOST, "successful": count, "failed": 0}
        return {"match": match, "output": "minimal", "dryRun": False, "results": results}

    def list(self, query: dict[str, list[str]]) -> object:
        shaped(
            query,
            {
                "class": lambda v: v[0] in self.classes,
                "limit": lambda v: 1 <= int(v[0]) <= _MOST,
                "after": lambda v: _UUID.fullmatch(v[0]),
            },
            ("class",),
        )
        after, limit = query.get("after", [""])[0], int(query.get("limit", ["25"])[0])
        rows = sorted(self.objects[query["class"][0]].values(), key=lambda one: one["id"])
        rest = [one for one in rows if one["id"] > after][:limit]
        return {"objects": [{k: v for k, v in one.items() if k != "vector"} for one in rest]}

    def graphql(self, query: str) -> object:
        try:
            (operation,) = graphql.parse(query).definitions
            (root,) = operation.selection_set.selections
            (field,) = root.selection_set.selections
            name = field.name.value
            if name not in self.classes:
                raise RefusedError(400, f'Cannot query field "{name}"')
            if root.name.value == "Aggregate":
                return {"data": {"Aggregate": {name: [self.aggregate(field)]}}}
            return {"data": {"Get": {name: self.get(field, name)}}}
        except (graphql.GraphQLError, ValueError) as error:
            return {"errors": [{"message": str(error)}]}
        except RefusedError as refused:
            return {"errors": [{"message": str(refused.body)}]}

    def aggregate(self, field: ast.FieldNode) -> object:
        (meta,) = field.selection_set.selections
        (count,) = meta.selection_set.selections
        assert (meta.name.value, count.name.value) == ("meta", "count")
        return {"meta": {"count": len(self.objects[field.name.value])}}

    def get(self, field: ast.FieldNode, name: str) -> object:
        given = {one.name.value: plain(one.value) for one in field.arguments}
        shaped(
            given,
            {
                "limit": lambda v: type(v) is int and 1 <= v <= _MOST,
                "nearVector": is_object,
                "where": is_object,
            },
        )
        where = given.get("where")
        rows = [
            (one, 0.0)
            for one in self.objects[name].values()
            if where is None or self.holds(where, one, "valueText")
        ]
        if "nearVector" in given:
            near = shaped(
                given["nearVector"], {"vector": lambda v: isinstance(v, list)}, ("vector",)
            )
            rows = sorted(
                ((one, distance(near["vector"], one["vector"])) for one, _ in rows),
                key=lambda row: row[1],
            )
        wanted = field.selection_set.selections
        return [shown(one, far, wanted) for one, far in rows[: given.get("limit", 25)]]

    def holds(self, where: Any, one: dict[str, Any], value_name: str) -> bool:
        shaped(
            where,
            {
                "operator": is_text,
                "operands": lambda v: isinstance(v, list) and v,
                "path": lambda v: is_texts(v) and len(v) == 1,
                value_name: is_texts,
            },
            ("operator",),
        )
        operator = where["operator"]
        if operator in ("And", "Or"):
            parts = [self.holds(part, one, value_name) for part in where["operands"]]
            return all(parts) if operator == "And" else any(parts)
        if operator not in ("ContainsAny", "ContainsAll", "ContainsNone"):
            raise RefusedError(400, {"message": f"unknown operator {operator}"})
        (path,) = where["path"]
        properties = {p["name"]: p for p in self.classes[one["class"]]["properties"]}
        if path != "id" and not properties[path]["indexFilterable"]:
            raise RefusedError(400, {"message": f"{path} is not filterable"})
        held = [one["id"]] if path == "id" else one["properties"].get(path, [])
        # As `field` does it: white space at the ends is trimmed.
        tokens = {text.strip() for text in held}
        asked = {text.strip() for text in where[value_name]}
        if operator == "ContainsAll":
            return asked <= tokens
        return bool(asked & tokens) == (operator == "ContainsAny")


def distance(one: list[float], other: list[float]) -> float:
    a, b = np.array(one), np.array(other)
    if a.shape != b.shape:
        raise RefusedError(400, {"message": "vector lengths don't match"})
    return float(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def plain(node: ast.ValueNode) -> Any:
    match node:
        case ast.ObjectValueNode():
            return {one.name.value: plain(one.value) for one in node.fields}
        case ast.ListValueNode():
            return [plain(one) for one in node.values]
        case ast.IntValueNode():
            return int(node.value)
        case ast.FloatValueNode():
            return float(node.value)
        case ast.StringValueNode() | ast.EnumValueNode():
            return node.value
    raise RefusedError(400, {"message": f"bad value {node.kind}"})


def shown(one: dict[str, Any], far: float, wanted: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in wanted:
        if field.name.value == "_additional":
            about = {"id": one["id"], "vector": one["vector"], "distance": far}
            inner = [part.name.value for part in field.selection_set.selections]
            found["_additional"] = {name: about[name] for name in inner}
        else:
            found[field.name.value] = one["properties"].get(field.name.value)
    return found
