"""What the routes of one app share: the served models by name, metrics, the stop signal."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt
from anyio import CapacityLimiter, to_thread
from pydantic import BaseModel
from starlette.requests import Request

from lmstack.core import (
    ChatModel,
    Embedder,
    InputError,
    LmstackError,
    ModelInfo,
    Reranker,
    nearest,
    shown,
)
from lmstack.serve.http.body import BodyBudget
from lmstack.serve.http.errors import HttpError
from lmstack.serve.http.guard import unexpected
from lmstack.serve.http.mapping import Caller
from lmstack.serve.http.metrics import Metrics, Observed
from lmstack.serve.http.streams import EventStream, NamedEvents, Primed, StopSignal

__all__ = [
    "BATCH",
    "AppState",
    "Classifier",
    "Codec",
    "Ranker",
    "TaskModel",
    "caller_of",
    "check_ids",
    "events",
    "in_batches",
    "named_events",
    "state_of",
]

T = TypeVar("T")
# Texts computed between two looks at whether the client is still there.
BATCH = 32


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


@dataclass
class AppState:
    """Served models by name and task. ``from_documents``: names of those that answer from
    documents, and do what a request wishes of that. ``threads`` bounds embedding, ranking and
    tokenizing beside the streams. Mappings are replaced and never changed: other threads may be
    reading them."""

    models: Mapping[str, ChatModel]
    embedders: Mapping[str, Embedder]
    rerankers: Mapping[str, Ranker]
    classifiers: Mapping[str, Classifier]
    task_models: Mapping[str, TaskModel]
    tokenizers: Mapping[str, Codec]
    from_documents: Collection[str]
    metrics: Metrics
    adapters: object | None = None  # `ServedAdapters`, where there are some
    created: int = field(default_factory=lambda: int(time.time()))
    stopping: StopSignal = field(default_factory=StopSignal)
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))
    bodies: BodyBudget = field(default_factory=BodyBudget)
    _changing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def serve(
        self,
        models: Mapping[str, ChatModel],
        tokenizers: Mapping[str, Codec],
        without: Iterable[str] = (),
    ) -> None:
        """Serve ``models`` with their ``tokenizers`` from the next request on, in place of those
        of the same names and of those named in ``without``. What has begun ends with the model that
        it began with. From any thread."""
        gone = {*without, *models}
        with self._changing:
            kept = {n: each for n, each in self.models.items() if n not in gone}
            known = {n: each for n, each in self.tokenizers.items() if n not in gone}
            self.models, self.tokenizers = {**kept, **models}, {**known, **tokenizers}

    def snapshot(self) -> AppState:
        """This, with models and tokenizers that belong together and stay what they are."""
        with self._changing:
            return copy.copy(self)

    def model(self, name: str) -> Observed:
        return Observed(self.named(name, self.models, "chat or complete"), name, self.metrics)

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
        return name, self.named(name, self.tokenizers, "tokenize")

    def infos(self) -> dict[str, ModelInfo]:
        kinds = (self.embedders, self.task_models, self.classifiers, self.rerankers, self.models)
        return dict(sorted((name, each.info) for served in kinds for name, each in served.items()))

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

    def named(self, name: str, served: Mapping[str, T], verb: str) -> T:
        """That of ``served``, a mapping of this state; ``verb``: what it is asked to do."""
        found = served.get(name)
        if found is None:
            raise self.missing(name, verb, served)
        return found


def state_of(request: Request) -> AppState:
    return cast(AppState, request.app.state.shared)


def caller_of(request: Request) -> Caller:
    return Caller(request.state.client, request.state.request_id)


def events(request: Request, sources: Sequence[Primed], chunks: AsyncIterator[str]) -> EventStream:
    """``chunks``, drawn from ``sources``, as a response."""
    return EventStream(sources, chunks, **_ends(request))


def named_events(
    request: Request,
    source: Primed,
    events: AsyncIterator[BaseModel],
    failure: Callable[[LmstackError], BaseModel],
) -> NamedEvents:
    """``events``, drawn from ``source``, as a response: see `NamedEvents`."""
    return NamedEvents([source], events, failure=failure, **_ends(request))


def _ends(request: Request) -> dict[str, Any]:
    """What ends a stream before its time."""
    return {
        "stopping": state_of(request).stopping,
        "failed": lambda error: unexpected(error, request.scope),
        "left": lambda: setattr(request.state, "gone", True),
    }


async def in_batches(
    texts: Sequence[Any],
    work: Callable[[Sequence[Any]], Iterable[Any]],
    state: AppState,
    size: int = BATCH,
) -> list[Any]:
    """What ``work`` gives for each text, a batch at a time off the event loop."""
    found: list[Any] = []
    for start in range(0, len(texts), size):
        part = texts[start : start + size]
        found += list(await to_thread.run_sync(work, part, limiter=state.threads))
    return found


def check_ids(ids: Sequence[int], vocab_size: int, param: str) -> None:
    """Refuse token ids outside the vocabulary."""
    for token in ids:
        if not 0 <= token < vocab_size:
            message = f"{token} is not a token id, the vocabulary has {vocab_size}"
            raise InputError(message, hint="send ids of this model's tokenizer", param=param)
