"""A Qdrant server of the tests' own: each request is read by the models that Qdrant's client
generates from the server's description, without a field that these do not know, and answered by
the client's own engine in memory."""

from __future__ import annotations

import re
from typing import Any

from pydantic import TypeAdapter, ValidationError
from qdrant_client import QdrantClient, models
from tests.rag.stores.fakes import RefusedError, Request

__all__ = ["FakeQdrant"]

KEY = "key-of-qdrant"
_REQUEST_BYTES = 32 * 2**20
_PATH = re.compile(r"/collections/([A-Za-z0-9_-]{1,255})(/.*)?")


class FakeQdrant:
    def __init__(self) -> None:
        self.client = QdrantClient(":memory:", force_disable_check_same_thread=True)

    def answer(self, request: Request) -> object:
        if request.headers.get("api-key") != KEY:
            raise RefusedError(401, "Must provide an API key or an Authorization bearer token")
        if request.size > _REQUEST_BYTES:
            raise RefusedError(413, {"status": {"error": "payload too large"}})
        found = _PATH.fullmatch(request.path)
        if found is None:
            raise RefusedError(404, None)
        result = self.of_collection(request, found[1], found[2] or "")
        return {"result": result, "status": "ok", "time": 0.001}

    def of_collection(self, request: Request, name: str, rest: str) -> Any:
        there = self.client.collection_exists(name)
        match request.method, rest:
            case "GET", "/exists":
                return {"exists": there}
            case "PUT", "":
                if there:
                    raise RefusedError(409, {"status": {"error": f"{name} already exists"}})
                asked = read(models.CreateCollection, request.body)
                return self.client.create_collection(name, vectors_config=asked.vectors)
        if not there:
            raise RefusedError(404, {"status": {"error": f"Not found: Collection {name}"}})
        match request.method, rest:
            case "GET", "":
                return plain(self.client.get_collection(name))
            case "PUT", "/index":
                asked = read(models.CreateFieldIndex, request.body)
                assert asked.field_schema == models.PayloadSchemaType.KEYWORD
                return {"operation_id": 0, "status": "completed"}
            case "POST", "/points":
                return self.retrieve(name, request)
            case "POST", "/points/query" | "/points/scroll" | "/points/count" | "/points/delete":
                return getattr(self, rest.rpartition("/")[2])(name, request)
            case "PUT", "/points":
                return self.upsert(name, request)
        raise RefusedError(404, None)

    def upsert(self, name: str, request: Request) -> Any:
        assert request.query == {"wait": ["true"]}, "not durable when it returns"
        asked = read(models.PointsBatch, request.body)
        return plain(self.client.upsert(name, asked.batch))

    def delete(self, name: str, request: Request) -> Any:
        assert request.query == {"wait": ["true"]}
        return plain(self.client.delete(name, read(models.PointIdsList, request.body)))

    def query(self, name: str, request: Request) -> Any:
        asked = read(models.QueryRequest, request.body)
        return plain(
            self.client.query_points(
                name,
                query=asked.query,
                limit=asked.limit,
                query_filter=asked.filter,
                with_payload=asked.with_payload,
            )
        )

    def retrieve(self, name: str, request: Request) -> Any:
        asked = read(models.PointRequest, request.body)
        rows = self.client.retrieve(name, asked.ids, asked.with_payload, asked.with_vector)
        return [plain(row) for row in rows]

    def scroll(self, name: str, request: Request) -> Any:
        asked = read(models.ScrollRequest, request.body)
        rows, after = self.client.scroll(
            name, limit=asked.limit, offset=asked.offset, with_payload=asked.with_payload
        )
        return {"points": [plain(row) for row in rows], "next_page_offset": after}

    def count(self, name: str, request: Request) -> Any:
        asked = read(models.CountRequest, request.body)
        return plain(self.client.count(name, exact=asked.exact))


def read(model: type[Any], body: object) -> Any:
    try:
        return TypeAdapter(model).validate_python(body, extra="forbid")
    except ValidationError as error:
        raise RefusedError(400, {"status": {"error": str(error)}}) from None


def plain(answer: Any) -> Any:
    return answer.model_dump(mode="json")
