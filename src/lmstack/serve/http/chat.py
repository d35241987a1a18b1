"""POST /v1/chat/completions: whole answers and server-sent chunks from the same deltas."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response

from lmstack.core import Completion, Delta, UnsupportedError, complete
from lmstack.serve.http.body import read_json
from lmstack.serve.http.documented import documented, model_errors
from lmstack.serve.http.mapping import chat_request
from lmstack.serve.http.requests import ChatBody
from lmstack.serve.http.responses import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChunkChoice,
    ChunkDelta,
    OutputMessage,
    chat_logprobs,
    usage_body,
)
from lmstack.serve.http.serving import caller_of, events, serving_of
from lmstack.serve.http.streams import prime, until_gone

__all__ = ["router"]

router = APIRouter()


@router.post(
    "/v1/chat/completions", **documented(ChatBody, ChatCompletion, ChatChunk, model_errors)
)
async def chat_completions(request: Request) -> Response:
    """Answer a conversation, whole or as server-sent events."""
    body = await read_json(request, ChatBody)
    serving, caller = serving_of(request), caller_of(request)
    model = serving.model(body.model)
    asked = chat_request(body, caller, model.info.default_sampling)
    if body.model not in serving.from_documents:
        _refuse_wishes(asked.wishes, body.model)
    if not body.stream:
        answer = await until_gone(request.receive, complete(model, asked))
        shape = _Shape(body, caller.request_id, answer.model.digest)
        return Response(shape.whole(answer), media_type="application/json")
    [source] = await prime(request.receive, [model.stream(asked)])
    shape = _Shape(body, caller.request_id, source.digest or model.info.digest)
    return events(request, [source], shape.chunks(source.deltas()))


def _refuse_wishes(wishes: Mapping[str, str], name: str) -> None:
    for field in wishes:
        raise UnsupportedError(
            f"{field} is for models that answer from documents, and {name} does not",
            hint="leave it out, or ask the model that is named after the folder",
            param=field,
        )


class _Shape:
    """OpenAI's shape of one answer, whole or in chunks."""

    def __init__(self, body: ChatBody, request_id: str, digest: str | None) -> None:
        self._id = f"chatcmpl-{request_id}"
        self._created = int(time.time())
        self._body = body
        self._digest = digest
        self._usage_asked = bool(body.stream_options and body.stream_options.include_usage)
        self._extra: dict[str, Any] = (
            {} if body.service_tier is None else {"service_tier": "default"}
        )

    def whole(self, answer: Completion) -> str:
        extra = self._extra
        if self._body.metadata is not None:
            extra = {**extra, "metadata": self._body.metadata}
        return ChatCompletion(
            id=self._id,
            object="chat.completion",
            created=self._created,
            model=self._body.model,
            choices=[
                ChatChoice(
                    index=choice.index,
                    message=OutputMessage(role="assistant", content=choice.text, refusal=None),
                    logprobs=chat_logprobs(choice.logprobs) if self._body.logprobs else None,
                    finish_reason=choice.finish_reason,
                )
                for choice in answer.choices
            ],
            usage=usage_body(answer.usage),
            system_fingerprint=self._digest,
            **extra,
        ).model_dump_json(exclude_unset=True)

    async def chunks(self, deltas: AsyncGenerator[Delta]) -> AsyncIterator[str]:
        for index in range(self._body.n or 1):
            opening = ChunkDelta(role="assistant", content="", refusal=None)
            yield self._chunk(
                ChunkChoice(index=index, delta=opening, logprobs=None, finish_reason=None)
            )
        usage = None
        async with aclosing(deltas):
            async for delta in deltas:
                usage = delta.usage or usage
                if delta.text or delta.logprobs or delta.finish_reason:
                    yield self._chunk(self._choice(delta))
        if self._usage_asked and usage is not None:
            yield self._chunk(usage=usage_body(usage))

    def _choice(self, delta: Delta) -> ChunkChoice:
        content: dict[str, Any] = {"content": delta.text} if delta.text else {}
        return ChunkChoice(
            index=delta.index,
            delta=ChunkDelta(**content),
            logprobs=chat_logprobs(delta.logprobs) if delta.logprobs else None,
            finish_reason=delta.finish_reason,
        )

    def _chunk(self, *choices: ChunkChoice, **usage: object) -> str:
        extra = dict(self._extra)
        if self._usage_asked:
            extra["usage"] = usage.get("usage")
        return ChatChunk(
            id=self._id,
            object="chat.completion.chunk",
            created=self._created,
            model=self._body.model,
            choices=list(choices),
            system_fingerprint=self._digest,
            **extra,
        ).model_dump_json(exclude_unset=True)
