"""POST /v1/rerank and /v1/classify: scores of texts, in worker threads so that streams never
stall. Knows no tensors: models come in behind protocols.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from anyio import to_thread
from fastapi import APIRouter, Request, Response

from lmstack.core import ContextLengthError
from lmstack.serve.documented import documented, model_errors
from lmstack.serve.intake import read_json
from lmstack.serve.serving import Classifier, Ranker, Serving, serving_of
from lmstack.serve.streams import until_gone
from lmstack.serve.task_bodies import (
    ClassifiedItem,
    ClassifiedList,
    ClassifyBody,
    RankedDocument,
    RankedItem,
    RankedList,
    RankedUsage,
    RerankBody,
    TaskUsage,
)

__all__ = ["router"]

router = APIRouter()

# Texts scored between two looks at whether the client is still there.
BATCH = 32


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
    texts: Sequence[str], work: Callable[[Sequence[str]], Iterable[Any]], serving: Serving
) -> list[Any]:
    """What ``work`` gives for each text, a batch at a time off the event loop."""
    found: list[Any] = []
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        found += list(await to_thread.run_sync(work, part, limiter=serving.threads))
    return found
