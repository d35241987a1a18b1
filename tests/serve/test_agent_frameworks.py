"""Agent frameworks against a server of this package, as their documentation shows them: each asks
for a tool, runs it and gets its answer. Over a scripted model, so that what is tested is the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pydantic
import pytest
from tests.oracles import anthropic

from lmstack.core import Message, Request, ScriptedModel, ToolCall
from lmstack.serve import create_app

QUESTION = "What's the weather in Tokyo?"
CALL = ToolCall("call_1", "get_weather", '{"city": "Tokyo"}')
CALLS = Message("assistant", "", tool_calls=(CALL,))
ANSWER = "It is 15 degrees in Tokyo."


def weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: The name of the city.
    """
    return f"15 degrees in {city}"


class City(pydantic.BaseModel):
    name: str
    degrees: int


def results(request: Request) -> list[str]:
    return [message.content for message in request.messages if message.role == "tool"]


def app_of(model: ScriptedModel) -> Any:
    return create_app(models={"m": model})


def check_loop(model: ScriptedModel) -> None:
    """The tool was shown to the model, called, and its result given back for that call."""
    first, second = model.requests
    [tool] = first.tools
    assert tool.name == "get_weather"
    assert tool.description.startswith("The weather in a city.")
    assert tool.parameters["properties"]["city"]["type"] == "string"
    assert results(second) == ["15 degrees in Tokyo"]
    [[asked]] = [m.tool_calls for m in second.messages if m.tool_calls]
    # Some write the arguments anew.
    assert (asked.id, asked.name, json.loads(asked.arguments)) == (
        CALL.id,
        CALL.name,
        json.loads(CALL.arguments),
    )


# pydantic-ai


@contextlib.asynccontextmanager
async def pydantic_ai_model(kind: str, url: str) -> AsyncIterator[Any]:
    async with (
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client,
        anthropic.AsyncAnthropic(base_url=url, api_key="unused", max_retries=0) as claude,
    ):
        if kind == "messages":
            from pydantic_ai.models.anthropic import AnthropicModel
            from pydantic_ai.providers.anthropic import AnthropicProvider

            yield AnthropicModel("m", provider=AnthropicProvider(anthropic_client=claude))
        else:
            from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
            from pydantic_ai.providers.openai import OpenAIProvider

            named = {"chat": OpenAIChatModel, "responses": OpenAIResponsesModel}
            yield named[kind]("m", provider=OpenAIProvider(openai_client=client))


@pytest.mark.parametrize("kind", ["chat", "responses", "messages"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_pydantic_ai_runs_a_tool_loop(serve, kind, streamed):
    agents = pytest.importorskip("pydantic_ai")
    model = ScriptedModel([CALLS, ANSWER])
    async with serve(app_of(model)) as url, pydantic_ai_model(kind, url) as remote:
        agent = agents.Agent(remote, instructions="Be brief.")
        agent.tool_plain(name="get_weather")(weather)
        if streamed:
            async with agent.run_stream(QUESTION) as result:
                said = "".join([piece async for piece in result.stream_text(delta=True)])
        else:
            said = (await agent.run(QUESTION)).output
    assert said == ANSWER
    check_loop(model)


@pytest.mark.parametrize("kind", ["chat", "responses", "messages"])
async def test_pydantic_ai_reads_a_class(serve, kind):
    agents = pytest.importorskip("pydantic_ai")
    call = ToolCall("c", "final_result", '{"name": "Tokyo", "degrees": 15}')
    model = ScriptedModel([Message("assistant", "", tool_calls=(call,))])
    async with serve(app_of(model)) as url, pydantic_ai_model(kind, url) as remote:
        agent = agents.Agent(remote, output_type=City)
        found = (await agent.run(QUESTION)).output
    assert found == City(name="Tokyo", degrees=15)
    assert model.requests[0].tool_choice in ("required", "final_result")


# openai-agents


@pytest.mark.parametrize("kind", ["chat", "responses"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_openai_agents_run_a_tool_loop(serve, kind, streamed):
    agents = pytest.importorskip("agents")
    agents.set_tracing_disabled(True)
    model = ScriptedModel([CALLS, ANSWER])
    kinds = {
        "chat": agents.OpenAIChatCompletionsModel,
        "responses": agents.OpenAIResponsesModel,
    }
    async with (
        serve(app_of(model)) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused") as client,
    ):
        agent = agents.Agent(
            name="Weather",
            instructions="Be brief.",
            tools=[agents.function_tool(weather, name_override="get_weather")],
            model=kinds[kind](model="m", openai_client=client),
        )
        if streamed:
            result = agents.Runner.run_streamed(agent, QUESTION)
            async for _ in result.stream_events():
                pass
        else:
            result = await agents.Runner.run(agent, QUESTION)
    assert result.final_output == ANSWER
    check_loop(model)


# smolagents


def smolagents_program(url: str) -> Any:
    from smolagents import OpenAIServerModel, ToolCallingAgent, tool

    model = OpenAIServerModel(model_id="m", api_base=f"{url}/v1", api_key="unused")

    @tool
    def get_weather(city: str) -> str:
        """The weather in a city.

        Args:
            city: The name of the city.
        """
        return weather(city)

    agent = ToolCallingAgent(tools=[get_weather], model=model, verbosity_level=0)
    with contextlib.closing(model.client):
        return agent.run(QUESTION)


async def test_smolagents_run_a_tool_loop(serve):
    pytest.importorskip("smolagents")
    final = ToolCall("call_2", "final_answer", f'{{"answer": "{ANSWER}"}}')
    model = ScriptedModel([CALLS, Message("assistant", "", tool_calls=(final,))])
    async with serve(app_of(model)) as url:
        said = await asyncio.to_thread(smolagents_program, url)
    assert said == ANSWER
    first, second = model.requests
    assert {tool.name for tool in first.tools} == {"get_weather", "final_answer"}
    assert first.tool_choice == "required"
    # It tells the model of calls and results in words of its own.
    assert "15 degrees in Tokyo" in second.messages[-1].content
