"""Models at a provider, behind the same protocol as local ones, through the official SDKs.

A remote model is made by hand and never a default. Making one opens no connection; the key comes
from the environment alone and is never shown. What a provider cannot do is an `UnsupportedError`
that names the field, not a parameter dropped in silence; only a temperature of 0 is left out for a
model that refuses it. Covers chat with tools; not raw prompts or embeddings.

A stream opens its own connection and closes it: a pool kept between streams would belong to the
event loop that opened it, and `complete_sync` starts a new loop at each call.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from lmstack.core import (
    Delta,
    FinishReason,
    InputError,
    Message,
    RemoteError,
    Request,
    TokenLogprob,
    Tool,
    ToolCallDelta,
    UnsupportedError,
    Usage,
    shown,
)
from lmstack.remote.anthropic_messages import anthropic_messages, anthropic_tools
from lmstack.remote.remote_model import NEUTRAL, IncomingAnswer, RemoteModel, refuse, schema_of

__all__ = ["AnthropicModel", "OpenAIModel"]


class _OpenAIAnswer(IncomingAnswer):
    reasons: ClassVar[dict[str, FinishReason]] = {
        "stop": "stop",
        "length": "length",
        "content_filter": "content_filter",
        "tool_calls": "tool_calls",
        "function_call": "tool_calls",
    }

    def __init__(self, model: str, choices: int) -> None:
        super().__init__(model, choices)
        self._called: set[tuple[int, int]] = set()

    def read(self, event: Any) -> list[Delta]:
        if event.usage is not None:
            details = event.usage.prompt_tokens_details
            self.usage = Usage(
                event.usage.prompt_tokens,
                event.usage.completion_tokens,
                (details.cached_tokens if details else 0) or 0,
            )
        return [delta for choice in event.choices or () for delta in self._deltas(choice)]

    def _deltas(self, choice: Any) -> Iterator[Delta]:
        index, said, reason = choice.index, choice.delta, choice.finish_reason
        refusal = getattr(said, "refusal", None)
        listed = choice.logprobs.content or () if choice.logprobs else ()
        calls = (said.tool_calls if said else None) or ()
        for call in calls:
            yield Delta(index=index, tool_call=self._call(index, call))
        text = (said.content if said else None) or refusal or ""
        logprobs = tuple(_logprob(entry, entry.top_logprobs or ()) for entry in listed)
        ended = self._finish(index, reason) if reason is not None else None
        if text or logprobs or ended or not calls:
            yield Delta(text, index, logprobs, ended)

    def _call(self, choice: int, call: Any) -> ToolCallDelta:
        """Some servers repeat the name with every fragment, and some give no id."""
        arguments, place = call.function.arguments or "", (choice, int(call.index))
        if place in self._called:
            return ToolCallDelta(call.index, arguments=arguments)
        self._called.add(place)
        if not call.function.name:
            raise RemoteError(
                f"{self.model} began a call without the name of a function",
                hint="check that base_url is a server with this API",
            )
        id_ = call.id or f"call_{uuid.uuid4().hex}"
        return ToolCallDelta(call.index, id_, call.function.name, arguments)

    def _finish(self, choice: int, reason: str) -> FinishReason:
        """An answer that was made to call ends with ``stop`` there."""
        ended = self.finish(choice, reason)
        called = any(index == choice for index, _ in self._called)
        return "tool_calls" if called and ended == "stop" else ended


_OPENAI_FIELDS = ("presence_penalty", "frequency_penalty", "logit_bias", "seed", "logprobs", "n")


class OpenAIModel(RemoteModel):
    """A chat model of OpenAI, or of any server with its API (``base_url``). The key is
    ``$OPENAI_API_KEY``. ``max_tokens_field``: older servers know only ``max_tokens``."""

    sdk, client = "openai", "AsyncOpenAI"
    key_variable, default_url = "OPENAI_API_KEY", "https://api.openai.com/v1"
    answer = _OpenAIAnswer

    def __init__(
        self, name: str, *, max_tokens_field: str = "max_completion_tokens", **options: Any
    ) -> None:
        super().__init__(name, **options)
        if max_tokens_field not in ("max_completion_tokens", "max_tokens"):
            raise InputError(
                f"max_tokens_field is {shown(max_tokens_field)}",
                hint="it is max_completion_tokens or max_tokens",
                param="max_tokens_field",
            )
        self._max_tokens_field = max_tokens_field

    def _body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        refuse(request, self.info.name, tuple(n for n in NEUTRAL if n not in _OPENAI_FIELDS))
        optional = {
            self._max_tokens_field: sampling.max_tokens,
            "temperature": sampling.temperature if sampling.temperature != 1 else None,
            "top_p": sampling.top_p if sampling.top_p != 1 else None,
            "presence_penalty": sampling.presence_penalty or None,
            "frequency_penalty": sampling.frequency_penalty or None,
            "logit_bias": {str(k): v for k, v in sampling.logit_bias.items()} or None,
            "seed": sampling.seed,
            "stop": list(sampling.stop) or None,
            "logprobs": True if sampling.logprobs is not None else None,
            "top_logprobs": sampling.logprobs,
            "n": sampling.n if sampling.n != 1 else None,
            "response_format": self._response_format(request),
            **_openai_tools(request),
        }
        return {
            "model": self.info.name,
            "messages": [_openai_message(m) for m in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **{name: value for name, value in optional.items() if value is not None},
        }

    def _response_format(self, request: Request) -> dict[str, Any] | None:
        if request.grammar is None:
            return None
        if request.grammar.kind == "json_object":
            return {"type": "json_object"}
        schema = schema_of(request, self.info.name)
        named = {"name": "answer", "schema": schema, "strict": True}
        return {"type": "json_schema", "json_schema": named}

    def _open(self, client: Any, body: dict[str, Any]) -> Any:
        return client.chat.completions.create(**body)


class _AnthropicAnswer(IncomingAnswer):
    reasons: ClassVar[dict[str, FinishReason]] = {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "refusal": "content_filter",
        "tool_use": "tool_calls",
    }

    def __init__(self, model: str, choices: int) -> None:
        super().__init__(model, choices)
        # Calls by the number of their block: their own, and whether they have arguments.
        self._calls: dict[int, tuple[int, bool]] = {}

    def read(self, event: Any) -> list[Delta]:
        if event.type.startswith("content_block_"):
            return self._block(event)
        if event.type == "message_start":
            self.usage = _asked(event.message.usage)
        elif event.type == "message_delta":
            known = getattr(event.usage, "input_tokens", None)
            so_far = _asked(event.usage) if known else self.usage or Usage()
            self.usage = replace(so_far, completion_tokens=event.usage.output_tokens)
            if event.delta.stop_reason is not None:
                return [Delta(finish_reason=self.finish(0, event.delta.stop_reason))]
        return []

    def _block(self, event: Any) -> list[Delta]:
        kind, place = event.type, event.index
        if kind == "content_block_start" and event.content_block.type == "tool_use":
            number, block = len(self._calls), event.content_block
            self._calls[place] = number, False
            return [Delta(tool_call=ToolCallDelta(number, block.id, block.name))]
        if kind == "content_block_delta" and event.delta.type == "text_delta":
            return [Delta(event.delta.text)]
        if kind == "content_block_delta" and event.delta.type == "input_json_delta":
            number, begun = self._calls[place]
            self._calls[place] = number, begun or bool(event.delta.partial_json)
            part = ToolCallDelta(number, arguments=event.delta.partial_json)
            return [Delta(tool_call=part)] if part.arguments else []
        if kind == "content_block_stop" and self._calls.get(place, (0, True))[1] is False:
            # A tool without arguments gets none; elsewhere they are an empty object.
            return [Delta(tool_call=ToolCallDelta(self._calls[place][0], arguments="{}"))]
        return []


def _asked(usage: Any) -> Usage:
    """Tokens of the prompt, those in the provider's cache among them."""
    cached = usage.cache_read_input_tokens or 0
    written = usage.cache_creation_input_tokens or 0
    return Usage(usage.input_tokens + cached + written, 0, cached)


