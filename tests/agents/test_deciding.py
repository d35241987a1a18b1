"""What comes next after the steps of a run."""

from __future__ import annotations

from lmstack.agents.deciding import decide
from lmstack.agents.spec import AgentSpec
from lmstack.agents.steps import EndStep, ModelStep, TaskStep
from lmstack.core import Span


def test_a_turn_that_the_provider_filtered_ends_the_run_as_refused() -> None:
    task = TaskStep((Span("go"),))
    turn = ModelStep("half an answer", finish_reason="content_filter")
    action = decide(AgentSpec("agent"), [task, turn], 0.0)
    assert isinstance(action, EndStep)
    assert (action.end, action.answer, action.can_resume) == ("refused", "", False)
