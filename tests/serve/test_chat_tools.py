"""Tools on /v1/chat/completions, with the official client against a scripted model."""

from __future__ import annotations

import asyncio
import json

import openai
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmstack.core import Delta, Grammar, Message, ScriptedModel, Tool, ToolCall, ToolCallDelta
from lmstack.serve import create_app

ASK = [{"role": "user", "content": "What's the weather in Tokyo?"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "City name, e.g. 'New York'"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city"],
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": SCHEMA,
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
ARGUMENTS = '{"city": "Tokyo", "unit": "celsius"}'
CALL = ToolCall("call_1", "get_weather", ARGUMENTS)
CALLS = Message("assistant", "", tool_calls=(CALL,))
BOTH = Message("assistant", "Let me look.", tool_calls=(CALL, ToolCall("call_2", "clock", "{}")))
ASSISTANT = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": ARGUMENTS},
        }
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": '{"temperature": 15}'}
CHAT = {"model": "m", "messages": ASK, "tools": [WEATHER, CLOCK]}


def app_of(model):
    return create_app(models={"m": model})


@pytest.mark.parametrize(
    ("path", "more", "parallel"),
    [
        ("chat/completions", {}, True),
        ("chat/completions", {"parallel_tool_calls": None}, True),
        ("chat/completions", {"parallel_tool_calls": False}, False),
        ("messages", {}, True),
        ("messages", {"tool_choice": {"type": "any"}}, True),
        ("messages", {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}, False),
    ],
)
async def test_calls_are_parallel_unless_that_is_turned_off(http, path, more, parallel):
    model = ScriptedModel()
    tool = CLOCK if path != "messages" else {"name": "clock", "input_schema": {"type": "object"}}
    body = {"model": "m", "messages": ASK, "max_tokens": 9, "tools": [tool], **more}
    async with http(app_of(model)) as client:
        answer = await client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    assert model.requests[0].parallel_tool_calls is parallel


def tool_loop(url: str) -> str | None:
    """As OpenAI's guide has it: the synchronous client, and the SDK's own message given back."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused")
    messages: list = [*ASK]
    ask = {"model": "m", "messages": messages, "tools": [WEATHER]}
    message = client.chat.completions.create(**ask, tool_choice="auto").choices[0].message
    messages.append(message)
    for call in message.tool_calls or ():
        city = json.loads(call.function.arguments)["city"]
        found = {"temperature": 15, "condition": "cloudy", "city": city}
        messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(found)})
    final = client.chat.completions.create(**ask)
    client.close()
    return final.choices[0].message.content


async def test_the_loop_of_the_guide_runs_as_it_is(serve):
    model = ScriptedModel([CALLS, "It is 15 degrees in Tokyo."])
    async with serve(app_of(model)) as url:
        said = await asyncio.to_thread(tool_loop, url)
    assert said == "It is 15 degrees in Tokyo."
    first, second = model.requests
    weather = WEATHER["function"]
    assert first.tools == (Tool("get_weather", weather["description"], SCHEMA),)
    result = '{"temperature": 15, "condition": "cloudy", "city": "Tokyo"}'
    assert second.messages[1:] == (CALLS, Message("tool", result, tool_call_id="call_1"))


async def test_content_is_null_where_the_model_only_calls(connect):
    async with connect(app_of(ScriptedModel([CALLS]))) as client:
        choice = (await client.chat.completions.create(**CHAT)).choices[0]
    assert choice.message.content is None
    assert choice.finish_reason == "tool_calls"


async def test_text_beside_calls_stays_text(connect):
    async with connect(app_of(ScriptedModel([BOTH]))) as client:
        message = (await client.chat.completions.create(**CHAT)).choices[0].message
    assert message.content == "Let me look."
    assert [(c.id, c.type, c.function.name) for c in message.tool_calls] == [
        ("call_1", "function", "get_weather"),
        ("call_2", "function", "clock"),
    ]


async def test_an_answer_without_calls_has_no_field_for_them(http):
    async with http(app_of(ScriptedModel(["sunny"]))) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.json()["choices"][0]["message"] == {
        "role": "assistant",
        "content": "sunny",
        "refusal": None,
    }


async def test_a_streamed_call_is_its_head_and_then_pieces_of_its_arguments(connect, told):
    model = told(
        Delta(tool_call=ToolCallDelta(0, "call_1", "get_weather", '{"ci')),
        Delta(tool_call=ToolCallDelta(0, arguments='ty": "Tokyo"}')),
        Delta(tool_call=ToolCallDelta(1, "call_2", "clock")),
        Delta(tool_call=ToolCallDelta(1, arguments="{}")),
        Delta(finish_reason="tool_calls"),
    )
    async with connect(app_of(model)) as client:
        stream = await client.chat.completions.create(**CHAT, stream=True)
        chunks = [chunk.choices[0] async for chunk in stream]
    told_ = [chunk.delta.model_dump(exclude_unset=True) for chunk in chunks]

    def head(index: int, id: str, name: str):
        function = {"name": name, "arguments": ""}
        return {
            "tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]
        }

    def more(index: int, text: str):
        return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}

    assert told_ == [
        {"role": "assistant", "content": None, "refusal": None},
        head(0, "call_1", "get_weather"),
        more(0, '{"ci'),
        more(0, 'ty": "Tokyo"}'),
        head(1, "call_2", "clock"),
        more(1, "{}"),
        {},
    ]
    assert [chunk.finish_reason for chunk in chunks] == [None] * 6 + ["tool_calls"]


@pytest.mark.parametrize("reply", [CALLS, BOTH, Message("assistant", "sunny")])
async def test_a_stream_adds_up_to_the_whole_answer(connect, reply):
    async with connect(app_of(ScriptedModel([reply]))) as client:
        whole = (await client.chat.completions.create(**CHAT, n=2)).choices
        async with client.chat.completions.stream(**CHAT, n=2) as stream:
            streamed = (await stream.get_final_completion()).choices
    assert len(whole) == 2
    for one, other in zip(whole, streamed, strict=True):
        assert other.finish_reason == one.finish_reason
        assert other.message.content == one.message.content
        calls = [c.model_dump(exclude_none=True) for c in one.message.tool_calls or ()]
        gathered = [
            {k: v for k, v in c.to_dict().items() if k != "index"}
            for c in other.message.tool_calls or ()
        ]
        for call in gathered:
            call["function"].pop("parsed_arguments", None)
        assert gathered == calls


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.text(max_size=6), st.lists(st.text(max_size=5), max_size=4)), max_size=4),
    st.text(max_size=5),
)
async def test_however_a_call_is_cut_its_pieces_are_what_the_model_wrote(http, told, calls, text):
    deltas = [Delta(text)]
    for number, (name, pieces) in enumerate(calls):
        deltas.append(Delta(tool_call=ToolCallDelta(number, f"c{number}", name or "f")))
        deltas += [Delta(tool_call=ToolCallDelta(number, arguments=piece)) for piece in pieces]
    deltas.append(Delta(finish_reason="tool_calls" if calls else "stop"))
    async with http(app_of(told(*deltas))) as client:
        whole = (await client.post("/v1/chat/completions", json=CHAT)).json()
        streamed = await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
    gathered, said = {}, ""
    for line in streamed.text.split("\n\n"):
        if not line.startswith("data: {"):
            continue
        delta = json.loads(line[6:])["choices"][0]["delta"]
        said += delta.get("content") or ""
        for piece in delta.get("tool_calls", ()):
            call = gathered.setdefault(piece["index"], [None, None, ""])
            call[0] = piece.get("id", call[0])
            call[1] = piece["function"].get("name", call[1])
            call[2] += piece["function"]["arguments"]
    message = whole["choices"][0]["message"]
    assert said == (message["content"] or "") == text
    expected = [[f"c{n}", name or "f", "".join(p)] for n, (name, p) in enumerate(calls)]
    assert list(gathered.values()) == expected
    found = [
        [c["id"], c["function"]["name"], c["function"]["arguments"]]
        for c in message.get("tool_calls", ())
    ]
    assert found == expected


class GetWeather(pydantic.BaseModel):
    """Get the current weather in a city"""

    city: str
    unit: str = "celsius"


async def test_the_sdk_reads_arguments_into_a_pydantic_class(connect):
    call = ToolCall("c", "GetWeather", ARGUMENTS)
    model = ScriptedModel([Message("assistant", "", tool_calls=(call,)), "Mild."])
    tools = [openai.pydantic_function_tool(GetWeather)]
    async with connect(app_of(model)) as client:
        answer = await client.chat.completions.parse(model="m", messages=ASK, tools=tools)
        message = answer.choices[0].message
        # What the SDK parsed goes back as it is.
        messages = [*ASK, message, {**RESULT, "tool_call_id": "c"}]
        final = await client.chat.completions.parse(model="m", messages=messages, tools=tools)
    parsed = message.tool_calls[0].function.parsed_arguments
    assert parsed == GetWeather(city="Tokyo", unit="celsius")
    assert final.choices[0].message.content == "Mild."
    [tool] = model.requests[0].tools
    assert (tool.name, tool.strict) == ("GetWeather", True)
    assert model.requests[1].messages[1].tool_calls == (call,)


async def test_arguments_cut_by_max_tokens_are_never_parsed_as_whole(connect, told):
    model = told(
        Delta(tool_call=ToolCallDelta(0, "c", "GetWeather", '{"city": "To')),
        Delta(finish_reason="length"),
    )
    tools = [openai.pydantic_function_tool(GetWeather)]
    async with connect(app_of(model)) as client:
        with pytest.raises(openai.LengthFinishReasonError):
            await client.chat.completions.parse(model="m", messages=ASK, tools=tools)


# What is asked reaches the model.

NAMED = {"type": "function", "function": {"name": "clock"}}


def allowed(mode: str, *names: str):
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


@pytest.mark.parametrize(
    ("choice", "expected", "shown"),
    [
        (None, "auto", 2),
        ("auto", "auto", 2),
        ("none", "none", 2),
        ("required", "required", 2),
        (NAMED, "clock", 2),
        (allowed("auto", "clock"), "auto", 1),
        (allowed("required", "clock", "get_weather"), "required", 2),
    ],
)
async def test_the_choice_among_tools_reaches_the_model(http, choice, expected, shown):
    model = ScriptedModel()
    async with http(app_of(model)) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT | {"tool_choice": choice})
    assert answer.status_code == 200, answer.text
    asked = model.requests[0]
    assert asked.tool_choice == expected
    assert [tool.name for tool in asked.tools] == ["get_weather", "clock"][-shown:]


async def test_a_function_without_parameters_takes_no_arguments(http):
    model = ScriptedModel()
    async with http(app_of(model)) as client:
        await client.post("/v1/chat/completions", json=CHAT)
    assert model.requests[0].tools[1] == Tool("clock")


async def test_a_format_and_tools_exclude_each_other_unless_none_is_called(http):
    form = {"response_format": {"type": "json_object"}}
    model = ScriptedModel()
    async with http(app_of(model)) as client:
        refused = await client.post("/v1/chat/completions", json=CHAT | form)
        fine = await client.post("/v1/chat/completions", json=CHAT | form | {"tool_choice": "none"})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "response_format"
    assert fine.status_code == 200
    assert model.requests[0].grammar == Grammar("json_object")


TWO_CALLS = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": id, "type": "function", "function": {"name": "clock", "arguments": "{}"}}
        for id in ("a", "b")
    ],
}


def result(id: str, **more):
    return {"role": "tool", "tool_call_id": id, "content": "x", **more}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([*ASK, RESULT], "messages.1.tool_call_id"),
        ([*ASK, ASSISTANT], "messages.1.tool_calls.0.id"),
        ([*ASK, ASSISTANT, *ASK], "messages.1.tool_calls.0.id"),
        ([*ASK, ASSISTANT, result("call_9")], "messages.2.tool_call_id"),
        ([*ASK, ASSISTANT, RESULT, RESULT], "messages.3.tool_call_id"),
        ([*ASK, ASSISTANT, RESULT, *ASK, RESULT], "messages.4.tool_call_id"),
        ([*ASK, TWO_CALLS, result("b"), *ASK], "messages.1.tool_calls.0.id"),
        ([*ASK, TWO_CALLS, result("a")], "messages.1.tool_calls.1.id"),
        ([*ASK, ASSISTANT, {**RESULT, "name": "clock"}], "messages.2.name"),
        (
            [*ASK, {**TWO_CALLS, "tool_calls": [TWO_CALLS["tool_calls"][0]] * 2}],
            "messages.1.tool_calls.1.id",
        ),
    ],
)
async def test_calls_and_results_that_do_not_match_name_the_place(http, messages, param):
    model = ScriptedModel()
    async with http(app_of(model)) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT | {"messages": messages})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "invalid_value")
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")
    assert error["hint"]
    assert model.requests == []


async def test_results_may_come_in_any_order_and_name_their_function(http):
    model = ScriptedModel()
    messages = [*ASK, TWO_CALLS, result("b", name="clock"), result("a"), *ASK]
    async with http(app_of(model)) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT | {"messages": messages})
    assert answer.status_code == 200, answer.text
    told = model.requests[0].messages
    assert [m.tool_call_id for m in told] == [None, None, "b", "a", None]
    assert [m.name for m in told] == [None] * 5


@pytest.mark.parametrize(
    ("extra", "param", "code"),
    [
        (
            {"tools": [{"type": "custom", "custom": {"name": "x"}}]},
            "tools.0.type",
            "unsupported_parameter",
        ),
        ({"tools": [{"type": "function"}]}, "tools.0.function", "invalid_value"),
        (
            {"tools": [{"type": "function", "function": {"name": "no spaces"}}]},
            "tools.0.function.name",
            "invalid_value",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameter": {}}}]},
            "tools.0.function.parameter",
            "unsupported_parameter",
        ),
        ({"tools": [CLOCK, CLOCK]}, "tools", "invalid_value"),
        (
            {
                "tools": [
                    {"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}
                ]
            },
            "tools",
            "invalid_value",
        ),
        ({"tools": [CLOCK] * 129}, "tools", "invalid_value"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tool_choice": allowed("auto", "nothing")}, "tool_choice", "invalid_value"),
        ({"tool_choice": {**NAMED, "function": {"name": "x"}}}, "tool_choice", "invalid_value"),
        (
            {"tool_choice": {"type": "custom", "custom": {"name": "x"}}},
            "tool_choice.type",
            "unsupported_parameter",
        ),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls", "invalid_value"),
    ],
)
async def test_a_tool_that_cannot_be_is_named(http, extra, param, code):
    model = ScriptedModel()
    async with http(app_of(model)) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT | extra)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code), answer.text
    assert model.requests == []
