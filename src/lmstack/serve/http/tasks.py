"""POST /v1/rerank, /v1/classify and /v1/tasks: scores of texts.

They are computed in worker threads, so that streams never stall. Knows no tensors: models come
in behind protocols. Does not cover tasks that generate text: see `chat` and `completions`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from anyio import to_thread
from fastapi import APIRouter, Request, Response

from lmstack.core import ContextLengthError, InputError, UnsupportedError
from lmstack.serve.http.body import read_json
from lmstack.serve.http.documented import documented, model_errors
from lmstack.serve.http.serving import Classifier, Ranker, Serving, TaskModel, serving_of
from lmstack.serve.http.streams import until_gone
from lmstack.serve.http.task_bodies import (
    ClassifiedItem,
    ClassifiedList,
    ClassifyBody,
    RankedDocument,
    RankedItem,
    RankedList,
    RankedUsage,
    RerankBody,
    TaskBody,
    TaskResults,
    TaskUsage,
)

__all__ = ["router"]

router = APIRouter()

# Texts scored between two looks at whether the client is still there.
BATCH = 32
MAX_FEATURES = 16
MAX_TOP_K = 100
MAX_LABELS = 1000


@router.post("/v1/rerank", **documented(RerankBody, RankedList, None, model_errors))
async def rerank(request: Request) -> Response:
    """Documents by their relevance to a query, the most relevant first."""
    body = await read_json(request, RerankBody)
    serving = serving_of(request)
    work = _reranked(body, serving, serving.reranker(body.model))
    answer = await until_gone(request.receive, work)
    return Response(answer.model_dump_json(exclude_unset=True), media_type="application/json")


@router.post("/v1/classify", **documented(ClassifyBody, ClassifiedList, None, model_errors))
async def classify(request: Request) -> Response:
    """The label of each text, with the probability of every label."""
    body = await read_json(request, ClassifyBody)
    serving = serving_of(request)
    work = _classified(body, serving, serving.classifier(body.model))
    answer = await until_gone(request.receive, work)
    return Response(answer.model_dump_json(), media_type="application/json")


@router.post("/v1/tasks", **documented(TaskBody, TaskResults, None, model_errors))
async def tasks(request: Request) -> Response:
    """Any task that scores texts: entities, fills, answers, features, labels and the rest."""
    body = await read_json(request, TaskBody)
    serving = serving_of(request)
    work = _run(body, serving, serving.task_model(body.model))
    answer = await until_gone(request.receive, work)
    return Response(answer.model_dump_json(), media_type="application/json")


async def _run(body: TaskBody, serving: Serving, model: TaskModel) -> TaskResults:
    if body.task not in model.tasks:
        raise UnsupportedError(
            f"{body.model} cannot do {body.task}",
            hint=f"it can do {', '.join(model.tasks)}",
            param="task",
        )
    options = body.options or {}
    inputs: list[Any] = body.input if isinstance(body.input, list) else [body.input]
    inputs = [i if isinstance(i, str) else i.model_dump(exclude_none=True) for i in inputs]
    _check_size(body.task, inputs, options)

    def run(part: Sequence[Any]) -> Iterable[Any]:
        return model.run(body.task, part, options)

    try:
        # A text is run once for each label.
        labels = options.get("labels")
        size = max(1, BATCH // max(1, len(labels))) if isinstance(labels, list) else BATCH
        data = await _in_batches(inputs, run, serving, size)
    except InputError as error:
        error.param = "options" if error.param in options else "input"
        raise
    return TaskResults(
        id=f"task-{uuid.uuid4().hex}", object="list", model=body.model, task=body.task, data=data
    )


def _check_size(task: str, inputs: Sequence[Any], options: Mapping[str, Any]) -> None:
    """What would make an answer, or the work for it, larger than one request may."""
    if task == "feature-extraction" and len(inputs) > MAX_FEATURES:
        raise InputError(
            f"{len(inputs)} texts, features of at most {MAX_FEATURES} at a time", param="input"
        )
    top_k = options.get("top_k")
    if isinstance(top_k, int) and top_k > MAX_TOP_K:
        raise InputError(f"top_k is {top_k}, at most {MAX_TOP_K} here", param="options")
    labels = options.get("labels")
    if isinstance(labels, list | str) and len(labels) > MAX_LABELS:
        raise InputError(f"more than {MAX_LABELS} labels (or characters)", param="options")


async def _reranked(body: RerankBody, serving: Serving, model: Ranker) -> RankedList:
    texts = [each if isinstance(each, str) else each.text for each in body.documents]

    def score(part: Sequence[str]) -> Iterable[Any]:
        return model.score(body.query, part, body.max_tokens_per_doc)

    try:
        scores = await _in_batches(texts, score, serving)
    except ContextLengthError as error:
        error.param, error.hint = "documents", "set max_tokens_per_doc, or split the text"
        raise
    counts = await _in_batches(texts, lambda part: model.count_tokens(body.query, part), serving)
    order = sorted(range(len(texts)), key=lambda i: -scores[i])
    shown = body.return_documents is not False
    items = [
        RankedItem(
            index=i,
            relevance_score=float(scores[i]),
            **({"document": RankedDocument(text=texts[i])} if shown else {}),
        )
        for i in order[: body.top_n]
    ]
    total = sum(counts)
    return RankedList(
        id=f"rerank-{uuid.uuid4().hex}",
        object="list",
        model=body.model,
        results=items,
        usage=RankedUsage(prompt_tokens=total, total_tokens=total),
    )


async def _classified(body: ClassifyBody, serving: Serving, model: Classifier) -> ClassifiedList:
    texts = [body.input] if isinstance(body.input, str) else body.input
    raw = body.use_activation is False
    try:
        rows = await _in_batches(texts, lambda part: model.classify(part, raw=raw), serving)
    except ContextLengthError as error:
        error.param, error.hint = "input", "split the text"
        raise
    total = sum(await _in_batches(texts, model.count_tokens, serving))
    labels = model.labels
    return ClassifiedList(
        id=f"classify-{uuid.uuid4().hex}",
        object="list",
        created=int(time.time()),
        model=body.model,
        data=[
            ClassifiedItem(
                index=i,
                label=labels[int(np.argmax(row))],
                probs=[float(value) for value in row],
                num_classes=len(labels),
            )
            for i, row in enumerate(rows)
        ],
        usage=TaskUsage(
            prompt_tokens=total,
            total_tokens=total,
            completion_tokens=0,
            prompt_tokens_details=None,
        ),
    )


async def _in_batches(
    texts: Sequence[Any],
    work: Callable[[Sequence[Any]], Iterable[Any]],
    serving: Serving,
    size: int = BATCH,
) -> list[Any]:
    """What ``work`` gives for each text, a batch at a time off the event loop."""
    found: list[Any] = []
    for start in range(0, len(texts), size):
        part = texts[start : start + size]
        found += list(await to_thread.run_sync(work, part, limiter=serving.threads))
    return found
