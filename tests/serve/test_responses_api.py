"""/v1/responses with the official client against a scripted model."""

from __future__ import annotations

import json
import typing

import openai
import pydantic
import pytest
from openai.types.responses import response_create_params

from lmstack.core import (
    Delta,
    EngineError,
    Grammar,
    Message,
    OverloadedError,
    ScriptedModel,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
)
from lmstack.serve import create_app
from lmstack.serve.http.responses_request import ResponsesBody

PATH = "/v1/responses"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": SCHEMA,
    "strict": True,
}
CALL = ToolCall("call_1", "get_weather", '{"city": "Tokyo"}')
BOTH = Message("assistant", "Let me look.", tool_calls=(CALL, ToolCall("call_2", "clock", "{}")))
ASK = {"model": "m", "input": "hello there"}


def app_of(model):
    return create_app(models={"m": model})


async def asked(http, extra, model=None):
    """What became of a body, and the answer."""
    model = model or ScriptedModel()
    async with http(app_of(model)) as client:
        answer = await client.post(PATH, json=ASK | extra)
    assert answer.status_code == 200, answer.text
    return model.requests[0], answer.json()


@pytest.mark.parametrize(
    ("stated", "parallel"), [({}, True), (None, True), (True, True), (False, False)]
)
async def test_calls_are_parallel_unless_that_is_turned_off(http, stated, parallel):
    extra = {} if stated == {} else {"parallel_tool_calls": stated}
    request, answer = await asked(http, {"tools": [WEATHER], **extra})
    assert (request.parallel_tool_calls, answer["parallel_tool_calls"]) == (parallel, parallel)


async def test_the_loop_of_the_sdks_guide_runs_as_it_is(connect):
    model = ScriptedModel([BOTH, "It is 15 degrees."])
    async with connect(app_of(model)) as client:
        tools = [WEATHER, {"type": "function", "name": "clock", "parameters": None, "strict": None}]
        items: list = [{"role": "user", "content": "What's the weather in Tokyo?"}]
        response = await client.responses.create(model="m", tools=tools, input=items)
        items += response.output
        items += [
            {"type": "function_call_output", "call_id": item.call_id, "output": "15"}
            for item in response.output
            if item.type == "function_call"
        ]
        final = await client.responses.create(
            model="m", instructions="Be brief.", tools=tools, input=items
        )
    assert [item.type for item in response.output] == ["message", *["function_call"] * 2]
    assert final.output_text == "It is 15 degrees."
    assert model.requests[0].tools[0] == Tool("get_weather", WEATHER["description"], SCHEMA, True)
    assert model.requests[1].messages == (
        Message("system", "Be brief."),
        Message("user", "What's the weather in Tokyo?"),
        BOTH,
        Message("tool", "15", tool_call_id="call_1"),
        Message("tool", "15", tool_call_id="call_2"),
    )


async def test_every_event_of_a_stream_in_its_order_with_its_number(connect, told):
    model = told(
        Delta("Let me"),
        Delta(" look."),
        Delta(tool_call=ToolCallDelta(0, "call_1", "get_weather", '{"city"')),
        Delta(tool_call=ToolCallDelta(0, arguments=': "Tokyo"}')),
        Delta(tool_call=ToolCallDelta(1, "call_2", "clock", "{}")),
        Delta(finish_reason="tool_calls"),
    )
    async with connect(app_of(model)) as client:
        stream = await client.responses.create(**ASK, stream=True)
        events = [event async for event in stream]
    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [e.output_index for e in events[2:-1]] == [0] * 7 + [1] * 5 + [2] * 4
    assert [(e.item.status, e.item.type) for e in events if e.type.endswith("item.done")] == [
        ("completed", "message"),
        ("completed", "function_call"),
        ("completed", "function_call"),
    ]
    assert events[2].item.status == events[9].item.status == "in_progress"
    assert events[12].arguments == '{"city": "Tokyo"}'
    assert {e.item_id for e in events[3:8]} == {events[2].item.id}
    assert events[0].response.status == "in_progress"
    assert events[0].response.output == []
    assert events[0].response.usage is None


@pytest.mark.parametrize("reply", ["one two", BOTH, "", Message("assistant", "", None, (CALL,))])
async def test_a_stream_adds_up_to_the_whole_response(connect, reply):
    async with connect(app_of(ScriptedModel([reply]))) as client:
        whole = await client.responses.create(**ASK)
        async with client.responses.stream(**ASK) as stream:
            streamed = await stream.get_final_response()
    times = {"id", "created_at", "completed_at", "output"}
    assert whole.model_dump(exclude=times) == streamed.model_dump(exclude=times)
    for one, other in zip(whole.output, streamed.output, strict=True):
        assert {**one.to_dict(), "id": ""}.items() <= {**other.to_dict(), "id": ""}.items() or (
            one.type == "message" and other.content[0].text == one.content[0].text
        )


