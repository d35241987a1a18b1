"""Response bodies of chat and plain completions, built from core's types.

Covers whole answers and chunks of a stream, calls of tools included, in the shapes of the
official SDK. A field that was not set is left out; one set to None is null.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lmstack.core import FinishReason, TokenLogprob, ToolCall, Usage

__all__ = [
    "ChatChoice",
    "ChatChunk",
    "ChatCompletion",
    "ChatTokenLogprob",
    "ChunkChoice",
    "ChunkDelta",
    "CompletionChoice",
    "CompletionLogprobs",
    "FunctionDelta",
    "Out",
    "OutputMessage",
    "PromptDetails",
    "PromptUsage",
    "TextCompletion",
    "ToolCallChunk",
    "ToolCallOut",
    "UsageBody",
    "chat_logprobs",
    "finite",
    "tool_call_out",
    "usage_body",
]

LOWEST = -9999.0


class Out(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class PromptDetails(Out):
    cached_tokens: int


class UsageBody(Out):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class PromptUsage(Out):
    """Of what generates nothing."""

    prompt_tokens: int
    total_tokens: int


class ChatTopLogprob(Out):
    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(ChatTopLogprob):
    top_logprobs: list[ChatTopLogprob]


class ChatLogprobs(Out):
    content: list[ChatTokenLogprob]
    refusal: None = None


class FunctionOut(Out):
    name: str
    arguments: str


class ToolCallOut(Out):
    id: str
    type: Literal["function"]
    function: FunctionOut


class OutputMessage(Out):
    """``content`` is null where the model only calls tools."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCallOut] | None = None


class ChatChoice(Out):
    index: int
    message: OutputMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Out):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageBody
    system_fingerprint: str | None
    service_tier: Literal["default"] | None = None
    metadata: dict[str, str] | None = None


class FunctionDelta(Out):
    name: str | None = None
    arguments: str


class ToolCallChunk(Out):
    """The first of a call has its id, type and name, the others more of its arguments."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class ChunkDelta(Out):
    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: None = None
    tool_calls: list[ToolCallChunk] | None = None


class ChunkChoice(Out):
    index: int
    delta: ChunkDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(Out):
    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    system_fingerprint: str | None
    service_tier: Literal["default"] | None = None
    usage: UsageBody | None = None


class CompletionLogprobs(Out):
    """``text_offset`` counts characters of the choice's ``text``. A token that is not whole
    characters is written ``bytes:\\xe2\\x80``, as OpenAI does."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Out):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class TextCompletion(Out):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    system_fingerprint: str | None
    usage: UsageBody | None = None


def tool_call_out(call: ToolCall) -> ToolCallOut:
    function = FunctionOut(name=call.name, arguments=call.arguments)
    return ToolCallOut(id=call.id, type="function", function=function)


def usage_body(usage: Usage) -> UsageBody:
    return UsageBody(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details=PromptDetails(cached_tokens=usage.cached_tokens),
    )


def chat_logprobs(tokens: tuple[TokenLogprob, ...]) -> ChatLogprobs:
    return ChatLogprobs(
        content=[
            ChatTokenLogprob(
                **_token(token),
                top_logprobs=[ChatTopLogprob(**_token(other)) for other in token.top],
            )
            for token in tokens
        ],
        refusal=None,
    )


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {
        "token": token.token,
        "logprob": finite(token.logprob),
        "bytes": list(token.bytes),
    }


def finite(logprob: float | None) -> float:
    """JSON has no minus infinity; OpenAI writes -9999."""
    return LOWEST if logprob is None else max(logprob, LOWEST)
