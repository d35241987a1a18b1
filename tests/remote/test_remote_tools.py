"""Tools of remote models, both ways: definitions, calls and results out, streamed calls back."""

from __future__ import annotations

from typing import Any

import pytest
from tests.serve.conftest import running as served

from lmstack.core import (
    ChatModel,
    Delta,
    InputError,
    Message,
    RemoteError,
    Request,
    SamplingParams,
    ScriptedModel,
    Tool,
    ToolCall,
    complete,
)
from lmstack.remote import AnthropicModel, OpenAIModel
from lmstack.serve import create_app

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool("get_weather", "The weather in a city", SCHEMA, strict=True)
CLOCK = Tool("clock")
CALL = ToolCall("c1", "get_weather", '{"city": "Tokyo"}')
USER = Message("user", "hi")


def openai(server: Any) -> OpenAIModel:
    return OpenAIModel("gpt", base_url=server.url + "/v1", max_retries=0, timeout_s=5)


def anthropic(server: Any) -> AnthropicModel:
    return AnthropicModel("claude", base_url=server.url, max_retries=0, timeout_s=5)


def asked(*messages: Message, **more: Any) -> Request:
    more.setdefault("tools", (WEATHER, CLOCK))
    return Request(messages or (USER,), sampling=SamplingParams(max_tokens=50), **more)


def chunk(reason: str | None = None, index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


def piece(index: int, arguments: str | None, id: str | None = None, name: str | None = None) -> Any:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"index": index, "function": function} | ({"id": id} if id is not None else {})


DONE = [chunk(content="ok"), chunk("stop")]
USED = {"input_tokens": 3, "output_tokens": 1}
STARTED = {
    "type": "message_start",
    "message": {
        "id": "m", "type": "message", "role": "assistant", "content": [], "model": "m",
        "stop_reason": None, "stop_sequence": None, "usage": USED,
    },
}  # fmt: skip


def block(number: int, kind: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": number, "content_block": kind},
        *({"type": "content_block_delta", "index": number, "delta": d} for d in deltas),
        {"type": "content_block_stop", "index": number},
    ]


def text_block(number: int, text: str) -> list[dict[str, Any]]:
    return block(number, {"type": "text", "text": ""}, {"type": "text_delta", "text": text})


def call_block(number: int, id: str, name: str, *pieces: str) -> list[dict[str, Any]]:
    deltas = [{"type": "input_json_delta", "partial_json": text} for text in pieces]
    return block(number, {"type": "tool_use", "id": id, "name": name, "input": {}}, *deltas)


def ended(reason: str) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]


ANSWERED = [STARTED, *text_block(0, "ok"), *ended("end_turn")]


# Out.


async def test_openai_tools_arrive_as_its_api_has_them(server: Any) -> None:
    server.reply = lambda: DONE
    await complete(openai(server), asked())
    body = server.bodies[0]
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "The weather in a city",
                "parameters": SCHEMA,
                "strict": True,
            },
        },
        {"type": "function", "function": {"name": "clock", "parameters": CLOCK.parameters}},
    ]
    assert not {"tool_choice", "parallel_tool_calls"} & set(body)


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("none", "none"),
        ("required", "required"),
        ("clock", {"type": "function", "function": {"name": "clock"}}),
    ],
)
async def test_openai_choices_arrive(server: Any, choice: str, sent: Any) -> None:
    server.reply = lambda: DONE
    await complete(openai(server), asked(tool_choice=choice, parallel_tool_calls=False))
    assert server.bodies[0]["tool_choice"] == sent
    assert server.bodies[0]["parallel_tool_calls"] is False


async def test_anthropic_tools_arrive_as_its_api_has_them(server: Any) -> None:
    server.reply = lambda: ANSWERED
    await complete(anthropic(server), asked())
    assert server.bodies[0]["tools"] == [
        {
            "name": "get_weather",
            "description": "The weather in a city",
            "input_schema": SCHEMA,
            "strict": True,
        },
        {"name": "clock", "input_schema": CLOCK.parameters},
    ]
    assert "tool_choice" not in server.bodies[0]


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        ("auto", False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", True, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ("none", False, {"type": "none"}),
        ("clock", True, {"type": "tool", "name": "clock"}),
    ],
)
async def test_anthropic_choices_arrive(
    server: Any, choice: str, parallel: bool, sent: dict[str, Any]
) -> None:
    server.reply = lambda: ANSWERED
    await complete(anthropic(server), asked(tool_choice=choice, parallel_tool_calls=parallel))
    assert server.bodies[0]["tool_choice"] == sent


