"""What a row holds when it is opened: arguments, where they come from, results, pictures."""

from __future__ import annotations

from collections.abc import Sequence

from lmstack.agents.approval import ApprovalRequest
from lmstack.agents.dataflow import Flow
from lmstack.agents.steps import ModelStep, ToolStep
from lmstack.app.page.agents.figures import model_name
from lmstack.app.page.agents.markup import Content, MarkupElement, node
from lmstack.app.page.agents.texts import (
    arguments_block,
    data_block,
    exact,
    line,
    picture,
    text_block,
)
from lmstack.app.page.agents.words import UNTRUSTED

__all__ = ["call_body", "named", "request_body", "turn_body"]


def request_body(request: ApprovalRequest) -> list[Content]:
    """Why a person is asked, the arguments exactly as the tool is given them, and where they come
    from."""
    read = ", ".join(line(exact(name), 80) for name in request.untrusted_read)
    return [
        node("p", f"Asked because {request.reason}."),
        node("h4", "Arguments"),
        arguments_block(request.arguments),
        flow_list(request.flows),
        node("p", f"By then the run had read what others wrote: {read}.") if read else None,
    ]


def flow_list(flows: Sequence[Flow]) -> MarkupElement | None:
    """Where arguments come from."""
    if not flows:
        return None
    items = [
        node(
            "li",
            node("code", exact(flow.path) or "/"),
            " holds text of ",
            node("strong", line(exact(flow.origin), 80)),
            ", which others wrote: " if flow.is_untrusted else ": ",
            node("q", line(exact(flow.excerpt), 120)),
            class_="tainted" if flow.is_untrusted else None,
        )
        for flow in flows
    ]
    return node("ul", items, class_="flows")


def turn_body(step: ModelStep) -> list[Content]:
    usage = step.usage
    cached = f" ({usage.cached_tokens:,} of them cached)" if usage.cached_tokens else ""
    facts = f"{usage.prompt_tokens:,} tokens read{cached}, {usage.completion_tokens:,} written"
    calls = [
        node("li", "Calls ", node("code", exact(call.name)), f" as {line(exact(call.id), 64)}")
        for call in step.calls
    ]
    return [
        node("p", f"{model_name(step.model, step.digest)}, {facts}", class_="note"),
        node("p", step.error, class_="wrong") if step.error else None,
        text_block(step.text) if step.text else None,
        node("ul", calls, class_="calls") if calls else None,
    ]


def call_body(step: ToolStep, flows: Sequence[Flow]) -> list[Content]:
    name = line(exact(step.call.name), 60)
    pictures = [
        node("figure", picture(each, f"Picture {number} of {name}, {step.call.id}"))
        for number, each in enumerate(step.pictures, 1)
    ]
    return [
        node("h4", "Arguments"),
        arguments_block(step.call.arguments),
        flow_list(flows),
        node("h4", "Result", node("span", UNTRUSTED, class_="mark") if step.is_untrusted else None),
        text_block(step.text) if step.text else node("p", "No text", class_="note"),
        data_block(step.data),
        pictures,
    ]


def named(tool: str, arguments: str) -> list[Content]:
    return [node("code", line(exact(tool), 60)), " ", line(exact(arguments))]
