"""Calls of agents that wait for somebody at the page.

    approver = PageApprover()
    run = await agent.run(task, approver=approver, store=store)

Requests are in memory: they wait as long as the run that asks does, and go with the process. A run
whose request nobody answers in time ends as ``waiting`` and can be resumed, which asks again. Does
not cover who may answer or how it is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

from lmstack.agents import ApprovalDecision, ApprovalRequest
from lmstack.core import NotFoundError, check_range, shown
from lmstack.serve.http.errors import HttpError

__all__ = ["PageApprover", "PendingApproval"]

TIMEOUT_S = 600.0
MAX_PENDING = 256
MAX_REMEMBERED = 1_000


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """``id``: of this one question; asked again, a call has another. ``asked_at``, ``until``: Unix
    time; None: it waits for ever."""

    id: str
    request: ApprovalRequest
    asked_at: float
    until: float | None
    _answer: Future[ApprovalDecision] = field(default_factory=Future, repr=False, compare=False)


class PageApprover:
    """An `Approver` whose requests are listed in ``pending`` until somebody answers them.
    Thread-safe: runs may be in other event loops than whoever answers. ``timeout_s``: after which
    a request is left for later; None: never."""

    def __init__(self, *, timeout_s: float | None = TIMEOUT_S) -> None:
        if timeout_s is not None:
            check_range("timeout_s", timeout_s, 0, 1e9, low_open=True)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._pending: OrderedDict[str, PendingApproval] = OrderedDict()
        self._decided: OrderedDict[str, str] = OrderedDict()
        self._is_closed = False

    @property
    def pending(self) -> tuple[PendingApproval, ...]:
        """What waits, the oldest first."""
        with self._lock:
            return tuple(self._pending.values())

    async def decide(self, request: ApprovalRequest) -> ApprovalDecision:
        now = time.time()
        until = None if self._timeout_s is None else now + self._timeout_s
        asked = PendingApproval(uuid.uuid4().hex, request, now, until)
        with self._lock:
            if self._is_closed:
                return ApprovalDecision("later", "the server is stopping")
            if len(self._pending) >= MAX_PENDING:
                return ApprovalDecision(
                    "later", f"{MAX_PENDING} other calls wait for a person already"
                )
            self._pending[asked.id] = asked
        try:
            return await asyncio.wait_for(asyncio.wrap_future(asked._answer), self._timeout_s)
        except TimeoutError:
            return self._late(asked)
        finally:
            with self._lock:
                self._pending.pop(asked.id, None)

    def answer(
        self,
        id_: str,
        decision: ApprovalDecision,
        record: Callable[[PendingApproval], object] = lambda _: None,
    ) -> PendingApproval:
        """Decide about what waits under ``id_``, once. ``record`` is called first; if it raises,
        nothing is decided. `NotFoundError` for what does not wait, and status 409 for what
        somebody has decided already."""
        with self._lock:
            asked = self._pending.get(id_)
            if id_ in self._decided:
                raise _decided_already(self._decided[id_])
            if asked is None:
                raise _not_waiting(id_)
            self._remember(id_, decision.verdict)
        try:
            record(asked)
        except BaseException:
            with self._lock:
                del self._decided[id_]
            raise
        try:
            asked._answer.set_result(decision)
        except InvalidStateError:  # the run was stopped, or its time is over
            with self._lock:
                del self._decided[id_]
            raise _not_waiting(id_) from None
        with self._lock:
            self._pending.pop(id_, None)
        return asked

    def close(self) -> None:
        """Leave everything that waits, and all that comes, for later: the server ends."""
        with self._lock:
            self._is_closed = True
            waiting = tuple(self._pending.values())
            self._pending.clear()
        for asked in waiting:
            with contextlib.suppress(InvalidStateError):
                asked._answer.set_result(ApprovalDecision("later", "the server stopped"))

    def _late(self, asked: PendingApproval) -> ApprovalDecision:
        """An answer that came just before the end of the time still counts."""
        if asked._answer.done() and not asked._answer.cancelled():
            return asked._answer.result()
        return ApprovalDecision("later", f"nobody answered within {self._timeout_s:g} s")

    def _remember(self, id_: str, verdict: str) -> None:
        self._decided[id_] = verdict
        while len(self._decided) > MAX_REMEMBERED:
            self._decided.popitem(last=False)


def _not_waiting(id_: str) -> NotFoundError:
    return NotFoundError(
        f"no call waits for approval under {shown(id_)}",
        hint="its run was stopped, or its time is over; resume the run to be asked again",
        param="id",
    )


def _decided_already(verdict: str) -> HttpError:
    return HttpError(
        409,
        "already_decided",
        f"somebody has decided about this call already: {verdict}",
        hint="open the run to see what became of it",
    )
