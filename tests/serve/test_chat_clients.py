"""LangChain, instructor and llm against a server of this package, as their documentation shows
them, over a model that writes its calls in a fenced block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pydantic
import pytest
from tests.serve.written_model import WrittenModel

from lmstack.serve import create_app

pytestmark = pytest.mark.long

QUESTION = "What is 13 times 21?"
FENCED = '```json\n{"name": "multiply", "arguments": {"a": 13, "b": 21}}\n```'
CITY = '{"name": "Paris", "country": "France"}'
ANSWER = "It is 273."


class City(pydantic.BaseModel):
    """A city and its country."""

    name: str
    country: str


def multiply(a: int, b: int) -> int:
    """Multiply two integers."""
    return a * b


def app_of(model: WrittenModel) -> Any:
    return create_app(models={"m": model})


def check_loop(model: WrittenModel) -> None:
    """The call was made, and its result given back for it."""
    first, *_, last = model.requests
    assert [tool.name for tool in first.tools] == ["multiply"]
    [[call]] = [m.tool_calls for m in last.messages if m.tool_calls]
    [result] = [m for m in last.messages if m.role == "tool"]
    assert (result.tool_call_id, result.content) == (call.id, "273")


def chat_options(url: str, client: httpx.AsyncClient) -> dict[str, Any]:
    """Of LangChain, with a client that can be closed."""
    options = {"model": "m", "base_url": f"{url}/v1", "api_key": "unused"}
    return options | {"http_async_client": client}


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
async def test_langchain_runs_a_bound_tool(serve, responses, streamed):
    langchain = pytest.importorskip("langchain_openai")
    from langchain_core.messages import HumanMessage
    from langchain_core.tools import tool

    model = WrittenModel(FENCED, ANSWER)
    async with serve(app_of(model)) as url, httpx.AsyncClient() as client:
        chat = langchain.ChatOpenAI(**chat_options(url, client), use_responses_api=responses)
        bound = chat.bind_tools([tool(multiply)])
        messages: list[Any] = [HumanMessage(QUESTION)]
        if streamed:
            chunks = [chunk async for chunk in bound.astream(messages)]
            turn = sum(chunks[1:], chunks[0])
        else:
            turn = await bound.ainvoke(messages)
        [call] = turn.tool_calls
        assert (call["name"], call["args"]) == ("multiply", {"a": 13, "b": 21})
        messages += [turn, tool(multiply).invoke(call)]
        answer = await bound.ainvoke(messages)
    assert answer.text == ANSWER
    check_loop(model)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
async def test_langchain_reads_a_class(serve, method):
    langchain = pytest.importorskip("langchain_openai")
    # A real model is held to the schema, or to the call that is required.
    written = CITY if method == "json_schema" else f'{{"name": "City", "arguments": {CITY}}}'
    async with serve(app_of(WrittenModel(written))) as url, httpx.AsyncClient() as client:
        chat = langchain.ChatOpenAI(**chat_options(url, client))
        found = await chat.with_structured_output(City, method=method).ainvoke("The capital?")
    assert found == City(name="Paris", country="France")


@pytest.mark.parametrize("mode", ["TOOLS", "PARALLEL_TOOLS", "JSON_SCHEMA", "MD_JSON"])
async def test_instructor_reads_a_class(serve, mode):
    instructor = pytest.importorskip("instructor")
    import openai

    call = f'```json\n{{"name": "City", "arguments": {CITY}}}\n```'
    written = {"JSON_SCHEMA": CITY, "MD_JSON": f"```json\n{CITY}\n```"}.get(mode, call)

    def program(url: str) -> Any:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
            asked = instructor.from_openai(client, mode=instructor.Mode[mode])
            found = asked.chat.completions.create(
                model="m",
                response_model=Iterable[City] if mode == "PARALLEL_TOOLS" else City,
                messages=[{"role": "user", "content": "The capital of France?"}],
                max_retries=0,
            )
            cities = list(found) if mode == "PARALLEL_TOOLS" else [found]
            return [city.model_dump() for city in cities]  # of a class made from ours

    async with serve(app_of(WrittenModel(written))) as url:
        assert await asyncio.to_thread(program, url) == [{"name": "Paris", "country": "France"}]


@pytest.mark.parametrize("streamed", [False, True])
async def test_llm_runs_a_tool(
    serve, streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    pytest.importorskip("llm")
    from llm.default_plugins.openai_models import Chat

    def program(url: str) -> str:
        chat = Chat("m", api_base=f"{url}/v1", key="unused", supports_tools=True)
        return str(chat.chain(QUESTION, tools=[multiply], stream=streamed).text())

    model = WrittenModel(FENCED, ANSWER)
    async with serve(app_of(model)) as url:
        said = await asyncio.to_thread(program, url)
    assert said == ANSWER
    check_loop(model)
