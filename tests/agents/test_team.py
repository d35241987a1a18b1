"""Agents below others: tasks down, typed results up, and nothing that gets lost between."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel
from tests.agents.scripted_tools import FakeTool, action, call, calls, final, results
from tests.errors import about

from lmstack.agents import Agent, Budget, Member, ToolStep
from lmstack.core import InputError, RemoteError, ScriptedModel


class City(BaseModel):
    name: str
    inhabitants: int


OSLO = '{"name": "Oslo", "inhabitants": 700000}'


async def test_a_result_comes_up_as_values() -> None:
    helper = Agent(ScriptedModel(["It is big.", OSLO]), name="helper", result=City)
    script = [calls(("helper", {"task": "How big is Oslo?"})), "700,000"]
    model = ScriptedModel(script)
    run = await Agent(model, team=[Member("helper", helper, "Knows cities.")]).run("go")
    [step] = [step for step in run.steps if isinstance(step, ToolStep)]
    assert step.data == {"name": "Oslo", "inhabitants": 700000}
    assert step.text == OSLO
    assert model.requests[1].messages[-1].content == OSLO
    [tool] = model.requests[0].tools
    assert (tool.name, tool.description) == (
        "helper",
        "Give a task to the agent helper. Knows cities.",
    )


async def test_the_repair_is_held_to_the_schema_and_has_no_tools() -> None:
    model = ScriptedModel(["It is big.", OSLO])
    agent = Agent(model, tools=[FakeTool()], result=City)
    run = await agent.run("How big is Oslo?")
    first, second = model.requests
    assert (first.grammar, first.tool_choice) == (None, "auto")
    assert (second.grammar and second.grammar.kind, second.tool_choice) == ("json_schema", "none")
    assert "cannot be used" in second.messages[-1].content
    assert agent.result_of(run) == City(name="Oslo", inhabitants=700000)
    assert '"inhabitants"' in first.messages[0].content


async def test_an_unconstrained_repair_is_only_checked() -> None:
    model = ScriptedModel(["no", OSLO])
    await Agent(model, result=City, constrained=False).run("go")
    assert [request.grammar for request in model.requests] == [None, None]


@pytest.mark.parametrize(
    "wrong",
    ["big", '{"name": "Oslo"}', '{"name": "Oslo", "inhabitants": "many"}', OSLO + "!", "NaN"],
)
async def test_a_result_that_stays_wrong_is_no_result(wrong: str) -> None:
    agent = Agent(ScriptedModel([wrong]), result=City)
    run = await agent.run("go")
    assert (run.end, run.result, agent.result_of(run)) == ("failed", None, None)
    assert len([m for m in run.messages if m.role == "assistant"]) == 2


async def test_a_result_that_the_budget_cut_is_not_taken_for_one() -> None:
    model = ScriptedModel([call(text="a"), "half of it"])
    run = await Agent(model, tools=[FakeTool()], result=City, budget=Budget(steps=2)).run("go")
    assert (run.end, run.answer, run.result) == ("budget", "", None)


async def test_react_is_held_to_the_schema_in_its_answer() -> None:
    agent = Agent(
        ScriptedModel([action(), final(OSLO)]), tools=[FakeTool()], protocol="react", result=City
    )
    assert (await agent.run("go")).result == {"name": "Oslo", "inhabitants": 700000}


@pytest.mark.parametrize("wrong", [int, "City", {"type": "array", "items": {"$ref": "http://x/"}}])
def test_a_result_that_is_no_schema_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, check=about("result", "tools")):
        Agent(ScriptedModel(), result=wrong)


async def test_an_agent_below_that_fails_says_what_it_has() -> None:
    script = [call("dig", text=str(n)) for n in range(9)]
    helper = Agent(
        ScriptedModel([*script[:2], "a bone so far"]),
        name="helper",
        tools=[FakeTool("dig")],
        budget=Budget(steps=3),
    )
    run = await Agent(
        ScriptedModel([calls(("helper", {"task": "dig"})), "a bone"]),
        team=[Member("helper", helper)],
    ).run("go")
    [text] = results(run)
    assert text.startswith("the agent helper did not finish (budget): The turns are used up.")
    assert text.endswith("What it has: a bone so far")


async def test_one_of_two_agents_below_fails() -> None:
    good = Agent(ScriptedModel(["fine"]), name="good")
    bad = Agent(ScriptedModel([RemoteError("down")]), name="bad")
    script = [calls(("good", {"task": "a"}), ("bad", {"task": "b"})), "half"]
    team = [Member("good", good), Member("bad", bad)]
    run = await Agent(ScriptedModel(script), team=team).run("go")
    assert sorted(results(run)) == ["fine", "the agent bad did not finish (failed): down"]
    assert {child.end for child in run.children.values()} == {"answered", "failed"}
    assert run.answer == "half"


async def test_three_levels_each_see_the_level_below() -> None:
    lowest = Agent(ScriptedModel(["gold"]), name="lowest")
    middle = Agent(
        ScriptedModel([calls(("lowest", {"task": "dig"})), "it is gold"]),
        name="middle",
        team=[Member("lowest", lowest)],
    )
    top = Agent(
        ScriptedModel([calls(("middle", {"task": "find"})), "gold, it says"]),
        name="top",
        team=[Member("middle", middle)],
    )
    run = await top.run("go")
    assert [each.spec.name for each in run.walk()] == ["top", "middle", "lowest"]
    assert [each.id for each in run.walk()] == [
        run.id,
        f"{run.id}.call_1",
        f"{run.id}.call_1.call_1",
    ]
    assert top.replay(run) == ()
    assert run.spent.steps == 5


async def test_an_empty_task_is_wrong_arguments() -> None:
    helper = Agent(ScriptedModel(["x"]), name="helper")
    run = await Agent(
        ScriptedModel([calls(("helper", {"task": ""})), "done"]), team=[Member("helper", helper)]
    ).run("go")
    assert [s.outcome for s in run.steps if isinstance(s, ToolStep)] == ["invalid_arguments"]


def test_two_with_one_name_are_refused() -> None:
    helper = Agent(ScriptedModel(), name="helper")
    with pytest.raises(
        InputError, match="two tools of an agent have the name helper", check=about("tools")
    ):
        Agent(ScriptedModel(), tools=[FakeTool("helper")], team=[Member("helper", helper)])


@pytest.mark.parametrize("share", [0, 1.5, -1])
def test_a_share_is_a_part(share: float) -> None:
    with pytest.raises(InputError, check=about("share")):
        Member("helper", Agent(ScriptedModel()), share=share)
