"""/v1/messages with Anthropic's client against a scripted model."""

from __future__ import annotations

import asyncio
import json
import typing

import pytest
from tests.oracles import anthropic

from lmstack.core import (
    Delta,
    EngineError,
    Grammar,
    InputError,
    Message,
    OverloadedError,
    ScriptedModel,
    Tool,
    ToolCall,
    ToolCallDelta,
)
from lmstack.serve import client_of_key, create_app
from lmstack.serve.http.messages_request import MessagesBody

PATH = "/v1/messages"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "The weather in a city", "input_schema": SCHEMA}
CLOCK = {"name": "clock", "input_schema": {"type": "object"}}
CALL = ToolCall("toolu_1", "get_weather", '{"city": "Tokyo"}')
CALLS = Message("assistant", "", tool_calls=(CALL,))
BOTH = Message("assistant", "Let me look.", tool_calls=(CALL, ToolCall("toolu_2", "clock", "{}")))
USER = {"role": "user", "content": "hello there"}
ASK = {"model": "m", "max_tokens": 50, "messages": [USER]}


def app_of(model, **options):
    return create_app(models={"m": model}, **options)


def loop(url: str) -> str:
    """The tool loop of Anthropic's documentation, with the synchronous client."""
    with anthropic.Anthropic(base_url=url, api_key="unused") as client:
        messages: list = [{"role": "user", "content": "What's the weather in Tokyo?"}]
        while True:
            response = client.messages.create(
                model="m", max_tokens=100, system="Be brief.", tools=[WEATHER], messages=messages
            )
            if response.stop_reason != "tool_use":
                return response.content[0].text
            messages.append({"role": "assistant", "content": response.content})
            messages.append(
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": block.id,
                            "content": f"15 degrees in {block.input['city']}",
                        }
                        for block in response.content
                        if block.type == "tool_use"
                    ],
                }
            )


async def test_the_loop_of_the_documentation_runs_as_it_is(serve):
    said = Message("assistant", "Let me look.", tool_calls=(CALL,))
    model = ScriptedModel([said, "It is mild."])
    async with serve(app_of(model)) as url:
        assert await asyncio.to_thread(loop, url) == "It is mild."
    assert model.requests[0].tools == (Tool("get_weather", WEATHER["description"], SCHEMA),)
    assert model.requests[1].messages == (
        Message("system", "Be brief."),
        Message("user", "What's the weather in Tokyo?"),
        said,
        Message("tool", "15 degrees in Tokyo", tool_call_id="toolu_1"),
    )


async def test_the_tool_runner_of_the_sdk_runs_a_function(claude):
    @anthropic.beta_async_tool
    async def get_weather(city: str) -> str:
        """The weather in a city

        Args:
            city: Its name.
        """
        return f"15 degrees in {city}"

    model = ScriptedModel([CALLS, "It is mild."])
    async with claude(app_of(model)) as client:
        runner = client.beta.messages.tool_runner(
            model="m", max_tokens=50, messages=[USER], tools=[get_weather]
        )
        final = await runner.until_done()
    assert final.content[0].text == "It is mild."
    assert model.requests[1].messages[-1] == Message(
        "tool", "15 degrees in Tokyo", tool_call_id="toolu_1"
    )


async def test_every_event_of_a_stream_in_its_order(claude, told):
    model = told(
        Delta("Let me"),
        Delta(" look."),
        Delta(tool_call=ToolCallDelta(0, "toolu_1", "get_weather", '{"city"')),
        Delta(tool_call=ToolCallDelta(0, arguments=': "Tokyo"}')),
        Delta(tool_call=ToolCallDelta(1, "toolu_2", "clock")),
        Delta(finish_reason="tool_calls"),
    )
    async with claude(app_of(model)) as client:
        stream = await client.messages.create(**ASK, stream=True)
        events = [event.to_dict() async for event in stream]

    def started(index, **block):
        return {"type": "content_block_start", "index": index, "content_block": block}

    def grew(index, **delta):
        return {"type": "content_block_delta", "index": index, "delta": delta}

    def stopped(index):
        return {"type": "content_block_stop", "index": index}

    assert events[0]["type"] == "message_start"
    assert events[0]["message"]["content"] == []
    assert events[0]["message"]["stop_reason"] is None
    assert events[1:-2] == [
        started(0, type="text", text=""),
        grew(0, type="text_delta", text="Let me"),
        grew(0, type="text_delta", text=" look."),
        stopped(0),
        started(1, type="tool_use", id="toolu_1", name="get_weather", input={}),
        grew(1, type="input_json_delta", partial_json='{"city"'),
        grew(1, type="input_json_delta", partial_json=': "Tokyo"}'),
        stopped(1),
        started(2, type="tool_use", id="toolu_2", name="clock", input={}),
        stopped(2),
    ]
    assert events[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {
            "input_tokens": 8,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 4,
            "output_tokens": 5,
        },
    }
    assert events[-1] == {"type": "message_stop"}


