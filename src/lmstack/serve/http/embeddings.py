"""POST /v1/embeddings: texts to vectors, in a worker thread so that streams never stall."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from anyio import to_thread
from fastapi import APIRouter, Request, Response

from lmstack.core import ContextLengthError, Embedder, InputError
from lmstack.serve.http.body import read_json
from lmstack.serve.http.documented import documented, model_errors
from lmstack.serve.http.requests import EmbeddingBody
from lmstack.serve.http.responses import EmbeddingItem, EmbeddingList, EmbeddingUsage
from lmstack.serve.http.serving import Serving, check_ids, serving_of
from lmstack.serve.http.streams import until_gone

__all__ = ["router"]

router = APIRouter()

# Texts embedded between two looks at whether the client is still there.
BATCH = 32


@router.post("/v1/embeddings", **documented(EmbeddingBody, EmbeddingList, None, model_errors))
async def embeddings(request: Request) -> Response:
    """Unit vectors of one or more texts. A text that is too long is an error, never cut."""
    body = await read_json(request, EmbeddingBody)
    serving = serving_of(request)
    embedder = serving.embedder(body.model)
    if body.dimensions is not None and body.dimensions != embedder.dimensions:
        raise InputError(
            f"dimensions is {body.dimensions}, but {body.model} gives {embedder.dimensions}",
            hint="leave dimensions out",
            param="dimensions",
        )
    answer = await until_gone(request.receive, _answer(body, serving, embedder))
    return Response(answer, media_type="application/json")


async def _answer(body: EmbeddingBody, serving: Serving, embedder: Embedder) -> str:
    threads = serving.threads
    texts = await to_thread.run_sync(_texts, body, serving, limiter=threads)
    counts = await to_thread.run_sync(embedder.count_tokens, texts, limiter=threads)
    _check_lengths(counts, embedder.max_tokens, single=isinstance(body.input, str))
    items: list[EmbeddingItem] = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        vectors = await to_thread.run_sync(embedder.embed, batch, limiter=threads)
        items += [
            EmbeddingItem(object="embedding", index=start + i, embedding=_encoded(vector, body))
            for i, vector in enumerate(vectors)
        ]
    total = sum(counts)
    return EmbeddingList(
        object="list",
        data=items,
        model=body.model,
        usage=EmbeddingUsage(prompt_tokens=total, total_tokens=total),
    ).model_dump_json()


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


def _texts(body: EmbeddingBody, serving: Serving) -> list[str]:
    given = body.input
    if isinstance(given, str):
        return [given]
    if isinstance(given[0], int):
        given = [given]
    return [each if isinstance(each, str) else _decoded(each, body, serving) for each in given]


def _decoded(ids: Sequence[int], body: EmbeddingBody, serving: Serving) -> str:
    """The text whose tokens are ``ids``: embedders take text, so no other ids can be served."""
    codec = serving.tokenizers.get(body.model)
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
