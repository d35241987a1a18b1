"""Request bodies of /v1/messages, field by field.

Covers every parameter and every kind of block that the official SDK knows, the sampling
parameters that the API has and newer versions of the SDK lack, and of those in beta the one that
its tool runner sends. Does not cover what the fields mean: see `mapping`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, Tag, model_validator

from lmstack.serve.http.chat_messages import (
    MAX_PARTS,
    MAX_TOOLS,
    CallId,
    Parameters,
    ToolName,
)
from lmstack.serve.http.fields import (
    Body,
    FirstMistake,
    Hint,
    ModelName,
    Whole,
    about,
    kinds,
    known_kinds,
    problem,
    refused,
    unsupported,
)
from lmstack.serve.http.requests import MAX_MESSAGES

__all__ = [
    "Block",
    "MessageTurn",
    "MessagesBody",
    "OutputConfig",
    "TextBlock",
    "ToolChoiceBody",
    "ToolResultBlock",
    "ToolUseBlock",
]

NO_THINKING = "this model does not reason apart from its answer"
OTHER_BLOCKS = {
    **{
        name: f"blocks of the type {name} are not supported, only text, tool_use and tool_result"
        for name in (
            *("image", "document", "search_result", "container_upload", "browser_state"),
            *("server_tool_use", "web_search_tool_result", "web_fetch_tool_result"),
            *("code_execution_tool_result", "bash_code_execution_tool_result"),
            *("text_editor_code_execution_tool_result", "tool_search_tool_result"),
            *("mcp_tool_use", "mcp_tool_result", "tool_reference", "compaction"),
        )
    },
    **dict.fromkeys(
        ("thinking", "redacted_thinking"), f"{NO_THINKING}; leave out what another model thought"
    ),
}


class CacheControl(Body):
    """Accepted; prefixes are cached in any case, until their room is needed."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class AnyBlock(Body):
    cache_control: CacheControl | None = None


class TextBlock(AnyBlock):
    type: Literal["text"]
    text: str
    citations: Any = refused("citations cannot be given back to the model", [])

    @classmethod
    def refuse_kind(cls, data: dict[str, Any]) -> None:
        kind = data.get("type")
        if isinstance(kind, str) and kind in OTHER_BLOCKS:
            raise unsupported(OTHER_BLOCKS[kind], "type")


Texts = str | Annotated[list[TextBlock], Field(max_length=MAX_PARTS), FirstMistake()]


class ToolUseBlock(AnyBlock):
    type: Literal["tool_use"]
    id: CallId
    name: ToolName
    input: dict[str, Any]
    caller: Any = refused("the model alone calls tools", {"type": "direct"})
    toolset_name: Any = refused("there are no sets of tools")


class ToolResultBlock(AnyBlock):
    type: Literal["tool_result"]
    tool_use_id: CallId
    content: Texts | None = None
    is_error: bool | None = about("The model reads the result with `Error: ` before it.")
    toolset_name: Any = refused("there are no sets of tools")


Block = Annotated[
    Annotated[TextBlock, Tag("type text")]
    | Annotated[ToolUseBlock, Tag("type tool_use")]
    | Annotated[ToolResultBlock, Tag("type tool_result")],
    kinds("type"),
    known_kinds("type", ("text", "tool_use", "tool_result"), OTHER_BLOCKS),
]


class MessageTurn(Body):
    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[Block], Field(min_length=1, max_length=MAX_PARTS), FirstMistake()]


class ToolBody(Body):
    type: Literal["custom"] | None = None
    name: ToolName
    description: str | None = None
    input_schema: Parameters
    strict: bool | None = about(
        "A model on this machine follows the schema either way; a remote one is asked to."
    )
    cache_control: CacheControl | None = None
    eager_input_streaming: Any = refused("input is streamed as it is generated", True)
    input_examples: Any = refused("the model is not shown examples; write them out", [])
    defer_loading: Any = refused("all tools are shown to the model", False)
    allowed_callers: Any = refused("the model alone calls tools", ["direct"])

    @classmethod
    def refuse_kind(cls, data: dict[str, Any]) -> None:
        kind = data.get("type")
        if isinstance(kind, str) and kind != "custom":
            raise unsupported(f"{kind[:80]} is a tool of another server", "type")


class ToolChoiceBody(Body):
    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def _name_goes_with_its_type(self) -> Self:
        if (self.type == "tool") != (self.name is not None):
            raise problem("needed with type tool, and only there", "name")
        return self


class UserMetadata(Body):
    user_id: Hint = None


class OutputFormat(Body):
    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Body):
    format: OutputFormat | None = None
    effort: Any = refused(NO_THINKING)


class Diagnostics(Body):
    previous_message_id: Any = refused("this server keeps no messages")


class MessagesBody(Body):
    model: ModelName
    messages: Annotated[
        list[MessageTurn], Field(min_length=1, max_length=MAX_MESSAGES), FirstMistake()
    ]
    max_tokens: Annotated[int, Field(ge=1, le=2**31), Whole]
    system: Texts | None = None
    stop_sequences: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=1024)]],
            Field(max_length=16),
            FirstMistake(),
        ]
        | None
    ) = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31), Whole] | None = None
    tools: Annotated[list[ToolBody], Field(max_length=MAX_TOOLS), FirstMistake()] | None = None
    tool_choice: ToolChoiceBody | None = None
    output_config: OutputConfig | None = None
    stream: bool | None = None
    metadata: UserMetadata | None = None
    cache_control: CacheControl | None = None
    diagnostics: Diagnostics | None = None
    thinking: Any = refused(NO_THINKING, {"type": "disabled"})
    thread: Any = refused(
        "this server keeps no threads; send the whole conversation",
        kind="thread_unsupported_request",
    )
    service_tier: Any = refused("there is one service tier", "auto", "standard_only")
    speed: Any = refused("there is one speed", "standard")
    container: Any = refused("there are no containers")
    inference_geo: Any = refused("the server computes where it stands")
