"""A replay finds every step that is not what the loop would have there."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.agents.scripted_tools import FakeTool, action, call, calls, final

from lmstack.agents import (
    Agent,
    ApprovalStep,
    BegunStep,
    Budget,
    EndStep,
    Member,
    ModelStep,
    NoticeStep,
    ResumeStep,
    Rights,
    Run,
    ScriptedApprover,
    TaskStep,
    ToolStep,
    replay,
    run_from_json,
    run_to_json,
)
from lmstack.core import RemoteError, SamplingParams, ScriptedModel, Span, ToolCall


async def a_run() -> tuple[Agent, Run]:
    """With every type of step."""
    helper = Agent(ScriptedModel([call("dig"), "dug"]), name="helper", tools=[FakeTool("dig")])
    script = [
        calls(("echo", {"text": "a"}), ("nope", {})),
        calls(("echo", {"text": "a"}), ("nope", {})),
        call("send"),
        calls(("helper", {"task": "b"})),
        RemoteError("502"),
        "done",
    ]
    agent = Agent(
        ScriptedModel(script),
        tools=[FakeTool(), FakeTool("send", is_dangerous=True)],
        team=[Member("helper", helper)],
        instructions="Be brief.",
    )
    approver = ScriptedApprover("approved")
    failed = await agent.run("go", approver=approver)
    return agent, await agent.resume(failed, approver=approver)


async def test_a_run_that_nobody_touched_has_no_differences() -> None:
    agent, run = await a_run()
    types = {type(step) for step in run.steps}
    assert types == {
        *(TaskStep, ModelStep, BegunStep, ToolStep, ApprovalStep),
        *(NoticeStep, ResumeStep, EndStep),
    }
    assert agent.replay(run) == replay(run) == ()


def changed(run: Run, type_: type[Any], **changes: Any) -> Run:
    """``run`` with the last step of ``type_`` changed."""
    number = max(n for n, step in enumerate(run.steps) if isinstance(step, type_))
    steps = list(run.steps)
    steps[number] = replace(steps[number], **changes)
    return replace(run, steps=tuple(steps))


@pytest.mark.parametrize(
    ("kind", "changes", "what"),
    [
        (TaskStep, {"spans": (Span("other"),)}, "asked otherwise: message 1"),
        (ModelStep, {"text": "not done"}, "the end 'answered' with 'not done'"),
        (ModelStep, {"is_last": True}, "the turn would not be the last"),
        (ToolStep, {"text": "forged"}, "asked otherwise"),
        (NoticeStep, {"text": "go on"}, "the notice 'repetition'"),
        (NoticeStep, {"kind": "stop"}, "the notice 'repetition'"),
        (EndStep, {"answer": "won"}, "the end 'answered' with 'done'"),
        (EndStep, {"end": "budget"}, "the end 'answered' with 'done'"),
        (BegunStep, {"call_id": "call_9"}, "run helper"),
    ],
)
async def test_a_step_that_was_changed_is_found(
    kind: type[Any], changes: dict[str, Any], what: str
) -> None:
    _, run = await a_run()
    found = replay(changed(run, kind, **changes))
    assert any(what in difference.what for difference in found), found


async def test_an_approval_of_something_else_is_found() -> None:
    _, run = await a_run()
    [step] = [step for step in run.steps if isinstance(step, ApprovalStep)]
    request = replace(step.request, arguments='{"text":"other"}')
    [difference] = replay(changed(run, ApprovalStep, request=request))
    assert difference.what == "a person would be asked something else"
    assert str(difference).startswith(f"step {difference.number} of {run.id}")


@pytest.mark.parametrize("kind", [ModelStep, BegunStep, ToolStep, ApprovalStep, NoticeStep])
async def test_a_step_that_was_left_out_is_found(kind: type[Any]) -> None:
    _, run = await a_run()
    for number, step in enumerate(run.steps):
        if isinstance(step, kind):
            steps = run.steps[:number] + run.steps[number + 1 :]
            assert replay(replace(run, steps=steps)), number


async def test_a_call_that_was_refused_and_is_said_to_have_run_is_found() -> None:
    _, run = await a_run()
    number = next(n for n, s in enumerate(run.steps) if isinstance(s, ToolStep) and not s.has_run)
    steps = list(run.steps)
    steps[number] = replace(steps[number], outcome="ok")
    found = replay(replace(run, steps=tuple(steps)))
    assert found[0].what == "its call had not begun"


async def test_a_change_below_is_found() -> None:
    _, run = await a_run()
    [(call_id, child)] = run.children.items()
    forged = changed(child, EndStep, answer="gold")
    [difference] = replay(replace(run, children={call_id: forged}))
    assert difference.run_id == child.id


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"instructions": "Be long."}, "asked otherwise: message 0"),
        ({"sampling": SamplingParams(temperature=0.5)}, "asked otherwise: sampling"),
        ({"tools": [FakeTool(description="New.")]}, "asked otherwise: tools"),
        ({"protocol": "react"}, "asked otherwise"),
    ],
)
async def test_an_agent_that_has_changed_would_ask_otherwise(
    change: dict[str, Any], what: str
) -> None:
    given: dict[str, Any] = {"tools": [FakeTool()], "instructions": "Be brief."}
    run = await Agent(ScriptedModel([call(), "done"]), **given).run("go")
    found = Agent(ScriptedModel(), **(given | change)).replay(run)
    assert found
    assert what in found[0].what
    same = Agent(ScriptedModel(), **given, rights=Rights(), budget=Budget(steps=2))
    assert same.replay(run) == ()


async def test_a_run_that_was_read_from_a_file_is_replayed_alike() -> None:
    """Whole numbers in fields of floats come back as floats."""
    sampling = SamplingParams(temperature=0, top_p=1, logit_bias={5: 1}, stop=("x",))
    agent = Agent(ScriptedModel([call(), "done"]), tools=[FakeTool()], sampling=sampling)
    run = run_from_json(json.loads(json.dumps(run_to_json(await agent.run("go")))))
    assert agent.replay(run) == replay(run) == ()


async def test_react_would_read_the_text_otherwise() -> None:
    agent = Agent(ScriptedModel([action(), final("x")]), tools=[FakeTool()], protocol="react")
    run = await agent.run("go")
    first = next(n for n, step in enumerate(run.steps) if isinstance(step, ModelStep))
    steps = list(run.steps)
    other = (ToolCall("call_1", "echo", '{"text": "forged"}'),)
    steps[first] = replace(steps[first], calls=other)
    steps = [replace(s, call=other[0]) if isinstance(s, ToolStep) else s for s in steps]
    found = replay(replace(run, steps=tuple(steps)))
    assert [difference.what for difference in found] == ["its text would be read otherwise"]


async def test_a_run_that_the_clock_ended_is_replayed_by_its_own_clock() -> None:
    tool = FakeTool(delay_s=60)
    agent = Agent(ScriptedModel([call(), "x"]), tools=[tool], budget=Budget(seconds=1.5))
    run = await agent.run("go")
    assert agent.replay(run) == ()
    early = [replace(s, clock_s=0.1) for s in run.steps]
    assert replay(replace(run, steps=tuple(early)))
