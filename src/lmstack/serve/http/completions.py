"""POST /v1/chat/completions and /v1/completions: answers whole or as server-sent chunks, from the
same deltas. The second is OpenAI's legacy route, for raw prompts, scoring (echo) and benchmarks."""

from __future__ import annotations

import abc
import codecs
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from lmstack.core import (
    Choice,
    Completion,
    Delta,
    TokenLogprob,
    ToolCallDelta,
    UnsupportedError,
    Usage,
    complete,
)
from lmstack.serve.http.mapping import chat_request, completion_requests
from lmstack.serve.http.requests import ChatBody, CompletionBody, SamplingBody
from lmstack.serve.http.responses import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChunkChoice,
    ChunkDelta,
    CompletionChoice,
    CompletionLogprobs,
    FunctionDelta,
    OutputMessage,
    TextCompletion,
    ToolCallChunk,
    chat_logprobs,
    finite,
    tool_call_out,
    usage_body,
)
from lmstack.serve.http.routes import answered_by, post
from lmstack.serve.http.state import caller_of, events, state_of
from lmstack.serve.http.streams import merged, prime, until_gone
from lmstack.serve.threads import all_of

__all__ = ["LegacyLogprobs", "router"]

router = APIRouter()


@post(router, "/v1/chat/completions", ChatBody, ChatCompletion, ChatChunk)
async def chat_completions(request: Request, body: ChatBody) -> BaseModel | Response:
    """Answer a conversation, whole or as server-sent events."""
    state, caller = state_of(request), caller_of(request)
    model = state.model(body.model)
    asked = chat_request(body, caller, model.info.default_sampling)
    if body.model not in state.from_documents:
        _refuse_wishes(asked.wishes, body.model)
    shape = _ChatShape(body, caller.request_id, model.info.digest)
    if not body.stream:
        answer = await until_gone(request.receive, complete(model, asked))
        shape.digest = answered_by(request, answer.model.digest)
        return shape.whole(answer)
    [source] = await prime(request.receive, [model.stream(asked)])
    shape.digest = answered_by(request, source.digest or shape.digest)
    return events(request, [source], shape.chunks(source.deltas()))


def _refuse_wishes(wishes: Mapping[str, str], name: str) -> None:
    for field in wishes:
        raise UnsupportedError(
            f"{field} is for models that answer from documents, and {name} does not",
            hint="leave it out, or ask the model that is named after the folder",
            param=field,
        )


@post(router, "/v1/completions", CompletionBody, TextCompletion, TextCompletion)
async def completions(request: Request, body: CompletionBody) -> BaseModel | Response:
    """Continue one or more prompts, whole or as server-sent events."""
    caller = caller_of(request)
    model = state_of(request).model(body.model)
    asked = completion_requests(body, caller, model.info.default_sampling)
    shape = _TextShape(body, caller.request_id, model.info.digest)
    if not body.stream:
        works = [complete(model, each) for each in asked]
        answers = await until_gone(request.receive, all_of(works))
        shape.digest = answered_by(request, *(each.model.digest for each in answers))
        return shape.whole(answers)
    sources = await prime(request.receive, [model.stream(each) for each in asked])
    answered_by(request, *(source.digest or shape.digest for source in sources))
    return events(request, sources, shape.chunks(merged(sources, body.n or 1)))


class _Shape(abc.ABC):
    """OpenAI's shape of one answer, in chunks. ``digest``: of the weights that answer."""

    id_prefix: str

    def __init__(self, body: SamplingBody, request_id: str, digest: str | None) -> None:
        self.digest = digest
        self._top = {
            "id": f"{self.id_prefix}-{request_id}",
            "created": int(time.time()),
            "model": body.model,
        }
        self._usage_asked = bool(body.stream_options and body.stream_options.include_usage)

    def top(self) -> dict[str, Any]:
        """What every chunk and the whole answer begin with."""
        return {**self._top, "system_fingerprint": self.digest}

    @abc.abstractmethod
    def choices(self, delta: Delta) -> Iterable[BaseModel]:
        """What ``delta`` is in chunks, each of one choice."""

    @abc.abstractmethod
    def chunk(self, choices: Sequence[Any], **usage: Any) -> BaseModel: ...

    async def chunks(self, deltas: AsyncGenerator[Delta]) -> AsyncIterator[str]:
        unused: dict[str, Any] = {"usage": None} if self._usage_asked else {}
        usage = None
        async with aclosing(deltas):
            async for delta in deltas:
                usage = delta.usage or usage
                self.digest = delta.digest or self.digest
                for choice in self.choices(delta):
                    chunk = self.chunk([choice], **unused)
                    yield chunk.model_dump_json(exclude_unset=True)
        if self._usage_asked and usage is not None:
            yield self.chunk([], usage=usage_body(usage)).model_dump_json(exclude_unset=True)


