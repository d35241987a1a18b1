"""Answers of /v1/responses: the whole response, and the events that it is streamed in.

Shapes are those of the official SDK. A field that was not set is left out; one set to None is
null.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import RootModel

from lmstack.serve.http.responses import ChatTokenLogprob, Out

__all__ = [
    "ArgumentsDelta",
    "ArgumentsDone",
    "ContentPart",
    "FunctionCallItem",
    "IncompleteDetails",
    "ItemEvent",
    "OutputMessageItem",
    "OutputText",
    "OutputTextDelta",
    "ResponseAnswer",
    "ResponseEvent",
    "ResponseFailure",
    "ResponseUsage",
    "StateEvent",
    "TextDone",
]

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputText(Out):
    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[ChatTokenLogprob]


class OutputMessageItem(Out):
    id: str
    type: Literal["message"]
    status: Status
    role: Literal["assistant"]
    content: list[OutputText]


class FunctionCallItem(Out):
    id: str
    type: Literal["function_call"]
    status: Status
    call_id: str
    name: str
    arguments: str


OutputItem = OutputMessageItem | FunctionCallItem


class InputTokens(Out):
    cached_tokens: int
    cache_write_tokens: int


class OutputTokens(Out):
    reasoning_tokens: int


class ResponseUsage(Out):
    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: OutputTokens
    total_tokens: int


class ResponseFailure(Out):
    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class IncompleteDetails(Out):
    reason: Literal["max_output_tokens", "content_filter"]


class ResponseAnswer(Out):
    """``temperature`` and ``top_p`` are those that were used. ``system_fingerprint`` is an
    addition: the digest of the weights."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Status
    error: ResponseFailure | None
    incomplete_details: IncompleteDetails | None
    model: str
    output: list[OutputItem]
    usage: ResponseUsage | None
    instructions: str | None
    max_output_tokens: int | None
    temperature: float
    top_p: float
    top_logprobs: int
    text: dict[str, Any]
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel_tool_calls: bool
    reasoning: dict[str, None]
    metadata: dict[str, str]
    user: str | None
    safety_identifier: str | None
    prompt_cache_key: str | None
    store: Literal[False]
    background: Literal[False]
    previous_response_id: None
    truncation: Literal["disabled"]
    service_tier: Literal["default"]
    system_fingerprint: str | None


class Event(Out):
    sequence_number: int


class StateEvent(Event):
    type: Literal[
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    response: ResponseAnswer


class ItemEvent(Event):
    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: OutputItem


class ContentEvent(Event):
    item_id: str
    output_index: int


class ContentPart(ContentEvent):
    type: Literal["response.content_part.added", "response.content_part.done"]
    content_index: int
    part: OutputText


class OutputTextDelta(ContentEvent):
    type: Literal["response.output_text.delta"]
    content_index: int
    delta: str
    logprobs: list[ChatTokenLogprob]


class TextDone(ContentEvent):
    type: Literal["response.output_text.done"]
    content_index: int
    text: str
    logprobs: list[ChatTokenLogprob]


class ArgumentsDelta(ContentEvent):
    type: Literal["response.function_call_arguments.delta"]
    delta: str


class ArgumentsDone(ContentEvent):
    type: Literal["response.function_call_arguments.done"]
    name: str
    arguments: str


class ResponseEvent(
    RootModel[
        StateEvent
        | ItemEvent
        | ContentPart
        | OutputTextDelta
        | TextDone
        | ArgumentsDelta
        | ArgumentsDone
    ]
):
    """An event of a stream. The last is response.completed, incomplete or failed."""