class AnthropicModel(RemoteModel):
    """A model of Anthropic. The key is ``$ANTHROPIC_API_KEY``. Every request has to say its
    ``max_tokens``, as the provider requires it."""

    sdk, client = "anthropic", "AsyncAnthropic"
    key_variable, default_url = "ANTHROPIC_API_KEY", "https://api.anthropic.com"
    answer = _AnthropicAnswer

    def _body(self, request: Request) -> dict[str, Any]:
        sampling, name = request.sampling, self.info.name
        refuse(request, name, tuple(n for n in NEUTRAL if n != "top_k"))
        if sampling.max_tokens is None:
            raise InputError(
                f"max_tokens is not set, and {name} requires it",
                hint="say how long the answer may be",
                param="max_tokens",
            )
        if sampling.temperature > 1:
            raise UnsupportedError(
                f"temperature is {sampling.temperature}, {name} takes at most 1",
                param="temperature",
            )
        system, messages = anthropic_messages(request.messages, name)
        # Sent outside of the SDK's signature: some versions of it lack these, the API has them.
        extra = {
            "temperature": sampling.temperature if sampling.temperature != 1 else None,
            "top_p": sampling.top_p if sampling.top_p != 1 else None,
            "top_k": sampling.top_k or None,
            "output_config": self._output_config(request),
        }
        body = {
            "model": name,
            "max_tokens": sampling.max_tokens,
            "messages": messages,
            "stream": True,
            "extra_body": {k: v for k, v in extra.items() if v is not None},
        }
        optional = {"system": system, "stop_sequences": list(sampling.stop)}
        return body | {k: v for k, v in optional.items() if v} | anthropic_tools(request)

    def _output_config(self, request: Request) -> dict[str, Any] | None:
        if request.grammar is None:
            return None
        if request.grammar.kind == "json_object":
            raise UnsupportedError(
                f"{self.info.name} takes a JSON Schema, not the format json_object",
                hint="use json_schema",
                param="response_format",
            )
        return {"format": {"type": "json_schema", "schema": schema_of(request, self.info.name)}}

    def _open(self, client: Any, body: dict[str, Any]) -> Any:
        return client.messages.create(**body)


