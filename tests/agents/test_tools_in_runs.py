"""Tools from functions, built in and of MCP servers, in the hands of an agent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field
from tests.agents.mcp.conftest import Example, pins, raw
from tests.agents.scripted_tools import calls

from lmstack.agents import Agent, Rights, Run, ToolStep
from lmstack.agents.mcp import Pins, mcp_tools
from lmstack.agents.tools import Secret, Toolbox, calculator, file_tools, tool
from lmstack.core import Message, ScriptedModel

__all__ = ["pins", "raw"]


@tool
def book(seats: Annotated[int, Field(ge=1)], key: Secret) -> dict[str, object]:
    """Book seats."""
    return {"seats": seats, "by": key.value}


def call(name: str, **arguments: object) -> Message:
    return calls((name, arguments))


def observed(run: Run) -> list[tuple[str, str, str]]:
    steps = [step for step in run.steps if isinstance(step, ToolStep)]
    return [(step.call.name, step.outcome, step.text) for step in steps]


async def test_an_agent_uses_functions_built_in_tools_and_an_mcp_server(
    raw: Example, pins: Pins, tmp_path: Path
) -> None:
    (tmp_path / "a.md").write_text("Alpha")
    model = ScriptedModel(
        [
            call("calculator", expression="6 * 7"),
            call("book", seats=0),
            call("book", seats=2),
            call("read_file", path="../secret"),
            call("read_file", path="a.md"),
            call("raw__greet"),
            "Done.",
        ]
    )
    server = raw(safe=("greet",))
    async with mcp_tools([server], pins, lambda offer: True) as found:
        box = Toolbox(calculator(), book, file_tools(tmp_path), found)
        agent = Agent(model, tools=box, secrets={"key": "very-secret"})
        run = await agent.run("Go on.")
    assert run.answer == "Done."
    (_, first, _), (_, second, wrong), third, (_, _, outside), fifth, sixth = observed(run)
    assert first == "ok"
    assert second != "ok"
    assert "seats" in wrong
    assert third == ("book", "ok", '{"seats": 2, "by": "***"}')
    assert "leaves its folder" in outside
    assert fifth == ("read_file", "ok", "Alpha")
    assert sixth == ("raw__greet", "ok", "called")


async def test_a_tool_of_a_server_waits_for_a_person_unless_it_is_named_safe(
    raw: Example, pins: Pins
) -> None:
    async with mcp_tools([raw()], pins, lambda offer: True) as found:
        agent = Agent(ScriptedModel([call("raw__greet"), "Done."]), tools=found)
        run = await agent.run("Greet.")
    assert run.end == "waiting"
    assert observed(run) == []


@pytest.mark.parametrize(("rights", "outcome"), [(Rights(), "ok"), (Rights(roots={"b"}), "error")])
async def test_rights_reach_the_tools(tmp_path: Path, rights: Rights, outcome: str) -> None:
    (tmp_path / "a.md").write_text("Alpha")
    model = ScriptedModel([call("read_file", path="a/a.md"), "Done."])
    tools = file_tools({"a": tmp_path, "b": tmp_path})
    run = await Agent(model, tools=tools, rights=rights).run("Go.")
    [(_, found, _)] = observed(run)
    assert found == outcome
