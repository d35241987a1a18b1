"""POST /v1/messages: Anthropic's Messages API, whole or as named events.

Shapes are those of the official SDK. A field that was not set is left out; one set to None is
null. Not covered: /v1/messages/count_tokens and batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pydantic_core
from fastapi import APIRouter, Response
from fastapi import Request as HttpRequest
from pydantic import BaseModel, RootModel

from lmstack.core import EngineError, FinishReason, LmstackError, Request, Usage, shown
from lmstack.serve.http.errors import MESSAGES, AnthropicErrorBody, anthropic_error, in_words_of
from lmstack.serve.http.messages_request import NAMES, MessagesBody, messages_request
from lmstack.serve.http.parts import CallPart, PartChange, PartShape, TextAnswerPart, answered
from lmstack.serve.http.responses import Out
from lmstack.serve.http.routes import post
from lmstack.serve.http.state import caller_of, state_of

__all__ = ["router"]

StopReason = Literal["end_turn", "max_tokens", "tool_use", "refusal"]


class TextBlockOut(Out):
    type: Literal["text"]
    text: str


class ToolUseOut(Out):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


BlockOut = TextBlockOut | ToolUseOut


class MessageUsage(Out):
    """``input_tokens``: those that the prefix cache did not have."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class MessageAnswer(Out):
    """``stop_reason`` is end_turn where a stop sequence ended the text, too: models do not tell
    which of the two it was."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[BlockOut]
    stop_reason: StopReason | None
    stop_sequence: None
    usage: MessageUsage


class MessageStart(Out):
    """Of the usage nothing is known yet: it is in message_delta."""

    type: Literal["message_start"]
    message: MessageAnswer


class Ping(Out):
    type: Literal["ping"]


class BlockStart(Out):
    type: Literal["content_block_start"]
    index: int
    content_block: BlockOut


class TextBlockDelta(Out):
    type: Literal["text_delta"]
    text: str


class InputJsonDelta(Out):
    type: Literal["input_json_delta"]
    partial_json: str


class BlockDelta(Out):
    type: Literal["content_block_delta"]
    index: int
    delta: TextBlockDelta | InputJsonDelta


class BlockStop(Out):
    type: Literal["content_block_stop"]
    index: int


class MessageEnd(Out):
    stop_reason: StopReason
    stop_sequence: None


class MessageDelta(Out):
    type: Literal["message_delta"]
    delta: MessageEnd
    usage: MessageUsage


class MessageStop(Out):
    type: Literal["message_stop"]


class MessageEvent(
    RootModel[
        MessageStart
        | Ping
        | BlockStart
        | BlockDelta
        | BlockStop
        | MessageDelta
        | MessageStop
        | AnthropicErrorBody
    ]
):
    """An event of a stream. The last is message_stop, or an error."""


REASONS: dict[FinishReason, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "content_filter": "refusal",
    "tool_calls": "tool_use",
}


class MessageShape(PartShape):
    """``name``: of the model, as it was asked for."""

    def __init__(self, name: str, asked: Request) -> None:
        super().__init__()
        self._name, self._request_id = name, asked.request_id

    def opening(self) -> Iterator[BaseModel]:
        yield MessageStart(type="message_start", message=self._message([], None))
        yield Ping(type="ping")

    def changed(self, change: PartChange) -> Iterator[BaseModel]:
        part = change.part
        if change.step == "begin":
            yield BlockStart(
                type="content_block_start", index=part.number, content_block=_empty(part)
            )
        elif change.step == "grow":
            is_call = isinstance(part, CallPart)
            delta = _input_delta(change.piece) if is_call else _text_delta(change.piece)
            yield BlockDelta(type="content_block_delta", index=part.number, delta=delta)
        else:
            self._block(part)
            yield BlockStop(type="content_block_stop", index=part.number)

    def closing(self) -> Iterator[BaseModel]:
        end = MessageEnd(stop_reason=self._reason(), stop_sequence=None)
        usage = _usage(self.parts.usage)
        yield MessageDelta(type="message_delta", delta=end, usage=usage)
        yield MessageStop(type="message_stop")

    def whole(self) -> MessageAnswer:
        return self._message([self._block(part) for part in self.parts.all], self._reason())

    def failure(self, error: LmstackError) -> BaseModel:
        return anthropic_error(error, self._request_id)

    def _reason(self) -> StopReason:
        assert self.parts.finish_reason is not None, "whoever asks has called check_ended"
        return REASONS[self.parts.finish_reason]

    def _message(self, content: list[Any], reason: StopReason | None) -> MessageAnswer:
        return MessageAnswer(
            id=f"msg_{self._request_id}",
            type="message",
            role="assistant",
            model=self._name,
            content=content,
            stop_reason=reason,
            stop_sequence=None,
            usage=_usage(self.parts.usage),
        )

    def _block(self, part: TextAnswerPart | CallPart) -> TextBlockOut | ToolUseOut:
        if isinstance(part, TextAnswerPart):
            return TextBlockOut(type="text", text=part.text)
        cut = part is self.parts.all[-1] and self.parts.finish_reason == "length"
        return ToolUseOut(
            type="tool_use", id=part.id, name=part.name, input=_input(part.arguments, cut)
        )


def _empty(part: TextAnswerPart | CallPart) -> TextBlockOut | ToolUseOut:
    if isinstance(part, TextAnswerPart):
        return TextBlockOut(type="text", text="")
    return ToolUseOut(type="tool_use", id=part.id, name=part.name, input={})


def _text_delta(text: str) -> TextBlockDelta:
    return TextBlockDelta(type="text_delta", text=text)


def _input_delta(text: str) -> InputJsonDelta:
    return InputJsonDelta(type="input_json_delta", partial_json=text)


def _input(arguments: str, cut: bool) -> dict[str, Any]:
    """The arguments as an object. Of those that max_tokens ``cut`` as much as there is, as
    clients read them from a stream; the stop reason says that they are not whole."""
    try:
        found = pydantic_core.from_json(arguments, allow_partial=cut) if arguments else {}
    except ValueError:
        found = {} if cut else None
    if not isinstance(found, dict):
        raise EngineError(
            f"the model called a tool with {shown(arguments)}, which is no JSON object",
            hint="try the request again, or set strict on the tool",
        )
    return found


def _usage(usage: Usage) -> MessageUsage:
    return MessageUsage(
        input_tokens=max(0, usage.prompt_tokens - usage.cached_tokens),
        cache_creation_input_tokens=0,
        cache_read_input_tokens=usage.cached_tokens,
        output_tokens=usage.completion_tokens,
    )


router = APIRouter()


@post(
    router,
    MESSAGES,
    MessagesBody,
    MessageAnswer,
    MessageEvent,
    failure=AnthropicErrorBody,
    named_events=True,
)
async def messages(request: HttpRequest, body: MessagesBody) -> BaseModel | Response:
    """Answer a conversation in Anthropic's words, whole or as named server-sent events."""
    model = state_of(request).model(body.model)
    with in_words_of(NAMES):
        asked = messages_request(body, caller_of(request), model.info.default_sampling)
        shape = MessageShape(body.model, asked)
        return await answered(request, model, asked, shape, streamed=bool(body.stream))