async def test_a_response_has_usage_and_repeats_what_it_was_asked(connect, told):
    model = told(Delta("x", finish_reason="stop"))
    async with connect(app_of(model)) as client:
        answer = await client.responses.create(
            **ASK,
            instructions="Be brief.",
            temperature=0.5,
            max_output_tokens=9,
            metadata={"k": "v"},
            tools=[WEATHER],
            tool_choice={"type": "function", "name": "get_weather"},
            parallel_tool_calls=False,
            user="ann",
        )
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (12, 5)
    assert answer.usage.total_tokens == 17
    assert answer.usage.input_tokens_details.cached_tokens == 4
    assert answer.usage.output_tokens_details.reasoning_tokens == 0
    assert (answer.instructions, answer.temperature, answer.top_p) == ("Be brief.", 0.5, 1.0)
    assert (answer.max_output_tokens, answer.metadata) == (9, {"k": "v"})
    assert answer.tools[0].to_dict() == WEATHER
    assert answer.tool_choice.to_dict() == {"type": "function", "name": "get_weather"}
    assert (answer.parallel_tool_calls, answer.store, answer.user) == (False, False, "ann")
    assert answer.id.startswith("resp_")
    assert (answer.status, answer.error, answer.incomplete_details) == ("completed", None, None)


@pytest.mark.parametrize(
    ("end", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
async def test_an_answer_that_was_cut_is_incomplete_and_says_why(connect, told, end, reason):
    model = told(
        Delta("some"),
        Delta(tool_call=ToolCallDelta(0, "c", "f", '{"a": ')),
        Delta(finish_reason=end),
    )
    async with connect(app_of(model)) as client:
        whole = await client.responses.create(**ASK)
        stream = await client.responses.create(**ASK, stream=True)
        events = [event async for event in stream]
    assert events[-1].type == "response.incomplete"
    for answer in (whole, events[-1].response):
        assert answer.status == "incomplete"
        assert answer.incomplete_details.reason == reason
        assert [item.status for item in answer.output] == ["completed", "incomplete"]
        assert answer.completed_at is None
        assert answer.output[1].arguments == '{"a": '


class City(pydantic.BaseModel):
    name: str


async def test_the_sdk_parses_a_schema_and_arguments(connect):
    call = ToolCall("c", "City", '{"name": "Turin"}')
    model = ScriptedModel(['{"name": "Turin"}', Message("assistant", "", tool_calls=(call,))])
    async with connect(app_of(model)) as client:
        answer = await client.responses.parse(**ASK, text_format=City)
        tool = openai.pydantic_function_tool(City)["function"]
        called = await client.responses.parse(**ASK, tools=[{"type": "function", **tool}])
    assert answer.output_parsed == City(name="Turin")
    assert json.loads(model.requests[0].grammar.source)["required"] == ["name"]
    assert called.output[0].parsed_arguments is not None


async def test_logprobs_come_where_they_are_included(connect):
    async with connect(app_of(ScriptedModel(["one two"]))) as client:
        answer = await client.responses.create(
            **ASK, include=["message.output_text.logprobs"], top_logprobs=1
        )
        stream = await client.responses.create(
            **ASK, include=["message.output_text.logprobs"], stream=True
        )
        streamed = [e async for e in stream if e.type == "response.output_text.delta"]
    tokens = answer.output[0].content[0].logprobs
    assert [(t.token, len(t.top_logprobs)) for t in tokens] == [("one", 1), (" two", 1)]
    assert [[t.token for t in e.logprobs] for e in streamed] == [["one"], [" two"]]


HIDDEN = (TokenLogprob("<call>", b"", -0.1),)


async def test_logprobs_of_tokens_around_a_call_make_no_text(http, told):
    model = told(
        Delta(logprobs=HIDDEN),
        Delta(logprobs=HIDDEN, tool_call=ToolCallDelta(0, "c", "f", "{}")),
        Delta(logprobs=HIDDEN, finish_reason="tool_calls"),
    )
    _, answer = await asked(http, {}, model)
    assert [item["type"] for item in answer["output"]] == ["function_call"]


@pytest.mark.parametrize("text", ["so", ""])
async def test_logprobs_before_and_after_a_text_are_of_it(http, told, text):
    model = told(Delta(logprobs=HIDDEN), Delta(text), Delta(logprobs=HIDDEN, finish_reason="stop"))
    _, answer = await asked(http, {}, model)
    [part] = answer["output"][0]["content"]
    assert (part["text"], len(part["logprobs"])) == (text, 2)


# Errors.


async def test_an_error_before_the_first_event_is_a_status(connect):
    model = ScriptedModel([OverloadedError("the queue is full", retry_after_s=2)])
    async with connect(app_of(model)) as client:
        with pytest.raises(openai.RateLimitError):
            await client.responses.create(**ASK, stream=True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EngineError("the engine stopped"), "server_error"),
        (OverloadedError("too many"), "rate_limit_exceeded"),
        (KeyError("my secret"), "server_error"),
        (None, "server_error"),
    ],
)
async def test_an_error_in_mid_stream_is_a_response_that_failed(connect, told, error, code):
    model = told(Delta("some"), *([error] if error else []))
    async with connect(app_of(model)) as client:
        stream = await client.responses.create(**ASK, stream=True)
        events = [event async for event in stream]
    last = events[-1]
    assert last.type == "response.failed"
    assert last.sequence_number == len(events) - 1
    assert (last.response.status, last.response.error.code) == ("failed", code)
    assert "secret" not in last.response.error.message
    assert last.response.output[0].status == "incomplete"
    assert last.response.completed_at is None
    assert last.response.output[0].content[0].text == "some"


