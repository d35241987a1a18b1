"""What waits for a person, as cards: the call, why somebody is asked, and buttons where the answer
would reach the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmstack.agents.approval import ApprovalRequest
from lmstack.agents.runs.run import Run
from lmstack.app.page.agents.links import run_link
from lmstack.app.server.approvals import PendingApproval

__all__ = ["MAX_REASON", "WaitingCard", "pending_card", "waiting_cards"]

MAX_REASON = 1_000
_RESUMED = "Nobody has decided. Whoever resumes the run is asked again."
_ELSEWHERE = "It is asked where the run was started, if that still runs."


@dataclass(frozen=True, slots=True)
class WaitingCard:
    """``pending``: what can be answered here; None where it cannot, for which ``note`` says why.
    ``link``: to the run, where the card is not on its page."""

    request: ApprovalRequest
    key: str
    pending: PendingApproval | None = None
    note: str = ""
    link: str = ""


def waiting_cards(run: Run, pending: Sequence[PendingApproval] = ()) -> list[WaitingCard]:
    """``pending``: what can be answered here."""
    here = {_key(each.request) for each in pending}
    others = run.pending if run.can_resume else ()
    note = _ELSEWHERE if run.end is None else _RESUMED
    return [
        *map(pending_card, pending),
        *(WaitingCard(r, r.call_id, note=note) for r in others if _key(r) not in here),
    ]


def pending_card(pending: PendingApproval, run_id: str | None = None) -> WaitingCard:
    """``run_id``: of the run to link to."""
    link = run_link(run_id) if run_id else ""
    return WaitingCard(pending.request, pending.id, pending, link=link)


def _key(request: ApprovalRequest) -> tuple[str, str]:
    return request.run_id, request.call_id
