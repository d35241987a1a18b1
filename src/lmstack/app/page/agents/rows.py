"""One row for each step of a run: what it was in a line, its figures and its bar; a row opens.

Does not cover which rows there are (`timeline`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from lmstack.app.page.agents.contents import call_body, named, request_body, turn_body
from lmstack.app.page.agents.figures import duration, money, when
from lmstack.app.page.agents.markup import Content, MarkupElement, node
from lmstack.app.page.agents.texts import arguments_block, exact, line, text_block
from lmstack.app.page.agents.words import (
    ENDS,
    NOTICES,
    OUTCOMES,
    TAINTED,
    UNTRUSTED,
    VERDICTS,
)
from lmstack.core import Price, ToolCall, Usage

__all__ = ["TimelineRows"]


@dataclass(frozen=True, slots=True)
class TimelineRows:
    """Rows of the steps of one agent. ``price``: of its model's tokens."""

    axis: TimeAxis
    agent: str
    price: Price | None

    def task(self, key: str, step: TaskStep) -> MarkupElement:
        body: list[Content] = []
        for span in step.spans:
            if span.untrusted:
                name = f": {line(span.label, 60)}" if span.label else ""
                body.append(node("h4", f"Untrusted text{name}", class_="mark"))
            body.append(text_block(span.text))
        said = line(" ".join(span.text for span in step.spans))
        tags = [_tag("untrusted", UNTRUSTED)] if any(s.untrusted for s in step.spans) else []
        return self._row("Task", said, body, key=key, kind="task", step=step, tags=tags)

    def model(self, key: str, step: ModelStep, number: int) -> MarkupElement:
        said = line(step.error or step.text)
        names = [node("code", f"→ {line(exact(call.name), 40)}") for call in step.calls]
        tags = [_tag("failed", "The turn came to nothing", bad=True)] if step.error else []
        if step.is_last:
            tags.append(_tag("last", "Asked for without tools"))
        if step.finish_reason == "length":
            tags.append(_tag("cut", f"Cut after {step.usage.completion_tokens:,} tokens"))
        return self._row(
            f"Turn {number}",
            (node("span", line(self.agent, 40), class_="who"), said, *names),
            turn_body(step),
            key=key,
            kind="failed" if step.error else "model",
            step=step,
            tags=tags,
            tokens=_tokens(step.usage),
            cost=None if self.price is None else self.price.of(step.usage),
        )

    def call(
        self, key: str, step: ToolStep, flows: Sequence[Flow], below: Content, *, is_agent: bool
    ) -> MarkupElement:
        tags = []
        if step.outcome != "ok":
            tags.append(_tag(OUTCOMES[step.outcome], "What became of the call", bad=True))
        if step.is_untrusted:
            tags.append(_tag("untrusted", UNTRUSTED))
        if any(flow.is_untrusted for flow in flows):
            tags.append(_tag("tainted arguments", TAINTED, bad=True))
        spent = step.spent
        return self._row(
            "Agent" if is_agent else "Call",
            named(step.call.name, step.call.arguments),
            call_body(step, flows),
            key=key,
            kind="call" if step.outcome == "ok" else "failed",
            step=step,
            tags=tags,
            tokens=_tokens(spent.usage) if is_agent else "",
            cost=spent.money if is_agent and self.price is not None else None,
            below=below,
        )

    def open_call(
        self, key: str, call: ToolCall, word: str, below: Content = None, *, runs: bool = False
    ) -> MarkupElement:
        """A call without a result: ``word`` says why."""
        body: list[Content] = [node("h4", "Arguments"), arguments_block(call.arguments)]
        said, tags = named(call.name, call.arguments), [_tag(word, "No result yet")]
        kind = "running" if runs else "open"
        return self._row("Call", said, body, key=key, kind=kind, tags=tags, below=below)

    def approval(self, key: str, step: ApprovalStep) -> MarkupElement:
        request, decision = step.request, step.decision
        word = VERDICTS[decision.verdict]
        by = f" by {line(exact(decision.by), 60)}" if decision.by else ""
        why = f": {decision.reason}" if decision.reason else ""
        told = f"{word[0].upper()}{word[1:]}{by}, after {duration(step.seconds)}{why}"
        tags = [_tag(f"{word}{by}", "What a person said", bad=decision.verdict == "denied")]
        if request.is_tainted:
            tags.append(_tag("tainted arguments", TAINTED, bad=True))
        return self._row(
            "Asked",
            named(request.tool, request.arguments),
            [node("p", told), request_body(request)],
            key=key,
            kind="person",
            step=step,
            tags=tags,
        )

    def other(
        self, key: str, step: NoticeStep | ResumeStep | EndStep, *, is_open: bool
    ) -> MarkupElement:
        """A notice, an end, or that somebody went on. ``is_open``: from the beginning."""
        if isinstance(step, ResumeStep):
            return self._row("Went on", when(step.at), None, key=key, kind="notice", step=step)
        if isinstance(step, NoticeStep):
            tags = [_tag(NOTICES[step.kind], "Why the model was told this")]
            tags += [_tag(step.part, "The part of the budget")] if step.part else []
            told = text_block(step.text)
            return self._row("Notice", line(step.text), told, key=key, kind="notice", tags=tags)
        is_bad = step.end not in ("answered", "waiting")
        tags = [_tag(ENDS[step.end], "How it ended", bad=is_bad)]
        reason = node("p", step.reason, class_="reason") if step.reason else None
        answer = text_block(step.answer) if step.answer else None
        return self._row(
            "End",
            line(step.answer or step.reason),
            [reason, answer],
            key=key,
            kind="end",
            step=step,
            tags=tags,
            is_open=is_open,
        )

    def _row(
        self,
        name: str,
        said: Content,
        body: Content,
        *,
        key: str,
        kind: str,
        step: Step | None = None,
        tags: Sequence[MarkupElement] = (),
        tokens: str = "",
        cost: float | None = None,
        below: Content = None,
        is_open: bool = False,
    ) -> MarkupElement:
        took = seconds_of(step) if step is not None else 0.0
        figures = [
            _figure("tokens", tokens, " tokens"),
            _figure("cost", "" if cost is None else money(cost), " cost"),
            _figure("seconds", duration(took) if took else "", ""),
        ]
        head = [
            node("span", name, class_="kind"),
            node("span", node("span", said, dir="auto", class_="said"), tags, class_="line"),
            node("span", figures, class_="figures"),
            self._bar(step.at, took, kind) if took and step is not None else None,
        ]
        shown = (
            node("div", head, class_="row")
            if body is None
            else node(
                "details", node("summary", head), node("div", body, class_="body"), open=is_open
            )
        )
        return node("li", shown, below, class_=f"step {kind}", data_key=key)

    def _bar(self, end: float, took: float, kind: str) -> MarkupElement | None:
        total = self.axis.total
        if not total:
            return None
        to = min(self.axis.place(end) / total, 1.0)
        width = min(max(took / total, 0.004), 1.0)
        x = min(max(to - took / total, 0.0), 1.0 - width)
        rect = node("rect", x=f"{x:.2%}", width=f"{width:.2%}", height="100%", rx="2", class_=kind)
        return node("svg", rect, class_="lane", aria_hidden="true")


def _tag(word: str, title: str, *, bad: bool = False) -> MarkupElement:
    return node("span", word, class_="tag bad" if bad else "tag", title=title)


def _tokens(usage: Usage) -> str:
    return f"{usage.prompt_tokens:,} + {usage.completion_tokens:,}" if usage.total_tokens else ""


def _figure(name: str, text: str, unit: str) -> MarkupElement:
    named_unit = node("span", unit, class_="unit") if text and unit else None
    return node("span", text or None, named_unit, class_=name)