async def test_a_ping_follows_the_start_and_events_have_names(http):
    async with http(app_of(ScriptedModel(["hi"]))) as client:
        answer = await client.post(PATH, json=ASK | {"stream": True})
    events = answer.text.split("\n\n")
    assert events[1] == 'event: ping\ndata: {"type":"ping"}'
    assert events[-2:] == ['event: message_stop\ndata: {"type":"message_stop"}', ""]
    for event in events[:-1]:
        name, data = event.split("\n")
        assert json.loads(data.removeprefix("data: "))["type"] == name.removeprefix("event: ")


CUT = (
    Delta("so"),
    Delta(tool_call=ToolCallDelta(0, "c", "f", '{"a": [1, 2], "b": "hal')),
    Delta(finish_reason="length"),
)


@pytest.mark.parametrize("reply", ["one two", BOTH, CALLS, "", CUT])
async def test_a_stream_adds_up_to_the_whole_message(claude, told, reply):
    model = told(*reply) if isinstance(reply, tuple) else ScriptedModel([reply])
    async with claude(app_of(model)) as client:
        whole = await client.messages.create(**ASK)
        async with client.messages.stream(**ASK) as stream:
            streamed = await stream.get_final_message()
    fields = {"stop_reason", "stop_sequence", "role", "model"}
    assert streamed.model_dump(include=fields) == whole.model_dump(include=fields)
    blocks = [block.to_dict() for block in whole.content]
    assert [b.to_dict(exclude_none=True) for b in streamed.content] == blocks
    usage = {"input_tokens", "output_tokens", "cache_read_input_tokens"}
    assert streamed.usage.model_dump(include=usage) == whole.usage.model_dump(include=usage)


@pytest.mark.parametrize(
    ("reason", "told_as"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal")],
)
async def test_why_an_answer_ended(claude, told, reason, told_as):
    async with claude(app_of(told(Delta("x", finish_reason=reason)))) as client:
        answer = await client.messages.create(**ASK)
    assert (answer.stop_reason, answer.stop_sequence) == (told_as, None)
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens) == (8, 4)


@pytest.mark.parametrize("arguments", ["[1]", '{"a": ', "nonsense", '{"a": 1} x'])
@pytest.mark.parametrize("streamed", [False, True])
async def test_arguments_that_are_no_object_are_an_error_and_not_a_call(
    http, told, arguments, streamed
):
    call = Delta(tool_call=ToolCallDelta(0, "c", "f", arguments))
    async with http(app_of(told(call, Delta(finish_reason="tool_calls")))) as client:
        answer = await client.post(PATH, json=ASK | {"stream": streamed})
    if streamed:
        last = answer.text.strip().split("\n\n")[-1]
        assert last.startswith("event: error\n")
        error = json.loads(last.partition("data: ")[2])
    else:
        assert answer.status_code == 503
        error = answer.json()
    assert (error["type"], error["error"]["details"]["error_code"]) == ("error", "engine_error")


# Keys and errors.

KEY = "sk-very-secret-key-0123456789"


async def test_the_key_may_come_as_anthropics_clients_send_it(claude):
    model = ScriptedModel()
    async with claude(app_of(model, api_keys=[KEY]), key=KEY) as client:
        await client.messages.create(**ASK)
    assert model.requests[0].client == client_of_key(KEY)