async def test_without_tools_nothing_about_them_is_sent(server: Any) -> None:
    server.reply = lambda: DONE
    await complete(openai(server), asked(tools=(), parallel_tool_calls=False))
    server.reply = lambda: ANSWERED
    await complete(anthropic(server), asked(tools=(), parallel_tool_calls=False))
    for body in server.bodies:
        assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(body)


async def test_anthropic_gets_the_results_of_one_turn_in_one_message(server: Any) -> None:
    server.reply = lambda: ANSWERED
    calls = (CALL, ToolCall("c2", "clock", ""))
    await complete(
        anthropic(server),
        asked(
            Message("system", "be brief"),
            USER,
            Message("assistant", "Let me look.", tool_calls=calls),
            Message("tool", "15", tool_call_id="c1"),
            Message("tool", "noon", tool_call_id="c2"),
            Message("assistant", "", tool_calls=(CALL,)),
            Message("tool", "16", tool_call_id="c1"),
            USER,
        ),
    )

    def result(id: str, content: str) -> dict[str, Any]:
        return {"type": "tool_result", "tool_use_id": id, "content": content}

    use = {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {"city": "Tokyo"}}
    assert server.bodies[0]["messages"] == [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me look."},
                use,
                {"type": "tool_use", "id": "c2", "name": "clock", "input": {}},
            ],
        },
        {"role": "user", "content": [result("c1", "15"), result("c2", "noon")]},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result("c1", "16")]},
        {"role": "user", "content": "hi"},
    ]


@pytest.mark.parametrize("arguments", ["[1]", '{"a":', "nonsense", "[" * 100_000])
async def test_arguments_that_anthropic_cannot_be_sent_are_named(
    server: Any, arguments: str
) -> None:
    history = (
        USER,
        Message("assistant", "", tool_calls=(ToolCall("c1", "clock", arguments),)),
        Message("tool", "15", tool_call_id="c1"),
    )
    with pytest.raises(InputError) as caught:
        await complete(anthropic(server), asked(*history))
    assert caught.value.param == "messages.1.tool_calls"
    assert server.bodies == []


# Back.


async def deltas_of(model: ChatModel, request: Request) -> list[Delta]:
    return [delta async for delta in model.stream(request)]


async def test_openai_calls_come_back_in_pieces(server: Any) -> None:
    server.reply = lambda: [
        chunk(role="assistant", content=None, tool_calls=[piece(0, "", "c1", "get_weather")]),
        chunk(tool_calls=[piece(0, '{"ci')]),
        chunk(tool_calls=[piece(0, 'ty": "Tokyo"}'), piece(1, None, "c2", "clock")]),
        chunk(tool_calls=[piece(1, "{}")]),
        chunk("tool_calls"),
    ]
    deltas = await deltas_of(openai(server), asked())
    heads = [d.tool_call for d in deltas if d.tool_call and d.tool_call.id]
    assert [(h.index, h.id, h.name) for h in heads] == [
        (0, "c1", "get_weather"),
        (1, "c2", "clock"),
    ]
    answer = await complete(openai(server), asked())
    assert answer.tool_calls == (CALL, ToolCall("c2", "clock", "{}"))
    assert (answer.text, answer.choices[0].finish_reason) == ("", "tool_calls")