@pytest.mark.parametrize(
    "told_",
    [
        (Delta(tool_call=ToolCallDelta(0, arguments="{}")),),
        (Delta(tool_call=ToolCallDelta(0, "c", "")),),
        (
            Delta(tool_call=ToolCallDelta(0, "c", "f")),
            Delta("so"),
            Delta(tool_call=ToolCallDelta(0, arguments="{}")),
        ),
    ],
)
async def test_a_call_in_pieces_that_do_not_fit_is_an_error_and_no_other_call(http, told, told_):
    model = told(*told_, Delta(finish_reason="tool_calls"))
    async with http(app_of(model)) as client:
        answer = await client.post(PATH, json=ASK)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "engine_error"


# Fields.


def message(role, content, **more):
    return {"role": role, "content": content, **more}


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        ("hi", [Message("user", "hi")]),
        ([message("developer", "a")], [Message("system", "a")]),
        (
            [message("user", [{"type": "input_text", "text": t} for t in "ab"], type="message")],
            [Message("user", "a\nb")],
        ),
        (
            [
                message("user", "q"),
                message("assistant", "a"),
                message("assistant", "b"),
                message("user", "r"),
            ],
            [
                Message("user", "q"),
                Message("assistant", "a"),
                Message("assistant", "b"),
                Message("user", "r"),
            ],
        ),
        (
            [
                {"type": "function_call", "call_id": "x", "name": "f", "arguments": "{}"},
                {
                    "id": "msg_1",
                    "type": "message",
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "so", "annotations": []}],
                },
                {"type": "function_call_output", "call_id": "x", "output": "1"},
                {"type": "function_call", "call_id": "y", "name": "f", "arguments": "{}"},
                {
                    "type": "function_call_output",
                    "call_id": "y",
                    "output": [{"type": "input_text", "text": "2"}],
                },
            ],
            [
                Message("assistant", "so", tool_calls=(ToolCall("x", "f", "{}"),)),
                Message("tool", "1", tool_call_id="x"),
                Message("assistant", "", tool_calls=(ToolCall("y", "f", "{}"),)),
                Message("tool", "2", tool_call_id="y"),
            ],
        ),
    ],
)
async def test_items_become_turns(http, items, messages):
    request, _ = await asked(http, {"input": items})
    assert list(request.messages) == messages


def allowed(mode, *names):
    tools = [{"type": "function", "name": name} for name in names]
    return {"type": "allowed_tools", "mode": mode, "tools": tools}


