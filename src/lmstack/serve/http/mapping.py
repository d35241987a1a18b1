"""Where a request body becomes a `core.Request`.

Bodies arrive checked field by field; what is left here is meaning: defaults, OpenAI's names to
ours, and messages that belong together: each result answers a call of the turn before it. What
does not fit is an error that names the place in the body. `messages_request` and
`responses_request` share what is here. Does not cover models or responses, nor which roles a
model's template knows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from lmstack.core import (
    Grammar,
    InputError,
    Message,
    Request,
    Role,
    SamplingParams,
    Tool,
    ToolCall,
    shown,
)
from lmstack.core.schemas import check_keywords
from lmstack.registry import SamplingDefaults
from lmstack.serve.http.chat_messages import (
    AllowedChoice,
    AssistantMessage,
    ChatMessage,
    ChatTool,
    ChatToolChoice,
    NamedChoice,
    TextPart,
    ToolMessage,
)
from lmstack.serve.http.requests import (
    ChatBody,
    CompletionBody,
    ResponseFormat,
    SamplingBody,
)

__all__ = [
    "Caller",
    "Calling",
    "Conversation",
    "chat_request",
    "completion_requests",
    "narrowed",
    "resolved",
    "tool_of",
]


class Conversation:
    """Messages are added in order; `messages` ends it. ``at``: a place in the body."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        # Of the assistant's last turn: its calls by id, the places of those without a result yet.
        self._calls: dict[str, ToolCall] = {}
        self._open: dict[str, str] = {}

    def add(self, message: Message, calls_at: Sequence[str] = ()) -> None:
        """Any message that is no result. ``calls_at``: the places of the ids of its calls."""
        self._check_all_answered()
        self._calls = {call.id: call for call in message.tool_calls}
        for call, at in zip(message.tool_calls, calls_at, strict=True):
            if call.id in self._open:
                raise _misplaced(at, f"two calls have the id {shown(call.id)}", "give each its own")
            self._open[call.id] = at
        self._messages.append(message)

    def result(self, call_id: str, content: str, at: str, name: str | None = None) -> None:
        """What a tool gave back for the call ``call_id``, a word at ``at``. ``name``: of the
        function, where the sender repeats it."""
        if call_id not in self._open:
            raise self._unasked(call_id, at)
        called = self._calls[call_id].name
        if name is not None and name != called:
            place = f"{at.rpartition('.')[0]}.name"
            problem = f"is {shown(name)}, and the call {shown(call_id)} is of {called}"
            raise _misplaced(place, problem, "leave it out")
        del self._open[call_id]
        self._messages.append(Message("tool", content, tool_call_id=call_id))

    def messages(self) -> tuple[Message, ...]:
        self._check_all_answered()
        return tuple(self._messages)

    def _unasked(self, call_id: str, at: str) -> InputError:
        if call_id in self._calls:
            return _misplaced(
                at, f"the call {shown(call_id)} has a result already", "send one of each"
            )
        if not self._open:
            hint = "send the assistant's turn with its calls, and then their results"
            return _misplaced(at, f"no call {shown(call_id)} comes before this result", hint)
        waiting = ", ".join(self._open)
        hint = f"calls that wait for a result: {waiting}"
        return _misplaced(at, f"the turn before has no call {shown(call_id)}", hint)

    def _check_all_answered(self) -> None:
        for call_id, at in self._open.items():
            hint = "send the result of each call right after the turn that asks for it"
            raise _misplaced(at, f"the call {shown(call_id)} has no result", hint)


def _misplaced(at: str, problem: str, hint: str) -> InputError:
    return InputError(f"{at}: {problem}", hint=hint, param=at)


COMPLETION_MAX_TOKENS = 16


class Caller(NamedTuple):
    """Who asks (``client``) and under which id: goes to limits, audit and logs."""

    client: str
    request_id: str


class Calling(NamedTuple):
    """What of a `Request` says what may be called."""

    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"


def chat_request(body: ChatBody, caller: Caller, defaults: Mapping[str, float]) -> Request:
    """``defaults``: of the model that is asked, for what the body does not state."""
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    return Request(
        messages=_messages(body.messages),
        sampling=_sampling(
            body,
            defaults,
            max_tokens=limit,
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        ),
        grammar=_grammar(body.response_format),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        wishes=_wishes(body),
        client=caller.client,
        request_id=caller.request_id,
        **_calling(body.tools or (), body.tool_choice)._asdict(),
    )


