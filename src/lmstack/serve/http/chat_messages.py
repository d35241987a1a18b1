"""Messages and tools in bodies of chat completions, field by field.

Covers every role, calls and their results, definitions of tools and the choice among them. What
belongs to what across messages is checked in `mapping`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, Tag, model_validator

from lmstack.serve.http.fields import (
    Body,
    FirstMistake,
    Returned,
    about,
    kinds,
    known_kinds,
    problem,
    refused,
    unsupported,
)

__all__ = [
    "DEPRECATED",
    "MAX_CALLS",
    "MAX_PARTS",
    "MAX_TOOLS",
    "AllowedChoice",
    "AnyMessage",
    "AssistantMessage",
    "CallId",
    "ChatMessage",
    "ChatTool",
    "ChatToolChoice",
    "Content",
    "NamedChoice",
    "Parameters",
    "SystemMessage",
    "TextPart",
    "ToolMessage",
    "ToolName",
    "UserMessage",
]

MAX_PARTS = 256
MAX_TOOLS = 128
MAX_CALLS = 128
OTHER_PARTS = ("image_url", "input_audio", "file", "refusal")
DEPRECATED = "functions are deprecated in OpenAI's API; send tools"

ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
CallId = Annotated[str, Field(min_length=1, max_length=256)]
# Of which the type can only be object: core checks that, and the schema says it.
Parameters = Annotated[
    dict[str, Any], Field(json_schema_extra={"properties": {"type": {"const": "object"}}})
]


class TextPart(Body):
    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: Any = refused("the prefix cache finds its own breakpoints")

    @classmethod
    def refuse_kind(cls, data: dict[str, Any]) -> None:
        if data.get("type") in OTHER_PARTS:
            raise unsupported(f"{data['type']} parts are not supported, only text", "type")


Content = str | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS), FirstMistake()]


class AnyMessage(Body):
    """What messages of every role may have. Null asks for nothing in any of them."""

    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    refusal: Any = refused("refusals of earlier answers cannot be given back to the model")
    audio: Any = refused("audio is not supported")
    function_call: Any = refused(DEPRECATED)
    tool_calls: Any = refused("calls are in messages of the role assistant", [])
    tool_call_id: Any = refused("results are messages of the role tool")


class SystemMessage(AnyMessage):
    """``developer`` is read as ``system``."""

    role: Literal["developer", "system"]
    content: Content


class UserMessage(AnyMessage):
    role: Literal["user"]
    content: Content


class CalledFunction(Body):
    """``parsed_arguments``: as the SDK adds them to what it got."""

    name: ToolName
    arguments: str
    parsed_arguments: Returned = None


class ToolCallBody(Body):
    id: CallId
    type: Literal["function"]
    function: CalledFunction

    @classmethod
    def refuse_kind(cls, data: dict[str, Any]) -> None:
        _refuse_custom(data)


class AssistantMessage(AnyMessage):
    """``parsed``: as the SDK adds it to what it got."""

    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: (
        Annotated[list[ToolCallBody], Field(max_length=MAX_CALLS), FirstMistake()] | None
    ) = None
    parsed: Returned = None

    @model_validator(mode="after")
    def _says_or_calls_something(self) -> Self:
        if self.content is None and not self.tool_calls:
            raise problem("is missing, and there are no tool_calls", "content")
        return self


class ToolMessage(AnyMessage):
    """The result of a call."""

    role: Literal["tool"]
    content: Content
    tool_call_id: CallId
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = about(
        "Of the function; has to be the one that was called."
    )


ChatMessage = Annotated[
    Annotated[SystemMessage, Tag("role system")]
    | Annotated[UserMessage, Tag("role user")]
    | Annotated[AssistantMessage, Tag("role assistant")]
    | Annotated[ToolMessage, Tag("role tool")],
    kinds("role", same={"developer": "system"}),
    known_kinds(
        "role",
        ("developer", "system", "user", "assistant", "tool"),
        {"function": DEPRECATED},
    ),
]


class ChatFunction(Body):
    name: ToolName
    description: str | None = None
    parameters: Parameters | None = about("Without it the function takes no arguments.")
    strict: bool | None = about(
        "A model on this machine follows the parameters either way; a remote one is asked to."
    )


class ChatTool(Body):
    type: Literal["function"]
    function: ChatFunction

    @classmethod
    def refuse_kind(cls, data: dict[str, Any]) -> None:
        _refuse_custom(data)


class NamedFunction(Body):
    name: ToolName


class NamedChoice(Body):
    type: Literal["function"]
    function: NamedFunction

    @classmethod
    def refuse_kind(cls, data: dict[str, Any]) -> None:
        _refuse_custom(data)


class AllowedTools(Body):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedChoice], Field(min_length=1, max_length=MAX_TOOLS), FirstMistake()]


class AllowedChoice(Body):
    """Only these of the tools are shown to the model."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ChatToolChoice = Literal["none", "auto", "required"] | NamedChoice | AllowedChoice


def _refuse_custom(data: dict[str, Any]) -> None:
    if data.get("type") == "custom":
        raise unsupported("custom tools are not supported, only functions", "type")