CLOCK = {"type": "function", "name": "clock"}
# name: (extra fields, what the core request then is). A dotted name reads an attribute.
HONOURED = {
    "model": ({}, {}),
    "input": ({}, {"messages": (Message("user", "hello there"),)}),
    "instructions": (
        {"instructions": "Be brief."},
        {"messages": (Message("system", "Be brief."), Message("user", "hello there"))},
    ),
    "max_output_tokens": ({"max_output_tokens": 9}, {"sampling.max_tokens": 9}),
    "temperature": ({"temperature": 0}, {"sampling.temperature": 0}),
    "top_p": ({"top_p": 0.5}, {"sampling.top_p": 0.5}),
    "include": ({"include": ["message.output_text.logprobs"]}, {"sampling.logprobs": 0}),
    "top_logprobs": (
        {"include": ["message.output_text.logprobs"], "top_logprobs": 3},
        {"sampling.logprobs": 3},
    ),
    "text": (
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}},
        {"grammar": Grammar.json_schema(SCHEMA)},
    ),
    "text ": ({"text": {"format": {"type": "json_object"}}}, {"grammar": Grammar("json_object")}),
    "tools": ({"tools": [CLOCK]}, {"tools": (Tool("clock"),)}),
    "tool_choice": (
        {"tools": [WEATHER, CLOCK], "tool_choice": allowed("required", "clock")},
        {"tools": (Tool("clock"),), "tool_choice": "required"},
    ),
    "parallel_tool_calls": ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
    "stream": ({"stream": False}, {}),
    "stream_options": ({"stream": True, "stream_options": {"include_obfuscation": False}}, {}),
    "metadata": ({"metadata": {"a": "b"}}, {}),
    "user": ({"user": "x"}, {}),
    "safety_identifier": ({"safety_identifier": "x"}, {}),
    "prompt_cache_key": ({"prompt_cache_key": "x"}, {}),
    "prompt_cache_options": ({"prompt_cache_options": {"mode": "implicit"}}, {}),
    "prompt_cache_retention": ({"prompt_cache_retention": "in_memory"}, {}),
    "reasoning": ({"reasoning": {"effort": "none", "summary": None}}, {}),
    "store": ({"store": False}, {}),
    "background": ({"background": False}, {}),
    "truncation": ({"truncation": "disabled"}, {}),
    "service_tier": ({"service_tier": "auto"}, {}),
    "context_management": ({"context_management": []}, {}),
}
REFUSED = {
    "store": True,
    "previous_response_id": "resp_1",
    "conversation": "conv_1",
    "prompt": {"id": "p"},
    "background": True,
    "background_options": {"completion_window": "2h"},
    "truncation": "auto",
    "context_management": [{"type": "compaction"}],
    "max_tool_calls": 3,
    "service_tier": "priority",
    "moderation": {"model": "omni"},
    "access_programs": {"cyber": "standard"},
    "image": {"context_compression": "auto"},
    "prompt_cache_retention": "24h",
    "prompt_cache_options.mode": "explicit",
    "reasoning.effort": "high",
    "text.verbosity": "low",
}


def test_the_body_knows_exactly_the_sdks_parameters_and_the_tables_cover_them():
    names = set(typing.get_type_hints(response_create_params.ResponseCreateParamsBase))
    assert set(ResponsesBody.model_fields) == names | {"stream"}
    covered = {name.strip().partition(".")[0] for name in HONOURED | REFUSED}
    assert covered == names | {"stream"}


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


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_a_refused_parameter_is_named_with_a_reason(http, name):
    outer, _, inner = name.partition(".")
    value = {inner: REFUSED[name]} if inner else REFUSED[name]
    async with http(app_of(ScriptedModel())) as client:
        answer = await client.post(PATH, json=ASK | {outer: value})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, name), answer.text
    assert error["code"] == "unsupported_parameter"
    assert len(error["message"]) > len(name) + 10


@pytest.mark.parametrize("name", sorted(set(ResponsesBody.model_fields) - {"model", "input"}))
async def test_null_is_the_same_as_leaving_a_field_out(http, name):
    request, _ = await asked(http, {name: None})
    plain, _ = await asked(http, {})
    assert (request.sampling, request.messages) == (plain.sampling, plain.messages)


OUTPUT = {"type": "function_call_output", "call_id": "x", "output": "1"}
CALLED = {"type": "function_call", "call_id": "x", "name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type"),
        ({"input": [{"type": "reasoning", "id": "x", "summary": []}]}, "input.0.type"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input.0.type"),
        ({"input": [{"type": "nonsense"}]}, "input.0.type"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role"),
        ({"input": [message("user", [{"type": "input_image"}])]}, "input.0.content.0.type"),
        ({"input": [OUTPUT]}, "input.0.call_id"),
        ({"input": [CALLED]}, "input.0.call_id"),
        ({"input": [CALLED, CALLED, OUTPUT]}, "input.1.call_id"),
        ({"input": [CALLED, message("user", "x"), OUTPUT]}, "input.0.call_id"),
        ({"input": [CALLED, {**OUTPUT, "name": "g"}]}, "input.1.name"),
        ({"input": [CALLED, {**OUTPUT, "call_id": "y"}]}, "input.1.call_id"),
        ({"input": [{**CALLED, "namespace": "n"}, OUTPUT]}, "input.0.namespace"),
        ({"input": [{**CALLED, "async": True}, OUTPUT]}, "input.0.async"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{**CLOCK, "defer_loading": True}]}, "tools.0.defer_loading"),
        ({"tools": [CLOCK], "tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        ({"tools": [CLOCK], "tool_choice": allowed("auto", "x")}, "tool_choice"),
        ({"include": ["file_search_call.results"]}, "include.0"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"tools": [CLOCK], "text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"max_tokens": 5}, "max_tokens"),
    ],
)
async def test_what_cannot_be_is_400_and_names_the_place_as_sent(http, extra, param):
    model = ScriptedModel()
    async with http(app_of(model)) as client:
        answer = await client.post(PATH, json=ASK | extra)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert model.requests == []
