"""A run as the body of a page, the same in a file and live."""

from __future__ import annotations

from collections.abc import Sequence

from lmstack.agents.runs.run import Run
from lmstack.app.page.agents.axis import TimeAxis
from lmstack.app.page.agents.cards import waiting_section
from lmstack.app.page.agents.head import column_heads, run_head
from lmstack.app.page.agents.markup import MarkupElement, node
from lmstack.app.page.agents.timeline import ArgumentFlows, timeline
from lmstack.app.server.approvals import PendingApproval

__all__ = ["run_body"]


def run_body(
    run: Run, pending: Sequence[PendingApproval] = (), flows: ArgumentFlows | None = None
) -> MarkupElement:
    """``pending``: approvals that can be given on this page. ``flows``: what was worked out of an
    earlier state of the same run."""
    axis = TimeAxis.of(run)
    has_cost = any(each.spec.price is not None for each in run.walk())
    open_all = node(
        "button", "Open all", id="open", type="button", class_="plain small", hidden=True
    )
    steps = node(
        "section",
        node("div", node("h2", "Timeline", id="timeline", tabindex="-1"), open_all, class_="title"),
        column_heads(axis, has_cost=has_cost),
        timeline(run, axis, flows or ArgumentFlows()),
        class_="timeline" if has_cost else "timeline no-cost",
        data_key="timeline",
    )
    return node(
        "article",
        run_head(run, waits=bool(pending)),
        waiting_section(run, pending),
        steps,
        class_="run",
    )
