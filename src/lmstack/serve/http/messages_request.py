"""Requests of /v1/messages: the body, field by field, and the `core.Request` that it becomes.

Covers every parameter and every kind of block that the official SDK knows, the sampling
parameters that the API has and newer versions of the SDK lack, and of those in beta the one that
its tool runner sends. Blocks become turns: as the API has it, neighbouring turns of one role are
one, and the results of a turn's calls come first in the turn after it. An answer that is begun for
the model is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, Tag, model_validator

from lmstack.core import Grammar, InputError, Message, Request, ToolCall, UnsupportedError
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
from lmstack.serve.http.mapping import Caller, Calling, Conversation, resolved, tool_of
from lmstack.serve.http.requests import MAX_MESSAGES

__all__ = ["NAMES", "MessagesBody", "messages_request"]

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


# What fields of a `Request` are called here, in errors.
NAMES = {
    "prompt": "messages",
    "response_format": "output_config.format",
    "stop": "stop_sequences",
}
ERROR = "Error: "
CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class Placed(NamedTuple):
    """A block and where it is in the body."""

    block: Block
    at: str


def messages_request(body: MessagesBody, caller: Caller, defaults: Mapping[str, float]) -> Request:
    """``defaults``: of the model that is asked, for what the body does not state."""
    choice = body.tool_choice
    return Request(
        messages=_messages(body),
        sampling=resolved(
            defaults,
            max_tokens=body.max_tokens,
            temperature=body.temperature,
            top_p=body.top_p,
            top_k=body.top_k,
            stop=body.stop_sequences,
        ),
        grammar=_grammar(body.output_config),
        parallel_tool_calls=choice is None or not choice.disable_parallel_tool_use,
        client=caller.client,
        request_id=caller.request_id,
        **_calling(body)._asdict(),
    )


def _messages(body: MessagesBody) -> tuple[Message, ...]:
    conversation = Conversation()
    if body.system:
        conversation.add(Message("system", _text(body.system)))
    number = 0
    for role, group in groupby(body.messages, lambda turn: turn.role):
        turns = list(group)
        blocks = [placed for i, turn in enumerate(turns, number) for placed in _placed(turn, i)]
        number += len(turns)
        if role == "assistant":
            _add_answer(conversation, blocks)
        elif role == "user":
            _add_results_and_text(conversation, blocks)
        else:
            conversation.add(Message("system", _said(blocks, "system")))
    messages = conversation.messages()
    if body.messages[-1].role == "assistant":
        raise UnsupportedError(
            "the last message is of the assistant, and an answer that is begun cannot be continued",
            hint="end with a message of the user",
            param=f"messages.{len(body.messages) - 1}.role",
        )
    return messages


def _placed(turn: MessageTurn, number: int) -> Iterator[Placed]:
    if isinstance(turn.content, str):
        yield Placed(TextBlock(type="text", text=turn.content), f"messages.{number}.content")
        return
    for i, block in enumerate(turn.content):
        yield Placed(block, f"messages.{number}.content.{i}")


def _add_answer(conversation: Conversation, blocks: Sequence[Placed]) -> None:
    calls = [(block, at) for block, at in blocks if isinstance(block, ToolUseBlock)]
    message = Message(
        "assistant",
        _said([p for p in blocks if not isinstance(p.block, ToolUseBlock)], "assistant"),
        tool_calls=tuple(ToolCall(b.id, b.name, _json(b.input)) for b, _ in calls),
    )
    conversation.add(message, [f"{at}.id" for _, at in calls])


def _add_results_and_text(conversation: Conversation, blocks: Sequence[Placed]) -> None:
    said: list[Placed] = []
    for placed in blocks:
        block, at = placed
        if not isinstance(block, ToolResultBlock):
            said.append(placed)
            continue
        text = _text(block.content or "")
        result = ERROR + text if block.is_error else text
        conversation.result(block.tool_use_id, result, f"{at}.tool_use_id")
        if said:
            raise InputError(
                f"{at}: a tool_result comes after text, and results come first in a turn",
                hint="put the results before the text",
                param=at,
            )
    if said:
        conversation.add(Message("user", _said(said, "user")))


def _said(blocks: Sequence[Placed], role: str) -> str:
    """Text alone: other blocks belong to turns of another role."""
    texts = []
    for block, at in blocks:
        if not isinstance(block, TextBlock):
            raise InputError(
                f"{at}.type: a {block.type} cannot be in a turn of the role {role}",
                hint="calls are the assistant's, and their results the user's",
                param=f"{at}.type",
            )
        texts.append(block.text)
    return "\n".join(texts)


def _text(content: str | Sequence[TextBlock]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _calling(body: MessagesBody) -> Calling:
    known = tuple(
        tool_of(t.name, t.description, t.input_schema, t.strict) for t in body.tools or ()
    )
    choice = body.tool_choice
    if choice is None:
        return Calling(known)
    return Calling(known, choice.name or CHOICES[choice.type])


def _grammar(config: OutputConfig | None) -> Grammar | None:
    if config is None or config.format is None:
        return None
    return Grammar.json_schema(config.format.schema_)
