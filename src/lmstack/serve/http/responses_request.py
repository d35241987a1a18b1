"""Requests of /v1/responses: the body, field by field, and the `core.Request` that it becomes.

Covers every parameter and every kind of item that the official SDK knows. This server keeps no
responses: what refers to an earlier one is refused. Items become turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Tag, model_validator

from lmstack.core import Grammar, Message, Request, Role, ToolCall
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
    Returned,
    Whole,
    about,
    kinds,
    known_kinds,
    problem,
    refused,
    unsupported,
)
from lmstack.serve.http.mapping import Caller, Calling, Conversation, narrowed, resolved, tool_of
from lmstack.serve.http.requests import MaxTokens, Metadata

__all__ = ["NAMES", "OutputItem", "ResponsesBody", "responses_request"]

MAX_ITEMS = 2048
KEPT = "this server keeps no responses; send the conversation in input"
NO_REASONING = "this model does not reason apart from its answer"
OTHER_PARTS = {
    name: f"{name} parts are not supported, only text"
    for name in ("input_image", "input_file", "input_audio", "refusal")
}
OTHER_ITEMS = {
    **{
        name: f"items of the type {name} are of tools that are not here"
        for name in (
            *("file_search_call", "computer_call", "computer_call_output", "web_search_call"),
            *("tool_search_call", "tool_search_output", "additional_tools", "local_shell_call"),
            *("image_generation_call", "code_interpreter_call", "local_shell_call_output"),
            *("shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output"),
            *("mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "mcp_call"),
            *("custom_tool_call", "custom_tool_call_output", "program", "program_output"),
            *("configuration_update", "compaction", "compaction_trigger"),
        )
    },
    "item_reference": KEPT,
    "reasoning": f"{NO_REASONING}; leave out what another model thought",
}


class InputPart(Body):
    """``output_text`` is what an answer had; both are read alike."""

    type: Literal["input_text", "output_text", "text"]
    text: str
    annotations: Any = refused("annotations cannot be given back to the model", [])
    logprobs: Returned = None
    parsed: Returned = None
    prompt_cache_breakpoint: Any = refused("the prefix cache finds its own breakpoints")

    @classmethod
    def refuse_kind(cls, data: dict[str, Any]) -> None:
        kind = data.get("type")
        if isinstance(kind, str) and kind in OTHER_PARTS:
            raise unsupported(OTHER_PARTS[kind], "type")


Content = str | Annotated[list[InputPart], Field(max_length=MAX_PARTS), FirstMistake()]


class AnyItem(Body):
    id: Returned = None
    status: Returned = None


class MessageItem(AnyItem):
    """``developer`` is read as ``system``."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    phase: Any = refused("the model is not told phases", "final_answer")


class CallItem(AnyItem):
    type: Literal["function_call"]
    call_id: CallId
    name: ToolName
    arguments: str
    parsed_arguments: Returned = None
    caller: Any = refused("the model alone calls functions", {"type": "direct"})
    namespace: Any = refused("functions are in no namespaces")
    async_: Any = refused("calls are not asynchronous", False, alias="async")


class OutputItem(AnyItem):
    type: Literal["function_call_output"]
    call_id: CallId
    output: Content
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = about(
        "Of the function; has to be the one that was called."
    )
    caller: Any = refused("the model alone calls functions", {"type": "direct"})
    namespace: Any = refused("functions are in no namespaces")


Item = Annotated[
    Annotated[MessageItem, Tag("type message")]
    | Annotated[CallItem, Tag("type function_call")]
    | Annotated[OutputItem, Tag("type function_call_output")],
    kinds("type", "message"),
    known_kinds(
        "type", ("message", "function_call", "function_call_output"), OTHER_ITEMS, "message"
    ),
]