def _openai_message(message: Message) -> dict[str, Any]:
    calls = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
        for c in message.tool_calls
    ]
    optional = {"name": message.name, "tool_call_id": message.tool_call_id, "tool_calls": calls}
    return {
        "role": message.role,
        "content": message.content,
        **{name: value for name, value in optional.items() if value},
    }


def _openai_tools(request: Request) -> dict[str, Any]:
    """The fields of a body that are about tools; none where there are none."""
    if not request.tools:
        return {}
    choice: Any = request.tool_choice
    if choice not in ("auto", "none", "required"):
        choice = {"type": "function", "function": {"name": choice}}
    return {
        "tools": [{"type": "function", "function": _openai_function(t)} for t in request.tools],
        "tool_choice": choice if choice != "auto" else None,
        "parallel_tool_calls": None if request.parallel_tool_calls else False,
    }


def _openai_function(tool: Tool) -> dict[str, Any]:
    optional = {"description": tool.description, "strict": tool.strict}
    return {
        "name": tool.name,
        "parameters": dict(tool.parameters),
        **{name: value for name, value in optional.items() if value},
    }


def _logprob(entry: Any, top: Any) -> TokenLogprob:
    data = bytes(entry.bytes) if entry.bytes is not None else entry.token.encode()
    return TokenLogprob(
        entry.token, data, entry.logprob, top=tuple(_logprob(other, ()) for other in top)
    )
