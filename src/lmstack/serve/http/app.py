"""The HTTP app: routes, guards and error shapes put together around core's protocols.

`create_app` loads nothing and knows no tensors: models come in as core's protocols.
The caller may add routes of its own to the app; they pass the same guards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

import lmstack
from lmstack.core import ChatModel, Embedder, InputError, LmstackError
from lmstack.serve.http import (
    adapters,
    completions,
    embeddings,
    listing,
    messages_api,
    responses_api,
    tasks,
    tokens,
)
from lmstack.serve.http.errors import ClientGoneError, HttpError, error_response
from lmstack.serve.http.guard import (
    CLIENT_GONE,
    LOCAL_HOSTS,
    Frame,
    KeyGuard,
    OriginGuard,
    key_digest,
)
from lmstack.serve.http.metrics import EngineStats, Metrics
from lmstack.serve.http.routes import DIGEST_HEADER, with_schemas
from lmstack.serve.http.state import AppState, Classifier, Codec, Ranker, TaskModel

__all__ = ["LOCAL_HOSTS", "create_app"]

PUBLIC = ("/healthz", "/health")


def create_app(
    *,
    models: Mapping[str, ChatModel],
    embedders: Mapping[str, Embedder] | None = None,
    rerankers: Mapping[str, Ranker] | None = None,
    classifiers: Mapping[str, Classifier] | None = None,
    task_models: Mapping[str, TaskModel] | None = None,
    from_documents: Collection[str] = (),
    tokenizers: Mapping[str, Codec] | None = None,
    api_keys: Collection[str] = (),
    key_digests: Collection[bytes] = (),
    operator_digests: Collection[bytes] = (),
    metrics: EngineStats | None = None,
    allowed_hosts: Collection[str] = LOCAL_HOSTS,
    cors_origins: Collection[str] = (),
    public_paths: Collection[str] = (),
) -> FastAPI:
    """``from_documents``: names of ``models`` that answer from documents and do what
    `Request.wishes` says. ``key_digests``: the SHA-256 of more API keys. ``operator_digests``:
    of those of them that may read /metrics, as the only key of a server always may. ``metrics``:
    figures of the engine for /metrics (`EngineStats` as a mapping). ``public_paths``: paths beside
    /healthz that need no key (``/static/*``: all below)."""
    if any(not key or not key.isascii() or key != key.strip() for key in api_keys):
        problem = "an API key is empty, not ASCII, or has spaces around it"
        raise InputError(problem, hint="give each key as plain ASCII text")
    app = FastAPI(
        title="lmstack",
        version=lmstack.__version__,
        description="Routes compatible with OpenAI's and Anthropic's. Every field is honoured or"
        " refused with a reason.",
        docs_url=None,  # the documentation page would load scripts from another host
        redoc_url=None,
        redirect_slashes=False,
    )
    counters = Metrics(metrics)
    app.state.shared = state = AppState(
        models,
        embedders or {},
        rerankers or {},
        classifiers or {},
        task_models or {},
        tokenizers or {},
        frozenset(from_documents),
        counters,
    )
    digests = list(dict.fromkeys([*map(key_digest, api_keys), *key_digests]))
    app.state.has_keys = bool(digests)
    chat = (completions, responses_api, messages_api)
    for module in (*chat, embeddings, tasks, tokens, listing, adapters):
        # The routes themselves: include_router would build each anew, for every app.
        app.router.routes.extend(module.router.routes)
    app.add_exception_handler(LmstackError, _known)
    app.add_exception_handler(HTTPException, _routing)
    app.add_exception_handler(ClientGoneError, _gone)
    with_schemas(app)
    # Added last is outermost.
    app.add_middleware(
        KeyGuard,
        digests=digests,
        public=(*PUBLIC, *public_paths),
        operators=operator_digests,
    )
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["X-Request-ID", "Retry-After", DIGEST_HEADER],
        )
    app.add_middleware(OriginGuard, hosts=allowed_hosts, origins=cors_origins)
    app.add_middleware(Frame, metrics=counters, stopping=state.stopping)
    return app


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, LmstackError)
    return error_response(error, request.scope)


async def _routing(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    return error_response(
        HttpError(
            error.status_code,
            codes.get(error.status_code, "http_error"),
            f"{request.method} {request.scope['path'][:200]}: {error.detail}",
            hint="GET /openapi.json lists the routes",
            headers=error.headers,
        ),
        request.scope,
    )


async def _gone(request: Request, _: Exception) -> Response:
    request.state.gone = True
    return Response(status_code=CLIENT_GONE)