class FunctionToolParam(Body):
    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: Parameters | None = about("Without it the function takes no arguments.")
    strict: bool | None = about(
        "A model on this machine follows the parameters either way; a remote one is asked to."
    )
    allowed_callers: Any = refused("the model alone calls functions", ["direct"])
    async_: Any = refused("calls are not asynchronous", False, alias="async")
    defer_loading: Any = refused("all tools are shown to the model", False)
    output_schema: Any = refused("the model is not shown what a function returns")

    @classmethod
    def refuse_kind(cls, data: dict[str, Any]) -> None:
        _only_functions(data)


class NamedTool(Body):
    type: Literal["function"]
    name: ToolName

    @classmethod
    def refuse_kind(cls, data: dict[str, Any]) -> None:
        if data.get("type") != "allowed_tools":
            _only_functions(data)


class AllowedFunctions(Body):
    """Only these of the tools are shown to the model."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS), FirstMistake()]


ToolChoice = Literal["none", "auto", "required"] | NamedTool | AllowedFunctions


class TextFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = about("The schema is enforced either way.")
    description: Any = refused("the model is not shown a description; put it into a message")

    @model_validator(mode="after")
    def _schema_goes_with_its_type(self) -> Self:
        if (self.type == "json_schema") != (self.schema_ is not None):
            raise problem("needed with type json_schema, and only there", "schema")
        if (self.type == "json_schema") != (self.name is not None):
            raise problem("needed with type json_schema, and only there", "name")
        return self


class TextOptions(Body):
    format: TextFormat | None = None
    verbosity: Any = refused("this model's verbosity cannot be set", "medium")


class Reasoning(Body):
    effort: Any = refused(NO_REASONING, "none")
    summary: Any = refused(NO_REASONING)
    generate_summary: Any = refused(NO_REASONING)
    context: Any = refused(NO_REASONING, "auto")
    mode: Any = refused(NO_REASONING, "standard")


class ResponsesStreamOptions(Body):
    include_obfuscation: Any = refused("events are not padded to hide their size", False)


class ResponsesCacheOptions(Body):
    mode: Any = refused("the prefix cache finds its own breakpoints", "implicit")
    ttl: Any = refused("cached prefixes live until their room is needed")
    prewarm: Any = refused("prefixes are cached as they are asked for", False)
    comparison_response_id: Any = refused(KEPT)


Includable = Literal["message.output_text.logprobs", "reasoning.encrypted_content"]


class ResponsesBody(Body):
    model: ModelName
    input: str | Annotated[list[Item], Field(min_length=1, max_length=MAX_ITEMS), FirstMistake()]
    instructions: str | None = about("Before the input, as a system message.")
    max_output_tokens: MaxTokens = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    include: Annotated[list[Includable], Field(max_length=16), FirstMistake()] | None = about(
        "message.output_text.logprobs; there is no reasoning to include."
    )
    top_logprobs: Annotated[int, Field(ge=0, le=20), Whole] | None = None
    text: TextOptions | None = None
    tools: (
        Annotated[list[FunctionToolParam], Field(max_length=MAX_TOOLS), FirstMistake()] | None
    ) = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = about("Without tools it changes nothing.")
    stream: bool | None = None
    stream_options: ResponsesStreamOptions | None = None
    metadata: Metadata | None = about("Returned; not stored.")
    user: Hint = None
    safety_identifier: Hint = None
    prompt_cache_key: Hint = None
    prompt_cache_options: ResponsesCacheOptions | None = None
    prompt_cache_retention: Any = refused("prefixes are kept in memory only", "in_memory")
    reasoning: Reasoning | None = None
    store: Any = refused("this server keeps no responses", False)
    previous_response_id: Any = refused(KEPT)
    conversation: Any = refused(KEPT)
    prompt: Any = refused("prompts are not kept here; send instructions and input")
    background: Any = refused("a response is computed while its client waits", False)
    background_options: Any = refused("a response is computed while its client waits")
    truncation: Any = refused("a conversation is never cut", "disabled")
    context_management: Any = refused("a conversation is never compacted", [])
    max_tool_calls: Any = refused("there are no built-in tools whose calls could be counted")
    service_tier: Any = refused("there is one service tier", "auto", "default")
    moderation: Any = refused("there is no moderation model here")
    access_programs: Any = refused("there are no access programs")
    image: Any = refused("images are not supported")

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.top_logprobs and not self.wants_logprobs:
            needed = "include: [message.output_text.logprobs]"
            raise problem(f"only allowed with {needed}", "top_logprobs")
        if self.stream_options is not None and not self.stream:
            raise problem("only allowed with stream: true", "stream_options")
        return self

    @property
    def wants_logprobs(self) -> bool:
        return "message.output_text.logprobs" in (self.include or ())


def _only_functions(data: dict[str, Any]) -> None:
    kind = data.get("type")
    if isinstance(kind, str) and kind != "function":
        raise unsupported(
            f"tools of the type {kind[:80]} are not supported, only functions", "type"
        )


# What fields of a `Request` are called here, in errors.
NAMES = {
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "prompt": "input",
    "response_format": "text.format",
    "logprobs": "include",
}


def responses_request(
    body: ResponsesBody, caller: Caller, defaults: Mapping[str, float]
) -> Request:
    """``defaults``: of the model that is asked, for what the body does not state."""
    return Request(
        messages=_messages(body.input, body.instructions),
        sampling=resolved(
            defaults,
            max_tokens=body.max_output_tokens,
            temperature=body.temperature,
            top_p=body.top_p,
            logprobs=(body.top_logprobs or 0) if body.wants_logprobs else None,
        ),
        grammar=_grammar(body.text),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        client=caller.client,
        request_id=caller.request_id,
        **_calling(body)._asdict(),
    )


def _messages(given: str | Sequence[Item], instructions: str | None) -> tuple[Message, ...]:
    conversation = Conversation()
    if instructions:
        conversation.add(Message("system", instructions))
    if isinstance(given, str):
        conversation.add(Message("user", given))
        return conversation.messages()
    turn = _Turn()
    for number, item in enumerate(given):
        at = f"input.{number}"
        if isinstance(item, CallItem):
            turn.call(item, f"{at}.call_id")
        elif isinstance(item, MessageItem) and turn.calls and item.role == "assistant":
            turn.texts.append(_text(item.content))
        else:
            turn.end(conversation)
            if isinstance(item, OutputItem):
                output = _text(item.output)
                conversation.result(item.call_id, output, f"{at}.call_id", item.name)
            elif item.role == "assistant":
                turn.texts.append(_text(item.content))
            else:
                role: Role = "system" if item.role == "developer" else item.role
                conversation.add(Message(role, _text(item.content)))
    turn.end(conversation)
    return conversation.messages()


class _Turn:
    """Of the assistant: text and calls that follow each other are one message."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.calls: list[ToolCall] = []
        self._places: list[str] = []

    def call(self, item: CallItem, at: str) -> None:
        self.calls.append(ToolCall(item.call_id, item.name, item.arguments))
        self._places.append(at)

    def end(self, conversation: Conversation) -> None:
        if self.texts or self.calls:
            message = Message("assistant", "\n".join(self.texts), tool_calls=tuple(self.calls))
            conversation.add(message, self._places)
        self.texts, self.calls, self._places = [], [], []


def _text(content: str | list[InputPart]) -> str:
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def _calling(body: ResponsesBody) -> Calling:
    known = tuple(tool_of(t.name, t.description, t.parameters, t.strict) for t in body.tools or ())
    choice = body.tool_choice
    if isinstance(choice, AllowedFunctions):
        return Calling(narrowed(known, [tool.name for tool in choice.tools]), choice.mode)
    if isinstance(choice, NamedTool):
        return Calling(known, choice.name)
    return Calling(known, choice or "auto")


def _grammar(options: TextOptions | None) -> Grammar | None:
    form = options.format if options is not None else None
    if form is None or form.type == "text":
        return None
    return Grammar("json_object") if form.schema_ is None else Grammar.json_schema(form.schema_)
