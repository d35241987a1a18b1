"""The one place where a request body becomes a `core.Request`.

Bodies arrive checked field by field (`requests`); what is left here is meaning: defaults,
OpenAI's names to ours. Does not cover models or responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from lmstack.core import Grammar, Message, Request, Role, SamplingParams
from lmstack.registry import SamplingDefaults
from lmstack.serve.http.requests import (
    ChatBody,
    ChatMessage,
    CompletionBody,
    ResponseFormat,
    SamplingBody,
)

__all__ = ["Caller", "chat_request", "completion_requests"]

COMPLETION_MAX_TOKENS = 16


class Caller(NamedTuple):
    """Who asks (``client``) and under which id: goes to limits, audit and logs."""

    client: str
    request_id: str


def chat_request(body: ChatBody, caller: Caller, defaults: Mapping[str, float]) -> Request:
    """``defaults``: of the model that is asked, for what the body does not state."""
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    return Request(
        messages=tuple(_message(m) for m in body.messages),
        sampling=_sampling(
            body,
            defaults,
            max_tokens=limit,
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        ),
        grammar=_grammar(body.response_format),
        wishes=_wishes(body),
        client=caller.client,
        request_id=caller.request_id,
    )


def _wishes(body: ChatBody) -> dict[str, str]:
    named = {"answers": body.answers, "unsure": body.unsure, "task": body.task}
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


def _message(message: ChatMessage) -> Message:
    role: Role = "system" if message.role == "developer" else message.role
    content = message.content
    text = content if isinstance(content, str) else "\n".join(part.text for part in content)
    return Message(role, text, name=message.name)


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
    stated = {name: value for name, value in stated.items() if value is not None}
    return SamplingDefaults.from_mapping(defaults).resolve(stated)


def _grammar(form: ResponseFormat | None) -> Grammar | None:
    if form is None or form.type == "text":
        return None
    if form.json_schema is None:
        return Grammar("json_object")
    return Grammar.json_schema(form.json_schema.schema_)
