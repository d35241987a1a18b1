"""An agent's run on the command line: its steps as they happen, and questions to a person."""

from __future__ import annotations

import asyncio
import sys

from lmstack.agents import (
    ApprovalDecision,
    ApprovalRequest,
    Ended,
    Event,
    ModelStep,
    NoticeStep,
    Started,
    Stepped,
    ToolStep,
)
from lmstack.agents.mcp import Offer
from lmstack.agents.tools.results import bounded, exact
from lmstack.app.cli.output import Output

__all__ = ["Person", "shown_event"]

_TEXT = 300  # characters of a result in its line
# Of arguments and their origins that a person is shown at once: more would push them, or the
# question, off the screen.
_ARGUMENTS, _FLOWS = 2_000, 10


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
    flat = exact(" ".join(text.split()))
    return flat if len(flat) <= _TEXT else f"{flat[:_TEXT]} ..."


class Person:
    """Whoever sits at the terminal. Where nobody does, nothing is approved: a run waits."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._asking = asyncio.Lock()

    async def decide(self, request: ApprovalRequest) -> ApprovalDecision:
        if not self.is_here:
            return ApprovalDecision("later")
        async with self._asking:
            answer = await self._answer(request)
            if answer in ("y", "yes"):
                return ApprovalDecision("approved")
            if answer in ("n", "no"):
                reason = await self._ask("", "Why not (the model is told; empty for no reason)? ")
                return ApprovalDecision("denied", reason)
        return ApprovalDecision("later")

    async def _answer(self, request: ApprovalRequest) -> str:
        """To the question, which comes last. Long arguments are shown whole before they can be
        approved."""
        question = f"May {_line(request.agent or 'the agent')} call {_line(request.tool)}?"
        arguments = exact(request.arguments)
        folded = bounded(arguments, _ARGUMENTS)
        if folded != arguments:
            about = _about(request, folded)
            answer = await self._word(about, f"{question} [s]how all, [n]o or [l]ater? ")
            if answer not in ("s", "show"):
                return answer if answer in ("n", "no") else "later"
        return await self._word(_about(request, arguments), f"{question} [y]es, [n]o or [l]ater? ")

    async def approve(self, offer: Offer) -> bool:
        """Whether an MCP server's tools may be used as they are described."""
        if not self.is_here:
            return False
        async with self._asking:
            answer = await self._word(f"\n{offer.text()}", "Use these tools as described? [y/N] ")
        return answer in ("y", "yes")

    @property
    def is_here(self) -> bool:
        return sys.stdin.isatty() and sys.stderr.isatty()

    async def _word(self, text: str, prompt: str) -> str:
        return (await self._ask(text, prompt)).lower()

    async def _ask(self, text: str, prompt: str) -> str:
        if text:
            print(text, file=sys.stderr)
        print(prompt, end="", file=sys.stderr, flush=True)
        line: str = await asyncio.to_thread(sys.stdin.readline)
        return line.strip()


def _about(request: ApprovalRequest, arguments: str) -> str:
    lines = ["", f"  arguments: {arguments}", f"  because: {_line(request.reason)}"]
    lines += [
        f"  ! {_line(flow.path)} holds text of {_line(str(flow.origin))}"
        for flow in request.flows[:_FLOWS]
    ]
    if len(request.flows) > _FLOWS:
        lines.append(f"  ! and {len(request.flows) - _FLOWS} more like these")
    return "\n".join(lines)
