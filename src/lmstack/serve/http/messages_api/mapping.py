"""A body of /v1/messages as a `core.Request`: blocks become turns.

As the API has it, neighbouring turns of one role are one, and the results of a turn's calls come
first in the turn after it. An answer that is begun for the model is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from lmstack.core import Grammar, InputError, Message, Request, ToolCall, UnsupportedError
from lmstack.serve.http.conversation import Conversation
from lmstack.serve.http.mapping import Caller, Calling, resolved, tool_of
from lmstack.serve.http.messages_api.body import (
    Block,
    MessagesBody,
    MessageTurn,
    OutputConfig,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)

__all__ = ["NAMES", "messages_request"]

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
