"""GET routes: the served models, health, metrics."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from lmstack.core import ModelInfo
from lmstack.serve.http.errors import HttpError, operator_only
from lmstack.serve.http.responses import Out
from lmstack.serve.http.routes import documented, json_of, plain_errors
from lmstack.serve.http.state import AppState, state_of

__all__ = ["ModelItem", "model_item", "router"]

router = APIRouter()


class ModelItem(Out):
    """``digest``, ``max_model_len``, ``default_sampling``, ``parent`` and ``root`` are additions;
    vLLM has the second and the last two. ``default_sampling``: what holds where a request does not
    state it. ``parent``: of an adapter, the model that it is for; else left out. ``root``: the
    model that an alias stands for; left out of what is served under its own name."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    digest: str | None
    max_model_len: int | None
    default_sampling: dict[str, float | int]
    parent: str | None = None
    root: str | None = None


class ModelList(Out):
    object: Literal["list"]
    data: list[ModelItem]


# A grammar takes less, however busy the machine (`engine.constraints.isolated.MAX_WAIT_S`).
COMPILE_IS_STUCK_S = 90.0


class Health(Out):
    status: Literal["ok"]


@router.get("/v1/models", **documented(None, ModelList))
async def models(request: Request) -> Response:
    """The models that this server serves, those that embed, rank and classify included."""
    state = state_of(request)
    items = [model_item(state, name, info) for name, info in state.infos().items()]
    return json_of(ModelList(object="list", data=items))


# A path, because names may hold slashes, as Hugging Face's do.
@router.get(
    "/v1/models/{model:path}",
    **documented(None, ModelItem, None, {**plain_errors, 404: "No such model."}),
)
async def one_model(request: Request, model: str) -> Response:
    """One of the served models."""
    state = state_of(request)
    infos = state.infos()
    if model not in infos:
        raise state.missing(model, "use", infos)
    return json_of(model_item(state, model, infos[model]))


# vLLM and llama.cpp call it /health, and so do those who wait for them.
@router.get("/health", include_in_schema=False)
@router.get("/healthz", **documented(None, Health))
async def health(request: Request) -> Response:
    """Answers when the server is ready; needs no key. 503 where compiling a grammar is stuck."""
    engine = state_of(request).metrics.engine
    figures = {} if engine is None else engine()
    compile_s = figures.get("grammar_compile_s", 0.0)
    if isinstance(compile_s, float) and compile_s > COMPILE_IS_STUCK_S:
        raise HttpError(
            503,
            "stuck",
            f"a grammar has been compiled for {compile_s:.0f} s",
            hint="restart the server",
        )
    return json_of(Health(status="ok"))


@router.get(
    "/metrics",
    response_model=None,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        403: {"description": "The key is not the operator's."},
    },
)
async def metrics(request: Request) -> Response:
    """Counters and histograms in Prometheus' text format. They count everybody's requests, so
    where there are several keys one that is the operator's is needed."""
    operator_only(request, "/metrics counts the requests of all keys")
    return Response(state_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)


def model_item(state: AppState, name: str, info: ModelInfo) -> ModelItem:
    item = ModelItem(
        id=name,
        object="model",
        created=state.created,
        owned_by="lmstack",
        digest=info.digest,
        max_model_len=info.context_length,
        default_sampling=dict(info.default_sampling),
    )
    if info.parent is not None:
        item.parent = info.parent
    if info.name != name:
        item.root = info.name
    return item
