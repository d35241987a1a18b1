"""Answers of /v1/messages: the whole message, and the events that it is streamed in.

Shapes are those of the official SDK. A field that was not set is left out; one set to None is
null.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import RootModel

from lmstack.serve.http.errors import AnthropicErrorBody
from lmstack.serve.http.responses import Out

__all__ = [
    "BlockDelta",
    "BlockStart",
    "BlockStop",
    "InputJsonDelta",
    "MessageAnswer",
    "MessageDelta",
    "MessageEnd",
    "MessageEvent",
    "MessageStart",
    "MessageStop",
    "MessageUsage",
    "Ping",
    "StopReason",
    "TextBlockDelta",
    "TextBlockOut",
    "ToolUseOut",
]

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
