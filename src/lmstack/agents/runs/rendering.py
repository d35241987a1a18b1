"""A run as text that people read: one block a step, with what it used.

Covers a whole run with those below it, indented. Does not cover colours or pages.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from lmstack.agents.calling import shortened
from lmstack.agents.runs.run import Run
from lmstack.agents.steps import (
    ApprovalStep,
    BegunStep,
    EndStep,
    ModelStep,
    NoticeStep,
    ResumeStep,
    Step,
    TaskStep,
    ToolStep,
)

__all__ = ["run_to_text", "step_to_text"]


def run_to_text(run: Run, *, text_chars: int = 1000) -> str:
    """``text_chars``: how much is shown of each text."""
    return "\n".join(_lines(run, text_chars)) + "\n"


def _lines(run: Run, text_chars: int) -> Iterator[str]:
    spent = run.spent
    cost = "" if run.cost is None else f", cost {run.cost:.6g}"
    yield (
        f"run {run.id} of {run.spec.name}: {run.end or 'not ended'}, {_count(spent.steps, 'turn')},"
        f" {_count(spent.usage.total_tokens, 'token')}, {run.seconds:.1f} s{cost}"
    )
    for number, step in enumerate(run.steps):
        if isinstance(step, BegunStep):
            continue
        yield f"{number:3} {step_to_text(step, text_chars=text_chars)}"
        if isinstance(step, ToolStep) and step.call.id in run.children:
            below = "\n".join(_lines(run.children[step.call.id], text_chars))
            yield textwrap.indent(below, "      ")


def step_to_text(step: Step, *, text_chars: int = 1000) -> str:
    """A line about the step, and its text below."""
    title, text = _said(step)
    text = printable(shortened(text, text_chars))
    return title + (f"\n{textwrap.indent(text, '      ')}" if text else "")


def printable(text: str) -> str:
    """``text`` without what could steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def _said(step: Step) -> tuple[str, str]:
    if isinstance(step, TaskStep):
        return "task", step.text
    if isinstance(step, ModelStep):
        return _model(step)
    if isinstance(step, ToolStep):
        marks = " (untrusted)" if step.is_untrusted else ""
        title = f"{printable(step.call.name)} {step.call.id}: {step.outcome}"
        pictures = f", {_count(len(step.pictures), 'picture')}" if step.pictures else ""
        return f"{title}, {step.seconds:.1f} s{pictures}{marks}", step.text
    if isinstance(step, ApprovalStep):
        request, decision = step.request, step.decision
        flows = "".join(f"\n{f.path} holds text of {f.origin}: {f.excerpt}" for f in request.flows)
        by = f" by {printable(decision.by)}" if decision.by else ""
        title = f"approval of {request.tool} {request.call_id}: {decision.verdict}{by}"
        reason = f"\n{decision.reason}" if decision.reason else ""
        return f"{title}, {step.seconds:.1f} s", f"{request.reason}{flows}{reason}"
    if isinstance(step, NoticeStep):
        return f"notice ({step.kind})", step.text
    if isinstance(step, EndStep):
        return f"end: {step.end}", "\n".join(filter(None, (step.reason, step.answer)))
    assert isinstance(step, ResumeStep | BegunStep)
    return ("resumed", "") if isinstance(step, ResumeStep) else (f"began {step.call_id}", "")


def _model(step: ModelStep) -> tuple[str, str]:
    usage = step.usage
    title = f"{printable(step.model)}: {usage.prompt_tokens} + {usage.completion_tokens} tokens"
    calls = "".join(f"\n-> {call.name} {call.id} {call.arguments}" for call in step.calls)
    error = f"\nerror: {step.error}" if step.error else ""
    return f"{title}, {step.seconds:.1f} s", f"{step.text}{calls}{error}".strip()


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
