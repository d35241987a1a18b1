"""One answer as a sequence of parts, each text or a call of a tool.

OpenAI's Responses and Anthropic's Messages type their content like this, streamed and whole. Both
are made from the same deltas by the same steps, so that what is streamed adds up to the whole
answer. Covers one choice; the shapes themselves are in `responses_api` and `messages_api`.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from fastapi import Request as HttpRequest
from fastapi import Response
from pydantic import BaseModel

from lmstack.core import (
    ChatModel,
    Delta,
    EngineError,
    FinishReason,
    LmstackError,
    Request,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    shown,
)
from lmstack.serve.http.routes import answered_by
from lmstack.serve.http.state import named_events
from lmstack.serve.http.streams import close, prime, until_gone

__all__ = ["AnswerParts", "CallPart", "PartChange", "PartShape", "TextAnswerPart", "answered"]


@dataclass
class TextAnswerPart:
    number: int
    pieces: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    ended: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass
class CallPart:
    number: int
    call: int
    id: str
    name: str
    pieces: list[str] = field(default_factory=list)
    ended: bool = False

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


class PartChange(NamedTuple):
    """``piece``: what ``part`` grew by, and ``logprobs`` those of its tokens."""

    step: Literal["begin", "grow", "end"]
    part: TextAnswerPart | CallPart
    piece: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()


class AnswerParts:
    """Deltas in, changes out. Parts follow each other: one ends where the next begins. An answer
    without anything is an empty text."""

    def __init__(self) -> None:
        self.all: list[TextAnswerPart | CallPart] = []
        self.finish_reason: FinishReason | None = None
        self.usage = Usage()
        self.digest: str | None = None
        # Of tokens without a text before any part: they are of the text that may follow.
        self._early: list[TokenLogprob] = []

    def push(self, delta: Delta) -> Iterator[PartChange]:
        self.usage = delta.usage or self.usage
        self.digest = delta.digest or self.digest
        if delta.text:
            yield from self._say(delta)
        elif delta.logprobs and delta.tool_call is None:
            yield from self._score(delta.logprobs)
        if delta.tool_call is not None:
            yield from self._call(delta.tool_call)
        if delta.finish_reason is not None:
            if not self.all:
                yield from self._begin(TextAnswerPart(0, logprobs=self._early))
            self.finish_reason = delta.finish_reason
            yield self._end()

    def check_ended(self) -> None:
        """`EngineError` for a model that stopped without an end."""
        if self.finish_reason is None:
            raise EngineError(
                "the model ended without saying why",
                hint="try the request again; if it persists, look at the server's log",
            )

    def _begin(self, part: TextAnswerPart | CallPart) -> Iterator[PartChange]:
        if self.all:
            yield self._end()
        self.all.append(part)
        yield PartChange("begin", part)

    def _end(self) -> PartChange:
        self.all[-1].ended = True
        return PartChange("end", self.all[-1])

    def _say(self, delta: Delta) -> Iterator[PartChange]:
        last = self.all[-1] if self.all else None
        if not isinstance(last, TextAnswerPart):
            last = TextAnswerPart(len(self.all))
            yield from self._begin(last)
        logprobs = (*self._early, *delta.logprobs)
        self._early = []
        last.pieces.append(delta.text)
        last.logprobs += logprobs
        yield PartChange("grow", last, delta.text, logprobs)

    def _score(self, logprobs: tuple[TokenLogprob, ...]) -> Iterator[PartChange]:
        """Tokens that show nothing: calls have no place for them."""
        last = self.all[-1] if self.all else None
        if last is None:
            self._early += logprobs
        elif isinstance(last, TextAnswerPart):
            last.logprobs += logprobs
            yield PartChange("grow", last, "", logprobs)

    def _call(self, delta: ToolCallDelta) -> Iterator[PartChange]:
        last = self.all[-1] if self.all else None
        if not isinstance(last, CallPart) or last.call != delta.index:
            begun = any(isinstance(p, CallPart) and p.call == delta.index for p in self.all)
            if begun or not (delta.id and delta.name):
                raise EngineError(
                    f"call {delta.index} of the model came in pieces: {shown(delta)}",
                    hint="try the request again; if it persists, look at the server's log",
                )
            self._early = []
            last = CallPart(len(self.all), delta.index, delta.id, delta.name)
            yield from self._begin(last)
        if delta.arguments:
            last.pieces.append(delta.arguments)
            yield PartChange("grow", last, delta.arguments)


class PartShape(abc.ABC):
    """An API's shape of one answer in parts, as events (each has a ``type``) or whole."""

    def __init__(self) -> None:
        self.parts = AnswerParts()

    @abc.abstractmethod
    def opening(self) -> Iterator[Any]: ...

    @abc.abstractmethod
    def changed(self, change: PartChange) -> Iterator[Any]: ...

    @abc.abstractmethod
    def closing(self) -> Iterator[Any]: ...

    @abc.abstractmethod
    def whole(self) -> BaseModel: ...

    @abc.abstractmethod
    def failure(self, error: LmstackError) -> BaseModel:
        """The last event of a stream that breaks off."""

    async def events(self, deltas: AsyncGenerator[Delta]) -> AsyncIterator[BaseModel]:
        for event in self.opening():
            yield event
        async with aclosing(deltas):
            async for delta in deltas:
                for change in self.parts.push(delta):
                    for event in self.changed(change):
                        yield event
        self.parts.check_ended()
        for event in self.closing():
            yield event

    async def gathered(self, stream: AsyncIterator[Delta]) -> BaseModel:
        """The whole answer. What would be wrong in an event is wrong here as well."""
        try:
            async for delta in stream:
                for change in self.parts.push(delta):
                    for _ in self.changed(change):
                        pass
        finally:
            await close(stream)
        self.parts.check_ended()
        return self.whole()


async def answered(
    request: HttpRequest, model: ChatModel, asked: Request, shape: PartShape, *, streamed: bool
) -> BaseModel | Response:
    """The answer of ``model`` in its ``shape``."""
    stream = model.stream(asked)
    if not streamed:
        answer = await until_gone(request.receive, shape.gathered(stream))
        answered_by(request, shape.parts.digest or model.info.digest)
        return answer
    [source] = await prime(request.receive, [stream])
    answered_by(request, source.digest or model.info.digest)
    return named_events(request, source, shape.events(source.deltas()), shape.failure)
