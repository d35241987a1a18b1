"""What agents and their tools are unless they are told otherwise, and between which limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.limits import check_limits

from lmstack.agents import Agent, AgentSpec, Budget, Member, Rights
from lmstack.agents.tools import FunctionTool, PythonTool
from lmstack.core import SamplingParams, ScriptedModel


def wait() -> str:
    return "waited"


def tool(**settings: Any) -> FunctionTool:
    return FunctionTool.of(wait, **settings)


@pytest.mark.parametrize(
    ("make", "name", "least", "most", "opened"),
    [
        (lambda n: Agent(ScriptedModel(), result_chars=n), "result_chars", 100, 10_000_000, ""),
        (lambda x: Member("m", Agent(ScriptedModel()), share=x), "share", 0.0, 1.0, "low"),
        (lambda n: PythonTool(most_text=n), "most_text", 100, 1_000_000, ""),
        (lambda n: PythonTool(most_sessions=n), "most_sessions", 1, 1000, ""),
        (lambda x: PythonTool(keep_s=x), "keep_s", 0.0, 1e9, ""),
        (lambda x: tool(timeout_s=x), "timeout_s", 0.0, 86_400.0, "low"),
        (lambda n: tool(max_chars=n), "max_chars", 100, 10_000_000, ""),
        (lambda n: Budget(steps=n), "steps", 1, 10_000, ""),
        (lambda n: Budget(tokens=n), "tokens", 1, 2**53, ""),
        (lambda x: Budget(money=x), "money", 0.0, 1e12, "low"),
        (lambda x: Budget(seconds=x), "seconds", 0.0, 1e9, "low"),
    ],
)
def test_a_setting_has_limits(
    make: Callable[[Any], object], name: str, least: float, most: float, opened: str
) -> None:
    check_limits(make, name, least, most, opened)


async def test_an_agent_is_plain_unless_it_is_told_otherwise() -> None:
    model = ScriptedModel(["x"])
    agent = Agent(model)
    assert agent.spec == AgentSpec(
        name="agent",
        instructions="",
        protocol="tools",
        tools=(),
        rights=Rights(None, None, None, frozenset(), frozenset(), False),
        budget=Budget(20, None, None, None),
        price=None,
        sampling=SamplingParams(temperature=0, max_tokens=1024),
        is_constrained=True,
        must_call=False,
        result=None,
        result_chars=8000,
    )
    assert AgentSpec("agent", sampling=agent.spec.sampling) == agent.spec
    await agent.run("go")
    [request] = model.requests
    assert (request.client, request.cache_scope) == ("local", "")
    assert Member("m", agent) == Member("m", agent, "", 0.5)
    assert repr(agent) == "Agent('agent', tools: none)"
    assert (
        repr(Agent(model, name="a", tools=[tool(), tool(name="b")])) == "Agent('a', tools: wait, b)"
    )


def test_a_function_is_a_tool_for_half_a_minute_and_some_pages() -> None:
    found = tool()
    assert (found.timeout_s, found.max_chars) == (30, 20_000)
    assert (found.is_dangerous, found.is_untrusted) == (False, False)
    python = PythonTool()
    assert (python.is_dangerous, python.is_untrusted, python.timeout_s) == (False, True, 100)
