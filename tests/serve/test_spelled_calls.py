"""Calls that a model writes in a fenced block: every API gives them as calls.

What each client sends is as LangChain's ``bind_tools``, instructor and ``llm -T`` send it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.serve.written_model import WrittenModel

from lmstack.agents import Agent
from lmstack.agents.tools import tool
from lmstack.core import Message, Request, Tool, complete
from lmstack.serve import create_app

ARGUMENTS = '{"city": "Oslo"}'
CALL = f'{{"name": "get_weather", "arguments": {ARGUMENTS}}}'
FENCED = f"```json\n{json.dumps(json.loads(CALL), indent=2)}\n```"
ASK = [{"role": "user", "content": "How is it in Oslo?"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
FUNCTION = {"name": "get_weather", "description": "The weather.", "parameters": SCHEMA}
# LangChain and instructor; ``llm`` leaves the choice out; "strict" is LangChain's on request.
BODIES: list[dict[str, Any]] = [
    {"tools": [{"type": "function", "function": FUNCTION}]},
    {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "auto"},
    {"tools": [{"type": "function", "function": {**FUNCTION, "strict": True}}]},
    {"tools": [{"type": "function", "function": FUNCTION}], "stream_options": None},
]


def app_of(*answers: str) -> Any:
    return create_app(models={"m": WrittenModel(*answers)})


@pytest.mark.parametrize("body", BODIES)
async def test_a_fenced_call_is_a_call_of_the_chat_api(connect, body):
    async with connect(app_of(f"Let me look.\n\n{FENCED}\n")) as client:
        asked = {"model": "m", "messages": ASK, **body}
        [whole] = (await client.chat.completions.create(**asked)).choices
        async with client.chat.completions.stream(**asked) as stream:
            [streamed] = (await stream.get_final_completion()).choices
    for choice in (whole, streamed):
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "Let me look."
        [call] = choice.message.tool_calls
        assert (call.function.name, call.function.arguments) == ("get_weather", ARGUMENTS)
        assert call.id == whole.message.tool_calls[0].id


async def test_the_content_of_a_call_alone_is_null(http):
    async with http(app_of(FENCED)) as client:
        answer = await client.post(
            "/v1/chat/completions", json={"model": "m", "messages": ASK, **BODIES[0]}
        )
    [choice] = answer.json()["choices"]
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("after", ["", "\n\nThat is all."])
async def test_a_fenced_call_is_a_call_of_the_responses_api(connect, after):
    tools = [{"type": "function", **FUNCTION}]
    async with connect(app_of(FENCED + after)) as client:
        asked: dict[str, Any] = {"model": "m", "input": ASK, "tools": tools}
        whole = await client.responses.create(**asked)
        async with client.responses.stream(**asked) as stream:
            streamed = await stream.get_final_response()
    for answer in (whole, streamed):
        [call] = [item for item in answer.output if item.type == "function_call"]
        assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Oslo"})
        assert answer.output_text == after


@pytest.mark.parametrize("after", ["", "\n\nThat is all."])
async def test_a_fenced_call_is_a_call_of_the_messages_api(claude, after):
    tools = [{"name": "get_weather", "description": "The weather.", "input_schema": SCHEMA}]
    async with claude(app_of(f"Let me look.\n{FENCED}{after}")) as client:
        asked: dict[str, Any] = {"model": "m", "max_tokens": 99, "messages": ASK, "tools": tools}
        whole = await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            streamed = await stream.get_final_message()
    for answer in (whole, streamed):
        assert answer.stop_reason == "tool_use"
        said, call, *rest = answer.content
        assert said.text == "Let me look."
        assert (call.name, call.input) == ("get_weather", {"city": "Oslo"})
        assert "".join(block.text for block in rest) == after


@pytest.mark.parametrize(
    "answer",
    [
        FENCED.replace("get_weather", "your_tool"),
        FENCED.replace('"Oslo"', '"Oslo", "days": "two"'),
        FENCED.replace('"Oslo"', '"Oslo", "made_up": 1'),
    ],
)
async def test_what_the_tools_do_not_take_stays_text(connect, answer):
    async with connect(app_of(answer)) as client:
        asked = {"model": "m", "messages": ASK, **BODIES[0]}
        [whole] = (await client.chat.completions.create(**asked)).choices
        parts = [part async for part in await client.chat.completions.create(**asked, stream=True)]
    assert (whole.message.content, whole.finish_reason) == (answer, "stop")
    assert whole.message.tool_calls is None
    said = [part.choices[0].delta.content or "" for part in parts if part.choices]
    assert "".join(said) == answer


@pytest.mark.parametrize("choice", ["auto", "none"])
async def test_without_tools_to_call_a_fenced_block_is_text(connect, choice):
    body = BODIES[0] if choice == "none" else {}
    extra = {"tool_choice": choice} if body else {}
    async with connect(app_of(FENCED)) as client:
        answer = await client.chat.completions.create(model="m", messages=ASK, **body, **extra)
    assert answer.choices[0].message.content == FENCED


async def test_no_more_calls_are_made_than_were_asked_for():
    tools = (Tool("get_weather", "", SCHEMA),)
    both = f"{FENCED}\n{FENCED.replace('Oslo', 'Rome')}"
    messages = (Message("user", "x"),)
    for parallel, cities in ((True, ["Oslo", "Rome"]), (False, ["Oslo"])):
        asked = Request(messages, tools=tools, parallel_tool_calls=parallel)
        answer = await complete(WrittenModel(both), asked)
        found = [json.loads(call.arguments)["city"] for call in answer.tool_calls]
        assert found == cities
        assert len({call.id for call in answer.tool_calls}) == len(cities)
        assert answer.choices[0].text == ""


async def test_an_agent_runs_a_fenced_call_and_answers():
    ran = []

    def get_weather(city: str) -> str:
        """The weather in a city."""
        ran.append(city)
        return "snow"

    model = WrittenModel(FENCED, "It snows in Oslo.")
    run = await Agent(model, tools=[tool(get_weather)]).run("How is it in Oslo?")
    assert (ran, run.answer) == (["Oslo"], "It snows in Oslo.")


async def test_a_call_with_text_after_it_goes_back_with_its_result(connect, claude):
    model = WrittenModel(f"{FENCED}\nThat is all.", "Snow.")
    tool = {"name": "get_weather", "description": "The weather.", "input_schema": SCHEMA}
    async with connect(create_app(models={"m": model})) as client:
        tools = [{"type": "function", **FUNCTION}]
        first = await client.responses.create(model="m", input=ASK, tools=tools)
        [call] = [item for item in first.output if item.type == "function_call"]
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "snow"}
        items = [*ASK, *(item.to_dict() for item in first.output), result]
        assert (await client.responses.create(model="m", input=items)).output_text == "Snow."
    model = WrittenModel(f"{FENCED}\nThat is all.", "Snow.")
    async with claude(create_app(models={"m": model})) as client:
        asked: dict[str, Any] = {"model": "m", "max_tokens": 99, "tools": [tool]}
        turn = await client.messages.create(**asked, messages=ASK)
        [use] = [block for block in turn.content if block.type == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": use.id, "content": "snow"}]
        messages = [
            *ASK,
            {"role": "assistant", "content": [block.to_dict() for block in turn.content]},
            {"role": "user", "content": results},
        ]
        answer = await client.messages.create(**asked, messages=messages)
    assert answer.content[0].text == "Snow."