async def test_openai_text_beside_a_call_and_a_forced_call_that_ends_with_stop(server: Any) -> None:
    server.reply = lambda: [
        chunk(content="Let me look."),
        chunk("stop", content=" So.", tool_calls=[piece(0, "{}", "c1", "clock")]),
    ]
    answer = await complete(openai(server), asked(tool_choice="clock"))
    assert answer.text == "Let me look. So."
    assert answer.tool_calls == (ToolCall("c1", "clock", "{}"),)
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_openai_calls_of_choices_that_interleave_stay_apart(server: Any) -> None:
    server.reply = lambda: [
        chunk(index=1, tool_calls=[piece(0, "{", "b", "clock")]),
        chunk(index=0, tool_calls=[piece(0, "{", "a", "clock")]),
        chunk(index=1, tool_calls=[piece(0, "}")]),
        chunk("stop", index=0, tool_calls=[piece(0, "}")]),
        chunk("length", index=1),
    ]
    request = Request((USER,), sampling=SamplingParams(n=2), tools=(CLOCK,))
    answer = await complete(openai(server), request)
    assert [c.tool_calls[0] for c in answer.choices] == [
        ToolCall("a", "clock", "{}"),
        ToolCall("b", "clock", "{}"),
    ]
    assert [c.finish_reason for c in answer.choices] == ["tool_calls", "length"]


async def test_a_server_that_repeats_names_or_gives_no_ids_is_understood(server: Any) -> None:
    server.reply = lambda: [
        chunk(tool_calls=[piece(0, "{", "", "clock")]),
        chunk(tool_calls=[piece(0, "}", "", "clock")]),
        chunk("tool_calls"),
    ]
    [call] = (await complete(openai(server), asked())).tool_calls
    assert (call.name, call.arguments) == ("clock", "{}")
    assert call.id.startswith("call_")


@pytest.mark.parametrize(
    "events",
    [
        [chunk(tool_calls=[piece(0, "{}", "c1")]), chunk("tool_calls")],
        [chunk(tool_calls=[{"index": 0, "id": "c1"}]), chunk("tool_calls")],
        [chunk(tool_calls=[{"id": "c1", "function": {"name": "f"}}]), chunk("tool_calls")],
    ],
)
async def test_a_call_that_lacks_what_the_api_promises_is_a_remote_error(
    server: Any, events: list[Any]
) -> None:
    server.reply = lambda: events
    with pytest.raises(RemoteError):
        await complete(openai(server), asked())


async def test_anthropic_calls_come_back_in_pieces(server: Any) -> None:
    server.reply = lambda: [
        STARTED,
        *text_block(0, "Let me look."),
        *call_block(1, "c1", "get_weather", "", '{"city"', ': "Tokyo"}'),
        *call_block(2, "c2", "clock", ""),
        *call_block(3, "c3", "clock"),
        *ended("tool_use"),
    ]
    deltas = await deltas_of(anthropic(server), asked())
    heads = [d.tool_call for d in deltas if d.tool_call and d.tool_call.id]
    assert [(h.index, h.id) for h in heads] == [(0, "c1"), (1, "c2"), (2, "c3")]
    answer = await complete(anthropic(server), asked())
    assert answer.text == "Let me look."
    assert answer.tool_calls == (
        CALL,
        ToolCall("c2", "clock", "{}"),
        ToolCall("c3", "clock", "{}"),
    )
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_input_for_a_block_that_never_began_is_a_remote_error(server: Any) -> None:
    server.reply = lambda: [STARTED, *call_block(1, "c1", "clock", "{}")[1:], *ended("tool_use")]
    with pytest.raises(RemoteError):
        await complete(anthropic(server), asked())


# Against the server of this package.


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_a_loop_through_our_own_server(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "any")
    said = Message("assistant", "Let me look.", tool_calls=(CALL, ToolCall("c2", "clock", "{}")))
    inner = ScriptedModel([said, "Mild."])
    async with served(create_app(models={"m": inner})) as url:
        model: ChatModel = (
            OpenAIModel("m", base_url=f"{url}/v1", max_retries=0)
            if provider == "openai"
            else AnthropicModel("m", base_url=url, max_retries=0)
        )
        first = await complete(model, asked(parallel_tool_calls=False))
        results = [Message("tool", "15", tool_call_id=call.id) for call in first.tool_calls]
        final = await complete(model, asked(USER, first.choices[0].message, *results))
    assert first.choices[0].message == said
    assert first.choices[0].finish_reason == "tool_calls"
    assert first.usage.prompt_tokens > 0
    assert final.text == "Mild."
    assert inner.requests[0].tools == (WEATHER, CLOCK)
    assert inner.requests[0].parallel_tool_calls is False
    assert inner.requests[1].messages == (USER, said, *results)
