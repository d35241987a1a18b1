"""POST /v1/rerank (as Jina and Cohere have it), /v1/classify (as vLLM's) and /v1/tasks: scores of
texts, computed in worker threads, so that streams never stall.

Knows no tensors: models come in behind protocols. Does not cover tasks that generate text: see
`completions`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import Field

from lmstack.core import ContextLengthError, InputError, UnsupportedError
from lmstack.serve.http.chat_messages import AnyMessage, Content
from lmstack.serve.http.fields import (
    Body,
    FirstMistake,
    Hint,
    ModelName,
    Whole,
    about,
    at_most,
    refused,
    text_up_to,
)
from lmstack.serve.http.responses import Out, PromptDetails, PromptUsage
from lmstack.serve.http.routes import post
from lmstack.serve.http.state import BATCH, in_batches, state_of
from lmstack.serve.tasks.names import ScoringTask

__all__ = ["ClassifyBody", "RerankBody", "TaskBody", "router"]

router = APIRouter()

MAX_FEATURES = 16
MAX_TOP_K = 100
MAX_LABELS = 1000
MAX_DOCUMENTS = 1024
MAX_TEXTS = 1024
MAX_TURNS = 1024
NO_PRIORITY = "requests are served in the order in which they come"


class Document(Body):
    text: str


class RerankBody(Body):
    """``documents``: texts, or objects with a ``text``."""

    model: ModelName
    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[
        list[str | Document], Field(min_length=1, max_length=MAX_DOCUMENTS), FirstMistake()
    ]
    top_n: Annotated[int, Field(ge=1, le=2**31), Whole] | None = about("All where absent.")
    return_documents: bool | None = about("Give the texts back; true where absent.")
    max_tokens_per_doc: Annotated[int, Field(ge=1, le=2**31), Whole] | None = about(
        "Cut each document after so many tokens. Without it, one that is too long is an error."
    )
    user: Hint = None
    rank_fields: Any = refused("documents have one field, text", ["text"])
    max_chunks_per_doc: Any = refused("documents are not split; set max_tokens_per_doc")
    truncate_prompt_tokens: Any = refused("set max_tokens_per_doc")
    priority: Any = refused(NO_PRIORITY, 0)


class ClassifyBody(Body):
    model: ModelName
    input: str | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS), FirstMistake()]
    use_activation: bool | None = about("false: logits instead of probabilities.")
    user: Hint = None
    truncate_prompt_tokens: Any = refused("nothing is cut; split the text")
    priority: Any = refused(NO_PRIORITY, 0)


# Of each input; a tagger reads as far as it goes, and nobody stops it in between.
MAX_TEXT, MAX_ASKED = 100_000, 4096
Text = Annotated[str, Field(max_length=MAX_TEXT), text_up_to(MAX_TEXT)]


class PairInput(Body):
    """A text, alone or with another that it is judged with."""

    text: Text
    text_pair: Text | None = None


class QuestionInput(Body):
    question: Annotated[str, Field(min_length=1, max_length=MAX_ASKED), text_up_to(MAX_ASKED)]
    context: Text


class QueryInput(Body):
    query: Annotated[str, Field(min_length=1, max_length=MAX_TEXT), text_up_to(MAX_TEXT)]
    documents: Annotated[list[Text], Field(min_length=1, max_length=MAX_DOCUMENTS), FirstMistake()]


class AnswerInput(Body):
    """An answer, to be scored by a reward model."""

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_TEXT), text_up_to(MAX_TEXT)]
    answer: Text


class SpokenMessage(AnyMessage):
    role: Literal["developer", "system", "user", "assistant"]
    content: Content


class ConversationInput(Body):
    """A conversation that ends with the answer that a reward model scores."""

    messages: Annotated[
        list[SpokenMessage], Field(min_length=2, max_length=MAX_TURNS), FirstMistake()
    ]


TaskInput = Text | PairInput | QuestionInput | QueryInput | AnswerInput | ConversationInput


class TaskBody(Body):
    """``input``: one, or a list. ``options``: of the task, under their names in Python."""

    model: ModelName
    task: ScoringTask
    input: (
        TaskInput
        | Annotated[list[TaskInput], Field(min_length=1, max_length=MAX_TEXTS), FirstMistake()]
    )
    options: Annotated[dict[str, Any], Field(max_length=16), at_most(16)] | None = None
    user: Hint = None


class RankedDocument(Out):
    text: str


class RankedItem(Out):
    index: int
    relevance_score: float
    document: RankedDocument | None = None


class RankedList(Out):
    id: str
    object: Literal["list"]
    model: str
    results: list[RankedItem]
    usage: PromptUsage


class TaskResults(Out):
    """``data``: the result of each input, in order, in the form that the task's page shows."""

    id: str
    object: Literal["list"]
    model: str
    task: str
    data: list[dict[str, Any]]


