"""OpenTelemetry spans with the names of the GenAI semantic conventions; off unless asked for.

Spans are ``invoke_agent``, ``chat`` and ``execute_tool``, nested as they run. What users, models
and tools say is left out unless ``capture_content`` is set, and errors are named by their type
alone, since messages quote values. The conventions are in development: the names are those of
version 1.41. Does not cover exporters: the application sets up OpenTelemetry's SDK.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from lmstack.agents.budget import Spent
from lmstack.agents.steps import End, ModelStep, ToolStep
from lmstack.core import Message, ModelInfo, Request, Tool, require

__all__ = ["OpenSpan", "Telemetry"]

OPERATION = "gen_ai.operation.name"


class Telemetry:
    """``tracer``: an OpenTelemetry one; by default that of the global provider.
    ``capture_content``: also the texts of requests, answers, arguments and results. ``provider``:
    who runs the model."""

    def __init__(
        self, *, tracer: Any = None, capture_content: bool = False, provider: str = "lmstack"
    ) -> None:
        self._trace = require("opentelemetry.trace", "telemetry")
        self._tracer = tracer or self._trace.get_tracer("lmstack.agents")
        self._capture = capture_content
        self._provider = provider

    @contextlib.contextmanager
    def agent(self, name: str, run_id: str, info: ModelInfo) -> Iterator[OpenSpan]:
        attributes = {
            OPERATION: "invoke_agent",
            "gen_ai.provider.name": self._provider,
            "gen_ai.agent.name": name,
            "gen_ai.conversation.id": run_id,
            "gen_ai.request.model": info.name,
        }
        with self._span(f"invoke_agent {name}", attributes) as mark:
            yield mark

    @contextlib.contextmanager
    def chat(self, request: Request, info: ModelInfo) -> Iterator[OpenSpan]:
        attributes: dict[str, Any] = {
            OPERATION: "chat",
            "gen_ai.provider.name": self._provider,
            "gen_ai.request.model": info.name,
            "gen_ai.request.temperature": request.sampling.temperature,
            "gen_ai.request.stream": True,
        }
        if request.sampling.max_tokens is not None:
            attributes["gen_ai.request.max_tokens"] = request.sampling.max_tokens
        if self._capture:
            attributes["gen_ai.input.messages"] = _json([_said(m) for m in request.messages])
            attributes["gen_ai.tool.definitions"] = _json([_defined(t) for t in request.tools])
        with self._span(f"chat {info.name}", attributes) as mark:
            yield mark

    @contextlib.contextmanager
    def tool(self, tool: Tool, call_id: str, arguments: str) -> Iterator[OpenSpan]:
        attributes = {
            OPERATION: "execute_tool",
            "gen_ai.tool.name": tool.name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": call_id,
        }
        if self._capture:
            attributes["gen_ai.tool.call.arguments"] = arguments
        with self._span(f"execute_tool {tool.name}", attributes) as mark:
            yield mark

    @contextlib.contextmanager
    def _span(self, name: str, attributes: Mapping[str, Any]) -> Iterator[OpenSpan]:
        # Exceptions are not recorded: their messages quote values.
        options = {"record_exception": False, "set_status_on_exception": False}
        with self._tracer.start_as_current_span(name, attributes=attributes, **options) as span:
            mark = OpenSpan(span, self._trace.StatusCode.ERROR, capture=self._capture)
            try:
                yield mark
            except BaseException as error:
                mark.failed(type(error).__name__)
                raise


class OpenSpan:
    """A span that is open: what is known at its end."""

    def __init__(self, span: Any, error: Any, *, capture: bool) -> None:
        self._span, self._error, self._capture = span, error, capture

    def failed(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(self._error)

    def ended(self, end: End | None, spent: Spent) -> None:
        if end == "failed":
            self.failed(end)
        self._span.set_attribute("gen_ai.usage.input_tokens", spent.usage.prompt_tokens)
        self._span.set_attribute("gen_ai.usage.output_tokens", spent.usage.completion_tokens)

    def answered(self, step: ModelStep, first_token_s: float) -> None:
        if step.error:
            self.failed(step.error_code)
            return
        self._span.set_attributes(
            {
                "gen_ai.response.model": step.model,
                "gen_ai.response.finish_reasons": [step.finish_reason],
                "gen_ai.response.time_to_first_chunk": first_token_s,
                "gen_ai.usage.input_tokens": step.usage.prompt_tokens,
                "gen_ai.usage.output_tokens": step.usage.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": step.usage.cached_tokens,
            }
        )
        if self._capture:
            message = Message("assistant", step.text, tool_calls=step.calls)
            said = [{**_said(message), "finish_reason": step.finish_reason}]
            self._span.set_attribute("gen_ai.output.messages", _json(said))

    def called(self, step: ToolStep) -> None:
        if step.outcome != "ok":
            self.failed(step.outcome)
        if self._capture:
            self._span.set_attribute("gen_ai.tool.call.result", step.text)


def _said(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        part = {"type": "tool_call_response", "id": message.tool_call_id}
        return {"role": "tool", "parts": [{**part, "response": message.content}]}
    parts: list[dict[str, Any]] = []
    if message.content:
        parts.append({"type": "text", "content": message.content})
    for call in message.tool_calls:
        part = {"type": "tool_call", "id": call.id, "name": call.name}
        parts.append({**part, "arguments": call.arguments})
    return {"role": message.role, "parts": parts}


def _defined(tool: Tool) -> dict[str, Any]:
    described = {"name": tool.name, "description": tool.description}
    return {"type": "function", **described, "parameters": tool.parameters}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