@pytest.mark.parametrize("path", [PATH, "/v1/chat/completions", "/metrics"])
@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": "wrong"},
        {"x-api-key": ""},
        {"x-api-key": f"Bearer {KEY}"},
        {"x-api-key": KEY, "authorization": "Bearer wrong"},
        {"api-key": KEY},
    ],
)
async def test_a_wrong_key_is_refused_in_the_shape_of_the_route(http, path, headers):
    async with http(app_of(ScriptedModel(), api_keys=[KEY])) as client:
        answer = await client.post(path, json=ASK, headers=headers)
    assert answer.status_code == 401
    told = answer.json()
    assert told["error"]["type"] == "authentication_error"
    assert ("type" in told) == (path == PATH)


async def test_an_error_is_the_sdks_own_and_says_what_to_do(claude):
    async with claude(app_of(ScriptedModel())) as client:
        with pytest.raises(anthropic.NotFoundError) as missing:
            await client.messages.create(**ASK | {"model": "mm"})
        with pytest.raises(anthropic.BadRequestError) as wrong:
            await client.messages.create(**ASK, extra_body={"temperatur": 1})
    assert missing.value.body["error"]["type"] == "not_found_error"
    assert missing.value.body["error"]["details"]["hint"] == "did you mean 'm'?"
    details = wrong.value.body["error"]["details"]
    assert (details["param"], details["hint"]) == ("temperatur", "did you mean 'temperature'?")
    assert wrong.value.request_id == wrong.value.body["request_id"]


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InputError("no"), 400, "invalid_request_error"),
        (OverloadedError("too many", retry_after_s=3), 429, "rate_limit_error"),
        (EngineError("stopped"), 503, "overloaded_error"),
        (KeyError("my secret"), 500, "api_error"),
    ],
)
async def test_each_status_has_anthropics_name(http, told, error, status, kind):
    async with http(app_of(told(error))) as client:
        for streamed in (False, True):
            answer = await client.post(PATH, json=ASK | {"stream": streamed})
            assert answer.status_code == status
            assert answer.json()["error"]["type"] == kind
            assert answer.json()["request_id"] == answer.headers["request-id"]
            assert "secret" not in answer.text


async def test_an_error_in_mid_stream_is_raised_by_the_client(claude, told):
    model = told(Delta("some"), EngineError("the engine stopped"))
    async with claude(app_of(model)) as client:
        with pytest.raises(anthropic.APIStatusError, match="the engine stopped"):
            async with client.messages.stream(**ASK) as stream:
                await stream.get_final_message()


async def test_a_path_that_is_not_there_answers_in_the_same_shape(http):
    async with http(app_of(ScriptedModel())) as client:
        answer = await client.post("/v1/messages/batches", json={})
        other = await client.post("/v1/messagesx", json={})
    assert (answer.status_code, answer.json()["type"]) == (404, "error")
    assert "type" not in other.json()


# Fields.


def turn(role, *blocks):
    return {"role": role, "content": list(blocks)}


def text(value, **more):
    return {"type": "text", "text": value, **more}


def use(id, name="f", **input):
    return {"type": "tool_use", "id": id, "name": name, "input": input}


def result(id, content="1", **more):
    return {"type": "tool_result", "tool_use_id": id, "content": content, **more}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([turn("user", text("a"), text("b"))], [Message("user", "a\nb")]),
        # As the API has it, neighbouring turns of one role are one.
        (
            [USER, USER, turn("assistant", text("a")), turn("assistant", text("b")), USER],
            [
                Message("user", "hello there\nhello there"),
                Message("assistant", "a\nb"),
                Message("user", "hello there"),
            ],
        ),
        (
            [
                USER,
                turn("assistant", text("a"), use("x", city="Zürich"), use("y")),
                turn("user", result("y", is_error=True), result("x", [text("2")]), text("and?")),
            ],
            [
                Message("user", "hello there"),
                Message(
                    "assistant",
                    "a",
                    tool_calls=(ToolCall("x", "f", '{"city": "Zürich"}'), ToolCall("y", "f", "{}")),
                ),
                Message("tool", "Error: 1", tool_call_id="y"),
                Message("tool", "2", tool_call_id="x"),
                Message("user", "and?"),
            ],
        ),
        (
            [USER, turn("assistant", use("x")), turn("user", {**result("x"), "content": None})],
            [
                Message("user", "hello there"),
                Message("assistant", "", tool_calls=(ToolCall("x", "f", "{}"),)),
                Message("tool", "", tool_call_id="x"),
            ],
        ),
        (
            [turn("system", text("a")), USER],
            [Message("system", "a"), Message("user", USER["content"])],
        ),
    ],
)
async def test_blocks_become_turns(http, messages, expected):
    model = ScriptedModel()
    async with http(app_of(model)) as client:
        answer = await client.post(PATH, json=ASK | {"messages": messages})
    assert answer.status_code == 200, answer.text
    assert list(model.requests[0].messages) == expected


