"""Runs as the server's page shows them while they go on: read from the store each time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lmstack.agents import ApprovalDecision, RunStore, run_to_json
from lmstack.app.page.agents.body import WRITERS, run_values
from lmstack.app.page.agents.cards import pending_card
from lmstack.app.page.agents.head import run_title
from lmstack.app.page.agents.links import run_link
from lmstack.app.page.agents.markup import to_json
from lmstack.app.page.agents.timeline import ArgumentFlows
from lmstack.app.page.agents.words import ENDS
from lmstack.app.report.pages import render
from lmstack.app.server.approvals import PageApprover, PendingApproval
from lmstack.core import NotFoundError

__all__ = ["LiveRuns"]

MAX_RUNS = 200
MAX_DRAWN = 8


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A run as it was last shown. ``began``: when, since an id may come back for another run;
    ``state``: steps only come to a run, so their number says whether it has changed."""

    began: float
    state: tuple[Any, ...]
    flows: ArgumentFlows
    view: dict[str, Any]


class LiveRuns:
    """``store``: of the runs. ``approver``: the one that runs in this process are given, so that
    their calls can be approved on the page. Everything here may be called from any thread."""

    def __init__(self, store: RunStore, approver: PageApprover | None = None) -> None:
        self._store, self._approver = store, approver
        self._lock = threading.Lock()
        self._drawn: OrderedDict[str, _Drawn] = OrderedDict()

    def listed(self) -> dict[str, Any]:
        """The runs that were last changed, and before them what waits for a person."""
        summaries = self._store.latest(limit=MAX_RUNS)
        pending = self._pending()
        tops = {each.id: self._top(each.request.run_id) for each in pending}
        waiting = set(tops.values())
        body = render(
            "page/agents/templates/list.html",
            cards=[pending_card(each, tops[each.id]) for each in pending],
            runs=summaries,
            waiting=waiting,
            run_link=run_link,
            **WRITERS,
        )
        return _view("Agents", body, len(pending), is_live=True)

    def view(self, run_id: str) -> dict[str, Any]:
        """A run with what of it waits; `NotFoundError` if there is none."""
        run = self._store.load(run_id)
        runs = list(run.walk())
        ids = {each.id for each in runs}
        pending = [each for each in self._pending() if each.request.run_id in ids]
        began = run.steps[0].at if run.steps else 0.0
        state = (len(runs), sum(len(each.steps) for each in runs), [each.id for each in pending])
        with self._lock:
            drawn = self._drawn.get(run_id)
        if drawn is not None and drawn.began != began:
            drawn = None
        if drawn is not None and drawn.state == state:
            return drawn.view
        flows = ArgumentFlows() if drawn is None else drawn.flows
        body = render("page/agents/templates/run.html", **run_values(run, pending, flows))
        title, is_live = run_title(run), run.end is None
        view = _view(title, body, len(pending), is_live=is_live, end=ENDS[run.end])
        self._remember(run_id, _Drawn(began, state, flows, view))
        return view

    def as_json(self, run_id: str) -> dict[str, Any]:
        return run_to_json(self._store.load(run_id))

    def decide(
        self, id_: str, decision: ApprovalDecision, record: Callable[[PendingApproval], object]
    ) -> PendingApproval:
        """See `PageApprover.answer`."""
        if self._approver is None:
            raise NotFoundError("no calls are approved on this page", param="id")
        return self._approver.answer(id_, decision, record)

    def _remember(self, run_id: str, drawn: _Drawn) -> None:
        with self._lock:
            self._drawn[run_id] = drawn
            self._drawn.move_to_end(run_id)
            while len(self._drawn) > MAX_DRAWN:
                self._drawn.popitem(last=False)

    def _pending(self) -> tuple[PendingApproval, ...]:
        return () if self._approver is None else self._approver.pending

    def _top(self, run_id: str) -> str | None:
        """The run that ``run_id`` is a part of; None where it is not in the store."""
        try:
            parent = self._store.load(run_id).parent
        except NotFoundError:
            return None
        return run_id if parent is None else self._top(parent)


def _view(title: str, body: str, waiting: int, *, is_live: bool, end: str = "") -> dict[str, Any]:
    return {"title": title, "live": is_live, "end": end, "waiting": waiting, "body": to_json(body)}
