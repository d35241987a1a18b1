"""What the routes of one app share: the served models by name, metrics, the stop signal."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt
from anyio import CapacityLimiter
from starlette.requests import Request

from lmstack.core import (
    ChatModel,
    Embedder,
    InputError,
    ModelInfo,
    Reranker,
    nearest,
    shown,
)
from lmstack.serve.http.bodies import Bodies
from lmstack.serve.http.errors import HttpError
from lmstack.serve.http.guard import unexpected
from lmstack.serve.http.mapping import Caller
from lmstack.serve.http.metrics import Metrics, Observed
from lmstack.serve.http.stopping import StopSignal
from lmstack.serve.http.streams import EventStream, Primed

__all__ = [
    "Classifier",
    "Codec",
    "Ranker",
    "Serving",
    "TaskModel",
    "caller_of",
    "check_ids",
    "events",
    "serving_of",
]

T = TypeVar("T")


class Codec(Protocol):
    """The part of `text.Tokenizer` that the routes use."""

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str: ...

    def token(self, token_id: int, /) -> str: ...


class Ranker(Reranker, Protocol):
    """core's `Reranker` and what HTTP needs beside."""

    def score(
        self, query: str, passages: Sequence[str], max_passage_tokens: int | None = None
    ) -> npt.NDArray[np.float32]:
        """A passage is cut after ``max_passage_tokens``; what the model still cannot see is a
        `ContextLengthError`."""
        ...

    def count_tokens(self, query: str, passages: Sequence[str]) -> list[int]:
        """Tokens of the query with each passage, special tokens included, before any cut."""
        ...


class Classifier(Protocol):
    """Texts to the labels that a model was trained on. Thread-safe."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def labels(self) -> Sequence[str]: ...

    def classify(self, texts: Sequence[str], *, raw: bool = False) -> npt.NDArray[np.float32]:
        """A probability, or with ``raw`` a logit, of each label for each text, shape
        (len(texts), len(labels)). A text that is too long is a `ContextLengthError`."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens included."""
        ...


class TaskModel(Protocol):
    """A model for /v1/tasks. Thread-safe. ``tasks``: names of what it can do."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def tasks(self) -> Sequence[str]: ...

    def run(
        self, task: str, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """The result of each input, as JSON can hold it."""
        ...


class Serving:
    """One app's state. ``from_documents``: names of models that answer from documents, and do
    what a request wishes of that. ``threads`` bounds embedding, ranking and tokenizing beside the
    streams."""

    def __init__(
        self,
        models: Mapping[str, ChatModel],
        embedders: Mapping[str, Embedder],
        tokenizers: Mapping[str, Codec],
        metrics: Metrics,
        rerankers: Mapping[str, Ranker] | None = None,
        classifiers: Mapping[str, Classifier] | None = None,
        task_models: Mapping[str, TaskModel] | None = None,
        from_documents: Collection[str] = (),
    ) -> None:
        self.models = dict(models)
        self.embedders = dict(embedders)
        self.rerankers = dict(rerankers or {})
        self.classifiers = dict(classifiers or {})
        self.task_models = dict(task_models or {})
        self.tokenizers = dict(tokenizers)
        self.from_documents = frozenset(from_documents)
        self.metrics = metrics
        self.created = int(time.time())
        self.stopping = StopSignal()
        self.threads = CapacityLimiter(2)
        self.bodies = Bodies()
        self.adapters: object | None = None  # an `AdapterDoor`, once there is one

    def model(self, name: str) -> Observed:
        return Observed(self._named(name, self.models, "chat or complete"), name, self.metrics)

    def embedder(self, name: str) -> Embedder:
        return self._named(name, self.embedders, "embed")

    def reranker(self, name: str) -> Ranker:
        return self._named(name, self.rerankers, "rerank")

    def classifier(self, name: str) -> Classifier:
        return self._named(name, self.classifiers, "classify")

    def task_model(self, name: str) -> TaskModel:
        return self._named(name, self.task_models, "run tasks")

    def tokenizer(self, name: str | None) -> tuple[str, Codec]:
        """By name, or the only one where no name is given."""
        if name is None and len(self.tokenizers) == 1:
            return next(iter(self.tokenizers.items()))
        if name is None:
            known = ", ".join(self.tokenizers) or "none"
            raise HttpError(
                400,
                "invalid_value",
                f"the server has {len(self.tokenizers)} tokenizers and no model is named",
                hint=f"set model; known: {known}",
                param="model",
            )
        return name, self._named(name, self.tokenizers, "tokenize")

    def infos(self) -> dict[str, ModelInfo]:
        infos: dict[str, ModelInfo] = {}
        for served in (self.embedders, self.task_models, self.classifiers, self.rerankers):
            infos |= {name: each.info for name, each in served.items()}
        infos |= {name: each.info for name, each in self.models.items()}
        return dict(sorted(infos.items()))

    def missing(self, name: str, verb: str, known: Mapping[str, Any]) -> HttpError:
        guess = nearest(name, known)
        names = ", ".join(sorted(known)) or "none"
        return HttpError(
            404,
            "model_not_found",
            f"no model {shown(name)} is served here to {verb}",
            hint=f"did you mean {guess!r}?" if guess else f"served: {names}",
            param="model",
        )

    def _named(self, name: str, served: Mapping[str, T], verb: str) -> T:
        found = served.get(name)
        if found is None:
            raise self.missing(name, verb, served)
        return found


def serving_of(request: Request) -> Serving:
    return cast(Serving, request.app.state.serving)


def caller_of(request: Request) -> Caller:
    return Caller(request.state.client, request.state.request_id)


def events(request: Request, sources: Sequence[Primed], chunks: AsyncIterator[str]) -> EventStream:
    """``chunks``, drawn from ``sources``, as a response."""

    def left() -> None:
        request.state.gone = True

    return EventStream(
        sources,
        chunks,
        stopping=serving_of(request).stopping,
        failed=lambda error: unexpected(error, request.scope),
        left=left,
    )


def check_ids(ids: Sequence[int], vocab_size: int, param: str) -> None:
    """Refuse token ids outside the vocabulary."""
    for token in ids:
        if not 0 <= token < vocab_size:
            raise InputError(
                f"{token} is not a token id, the vocabulary has {vocab_size}", param=param
            )
