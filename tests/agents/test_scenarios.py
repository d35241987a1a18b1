"""Every scenario ends as it was written down, stored and replayed alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.agents.scenarios import REACT, SCENARIOS, TASK, Scenario
from tests.agents.scripted_tools import outcomes

from lmstack.agents import (
    Agent,
    Ended,
    Event,
    ModelStep,
    NoticeStep,
    Run,
    RunStore,
    Stepped,
    run_from_json,
    run_to_json,
    run_to_text,
)
from lmstack.core import ScriptedModel


def test_there_are_enough_scenarios_and_none_twice() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names) >= 40
    assert {scenario.end for scenario in SCENARIOS} == {
        *("answered", "budget", "refused", "cancelled", "failed", "waiting")
    }


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_function_calling_ends_as_written(scenario: Scenario, tmp_path: Path) -> None:
    await check(scenario, "tools", tmp_path)


@pytest.mark.parametrize("scenario", REACT, ids=lambda scenario: scenario.name)
async def test_react_ends_as_written(scenario: Scenario, tmp_path: Path) -> None:
    await check(scenario, "react", tmp_path)


async def check(scenario: Scenario, protocol: str, folder: Path) -> None:
    model = ScriptedModel(
        scenario.script, delay_s=scenario.delay_s, context_length=scenario.context_length
    )
    tools = scenario.tools()
    agent = Agent(model, tools=tools, protocol=protocol, **scenario.options())
    store = RunStore(folder / "runs.sqlite", fsync=False)
    events: list[Event] = []
    run = await agent.run(TASK, approver=scenario.approver(), store=store, on_event=events.append)
    assert (run.end, run.answer, run.reason) == (scenario.end, scenario.answer, run.reason)
    assert scenario.reason in run.reason
    assert tuple(outcomes(run)) == scenario.outcomes
    assert tuple(s.kind for s in run.steps if isinstance(s, NoticeStep)) == scenario.notices
    if scenario.turns is not None:
        answered = [s for s in run.steps if isinstance(s, ModelStep) and not s.error]
        errors = [s for s in run.steps if isinstance(s, ModelStep) and s.error]
        assert len(answered) + (scenario.end != "failed") * len(errors) == scenario.turns
    ran = {tool.name: len(tool.ran) for tool in tools}
    assert {name: ran[name] for name in scenario.ran} == scenario.ran
    assert model.open_streams == 0
    assert all(tool.running == 0 for tool in tools)
    check_kept(agent, run, store, events)


def check_kept(agent: Agent, run: Run, store: RunStore, events: list[Event]) -> None:
    """What holds of every run, however it ends."""
    assert store.load(run.id) == run
    assert run_from_json(run_to_json(run)) == run
    assert agent.replay(run) == ()
    assert run.id in run_to_text(run)
    told = [e.step for e in events if isinstance(e, Stepped) and e.run_id == run.id]
    assert told == list(run.steps)
    assert events[-1] == Ended(run.id, (agent.spec.name,), run)
    [summary] = store.latest()
    assert (summary.id, summary.end, summary.steps) == (run.id, run.end, len(run.steps))
    assert (summary.turns, summary.tokens) == (run.spent.steps, run.usage.total_tokens)
