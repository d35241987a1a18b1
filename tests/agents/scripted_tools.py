"""Small tools for agents in tests, and short ways to write what a model says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmstack.agents import Run, ToolStep
from lmstack.agents.tools import ToolContext, ToolResult
from lmstack.core import Message, Tool, ToolCall

TEXT = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}

Reply = str | ToolResult | Exception | Callable[..., Any]


@dataclass
class FakeTool:
    """Answers with ``reply``, or what it returns for the arguments; raises an exception. ``ran``:
    the arguments of every call, ``contexts`` what came with them."""

    name: str = "echo"
    reply: Reply = "done"
    is_dangerous: bool = False
    is_untrusted: bool = False
    is_foreign: bool = False
    timeout_s: float = 30.0
    parameters: Mapping[str, Any] = field(default_factory=lambda: TEXT)
    description: str = "A tool of a test."
    delay_s: float = 0.0
    ran: list[dict[str, Any]] = field(default_factory=list)
    contexts: list[ToolContext] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    @property
    def tool(self) -> Tool:
        return Tool(self.name, self.description, self.parameters)

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        self.ran.append(dict(arguments))
        self.contexts.append(context)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.delay_s)
            reply = self.reply
            if callable(reply):
                reply = reply(**arguments)
            if isinstance(reply, Exception):
                raise reply
            return ToolResult(reply) if isinstance(reply, str) else reply
        finally:
            self.running -= 1


def calls(*made: tuple[str, Any], text: str = "", ids: tuple[str, ...] = ()) -> Message:
    """A turn that calls tools: pairs of a name and arguments, as a dict or as raw text."""
    found = []
    for number, (name, arguments) in enumerate(made):
        raw = arguments if isinstance(arguments, str) else json.dumps(arguments)
        found.append(ToolCall(ids[number] if ids else "", name, raw))
    return Message("assistant", text, tool_calls=tuple(found))


def call(name: str = "echo", text: str = "x") -> Message:
    return calls((name, {"text": text}))


def action(name: str = "echo", text: str = "x", thought: str = "I need it.") -> str:
    """A turn of ReAct."""
    return f"Thought: {thought}\nAction: {name}\nAction Input: {json.dumps({'text': text})}"


def final(answer: str, thought: str = "I know it.") -> str:
    return f"Thought: {thought}\nFinal Answer: {answer}"


def outcomes(run: Run) -> list[str]:
    """What became of each call, in the order of the results."""
    return [step.outcome for step in run.steps if isinstance(step, ToolStep)]


def results(run: Run) -> list[str]:
    return [step.text for step in run.steps if isinstance(step, ToolStep)]
