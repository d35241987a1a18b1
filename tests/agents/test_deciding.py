"""What comes next after the steps of a run."""

from __future__ import annotations

from typing import Any

import pytest
from tests.agents.scripted_tools import FakeTool

from lmstack.agents import ApprovalDecision, Budget, ToolSpec
from lmstack.agents.deciding import Act, AskPerson, decide
from lmstack.agents.spec import AgentSpec
from lmstack.agents.steps import ApprovalStep, EndStep, ModelStep, TaskStep, ToolStep
from lmstack.core import Span, ToolCall


def test_a_turn_that_the_provider_filtered_ends_the_run_as_refused() -> None:
    task = TaskStep((Span("go"),))
    turn = ModelStep("half an answer", finish_reason="content_filter")
    action = decide(AgentSpec("agent"), [task, turn], 0.0)
    assert isinstance(action, EndStep)
    assert (action.end, action.answer, action.can_resume) == ("refused", "", False)


@pytest.mark.parametrize("clock_s", [7.999, 8.0, 8.001])
def test_no_call_is_made_once_the_time_for_calls_is_used_up(clock_s: float) -> None:
    spec = AgentSpec("agent", tools=(ToolSpec.of(FakeTool()),), budget=Budget(seconds=10))
    turn = ModelStep("", (ToolCall("c1", "echo", '{"text": "x"}'),))
    action = decide(spec, [TaskStep((Span("go"),)), turn], clock_s)
    if clock_s < 8:
        assert isinstance(action, Act)
        return
    assert isinstance(action, ToolStep)
    assert (action.outcome, action.call.id) == ("over_budget", "c1")


@pytest.mark.parametrize(
    ("verdict", "reason", "end", "told"),
    [
        ("later", "", "waiting", "echo waits for approval"),
        ("later", "no time", "waiting", "echo waits for approval: no time"),
        ("cancelled", "", "cancelled", "stopped when asked about echo"),
        ("cancelled", "enough", "cancelled", "enough"),
    ],
)
def test_a_run_that_a_person_leaves_open_says_why_and_can_go_on(
    verdict: Any, reason: str, end: str, told: str
) -> None:
    spec = AgentSpec("agent", tools=(ToolSpec.of(FakeTool(is_dangerous=True)),))
    turn = ModelStep("", (ToolCall("c1", "echo", '{"text": "x"}'),))
    steps: list[Any] = [TaskStep((Span("go"),)), turn]
    asked = decide(spec, steps, 0.0)
    assert isinstance(asked, AskPerson)
    steps.append(ApprovalStep(asked.request, ApprovalDecision(verdict, reason)))
    action = decide(spec, steps, 0.0)
    assert isinstance(action, EndStep)
    assert (action.end, action.reason, action.can_resume) == (end, told, True)