SYSTEM = (Message("system", "a\nb"), Message("user", "hello there"))
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "5m"}}
TOOLS = {"tools": [WEATHER, CLOCK]}
# name: (extra fields, what the core request then is). A dotted name reads an attribute.
HONOURED = {
    "model": ({}, {}),
    "messages": ({}, {}),
    "max_tokens": ({"max_tokens": 9}, {"sampling.max_tokens": 9}),
    "system": ({"system": "a\nb"}, {"messages": SYSTEM}),
    "system ": ({"system": [text("a"), text("b", **CACHED)]}, {"messages": SYSTEM}),
    "stop_sequences": ({"stop_sequences": ["a", "b"]}, {"sampling.stop": ("a", "b")}),
    "temperature": ({"temperature": 0}, {"sampling.temperature": 0}),
    "top_p": ({"top_p": 0.5}, {"sampling.top_p": 0.5}),
    "top_k": ({"top_k": 5}, {"sampling.top_k": 5}),
    "tools": (
        {"tools": [{**CLOCK, "type": "custom", "strict": True, **CACHED}]},
        {"tools": (Tool("clock", parameters={"type": "object"}, strict=True),)},
    ),
    "tool_choice": (TOOLS | {"tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
    "tool_choice ": (
        TOOLS
        | {"tool_choice": {"type": "tool", "name": "clock", "disable_parallel_tool_use": True}},
        {"tool_choice": "clock", "parallel_tool_calls": False},
    ),
    "tool_choice  ": (TOOLS | {"tool_choice": {"type": "none"}}, {"tool_choice": "none"}),
    "tool_choice   ": (
        TOOLS | {"tool_choice": {"type": "auto"}},
        {"tool_choice": "auto", "parallel_tool_calls": True},
    ),
    "output_config": (
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"grammar": Grammar.json_schema(SCHEMA)},
    ),
    "stream": ({"stream": False}, {}),
    "metadata": ({"metadata": {"user_id": "x"}}, {}),
    "cache_control": (CACHED, {}),
    "diagnostics": ({"diagnostics": {"previous_message_id": None}}, {}),
    "thinking": ({"thinking": {"type": "disabled"}}, {}),
    "service_tier": ({"service_tier": "auto"}, {}),
    "speed": ({"speed": "standard"}, {}),
}
REFUSED = {
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "service_tier": "priority",
    "speed": "fast",
    "container": "c",
    "thread": {"type": "create"},
    "inference_geo": "eu",
    "output_config.effort": "high",
    "diagnostics.previous_message_id": "msg_1",
}
# Of the API, and not of the installed SDK's signature.
API_ONLY = {"temperature", "top_p", "top_k"}
# The SDK sends these in headers.
IN_HEADERS = {"user_profile_id", "workspace_id"}
# In beta, and sent by the SDK's tool runner.
BETA = {"thread"}


def test_the_body_knows_exactly_the_parameters_and_the_tables_cover_them():
    names = set(
        typing.get_type_hints(anthropic.types.message_create_params.MessageCreateParamsBase)
    )
    known = (names | {"stream"} | API_ONLY | BETA) - IN_HEADERS
    assert set(MessagesBody.model_fields) == known
    assert {name.strip().partition(".")[0] for name in HONOURED | REFUSED} == known


@pytest.mark.parametrize("name", HONOURED)
async def test_a_parameter_reaches_the_model(http, name):
    extra, expected = HONOURED[name]
    model = ScriptedModel()
    async with http(app_of(model)) as client:
        answer = await client.post(PATH, json=ASK | extra)
    assert answer.status_code == 200, answer.text
    for path, value in expected.items():
        got = model.requests[0]
        for part in path.split("."):
            got = getattr(got, part)
        assert got == value, path


@pytest.mark.parametrize(
    "name", sorted(set(MessagesBody.model_fields) - {"model", "messages", "max_tokens"})
)
async def test_null_is_the_same_as_leaving_a_field_out(http, name):
    model = ScriptedModel()
    async with http(app_of(model)) as client:
        await client.post(PATH, json=ASK)
        answer = await client.post(PATH, json=ASK | {name: None})
    assert answer.status_code == 200, answer.text
    first, second = model.requests
    assert (first.sampling, first.messages) == (second.sampling, second.messages)


def problem(answer):
    assert answer.status_code == 400, answer.text
    told = answer.json()
    assert (told["type"], told["error"]["type"]) == ("error", "invalid_request_error")
    return told["error"]["details"]


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_a_refused_parameter_is_named_with_a_reason(http, name):
    outer, _, inner = name.partition(".")
    value = {inner: REFUSED[name]} if inner else REFUSED[name]
    async with http(app_of(ScriptedModel())) as client:
        answer = await client.post(PATH, json=ASK | {outer: value})
    details = problem(answer)
    code = "thread_unsupported_request" if name == "thread" else "unsupported_parameter"
    assert (details["param"], details["error_code"]) == (name, code)
    assert len(answer.json()["error"]["message"]) > len(name) + 10


def conversation(*turns):
    return {"messages": [USER, *turns]}


CALLED = turn("assistant", use("x"))


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"messages": []}, "messages"),
        (conversation(turn("user", {"type": "image"})), "messages.1.content.0.type"),
        (conversation(turn("user", {"type": "document"})), "messages.1.content.0.type"),
        (conversation(turn("assistant", {"type": "thinking"}), USER), "messages.1.content.0.type"),
        (conversation(turn("user", {"type": "nonsense"})), "messages.1.content.0.type"),
        (conversation(turn("user", text("a", citations=[{}]))), "messages.1.content.0.citations"),
        (conversation({"role": "tool", "content": "x"}), "messages.1.role"),
        (conversation(turn("assistant", text("The answer is ("))), "messages.1.role"),
        (conversation(CALLED), "messages.1.content.0.id"),
        (conversation(CALLED, USER), "messages.1.content.0.id"),
        (conversation(turn("user", result("x"))), "messages.1.content.0.tool_use_id"),
        (conversation(CALLED, turn("user", result("y"))), "messages.2.content.0.tool_use_id"),
        (
            conversation(CALLED, turn("user", result("x"), result("x"))),
            "messages.2.content.1.tool_use_id",
        ),
        (conversation(CALLED, turn("user", text("a"), result("x"))), "messages.2.content.1"),
        (
            conversation(turn("assistant", use("x"), use("x")), turn("user", result("x"))),
            "messages.1.content.1.id",
        ),
        (conversation(turn("user", use("x"))), "messages.1.content.0.type"),
        (conversation(turn("assistant", result("x")), USER), "messages.1.content.0.type"),
        (
            conversation(CALLED, turn("user", result("x", [{"type": "image"}]))),
            "messages.2.content.0.content.0.type",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema"),
        ({"tools": [{**CLOCK, "input_examples": [{}]}]}, "tools.0.input_examples"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "tool", "name": "x"}}, "tool_choice"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "auto", "name": "x"}}, "tool_choice.name"),
        (
            TOOLS | {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            "output_config.format",
        ),
        ({"top_k": -1}, "top_k"),
        ({"n": 2}, "n"),
    ],
)
async def test_what_cannot_be_is_400_and_names_the_place_as_sent(http, extra, param):
    model = ScriptedModel()
    async with http(app_of(model)) as client:
        answer = await client.post(PATH, json=ASK | extra)
    assert problem(answer)["param"] == param, answer.text
    assert model.requests == []
