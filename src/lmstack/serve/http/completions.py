"""POST /v1/completions: the legacy route, for raw prompts, scoring (echo) and benchmarks."""

from __future__ import annotations

import codecs
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response

from lmstack.core import Completion, Delta, FinishReason, ModelInfo, TokenLogprob, Usage, complete
from lmstack.serve.http.body import read_json
from lmstack.serve.http.documented import documented, model_errors
from lmstack.serve.http.mapping import completion_requests
from lmstack.serve.http.requests import CompletionBody
from lmstack.serve.http.responses import (
    CompletionChoice,
    CompletionLogprobs,
    TextCompletion,
    UsageBody,
    add_usage,
    finite,
    usage_body,
)
from lmstack.serve.http.serving import caller_of, events, serving_of
from lmstack.serve.http.streams import all_of, merged, prime, until_gone

__all__ = ["LegacyLogprobs", "router"]

router = APIRouter()


@router.post(
    "/v1/completions",
    **documented(CompletionBody, TextCompletion, TextCompletion, model_errors),
)
async def completions(request: Request) -> Response:
    """Continue one or more prompts, whole or as server-sent events."""
    body = await read_json(request, CompletionBody)
    caller = caller_of(request)
    model = serving_of(request).model(body.model)
    asked = completion_requests(body, caller, model.info.default_sampling)
    shape = _Shape(body, caller.request_id, model.info)
    if not body.stream:
        works = [complete(model, each) for each in asked]
        answers = await until_gone(request.receive, all_of(works))
        return Response(shape.whole(answers), media_type="application/json")
    sources = await prime(request.receive, [model.stream(each) for each in asked])
    return events(request, sources, shape.chunks(merged(sources, body.n or 1)))


class LegacyLogprobs:
    """Log-probabilities of one choice in the legacy shape, however its deltas are cut.

    Offsets are characters of the choice's text, found by decoding the tokens' bytes as they
    come: a token that starts inside a character has that character's offset.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def push(self, tokens: Iterable[TokenLogprob]) -> CompletionLogprobs:
        out = CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
        for token in tokens:
            out.tokens.append(_exact(token))
            out.token_logprobs.append(None if token.logprob is None else finite(token.logprob))
            out.top_logprobs.append(self._alternatives(token))
            out.text_offset.append(self._offset)
            self._offset += len(self._decoder.decode(token.bytes))
        return out

    def _alternatives(self, token: TokenLogprob) -> dict[str, float] | None:
        """The most likely tokens and the chosen one, which may not be among them."""
        if token.logprob is None:
            return None
        top = {_exact(other): finite(other.logprob) for other in token.top[: self._top]}
        return {**top, _exact(token): finite(token.logprob)}


def _exact(token: TokenLogprob) -> str:
    """The token's text, or OpenAI's ``bytes:\\xe2\\x80`` where it is not whole characters."""
    if not token.bytes:
        return token.token
    try:
        return token.bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)


class _Shape:
    """OpenAI's shape of a text completion, the same whole and in chunks."""

    def __init__(self, body: CompletionBody, request_id: str, info: ModelInfo) -> None:
        self._id = f"cmpl-{request_id}"
        self._created = int(time.time())
        self._body = body
        self._digest = info.digest
        self._usage_asked = bool(body.stream_options and body.stream_options.include_usage)
        self._logprobs: dict[int, LegacyLogprobs] = {}

    def whole(self, answers: list[Completion]) -> str:
        n = self._body.n or 1
        choices = [
            self._choice(i * n + c.index, c.text, c.logprobs, c.finish_reason)
            for i, answer in enumerate(answers)
            for c in answer.choices
        ]
        usage = Usage()
        for answer in answers:
            self._digest = answer.model.digest
            usage = add_usage(usage, answer.usage)
        return self._completion(choices, usage=usage_body(usage))

    async def chunks(self, deltas: AsyncGenerator[Delta]) -> AsyncIterator[str]:
        usage = None
        async with aclosing(deltas):
            async for delta in deltas:
                usage = delta.usage or usage
                self._digest = delta.digest or self._digest
                if delta.text or delta.logprobs or delta.finish_reason:
                    choice = self._choice(
                        delta.index, delta.text, delta.logprobs, delta.finish_reason
                    )
                    yield self._chunk([choice], None)
        if self._usage_asked and usage is not None:
            yield self._chunk([], usage_body(usage))

    def _chunk(self, choices: list[CompletionChoice], usage: UsageBody | None) -> str:
        if self._usage_asked:
            return self._completion(choices, usage=usage)
        return self._completion(choices)

    def _completion(self, choices: list[CompletionChoice], **usage: Any) -> str:
        return TextCompletion(
            id=self._id,
            object="text_completion",
            created=self._created,
            model=self._body.model,
            choices=choices,
            system_fingerprint=self._digest,
            **usage,
        ).model_dump_json(exclude_unset=True)

    def _choice(
        self,
        index: int,
        text: str,
        tokens: tuple[TokenLogprob, ...],
        finish_reason: FinishReason | None,
    ) -> CompletionChoice:
        top = self._body.logprobs
        logprobs = None
        if top is not None:
            logprobs = self._logprobs.setdefault(index, LegacyLogprobs(top)).push(tokens)
        return CompletionChoice(
            index=index, text=text, logprobs=logprobs, finish_reason=finish_reason
        )