class ClassifiedItem(Out):
    index: int
    label: str
    probs: list[float]
    num_classes: int


class TaskUsage(PromptUsage):
    completion_tokens: int
    prompt_tokens_details: PromptDetails | None


class ClassifiedList(Out):
    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[ClassifiedItem]
    usage: TaskUsage


@post(router, "/v1/tasks", TaskBody, TaskResults, watched=True)
async def tasks(request: Request, body: TaskBody) -> TaskResults:
    """Any task that scores texts: entities, fills, answers, features, labels and the rest."""
    state = state_of(request)
    model = state.named(body.model, state.task_models, "run tasks")
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
        data = await in_batches(inputs, run, state, size)
    except InputError as error:
        error.param = "options" if error.param in options else "input"
        raise
    return TaskResults(
        id=f"task-{uuid.uuid4().hex}", object="list", model=body.model, task=body.task, data=data
    )


def _check_size(task: str, inputs: Sequence[Any], options: Mapping[str, Any]) -> None:
    """What would make an answer, or the work for it, larger than one request may."""
    if task == "feature-extraction" and len(inputs) > MAX_FEATURES:
        message = f"{len(inputs)} texts are too many to give features of"
        raise InputError(message, hint=f"send at most {MAX_FEATURES} at a time", param="input")
    top_k = options.get("top_k")
    if isinstance(top_k, int) and top_k > MAX_TOP_K:
        message = f"top_k is {top_k}, at most {MAX_TOP_K} here"
        raise InputError(message, hint="ask for fewer", param="options")
    labels = options.get("labels")
    if isinstance(labels, list | str) and len(labels) > MAX_LABELS:
        message = f"there are more than {MAX_LABELS} labels (or characters)"
        raise InputError(message, hint="give fewer", param="options")


@post(router, "/v1/rerank", RerankBody, RankedList, watched=True)
async def rerank(request: Request, body: RerankBody) -> RankedList:
    """Documents by their relevance to a query, the most relevant first."""
    state = state_of(request)
    model = state.named(body.model, state.rerankers, "rerank")
    texts = [each if isinstance(each, str) else each.text for each in body.documents]

    def score(part: Sequence[str]) -> Iterable[Any]:
        return model.score(body.query, part, body.max_tokens_per_doc)

    try:
        scores = await in_batches(texts, score, state)
    except ContextLengthError as error:
        error.param, error.hint = "documents", "set max_tokens_per_doc, or split the text"
        raise
    counts = await in_batches(texts, lambda part: model.count_tokens(body.query, part), state)
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
        usage=PromptUsage(prompt_tokens=total, total_tokens=total),
    )


@post(router, "/v1/classify", ClassifyBody, ClassifiedList, watched=True)
async def classify(request: Request, body: ClassifyBody) -> ClassifiedList:
    """The label of each text, with the probability of every label."""
    state = state_of(request)
    model = state.named(body.model, state.classifiers, "classify")
    texts = [body.input] if isinstance(body.input, str) else body.input
    raw = body.use_activation is False
    try:
        rows = await in_batches(texts, lambda part: model.classify(part, raw=raw), state)
    except ContextLengthError as error:
        error.param, error.hint = "input", "split the text"
        raise
    total = sum(await in_batches(texts, model.count_tokens, state))
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
