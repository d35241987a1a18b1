"""The seams between the tensor half and the answer half.

A model has one primitive, `ChatModel.stream`; `complete` and `complete_sync` are derived from
it, so streamed and whole answers cannot differ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lmstack.core.errors import EngineError, InputError
from lmstack.core.types import (
    Choice,
    Completion,
    Delta,
    FinishReason,
    ModelInfo,
    Request,
    Timings,
    TokenLogprob,
    Usage,
)

__all__ = ["ChatModel", "Embedder", "Reranker", "TextKind", "complete", "complete_sync"]

TextKind = Literal["query", "passage"]


@runtime_checkable
class ChatModel(Protocol):
    """A language model, local, remote, guarded or scripted."""

    @property
    def info(self) -> ModelInfo: ...

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        """Generate. Errors about the request are raised before the first event. Closing the
        iterator early (``aclose``) cancels the request and frees what it held."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Text to vectors. Thread-safe."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def dimensions(self) -> int: ...

    @property
    def max_tokens(self) -> int:
        """Tokens of one text, special tokens included, that are seen; the rest is cut."""
        ...

    def embed(self, texts: Sequence[str], kind: TextKind = "passage") -> npt.NDArray[np.float32]:
        """Unit vectors, shape (len(texts), dimensions)."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens included, before any cut."""
        ...


@runtime_checkable
class Reranker(Protocol):
    @property
    def info(self) -> ModelInfo: ...

    def score(self, query: str, passages: Sequence[str]) -> npt.NDArray[np.float32]:
        """Relevance of each passage, higher is better, shape (len(passages),)."""
        ...


async def complete(model: ChatModel, request: Request) -> Completion:
    """The whole answer of ``model``, gathered from its stream."""
    texts: dict[int, list[str]] = {}
    logprobs: dict[int, list[TokenLogprob]] = {}
    finished: dict[int, FinishReason] = {}
    usage, timings = Usage(), Timings()
    async for delta in model.stream(request):
        texts.setdefault(delta.index, []).append(delta.text)
        logprobs.setdefault(delta.index, []).extend(delta.logprobs)
        if delta.finish_reason is not None:
            finished[delta.index] = delta.finish_reason
        usage = delta.usage or usage
        timings = delta.timings or timings
    if sorted(finished) != list(range(request.sampling.n)):
        raise EngineError(
            f"{model.info.name} ended the choices {sorted(finished)} of {request.sampling.n}",
            hint="try the request again; if it persists, look at the server's log",
        )
    choices = tuple(
        Choice(i, "".join(texts[i]), finished[i], tuple(logprobs[i])) for i in sorted(finished)
    )
    return Completion(choices, usage, model.info, timings)


def complete_sync(model: ChatModel, request: Request) -> Completion:
    """`complete` for code without an event loop; inside of one (a notebook has one) it is an
    `InputError`."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(complete(model, request))
    raise InputError(
        "complete_sync was called inside a running event loop", hint="use `await complete(...)`"
    )