def _wishes(body: ChatBody) -> dict[str, str]:
    named = {name: getattr(body, name) for name in ("answers", "unsure", "task", "system")}
    return {name: value for name, value in named.items() if value is not None}


def completion_requests(
    body: CompletionBody, caller: Caller, defaults: Mapping[str, float]
) -> list[Request]:
    """One request for each prompt; choice ``j`` of prompt ``i`` has index ``i * n + j``."""
    limit = COMPLETION_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    sampling = _sampling(body, defaults, max_tokens=limit, logprobs=body.logprobs)
    return [
        Request(
            prompt=prompt,
            sampling=sampling,
            echo=bool(body.echo),
            client=caller.client,
            request_id=caller.request_id,
        )
        for prompt in _prompts(body.prompt)
    ]


def _prompts(prompt: str | list[Any]) -> list[str | tuple[int, ...]]:
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [tuple(prompt)]
    return [each if isinstance(each, str) else tuple(each) for each in prompt]


def _messages(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    conversation = Conversation()
    for number, message in enumerate(messages):
        at, text = f"messages.{number}", _text(message.content)
        if isinstance(message, ToolMessage):
            conversation.result(message.tool_call_id, text, f"{at}.tool_call_id", message.name)
            continue
        role: Role = "system" if message.role == "developer" else message.role
        asked = (message.tool_calls or []) if isinstance(message, AssistantMessage) else []
        calls = tuple(ToolCall(c.id, c.function.name, c.function.arguments) for c in asked)
        places = [f"{at}.tool_calls.{i}.id" for i in range(len(calls))]
        conversation.add(Message(role, text, name=message.name, tool_calls=calls), places)
    return conversation.messages()


def _text(content: str | list[TextPart] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.text for part in content)


def _calling(tools: Sequence[ChatTool], choice: ChatToolChoice | None) -> Calling:
    known = tuple(
        tool_of(f.name, f.description, f.parameters, f.strict)
        for f in (tool.function for tool in tools)
    )
    if isinstance(choice, AllowedChoice):
        allowed = choice.allowed_tools
        return Calling(narrowed(known, [t.function.name for t in allowed.tools]), allowed.mode)
    if isinstance(choice, NamedChoice):
        return Calling(known, choice.function.name)
    return Calling(known, choice or "auto")


def tool_of(
    name: str,
    description: str | None,
    parameters: Mapping[str, Any] | None,
    strict: bool | None,
) -> Tool:
    given = {} if parameters is None else {"parameters": parameters}
    tool = Tool(name, description or "", strict=bool(strict), **given)
    check_keywords(tool.parameters, f"the schema of the tool {name}", param="tools")
    return tool


def narrowed(tools: Sequence[Tool], names: Collection[str]) -> tuple[Tool, ...]:
    """Those of ``tools`` that a request allows. The model is not shown the others, so it cannot
    call them."""
    known = [tool.name for tool in tools]
    for name in names:
        if name not in known:
            raise InputError(
                f"tool_choice allows {shown(name)}, and no tool has that name",
                hint=f"tools: {', '.join(known) or 'none'}",
                param="tool_choice",
            )
    return tuple(tool for tool in tools if tool.name in names)


def _sampling(
    body: SamplingBody,
    defaults: Mapping[str, float],
    *,
    max_tokens: int | None,
    logprobs: int | None,
) -> SamplingParams:
    biases = body.logit_bias
    same = {each.name: getattr(body, each.name, None) for each in fields(SamplingParams)}
    stated = same | {
        "max_tokens": max_tokens,
        "top_k": None if body.top_k is None else max(body.top_k, 0),
        "logit_bias": None if biases is None else {int(i): v for i, v in biases.items()},
        "logprobs": logprobs,
        "num_beams": body.beams,
    }
    return resolved(defaults, **stated)


def resolved(defaults: Mapping[str, float], **stated: Any) -> SamplingParams:
    """What a body states, where that is not None, and else ``defaults``."""
    given = {name: value for name, value in stated.items() if value is not None}
    return SamplingDefaults.from_mapping(defaults).resolve(given)


def _grammar(form: ResponseFormat | None) -> Grammar | None:
    if form is None or form.type == "text":
        return None
    if form.json_schema is None:
        return Grammar("json_object")
    return Grammar.json_schema(form.json_schema.schema_)
