"""Calls that wait for somebody at the page: asked once, answered once, left for later in time."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from lmstack.agents import ApprovalDecision, ApprovalRequest
from lmstack.app.server import approvals
from lmstack.app.server.approvals import PageApprover, PendingApproval
from lmstack.core import InputError, NotFoundError
from lmstack.serve.http.errors import HttpError

REQUEST = ApprovalRequest("call_1", "send", "{}", "send is dangerous")


async def asked(approver: PageApprover) -> tuple[asyncio.Task[ApprovalDecision], PendingApproval]:
    known = {each.id for each in approver.pending}
    task = asyncio.create_task(approver.decide(REQUEST))
    while not (new := [each for each in approver.pending if each.id not in known]):
        await asyncio.sleep(0)
    return task, new[0]


async def test_an_answer_reaches_the_run_that_asks() -> None:
    approver = PageApprover()
    task, pending = await asked(approver)
    assert pending.request == REQUEST
    assert approver.answer(pending.id, ApprovalDecision("denied", "no", "ada")) == pending
    assert await task == ApprovalDecision("denied", "no", "ada")
    assert approver.pending == ()


async def test_the_same_question_asked_twice_has_two_ids_and_two_answers() -> None:
    approver = PageApprover()
    (first, one), (second, other) = await asked(approver), await asked(approver)
    approver.answer(other.id, ApprovalDecision("denied"))
    approver.answer(one.id, ApprovalDecision("approved"))
    assert [(await first).verdict, (await second).verdict] == ["approved", "denied"]


async def test_a_second_answer_is_refused_and_changes_nothing() -> None:
    approver = PageApprover()
    task, pending = await asked(approver)
    approver.answer(pending.id, ApprovalDecision("denied"))
    with pytest.raises(HttpError, match="already: denied") as error:
        approver.answer(pending.id, ApprovalDecision("approved"))
    assert error.value.http_status == 409
    assert (await task).verdict == "denied"


async def test_what_does_not_wait_cannot_be_answered() -> None:
    with pytest.raises(NotFoundError):
        PageApprover().answer("0" * 32, ApprovalDecision("approved"))


async def test_nobody_in_time_leaves_it_for_later() -> None:
    approver = PageApprover(timeout_s=0.01)
    decision = await approver.decide(REQUEST)
    assert decision == ApprovalDecision("later", "nobody answered within 0.01 s")
    assert approver.pending == ()


async def test_a_run_that_was_stopped_no_longer_waits() -> None:
    approver = PageApprover()
    task, pending = await asked(approver)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert approver.pending == ()
    with pytest.raises(NotFoundError):
        approver.answer(pending.id, ApprovalDecision("approved"))


async def test_without_its_record_there_is_no_decision() -> None:
    approver = PageApprover()
    task, pending = await asked(approver)

    def fails(_: PendingApproval) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        approver.answer(pending.id, ApprovalDecision("approved"), fails)
    assert approver.pending == (pending,)
    assert not task.done()
    approver.answer(pending.id, ApprovalDecision("denied"))  # and it can still be decided
    assert (await task).verdict == "denied"


async def test_while_a_decision_is_recorded_nobody_else_decides() -> None:
    approver = PageApprover()
    task, pending = await asked(approver)
    refused: list[Exception] = []

    def meanwhile(_: PendingApproval) -> None:
        with pytest.raises(HttpError) as error:
            approver.answer(pending.id, ApprovalDecision("approved"))
        refused.append(error.value)

    approver.answer(pending.id, ApprovalDecision("denied"), meanwhile)
    assert ((await task).verdict, len(refused)) == ("denied", 1)


def test_the_run_may_be_in_another_loop_than_whoever_answers() -> None:
    approver, decisions = PageApprover(), []
    thread = threading.Thread(
        target=lambda: decisions.append(asyncio.run(approver.decide(REQUEST)))
    )
    thread.start()
    while not approver.pending:
        time.sleep(0.001)
    approver.answer(approver.pending[0].id, ApprovalDecision("approved"))
    thread.join(10)
    assert decisions == [ApprovalDecision("approved")]


async def test_many_answers_at_once_decide_once() -> None:
    approver = PageApprover()
    task, pending = await asked(approver)

    def answer(verdict: Any) -> str:
        try:
            approver.answer(pending.id, ApprovalDecision(verdict))
        except (HttpError, NotFoundError):
            return "refused"
        return str(verdict)

    verdicts = ["approved", "denied"] * 8
    found = await asyncio.gather(*(asyncio.to_thread(answer, each) for each in verdicts))
    assert [each for each in found if each != "refused"] == [(await task).verdict]


async def test_the_end_of_the_server_leaves_everything_for_later() -> None:
    approver = PageApprover()
    task, pending = await asked(approver)
    approver.close()
    assert await task == ApprovalDecision("later", "the server stopped")
    assert (await approver.decide(REQUEST)).verdict == "later"
    with pytest.raises(NotFoundError):
        approver.answer(pending.id, ApprovalDecision("approved"))


async def test_more_than_can_wait_are_left_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approvals, "MAX_PENDING", 1)
    approver = PageApprover()
    task, _ = await asked(approver)
    assert (await approver.decide(REQUEST)).verdict == "later"
    approver.close()
    await task


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_time_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(InputError, match="timeout_s"):
        PageApprover(timeout_s=seconds)
