"""What a person is asked, and what becomes of the answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from tests.agents.scripted_tools import FakeTool, call, calls, outcomes, results
from tests.errors import about

from lmstack.agents import (
    Agent,
    ApprovalDecision,
    ApprovalRequest,
    ApprovalStep,
    Decided,
    Member,
    Rights,
    ScriptedApprover,
    run_from_json,
    run_to_json,
    run_to_text,
)
from lmstack.core import InputError, Message, Request, ScriptedModel


def send(**options: Any) -> FakeTool:
    return FakeTool("send", is_dangerous=True, **options)


async def test_the_request_says_what_would_happen_and_why() -> None:
    approver = ScriptedApprover("approved")
    script = [calls(("send", '{"text":   "x" }')), "done"]
    run = await Agent(ScriptedModel(script), name="clerk", tools=[send()]).run(
        "go", approver=approver
    )
    assert approver.requests == [
        ApprovalRequest(
            "call_1", "send", '{"text":"x"}', "send is dangerous", (), (), run.id, "clerk"
        )
    ]
    [step] = [step for step in run.steps if isinstance(step, ApprovalStep)]
    assert (step.request, step.decision) == (approver.requests[0], ApprovalDecision("approved"))


async def test_what_runs_is_what_was_approved() -> None:
    tool, approver = send(), ScriptedApprover("approved")
    await Agent(ScriptedModel([call("send"), "done"]), tools=[tool]).run("go", approver=approver)
    assert [json.loads(r.arguments) for r in approver.requests] == tool.ran


async def test_each_call_is_asked_about_by_itself() -> None:
    approver = ScriptedApprover("approved", "denied", "approved")
    three = calls(*(("send", {"text": str(n)}) for n in range(3)))
    tool = send()
    run = await Agent(ScriptedModel([three, "done"]), tools=[tool]).run("go", approver=approver)
    assert outcomes(run) == ["ok", "denied", "ok"]
    assert [arguments["text"] for arguments in tool.ran] == ["0", "2"]


async def test_the_model_is_told_why_it_was_denied() -> None:
    approver = ScriptedApprover(ApprovalDecision("denied", "ask the owner first"))
    model = ScriptedModel([call("send"), "fine"])
    run = await Agent(model, tools=[send()]).run("go", approver=approver)
    assert results(run) == ["the call was not approved: ask the owner first"]
    assert "ask the owner first" in model.requests[1].messages[-1].content


async def test_the_run_keeps_who_decided() -> None:
    approver = ScriptedApprover(ApprovalDecision("denied", "not today", by="key:12\x1b[31m"))
    run = await Agent(ScriptedModel([call("send"), "fine"]), tools=[send()]).run(
        "go", approver=approver
    )
    [step] = [step for step in run.steps if isinstance(step, ApprovalStep)]
    assert step.decision.by == "key:12\x1b[31m"
    assert "denied by key:12\ufffd[31m" in run_to_text(run)
    assert run_from_json(run_to_json(run)) == run


@pytest.mark.parametrize("said", [None, True, "approved", ApprovalDecision("yes")])  # type: ignore[arg-type]
async def test_what_is_no_decision_approves_nothing(said: Any) -> None:
    class Odd:
        async def decide(self, request: ApprovalRequest) -> Any:
            return said

    tool = send()
    run = await Agent(ScriptedModel([call("send")]), tools=[tool]).run("go", approver=Odd())
    assert (run.end, tool.ran) == ("waiting", [])


async def test_a_call_with_wrong_arguments_bothers_nobody() -> None:
    approver = ScriptedApprover("approved")
    script = [calls(("send", {"text": 5})), "done"]
    run = await Agent(ScriptedModel(script), tools=[send()]).run("go", approver=approver)
    assert (outcomes(run), approver.requests) == (["invalid_arguments"], [])


async def test_safe_calls_run_beside_each_other_and_dangerous_ones_alone() -> None:
    order: list[str] = []
    safe = FakeTool(delay_s=0.05, reply=lambda text: order.append(text) or "ok")
    alone = FakeTool(
        "send", delay_s=0.05, is_dangerous=True, reply=lambda text: order.append(text) or "ok"
    )
    script = [
        calls(
            ("echo", {"text": "a"}),
            ("echo", {"text": "b"}),
            ("send", {"text": "c"}),
            ("send", {"text": "d"}),
            ("echo", {"text": "e"}),
        ),
        "done",
    ]
    agent = Agent(ScriptedModel(script), tools=[safe, alone])
    await agent.run("go", approver=ScriptedApprover("approved"))
    assert (safe.most_running, alone.most_running) == (2, 1)
    assert order[2:] == ["c", "d", "e"]


async def test_a_dangerous_call_runs_alone_also_if_it_was_approved_beforehand() -> None:
    running: list[int] = []
    safe = FakeTool(delay_s=0.02)
    alone = send(reply=lambda text: running.append(safe.running) or "sent")
    three = calls(("echo", {"text": "a"}), ("send", {"text": "b"}), ("echo", {"text": "c"}))
    rights = Rights(approved={"send"})
    await Agent(ScriptedModel([three, "done"]), tools=[safe, alone], rights=rights).run("go")
    assert (running, len(safe.ran)) == ([0], 2)


async def test_results_are_in_the_order_of_the_calls_whichever_was_first() -> None:
    slow, fast = FakeTool("slow", "slow", delay_s=0.05), FakeTool("fast", "fast")
    script = [calls(("slow", {"text": "x"}), ("fast", {"text": "x"})), "done"]
    run = await Agent(ScriptedModel(script), tools=[slow, fast]).run("go")
    assert results(run) == ["fast", "slow"]
    assert [m.content for m in run.messages if m.role == "tool"] == ["slow", "fast"]


async def test_one_person_is_asked_one_thing_at_a_time() -> None:
    asked = most = 0

    class Person:
        async def decide(self, request: ApprovalRequest) -> ApprovalDecision:
            nonlocal asked, most
            asked += 1
            most = max(most, asked)
            await asyncio.sleep(0.02)
            asked -= 1
            return ApprovalDecision("approved")

    def dig(request: Request) -> Message:
        has_result = any(m.role == "tool" for m in request.messages)
        return Message("assistant", "x") if has_result else call("send")

    helper = Agent(ScriptedModel([dig]), name="h", tools=[send()])
    script = [calls(("h", {"task": "a"}), ("h", {"task": "b"})), "done"]
    run = await Agent(ScriptedModel(script), team=[Member("h", helper)]).run(
        "go", approver=Person()
    )
    assert (run.end, most) == ("answered", 1)
    assert (
        len([s for c in run.children.values() for s in c.steps if isinstance(s, ApprovalStep)]) == 2
    )


async def test_after_untrusted_text_a_person_is_asked_if_the_rights_say_so() -> None:
    page = FakeTool("page", "nothing of note", is_untrusted=True)
    script = [call("send"), call("page"), call("send", "y"), "done"]

    async def requests(rights: Rights) -> list[ApprovalRequest]:
        approver = ScriptedApprover("approved")
        agent = Agent(ScriptedModel(script), tools=[page, send()], rights=rights)
        await agent.run("go", approver=approver)
        return approver.requests

    assert await requests(Rights(approved={"send"})) == []
    [request] = await requests(Rights(approved={"send"}, ask_after_untrusted=True))
    assert request.untrusted_read == ("page (call_2)",)
    assert request.flows == ()
    assert "has read what others wrote" in request.reason


async def test_text_of_a_trusted_tool_is_shown_and_takes_no_approval_away() -> None:
    vault = FakeTool("vault", "token-98765-abcdef")
    script = [call("vault"), call("send", "token-98765-abcdef"), "done"]
    tool = send()
    agent = Agent(ScriptedModel(script), tools=[vault, tool], rights=Rights(approved={"send"}))
    assert (await agent.run("go")).end == "answered"
    approver = ScriptedApprover("approved")
    await Agent(ScriptedModel(script), tools=[vault, tool]).run("go", approver=approver)
    [flow] = approver.requests[0].flows
    assert (flow.origin, flow.path, flow.is_untrusted) == ("vault (call_1)", "/text", False)
    assert not approver.requests[0].is_tainted


def test_a_scripted_approver_needs_a_decision() -> None:
    with pytest.raises(InputError, check=about("decisions")):
        ScriptedApprover()


async def test_approving_one_agents_call_does_not_run_anothers_of_the_same_id() -> None:
    pay, wipe = FakeTool("pay", is_dangerous=True), FakeTool("wipe", is_dangerous=True)
    one = Agent(ScriptedModel([call("pay", "5"), "paid"]), name="one", tools=[pay])
    two = Agent(ScriptedModel([call("wipe", "/home"), "wiped"]), name="two", tools=[wipe])
    script = [calls(("one", {"task": "pay"}), ("two", {"task": "tidy"})), "done"]
    agent = Agent(ScriptedModel(script), team=[Member("one", one), Member("two", two)])
    waiting = await agent.run("go")
    asked = {request.tool: request for request in waiting.pending}
    assert {request.call_id for request in asked.values()} == {"call_1"}
    decided = Decided({asked["pay"].digest: ApprovalDecision("approved")})
    still = await agent.resume(waiting, approver=decided)
    assert (still.end, pay.ran, wipe.ran) == ("waiting", [{"text": "5"}], [])


@pytest.mark.parametrize("part", ["run_id", "call_id", "tool", "arguments", "reason"])
async def test_what_was_decided_holds_for_exactly_what_was_asked(part: str) -> None:
    seen = ApprovalRequest("call_1", "pay", '{"to":"a"}', "pay is dangerous", run_id="r")
    decided = Decided({seen.digest: ApprovalDecision("approved")})
    assert (await decided.decide(seen)).verdict == "approved"
    assert (await decided.decide(replace(seen, **{part: "another"}))).verdict == "later"
