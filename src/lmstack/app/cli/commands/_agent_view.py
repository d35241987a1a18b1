"""An agent's run on the command line: its steps as they happen, and questions to a person."""

from __future__ import annotations

import asyncio
import sys

from lmstack.agents import (
    ApprovalRequest,
    Decision,
    Ended,
    Event,
    ModelStep,
    NoticeStep,
    Started,
    Stepped,
    ToolStep,
)
from lmstack.agents.mcp import Offer
from lmstack.app.cli.output import Output
from lmstack.app.formats import printable

__all__ = ["Person", "shown_event"]

_TEXT = 300  # characters of a result in its line


def shown_event(out: Output, event: Event) -> None:
    """A line on stderr for what a person would wait for."""
    depth = "  " * (len(event.agents) - 1)
    if isinstance(event, Started) and len(event.agents) > 1:
        out.note(f"{depth}{event.agents[-1]} begins")
    if isinstance(event, Ended) and len(event.agents) > 1:
        out.note(f"{depth}{event.agents[-1]}: {event.run.end}")
    if not isinstance(event, Stepped):
        return
    step = event.step
    if isinstance(step, ModelStep) and step.calls:
        if step.text.strip():
            out.note(f"{depth}{_line(step.text)}")
        for call in step.calls:
            out.note(f"{depth}-> {_line(call.name)} {_line(call.arguments)}")
    elif isinstance(step, ToolStep):
        marks = ", untrusted" if step.is_untrusted else ""
        state = "" if step.outcome == "ok" else f"{step.outcome}: "
        out.note(f"{depth}<- {state}{_line(step.text)} ({step.seconds:.1f} s{marks})")
    elif isinstance(step, NoticeStep):
        out.note(f"{depth}note: {_line(step.text)}")


def _line(text: str) -> str:
    flat = printable(" ".join(text.split()), one_line=True)
    return flat if len(flat) <= _TEXT else f"{flat[:_TEXT]} ..."


class Person:
    """Whoever sits at the terminal. Where nobody does, nothing is approved: a run waits."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._asking = asyncio.Lock()

    async def decide(self, request: ApprovalRequest) -> Decision:
        if not self.is_here:
            return Decision("later")
        lines = [
            "",
            f"May {_line(request.agent or 'the agent')} call {_line(request.tool)}?",
            f"  arguments: {printable(request.arguments)}",
            f"  because: {_line(request.reason)}",
        ]
        lines += [
            f"  ! {_line(flow.path)} holds text of {_line(str(flow.origin))}"
            for flow in request.flows
        ]
        async with self._asking:
            answer = await self._ask("\n".join(lines), "[y]es, [n]o or [l]ater? ")
            if answer in ("y", "yes"):
                return Decision("approved")
            if answer in ("n", "no"):
                reason = await self._ask("", "Why not (the model is told; empty for no reason)? ")
                return Decision("denied", reason)
        return Decision("later")

    async def approve(self, offer: Offer) -> bool:
        """Whether an MCP server's tools may be used as they are described."""
        if not self.is_here:
            return False
        async with self._asking:
            answer = await self._ask(f"\n{offer.text()}", "Use these tools as described? [y/N] ")
        return answer in ("y", "yes")

    @property
    def is_here(self) -> bool:
        return sys.stdin.isatty() and sys.stderr.isatty()

    async def _ask(self, text: str, prompt: str) -> str:
        if text:
            print(text, file=sys.stderr)
        print(prompt, end="", file=sys.stderr, flush=True)
        line: str = await asyncio.to_thread(sys.stdin.readline)
        return line.strip().lower() if len(prompt) < 30 else line.strip()
