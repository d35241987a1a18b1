"""GET routes: the served models, health, metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from lmstack.core import ModelInfo
from lmstack.serve.http.documented import documented, plain_errors
from lmstack.serve.http.errors import HttpError
from lmstack.serve.http.responses import Health, ModelItem, ModelList
from lmstack.serve.http.serving import Serving, serving_of

__all__ = ["json_of", "model_item", "router"]

router = APIRouter()


@router.get("/v1/models", **documented(None, ModelList))
async def models(request: Request) -> Response:
    """The models that this server serves, those that embed, rank and classify included."""
    serving = serving_of(request)
    items = [model_item(serving, name, info) for name, info in serving.infos().items()]
    return json_of(ModelList(object="list", data=items))


# A path, because names may hold slashes, as Hugging Face's do.
@router.get(
    "/v1/models/{model:path}",
    **documented(None, ModelItem, None, {**plain_errors, 404: "No such model."}),
)
async def one_model(request: Request, model: str) -> Response:
    """One of the served models."""
    serving = serving_of(request)
    infos = serving.infos()
    if model not in infos:
        raise serving.missing(model, "use", infos)
    return json_of(model_item(serving, model, infos[model]))


@router.get("/healthz", **documented(None, Health))
async def health(_: Request) -> Response:
    """Answers when the server is ready; needs no key."""
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
    if not request.state.is_operator:
        raise HttpError(
            403,
            "operator_only",
            "/metrics counts the requests of all keys, and this one is not the operator's",
            hint='give the operator\'s key "owner": true in the file of --keys',
        )
    return Response(serving_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)


def model_item(serving: Serving, name: str, info: ModelInfo) -> ModelItem:
    item = ModelItem(
        id=name,
        object="model",
        created=serving.created,
        owned_by="lmstack",
        digest=info.digest,
        max_model_len=info.context_length,
        default_sampling=dict(info.default_sampling),
    )
    if info.parent is not None:
        item.parent = info.parent
    return item


def json_of(body: BaseModel) -> Response:
    return Response(body.model_dump_json(exclude_unset=True), media_type="application/json")