class _ChatShape(_Shape):
    id_prefix = "chatcmpl"

    def __init__(self, body: ChatBody, request_id: str, digest: str | None) -> None:
        super().__init__(body, request_id, digest)
        self._body = body
        self._begun: set[int] = set()
        if body.service_tier is not None:
            self._top["service_tier"] = "default"

    def whole(self, answer: Completion) -> ChatCompletion:
        top = self.top()
        if self._body.metadata is not None:
            top["metadata"] = self._body.metadata
        return ChatCompletion(
            object="chat.completion",
            choices=[
                ChatChoice(
                    index=choice.index,
                    message=_message(choice),
                    logprobs=chat_logprobs(choice.logprobs) if self._body.logprobs else None,
                    finish_reason=choice.finish_reason,
                )
                for choice in answer.choices
            ],
            usage=usage_body(answer.usage),
            **top,
        )

    def choices(self, delta: Delta) -> Iterator[ChunkChoice]:
        """A choice begins with its role. A delta is its text, then its call, then its end."""
        call, reason = delta.tool_call, delta.finish_reason
        if not (delta.text or delta.logprobs or call or reason):
            return
        if delta.index not in self._begun:
            self._begun.add(delta.index)
            content = None if call is not None and not delta.text else ""
            yield self._choice(
                delta.index, ChunkDelta(role="assistant", content=content, refusal=None)
            )
        if delta.text or delta.logprobs:
            said = ChunkDelta(content=delta.text) if delta.text else ChunkDelta()
            logprobs = chat_logprobs(delta.logprobs) if delta.logprobs else None
            ended = reason if call is None else None
            yield self._choice(delta.index, said, logprobs=logprobs, finish_reason=ended)
            reason = None if call is None else reason
        for chunk in _call_chunks(call) if call is not None else ():
            yield self._choice(delta.index, ChunkDelta(tool_calls=[chunk]))
        if reason is not None:
            yield self._choice(delta.index, ChunkDelta(), finish_reason=reason)

    @staticmethod
    def _choice(index: int, delta: ChunkDelta, **more: Any) -> ChunkChoice:
        return ChunkChoice(
            index=index, delta=delta, **{"logprobs": None, "finish_reason": None, **more}
        )

    def chunk(self, choices: Sequence[ChunkChoice], **usage: Any) -> ChatChunk:
        top = self.top()
        return ChatChunk(object="chat.completion.chunk", choices=list(choices), **top, **usage)


def _message(choice: Choice) -> OutputMessage:
    calls = [tool_call_out(call) for call in choice.tool_calls]
    more = {"tool_calls": calls} if calls else {}
    content = None if calls and not choice.text else choice.text
    return OutputMessage(role="assistant", content=content, refusal=None, **more)


def _call_chunks(call: ToolCallDelta) -> Iterator[ToolCallChunk]:
    """A call begins with its id and name and no arguments yet."""
    if call.id or call.name:
        head = FunctionDelta(name=call.name, arguments="")
        yield ToolCallChunk(index=call.index, id=call.id, type="function", function=head)
    if call.arguments:
        yield ToolCallChunk(index=call.index, function=FunctionDelta(arguments=call.arguments))


class _TextShape(_Shape):
    id_prefix = "cmpl"

    def __init__(self, body: CompletionBody, request_id: str, digest: str | None) -> None:
        super().__init__(body, request_id, digest)
        self._body = body
        self._logprobs: dict[int, LegacyLogprobs] = {}

    def whole(self, answers: list[Completion]) -> TextCompletion:
        n = self._body.n or 1
        choices = [
            self._choice(Delta(c.text, i * n + c.index, c.logprobs, c.finish_reason))
            for i, answer in enumerate(answers)
            for c in answer.choices
        ]
        usage = Usage()
        for answer in answers:
            usage += answer.usage
        return self.chunk(choices, usage=usage_body(usage))

    def choices(self, delta: Delta) -> Iterator[CompletionChoice]:
        if delta.text or delta.logprobs or delta.finish_reason:
            yield self._choice(delta)

    def _choice(self, delta: Delta) -> CompletionChoice:
        top, logprobs = self._body.logprobs, None
        if top is not None:
            legacy = self._logprobs.setdefault(delta.index, LegacyLogprobs(top))
            logprobs = legacy.push(delta.logprobs)
        return CompletionChoice(
            index=delta.index, text=delta.text, logprobs=logprobs, finish_reason=delta.finish_reason
        )

    def chunk(self, choices: Sequence[CompletionChoice], **usage: Any) -> TextCompletion:
        top = self.top()
        return TextCompletion(object="text_completion", choices=list(choices), **top, **usage)


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
