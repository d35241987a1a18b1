"""POST /tokenize and /detokenize, in vLLM's shapes."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import Field

from lmstack.serve.http.fields import AnyTokenIds, Body, ModelName
from lmstack.serve.http.responses import Out
from lmstack.serve.http.routes import answered_by, body_errors, post
from lmstack.serve.http.state import AppState, check_ids, state_of

__all__ = ["DetokenizeBody", "TokenizeBody", "router"]

router = APIRouter()


class TokenizeBody(Body):
    """``model`` may be left out where the server has one tokenizer."""

    model: ModelName | None = None
    prompt: str
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeBody(Body):
    model: ModelName | None = None
    tokens: Annotated[AnyTokenIds, Field(max_length=2**20)]


class Tokenized(Out):
    count: int
    max_model_len: int | None
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(Out):
    prompt: str


def _named(request: Request, state: AppState, name: str) -> None:
    """Of the model ``name``, whose tokenizer is asked."""
    info = state.infos().get(name)
    answered_by(request, None if info is None else info.digest)


@post(router, "/tokenize", TokenizeBody, Tokenized, errors=body_errors)
async def tokenize(request: Request, body: TokenizeBody) -> Tokenized:
    """The token ids that a raw prompt becomes."""
    state = state_of(request).snapshot()
    name, codec = state.tokenizer(body.model)
    _named(request, state, name)
    special = body.add_special_tokens is not False

    def work() -> Tokenized:
        ids = codec.encode(body.prompt, add_special_tokens=special)
        info = state.infos().get(name)
        return Tokenized(
            count=len(ids),
            max_model_len=info.context_length if info else None,
            tokens=ids,
            token_strs=[codec.token(i) for i in ids] if body.return_token_strs else None,
        )

    return await to_thread.run_sync(work, limiter=state.threads)


@post(router, "/detokenize", DetokenizeBody, Detokenized, errors=body_errors)
async def detokenize(request: Request, body: DetokenizeBody) -> Detokenized:
    """The text of token ids."""
    state = state_of(request).snapshot()
    name, codec = state.tokenizer(body.model)
    _named(request, state, name)

    def work() -> Detokenized:
        check_ids(body.tokens, codec.vocab_size, "tokens")
        return Detokenized(prompt=codec.decode(body.tokens))

    return await to_thread.run_sync(work, limiter=state.threads)
