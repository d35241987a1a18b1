"""A body of /v1/responses as a `core.Request`: items become turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lmstack.core import Grammar, Message, Request, Role, ToolCall
from lmstack.serve.http.conversation import Conversation
from lmstack.serve.http.mapping import Caller, Calling, narrowed, resolved, tool_of
from lmstack.serve.http.responses_api.body import (
    AllowedFunctions,
    CallItem,
    InputPart,
    Item,
    MessageItem,
    NamedTool,
    OutputItem,
    ResponsesBody,
    TextOptions,
)

__all__ = ["NAMES", "responses_request"]

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
