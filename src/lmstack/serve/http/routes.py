"""How a route is declared: its path, its body and its answer, once.

    @post(router, "/v1/rerank", RerankBody, RankedList)
    async def rerank(request: Request, body: RerankBody) -> RankedList: ...

From that the body is read (`read_json`: limits hold while reading, which FastAPI's own parsing
cannot do), the answer written, and the OpenAPI document made whole.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from lmstack.serve.http.body import read_json
from lmstack.serve.http.errors import ErrorBody
from lmstack.serve.http.fields import Body
from lmstack.serve.http.streams import until_gone

__all__ = [
    "DIGEST_HEADER",
    "answered_by",
    "body_errors",
    "documented",
    "json_of",
    "model_errors",
    "plain_errors",
    "post",
    "with_schemas",
]

B = TypeVar("B", bound=Body)
# Of the weights that answered, as `ModelInfo.digest`; several where one body asked several things
# and they went to several versions.
DIGEST_HEADER = "x-lmstack-digest"
REF = "#/components/schemas/{model}"
# Bodies and chunks of all routes, of whose schemas FastAPI does not know.
_DECLARED: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {}

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


def post(
    router: APIRouter,
    path: str,
    body: type[B],
    answer: type[BaseModel],
    chunk: type[BaseModel] | None = None,
    *,
    errors: Mapping[int, str] = model_errors,
    watched: bool = False,
    failure: type[BaseModel] = ErrorBody,
    named_events: bool = False,
) -> Callable[[Callable[[Request, B], Coroutine[Any, Any, BaseModel | Response]]], None]:
    """Put a function before ``router`` that answers POST requests to ``path``. ``chunk``: what an
    event of a stream holds, where there are streams. ``watched``: ends the work when the client
    goes away; a stream sees to that itself. ``failure``: the body of an error. ``named_events``:
    of streams that name each event by its type and end without ``[DONE]``."""

    def declare(handler: Callable[[Request, B], Coroutine[Any, Any, BaseModel | Response]]) -> None:
        async def endpoint(request: Request) -> Response:
            work = handler(request, await read_json(request, body))
            found = await (until_gone(request.receive, work) if watched else work)
            response = found if isinstance(found, Response) else json_of(found)
            digest = getattr(request.state, "digest", None)
            if digest:
                response.headers[DIGEST_HEADER] = digest
            return response

        endpoint.__name__, endpoint.__doc__ = handler.__name__, handler.__doc__
        _DECLARED[body, "validation"] = None
        if chunk is not None:
            _DECLARED[chunk, "serialization"] = None
        about = documented(body, answer, chunk, errors, failure, named_events=named_events)
        router.post(path, **about)(endpoint)

    return declare


def answered_by(request: Request, *digests: str | None) -> str | None:
    """Names in the response's header the weights that answered; what the body is to say of them."""
    named = ",".join(dict.fromkeys(each for each in digests if each)) or None
    request.state.digest = named
    return named


def json_of(answer: BaseModel) -> Response:
    """``answer`` without the fields that were not set."""
    return Response(answer.model_dump_json(exclude_unset=True), media_type="application/json")


def documented(
    body: type[BaseModel] | None,
    answer: type[BaseModel],
    chunk: type[BaseModel] | None = None,
    errors: Mapping[int, str] = plain_errors,
    failure: type[BaseModel] = ErrorBody,
    *,
    named_events: bool = False,
) -> dict[str, Any]:
    """Keyword arguments for a route's decorator."""
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": failure, "description": text} for status, text in errors.items()
    }
    responses[200] = {"model": answer, "description": "The answer."}
    if chunk is not None:
        event = _named_event(chunk) if named_events else _event(chunk, failure)
        responses[200]["content"] = {"text/event-stream": {"itemSchema": event}}
    extra: dict[str, Any] = {}
    if body is not None:
        schema = {"$ref": REF.format(model=body.__name__)}
        extra["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return {"responses": responses, "openapi_extra": extra, "response_model": None}


def _json_data(*kinds: type[BaseModel]) -> dict[str, Any]:
    content = {"anyOf": [{"$ref": REF.format(model=kind.__name__)} for kind in kinds]}
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": content}


def _named_event(event: type[BaseModel]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": "With stream: true. The event's name is the type of what it holds.",
        "properties": {"event": {"type": "string"}, "data": _json_data(event)},
        "required": ["event", "data"],
    }


def _event(chunk: type[BaseModel], failure: type[BaseModel]) -> dict[str, Any]:
    """One server-sent event, in the words of OpenAPI 3.2 that FastAPI uses in 3.1 too."""
    data = _json_data(chunk, failure)
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
            _, found = models_json_schema(list(_DECLARED), ref_template=REF)
            document.setdefault("components", {}).setdefault("schemas", {}).update(found["$defs"])
            _drop_fastapi_errors(document)
            if app.state.has_keys:
                document["components"]["securitySchemes"] = {
                    "key": {"type": "http", "scheme": "bearer"},
                    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                }
                document["security"] = [{"key": []}, {"x-api-key": []}]
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
