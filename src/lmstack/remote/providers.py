"""Models at a provider, behind the same protocol as local ones, through the official SDKs.

A remote model is made by hand and never a default. Making one opens no connection; the key comes
from the environment alone and is never shown. What a provider cannot do is an `UnsupportedError`
that names the field, not a parameter dropped in silence; only a temperature of 0 is left out for a
model that refuses it. Covers chat; not raw prompts, tools or embeddings.

A stream opens its own connection and closes it: a pool kept between streams would belong to the
event loop that opened it, and `complete_sync` starts a new loop at each call.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from lmstack.core import (
    Delta,
    FinishReason,
    InputError,
    Message,
    Request,
    TokenLogprob,
    UnsupportedError,
    Usage,
    shown,
)
from lmstack.remote.remote_model import NEUTRAL, Answer, RemoteModel, refuse, schema_of

__all__ = ["AnthropicModel", "OpenAIModel"]


class _OpenAIAnswer(Answer):
    reasons: ClassVar[dict[str, FinishReason]] = {
        "stop": "stop",
        "length": "length",
        "content_filter": "content_filter",
        "tool_calls": "tool_calls",
        "function_call": "tool_calls",
    }

    def read(self, event: Any) -> list[Delta]:
        if event.usage is not None:
            details = event.usage.prompt_tokens_details
            self.usage = Usage(
                event.usage.prompt_tokens,
                event.usage.completion_tokens,
                (details.cached_tokens if details else 0) or 0,
            )
        return [self._delta(choice) for choice in event.choices or ()]

    def _delta(self, choice: Any) -> Delta:
        content = choice.delta.content if choice.delta else None
        refusal = getattr(choice.delta, "refusal", None)
        listed = choice.logprobs.content or () if choice.logprobs else ()
        reason = choice.finish_reason
        return Delta(
            content or refusal or "",
            choice.index,
            tuple(_logprob(entry, entry.top_logprobs or ()) for entry in listed),
            self.finish(choice.index, reason) if reason is not None else None,
        )


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


class _AnthropicAnswer(Answer):
    reasons: ClassVar[dict[str, FinishReason]] = {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "refusal": "content_filter",
        "tool_use": "tool_calls",
    }

    def read(self, event: Any) -> list[Delta]:
        if event.type == "message_start":
            usage = event.message.usage
            cached = usage.cache_read_input_tokens or 0
            written = usage.cache_creation_input_tokens or 0
            self.usage = Usage(usage.input_tokens + cached + written, 0, cached)
        elif event.type == "content_block_delta" and event.delta.type == "text_delta":
            return [Delta(event.delta.text)]
        elif event.type == "message_delta":
            so_far = self.usage or Usage()
            self.usage = replace(so_far, completion_tokens=event.usage.output_tokens)
            if event.delta.stop_reason is not None:
                return [Delta(finish_reason=self.finish(0, event.delta.stop_reason))]
        return []


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
        system, messages = _anthropic_messages(request.messages, name)
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
        return body | {k: v for k, v in optional.items() if v}

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


def _anthropic_messages(
    messages: tuple[Message, ...], model: str
) -> tuple[str, list[dict[str, str]]]:
    """The system text, which must come first, and the conversation."""
    system: list[str] = []
    rest: list[dict[str, str]] = []
    for place, message in enumerate(messages):
        if message.name or message.tool_calls or message.role == "tool":
            raise UnsupportedError(
                f"{model} is asked without tools and names, and a message has one of them",
                param=f"messages.{place}.{'name' if message.name else 'tool_calls'}",
            )
        if message.role != "system":
            rest.append({"role": message.role, "content": message.content})
        elif rest:
            raise UnsupportedError(
                f"{model} takes system messages only before all others", param="messages"
            )
        else:
            system.append(message.content)
    if not rest:
        raise InputError(
            "the conversation has only system messages", hint="add a user message", param="messages"
        )
    return "\n\n".join(system), rest


def _logprob(entry: Any, top: Any) -> TokenLogprob:
    data = bytes(entry.bytes) if entry.bytes is not None else entry.token.encode()
    return TokenLogprob(
        entry.token, data, entry.logprob, top=tuple(_logprob(other, ()) for other in top)
    )
