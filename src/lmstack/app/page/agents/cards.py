"""What waits for a person, as cards: the call, why somebody is asked, and buttons where the answer
would reach the run."""

from __future__ import annotations

from collections.abc import Sequence

from lmstack.agents.approval import ApprovalRequest
from lmstack.agents.runs.run import Run
from lmstack.app.page.agents.contents import request_body
from lmstack.app.page.agents.figures import when
from lmstack.app.page.agents.links import run_link
from lmstack.app.page.agents.markup import Content, MarkupElement, node
from lmstack.app.page.agents.texts import exact, line
from lmstack.app.server.approvals import PendingApproval

__all__ = ["MAX_REASON", "card", "waiting_section"]

MAX_REASON = 1_000
_RESUMED = "Nobody has decided. Whoever resumes the run is asked again."
_ELSEWHERE = "It is asked where the run was started, if that still runs."


def waiting_section(run: Run, pending: Sequence[PendingApproval] = ()) -> MarkupElement | None:
    """``pending``: what can be answered here. None where nothing waits."""
    here = {(each.request.run_id, each.request.call_id) for each in pending}
    others = run.pending if run.can_resume else ()
    note = _ELSEWHERE if run.end is None else _RESUMED
    cards = [
        *(card(each) for each in pending),
        *(
            _card(r, r.call_id, node("p", note, class_="note"))
            for r in others
            if _key(r) not in here
        ),
    ]
    return waiting_list(cards)


def waiting_list(cards: Sequence[MarkupElement]) -> MarkupElement | None:
    if not cards:
        return None
    title = node("h2", "Waits for a person", id="waiting", tabindex="-1")
    return node("section", title, node("ul", cards, class_="cards"), data_key="waiting")


def card(pending: PendingApproval, run_id: str | None = None) -> MarkupElement:
    """``run_id``: of the run to link to, where the card is not on its page."""
    until = f", until {when(pending.until)}" if pending.until is not None else ""
    link = "button plain small"
    more = node("a", "Open the run", href=run_link(run_id), class_=link) if run_id else None
    return _card(
        pending.request,
        pending.id,
        node("p", f"Asked at {when(pending.asked_at)}{until}", class_="note"),
        node(
            "div",
            node(
                "button",
                "Approve",
                type="button",
                data_decide="approved",
                value=pending.id,
                class_="primary",
            ),
            node(
                "button",
                "Deny",
                type="button",
                data_decide="denied",
                value=pending.id,
                class_="plain",
            ),
            node(
                "input",
                type="text",
                data_reason=True,
                maxlength=str(MAX_REASON),
                placeholder="Reason, told to the model",
                aria_label="Reason for denying, told to the model",
                autocomplete="off",
            ),
            more,
            class_="actions",
        ),
        node("p", class_="wrong", role="alert", data_said=True),
    )


def _card(request: ApprovalRequest, key: str, *rest: Content) -> MarkupElement:
    agent = line(exact(request.agent), 120)
    mark = node("span", "tainted arguments", class_="tag bad") if request.is_tainted else None
    title = node(
        "h3", "May ", node("strong", agent), " call ", node("code", exact(request.tool)), "?", mark
    )
    return node("li", title, request_body(request), rest, class_="card", data_key=key)


def _key(request: ApprovalRequest) -> tuple[str, str]:
    return request.run_id, request.call_id
