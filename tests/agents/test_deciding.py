"""What comes next after the steps of a run."""

from __future__ import annotations

import pytest
from tests.agents.scripted_tools import FakeTool

from lmstack.agents import Budget, ToolSpec
from lmstack.agents.deciding import Act, decide
from lmstack.agents.spec import AgentSpec
from lmstack.agents.steps import EndStep, ModelStep, TaskStep, ToolStep
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
