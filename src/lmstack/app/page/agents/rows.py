"""One row for each step of a run: what it was in a line, its figures and its bar; a row opens.

Does not cover which rows there are (`timeline`), or what they look like (the templates).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lmstack.agents.dataflow import Flow
from lmstack.agents.steps import (
    ApprovalStep,
    EndStep,
    ModelStep,
    NoticeStep,
    ResumeStep,
    Step,
    TaskStep,
    ToolStep,
)
from lmstack.app.page.agents.axis import TimeAxis, seconds_of
from lmstack.app.page.agents.texts import exact, line
from lmstack.app.page.agents.words import (
    ENDS,
    NOTICES,
    OUTCOMES,
    TAINTED,
    UNTRUSTED,
    VERDICTS,
)
from lmstack.core import Price, ToolCall, Usage

__all__ = ["AgentBelow", "TimelineRow", "TimelineRows"]

# Words, what they mean, and whether that is bad.
_Tags = tuple[tuple[str, str, bool], ...]
_IS_UNTRUSTED = ("untrusted", UNTRUSTED, False)
_IS_TAINTED = ("tainted arguments", TAINTED, True)


@dataclass(frozen=True, slots=True)
class AgentBelow:
    """The steps of an agent that a call asked. ``told``: how it went."""

    name: str
    told: str
    rows: Sequence[TimelineRow]


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """``kind``: decides its colours. ``body``: what it holds when it is opened, "" for nothing.
    ``said``: its line, after the name of an agent or a tool. ``bar``: where it
    begins and how long it is, as parts of the axis."""

    name: str
    kind: str
    key: str
    body: str = ""
    step: Step | None = None
    call: ToolCall | None = None
    agent: str = ""
    tool: str = ""
    said: str = ""
    tags: _Tags = ()
    tokens: str = ""
    cost: float | None = None
    took: float = 0.0
    bar: tuple[float, float] | None = None
    flows: Sequence[Flow] = ()
    below: AgentBelow | None = None
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class TimelineRows:
    """Rows of the steps of one agent. ``price``: of its model's tokens."""

    axis: TimeAxis
    agent: str
    price: Price | None

    def task(self, key: str, step: TaskStep) -> TimelineRow:
        said = line(" ".join(span.text for span in step.spans))
        tags = (_IS_UNTRUSTED,) if any(span.untrusted for span in step.spans) else ()
        return self._timed(step, TimelineRow("Task", "task", key, "task", said=said, tags=tags))

    def model(self, key: str, step: ModelStep, number: int) -> TimelineRow:
        cut = f"Cut after {step.usage.completion_tokens:,} tokens"
        tags = (
            (bool(step.error), ("failed", "The turn came to nothing", True)),
            (step.is_last, ("last", "Asked for without tools", False)),
            (step.finish_reason == "length", ("cut", cut, False)),
        )
        row = TimelineRow(
            f"Turn {number}",
            "failed" if step.error else "model",
            key,
            "turn",
            agent=self.agent,
            said=line(step.error or step.text),
            tags=tuple(tag for holds, tag in tags if holds),
            tokens=_tokens(step.usage),
            cost=None if self.price is None else self.price.of(step.usage),
        )
        return self._timed(step, row)

    def call(
        self,
        key: str,
        step: ToolStep,
        flows: Sequence[Flow],
        below: AgentBelow | None,
        *,
        is_agent: bool,
    ) -> TimelineRow:
        is_ok = step.outcome == "ok"
        tags: _Tags = () if is_ok else ((OUTCOMES[step.outcome], "What became of the call", True),)
        tags += (_IS_UNTRUSTED,) * step.is_untrusted
        tags += (_IS_TAINTED,) * any(flow.is_untrusted for flow in flows)
        row = TimelineRow(
            "Agent" if is_agent else "Call",
            "call" if is_ok else "failed",
            key,
            "call",
            tool=step.call.name,
            said=line(exact(step.call.arguments)),
            tags=tags,
            tokens=_tokens(step.spent.usage) if is_agent else "",
            cost=step.spent.money if is_agent and self.price is not None else None,
            flows=flows,
            below=below,
        )
        return self._timed(step, row)

    def open_call(
        self, key: str, call: ToolCall, word: str, below: AgentBelow | None, *, runs: bool
    ) -> TimelineRow:
        """A call without a result: ``word`` says why."""
        return TimelineRow(
            "Call",
            "running" if runs else "open",
            key,
            "open",
            call=call,
            tool=call.name,
            said=line(exact(call.arguments)),
            tags=((word, "No result yet", False),),
            below=below,
        )

    def approval(self, key: str, step: ApprovalStep) -> TimelineRow:
        request, decision = step.request, step.decision
        by = f" by {line(exact(decision.by), 60)}" if decision.by else ""
        word = f"{VERDICTS[decision.verdict]}{by}"
        tags = ((word, "What a person said", decision.verdict == "denied"),)
        row = TimelineRow(
            "Asked",
            "person",
            key,
            "asked",
            tool=request.tool,
            said=line(exact(request.arguments)),
            tags=tags + (_IS_TAINTED,) * request.is_tainted,
        )
        return self._timed(step, row)

    def other(
        self, key: str, step: NoticeStep | ResumeStep | EndStep, *, is_open: bool
    ) -> TimelineRow:
        """A notice, an end, or that somebody went on. ``is_open``: from the beginning."""
        if isinstance(step, ResumeStep):
            return TimelineRow("Went on", "notice", key, step=step)
        if isinstance(step, NoticeStep):
            tags: _Tags = ((NOTICES[step.kind], "Why the model was told this", False),)
            tags += ((step.part, "The part of the budget", False),) if step.part else ()
            said = line(step.text)
            return TimelineRow("Notice", "notice", key, "notice", step, said=said, tags=tags)
        is_bad = step.end not in ("answered", "waiting")
        said, tags = line(step.answer or step.reason), ((ENDS[step.end], "How it ended", is_bad),)
        return TimelineRow("End", "end", key, "end", step, said=said, tags=tags, is_open=is_open)

    def _timed(self, step: Step, row: TimelineRow) -> TimelineRow:
        took, total = seconds_of(step), self.axis.total
        if not took or not total:
            return replace(row, step=step, took=took)
        to = min(self.axis.place(step.at) / total, 1.0)
        width = min(max(took / total, 0.004), 1.0)
        start = min(max(to - took / total, 0.0), 1.0 - width)
        return replace(row, step=step, took=took, bar=(start, width))


def _tokens(usage: Usage) -> str:
    return f"{usage.prompt_tokens:,} + {usage.completion_tokens:,}" if usage.total_tokens else ""
