"""A run as the body of a page, the same in a file and live: what its templates are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lmstack.agents.runs.run import Run
from lmstack.app.formats import size
from lmstack.app.page.agents.axis import TimeAxis
from lmstack.app.page.agents.cards import MAX_REASON, waiting_cards
from lmstack.app.page.agents.figures import counted, duration, model_name, money, when
from lmstack.app.page.agents.head import (
    axis_ticks,
    budget_used,
    models_of,
    run_title,
    waited_for,
)
from lmstack.app.page.agents.texts import (
    FIRST,
    MOST,
    arguments_of,
    exact,
    laid_out,
    line,
    picture_data,
)
from lmstack.app.page.agents.timeline import ArgumentFlows, timeline
from lmstack.app.page.agents.words import ENDS, UNTRUSTED, VERDICTS
from lmstack.app.server.approvals import PendingApproval

__all__ = ["WRITERS", "run_values"]

# What templates of runs write with.
WRITERS: dict[str, Any] = {
    "arguments_of": arguments_of,
    "counted": counted,
    "duration": duration,
    "ends": ENDS,
    "exact": exact,
    "first_chars": FIRST,
    "laid_out": laid_out,
    "line": line,
    "max_reason": MAX_REASON,
    "model_name": model_name,
    "money": money,
    "most_chars": MOST,
    "picture_data": picture_data,
    "size": size,
    "untrusted": UNTRUSTED,
    "verdicts": VERDICTS,
    "when": when,
}


def run_values(
    run: Run, pending: Sequence[PendingApproval] = (), flows: ArgumentFlows | None = None
) -> dict[str, Any]:
    """``pending``: approvals that can be given on this page. ``flows``: what was worked out of an
    earlier state of the same run."""
    axis = TimeAxis.of(run)
    return {
        "title": run_title(run),
        "run": run,
        "end": "waiting" if pending else run.end,
        "models": models_of(run),
        "waited": waited_for(run),
        "budget": budget_used(run),
        "cards": waiting_cards(run, pending),
        "has_cost": any(each.spec.price is not None for each in run.walk()),
        "ticks": axis_ticks(axis),
        "rows": timeline(run, axis, flows or ArgumentFlows()),
        **WRITERS,
    }
