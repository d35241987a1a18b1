"""What the OpenAPI document says about a route: its body, its answers, its errors.

Routes read their bodies themselves (`intake`: limits hold while reading), so FastAPI cannot
infer the request's schema; it is named here and added to the components by `add_schemas`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from lmstack.serve.http.adapter_bodies import LoadAdapterBody, UnloadAdapterBody
from lmstack.serve.http.errors import ErrorBody
from lmstack.serve.http.requests import (
    ChatBody,
    CompletionBody,
    DetokenizeBody,
    EmbeddingBody,
    TokenizeBody,
)
from lmstack.serve.http.responses import ChatChunk
from lmstack.serve.http.task_bodies import ClassifyBody, RerankBody, TaskBody

__all__ = ["body_errors", "documented", "model_errors", "plain_errors", "with_schemas"]

BODIES = (
    ChatBody,
    CompletionBody,
    EmbeddingBody,
    TokenizeBody,
    DetokenizeBody,
    RerankBody,
    ClassifyBody,
    TaskBody,
    LoadAdapterBody,
    UnloadAdapterBody,
)
REF = "#/components/schemas/{model}"

plain_errors: Mapping[int, str] = {
    401: "A missing or wrong API key, where the server has keys.",
    403: "The Host header or the page that sent the request is not allowed.",
    500: "A fault of the server; the log has more under the request id.",
}
body_errors: Mapping[int, str] = {
    **plain_errors,
    400: "A field is wrong, unknown, or not supported; the message names it.",
    404: "No such model.",
    408: "The body did not arrive in time.",
    413: "The body is too long.",
    415: "The content type is not JSON.",
    429: "Too many requests; Retry-After says when to try again.",
}
model_errors: Mapping[int, str] = {
    **body_errors,
    403: "A safety check, the Host header or the sending page is not allowed.",
    501: "An optional part is not installed.",
    502: "An upstream provider failed.",
    503: "The engine or the server is stopping.",
    507: "The disk is full or locked.",
}


def documented(
    body: type[BaseModel] | None,
    answer: type[BaseModel],
    chunk: type[BaseModel] | None = None,
    errors: Mapping[int, str] = plain_errors,
) -> dict[str, Any]:
    """Keyword arguments for a route's decorator."""
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": text} for status, text in errors.items()
    }
    responses[200] = {"model": answer, "description": "The answer."}
    if chunk is not None:
        responses[200]["content"] = {"text/event-stream": {"itemSchema": _event(chunk)}}
    extra: dict[str, Any] = {}
    if body is not None:
        schema = {"$ref": REF.format(model=body.__name__)}
        extra["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return {"responses": responses, "openapi_extra": extra, "response_model": None}


def _event(chunk: type[BaseModel]) -> dict[str, Any]:
    """One server-sent event, in the words of OpenAPI 3.2 that FastAPI uses in 3.1 too."""
    content = {"anyOf": [{"$ref": REF.format(model=m.__name__)} for m in (chunk, ErrorBody)]}
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": content}
    return {
        "type": "object",
        "description": "With stream: true. An error in mid-stream is the last event.",
        "properties": {"data": {"anyOf": [{"const": "[DONE]"}, data]}},
        "required": ["data"],
    }


def with_schemas(app: FastAPI) -> None:
    """Make ``app.openapi()`` whole: the schemas of request bodies among the components."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            _, validated = models_json_schema([(b, "validation") for b in BODIES], ref_template=REF)
            _, sent = models_json_schema([(ChatChunk, "serialization")], ref_template=REF)
            schemas.update(sent["$defs"] | validated["$defs"])
            _drop_fastapi_errors(document)
            if app.state.has_keys:
                bearer = {"type": "http", "scheme": "bearer"}
                document["components"]["securitySchemes"] = {"key": bearer}
                document["security"] = [{"key": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _drop_fastapi_errors(document: dict[str, Any]) -> None:
    """FastAPI documents a 422 for every parameter; these routes never send one."""
    for operations in document["paths"].values():
        for operation in operations.values():
            found = operation["responses"].get("422", {}).get("content", {})
            if "HTTPValidationError" in str(found):
                del operation["responses"]["422"]
    in_use = str(document["paths"])
    if "HTTPValidationError" not in in_use:
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
