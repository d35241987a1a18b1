"""POST /v1/embeddings: texts to vectors, in a worker thread so that streams never stall."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import Field

from lmstack.core import ContextLengthError, InputError
from lmstack.serve.http.fields import Body, FirstMistake, Hint, ModelName, TokenIds, Whole, about
from lmstack.serve.http.responses import Out, PromptUsage
from lmstack.serve.http.routes import post
from lmstack.serve.http.state import AppState, check_ids, in_batches, state_of

__all__ = ["EmbeddingBody", "router"]

router = APIRouter()
MAX_EMBEDDINGS = 2048


class EmbeddingBody(Body):
    model: ModelName
    input: (
        str
        | TokenIds
        | Annotated[list[str], Field(min_length=1, max_length=MAX_EMBEDDINGS), FirstMistake()]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_EMBEDDINGS), FirstMistake()]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=2**16), Whole] | None = about(
        "Must equal the model's own."
    )
    user: Hint = None


class EmbeddingItem(Out):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(Out):
    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: PromptUsage


@post(router, "/v1/embeddings", EmbeddingBody, EmbeddingList, watched=True)
async def embeddings(request: Request, body: EmbeddingBody) -> EmbeddingList:
    """Unit vectors of one or more texts. A text that is too long is an error, never cut."""
    state = state_of(request)
    embedder = state.named(body.model, state.embedders, "embed")
    if body.dimensions is not None and body.dimensions != embedder.dimensions:
        raise InputError(
            f"dimensions is {body.dimensions}, but {body.model} gives {embedder.dimensions}",
            hint="leave dimensions out",
            param="dimensions",
        )
    texts = await to_thread.run_sync(_texts, body, state, limiter=state.threads)
    counts = await to_thread.run_sync(embedder.count_tokens, texts, limiter=state.threads)
    _check_lengths(counts, embedder.max_tokens, single=isinstance(body.input, str))
    vectors = await in_batches(texts, embedder.embed, state)
    return EmbeddingList(
        object="list",
        data=[
            EmbeddingItem(object="embedding", index=i, embedding=_encoded(vector, body))
            for i, vector in enumerate(vectors)
        ],
        model=body.model,
        usage=PromptUsage(prompt_tokens=sum(counts), total_tokens=sum(counts)),
    )


def _check_lengths(counts: Sequence[int], limit: int, *, single: bool) -> None:
    for index, count in enumerate(counts):
        if count > limit:
            name = "input" if single else f"input[{index}]"
            raise ContextLengthError(
                f"{name} has {count} tokens, the model sees {limit}",
                hint="split the text",
                param="input",
            )


def _encoded(vector: npt.NDArray[np.float32], body: EmbeddingBody) -> list[float] | str:
    if body.encoding_format == "base64":
        return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
    return [float(value) for value in vector]


def _texts(body: EmbeddingBody, state: AppState) -> list[str]:
    given = body.input
    if isinstance(given, str):
        return [given]
    if isinstance(given[0], int):
        given = [given]
    return [each if isinstance(each, str) else _decoded(each, body, state) for each in given]


def _decoded(ids: Sequence[int], body: EmbeddingBody, state: AppState) -> str:
    """The text whose tokens are ``ids``: embedders take text, so no other ids can be served."""
    codec = state.tokenizers.get(body.model)
    if codec is None:
        raise InputError(
            f"{body.model} takes text, not token ids", hint="send strings", param="input"
        )
    check_ids(ids, codec.vocab_size, "input")
    text = codec.decode(ids, skip_special_tokens=True)
    plain = codec.encode(text, add_special_tokens=False)
    whole = codec.encode(text, add_special_tokens=True)
    if list(ids) not in (plain, whole):
        raise InputError(
            "these token ids are not what the tokenizer makes of any text",
            hint="send the text itself",
            param="input",
        )
    return text
