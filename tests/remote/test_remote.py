"""Remote models through the official SDKs, against a local server that accepts nothing unknown."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from lmstack.core import (
    AuthError,
    ChatModel,
    ContextLengthError,
    Grammar,
    InputError,
    LmstackError,
    Message,
    NotFoundError,
    OverloadedError,
    RemoteError,
    Request,
    SamplingParams,
    ToolCall,
    UnsupportedError,
    complete,
    complete_sync,
)
from lmstack.remote import AnthropicModel, OpenAIModel


def chunk(text: str = "", index: int = 0, reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": reason, **more}
    return {"choices": [choice]}


USAGE = {
    "choices": [],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 5},
    },
}
HELLO = [chunk("Hel"), chunk("lo"), chunk(reason="stop"), USAGE]


def block(text: str) -> dict[str, Any]:
    delta = {"type": "text_delta", "text": text}
    return {"type": "content_block_delta", "index": 0, "delta": delta}


def ended(reason: str) -> dict[str, Any]:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": None},
        "usage": {"output_tokens": 4},
    }


STARTED = {
    "type": "message_start",
    "message": {
        "id": "m", "type": "message", "role": "assistant", "content": [], "model": "m",
        "stop_reason": None, "stop_sequence": None,
        "usage": {
            "input_tokens": 3, "output_tokens": 1,
            "cache_read_input_tokens": 5, "cache_creation_input_tokens": 1,
        },
    },
}  # fmt: skip
STOPPED = {"type": "message_stop"}
BONJOUR = [STARTED, block("Bon"), block("jour"), ended("end_turn"), STOPPED]


def openai(server: Any, **options: Any) -> OpenAIModel:
    return OpenAIModel("gpt", base_url=server.url + "/v1", max_retries=0, timeout_s=5, **options)


def anthropic(server: Any, **options: Any) -> AnthropicModel:
    return AnthropicModel("claude", base_url=server.url, max_retries=0, timeout_s=5, **options)


def model_of(server: Any, provider: str, **options: Any) -> ChatModel:
    make = openai if provider == "openai" else anthropic
    return make(server, **options)


def asked(*messages: Message, **more: Any) -> Request:
    grammar, echo = more.pop("grammar", None), more.pop("echo", False)
    more.setdefault("max_tokens", 50)
    return Request(
        messages or (Message("user", "hi"),),
        sampling=SamplingParams(**more),
        grammar=grammar,
        echo=echo,
    )


both = pytest.mark.parametrize("provider", ["openai", "anthropic"])


# What comes back.


async def test_openai_text_usage_and_reason(server: Any) -> None:
    server.reply = lambda: HELLO
    whole = await complete(openai(server), asked())
    assert (whole.text, whole.choices[0].finish_reason) == ("Hello", "stop")
    usage = whole.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (9, 4, 5)


async def test_anthropic_text_usage_and_reason(server: Any) -> None:
    server.reply = lambda: BONJOUR
    whole = await complete(anthropic(server), asked())
    assert (whole.text, whole.choices[0].finish_reason) == ("Bonjour", "stop")
    usage = whole.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (9, 4, 5)


async def test_usage_comes_last_and_only_there(server: Any) -> None:
    for model, events in ((openai(server), HELLO), (anthropic(server), BONJOUR)):
        server.reply = lambda events=events: events
        deltas = [delta async for delta in model.stream(asked())]
        assert [delta.usage is not None for delta in deltas] == [False] * (len(deltas) - 1) + [True]
        assert deltas[-1].timings is not None


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
    ],
)
async def test_openai_reasons(server: Any, reason: str, expected: str) -> None:
    server.reply = lambda: [chunk("x", reason=reason)]
    assert (await complete(openai(server), asked())).choices[0].finish_reason == expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("tool_use", "tool_calls"),
    ],
)
async def test_anthropic_reasons(server: Any, reason: str, expected: str) -> None:
    server.reply = lambda: [STARTED, block("x"), ended(reason), STOPPED]
    assert (await complete(anthropic(server), asked())).choices[0].finish_reason == expected


@both
async def test_a_reason_that_is_not_known_is_named_not_guessed(server: Any, provider: str) -> None:
    server.reply = lambda: (
        [chunk("x", reason="tired")] if provider == "openai" else [STARTED, ended("tired"), STOPPED]
    )
    with pytest.raises(RemoteError, match="tired"):
        await complete(model_of(server, provider), asked())


async def test_choices_that_interleave_keep_their_index(server: Any) -> None:
    server.reply = lambda: [
        chunk("a", 1), chunk("x", 0), chunk("b", 1, "stop"), chunk("y", 0, "length"), USAGE,
    ]  # fmt: skip
    whole = await complete(openai(server), asked(n=2))
    assert [c.text for c in whole.choices] == ["xy", "ab"]
    assert server.bodies[0]["n"] == 2


async def test_logprobs_keep_exact_bytes_and_alternatives(server: Any) -> None:
    other = {"token": "b", "bytes": None, "logprob": -2.0}
    entry = {"token": "\ufffd", "bytes": [240, 159], "logprob": -0.5, "top_logprobs": [other]}
    server.reply = lambda: [chunk("x", reason="stop", logprobs={"content": [entry]}), USAGE]
    whole = await complete(openai(server), asked(logprobs=1))
    (got,) = whole.choices[0].logprobs
    assert (got.bytes, got.logprob) == (b"\xf0\x9f", -0.5)
    assert (got.top[0].bytes, got.top[0].logprob) == (b"b", -2.0)
    assert (server.bodies[0]["logprobs"], server.bodies[0]["top_logprobs"]) == (True, 1)


# What is sent.


async def test_defaults_send_nothing_that_was_not_asked_for(server: Any) -> None:
    server.reply = lambda: HELLO
    await complete(openai(server), Request((Message("user", "hi"),)))
    assert server.bodies[0] == {
        "model": "gpt",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_every_sampling_parameter_of_openai_arrives(server: Any) -> None:
    server.reply = lambda: HELLO
    request = asked(
        max_tokens=7,
        temperature=0.0,
        top_p=0.5,
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        logit_bias={5: 1.5},
        seed=0,
        stop=("END",),
    )
    await complete(openai(server), request)
    body = server.bodies[0]
    expected = {
        "max_completion_tokens": 7,
        "temperature": 0.0,
        "top_p": 0.5,
        "presence_penalty": 0.1,
        "frequency_penalty": -0.1,
        "logit_bias": {"5": 1.5},
        "seed": 0,
        "stop": ["END"],
    }
    assert {name: body[name] for name in expected} == expected


async def test_older_servers_get_the_older_name_of_max_tokens(server: Any) -> None:
    server.reply = lambda: HELLO
    await complete(openai(server, max_tokens_field="max_tokens"), asked(max_tokens=7))
    assert server.bodies[0]["max_tokens"] == 7
    assert "max_completion_tokens" not in server.bodies[0]


async def test_every_sampling_parameter_of_anthropic_arrives(server: Any) -> None:
    server.reply = lambda: BONJOUR
    request = asked(max_tokens=7, temperature=0.0, top_p=0.5, top_k=3, stop=("END",))
    await complete(anthropic(server), request)
    expected = {
        "max_tokens": 7, "temperature": 0.0, "top_p": 0.5, "top_k": 3, "stop_sequences": ["END"],
    }  # fmt: skip
    assert {name: server.bodies[0][name] for name in expected} == expected


async def test_anthropic_system_messages_are_sent_apart(server: Any) -> None:
    server.reply = lambda: BONJOUR
    messages = (Message("system", "be brief"), Message("user", "hi"), Message("assistant", "yes?"))
    await complete(anthropic(server), asked(*messages, Message("user", "go")))
    body = server.bodies[0]
    assert body["system"] == "be brief"
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "user"]


async def test_openai_messages_keep_names_and_tool_calls(server: Any) -> None:
    server.reply = lambda: HELLO
    call = ToolCall("t1", "add", '{"a":1}')
    await complete(
        openai(server),
        asked(
            Message("user", "hi", name="ann"),
            Message("assistant", "", tool_calls=(call,)),
            Message("tool", "3", tool_call_id="t1"),
        ),
    )
    assert server.bodies[0]["messages"] == [
        {"role": "user", "content": "hi", "name": "ann"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "t1",
                    "type": "function",
                    "function": {"name": "add", "arguments": '{"a":1}'},
                }
            ],
        },
        {"role": "tool", "content": "3", "tool_call_id": "t1"},
    ]


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


async def test_json_formats_arrive(server: Any) -> None:
    server.reply = lambda: HELLO
    await complete(openai(server), asked(grammar=Grammar("json_object")))
    await complete(openai(server), asked(grammar=Grammar.json_schema(SCHEMA)))
    server.reply = lambda: BONJOUR
    await complete(anthropic(server), asked(grammar=Grammar.json_schema(SCHEMA)))
    formats = [body.get("response_format") for body in server.bodies[:2]]
    assert formats[0] == {"type": "json_object"}
    named = {"name": "answer", "schema": SCHEMA, "strict": True}
    assert formats[1] == {"type": "json_schema", "json_schema": named}
    assert server.bodies[2]["output_config"] == {
        "format": {"type": "json_schema", "schema": SCHEMA}
    }


OPENAI_REFUSES: list[tuple[Request, str]] = [
    (asked(top_k=5), "top_k"),
    (asked(min_p=0.1), "min_p"),
    (asked(repetition_penalty=1.1), "repetition_penalty"),
    (asked(ignore_eos=True), "ignore_eos"),
    (asked(echo=True), "echo"),
    (Request(prompt="raw"), "prompt"),
    (asked(grammar=Grammar("regex", "a+")), "response_format"),
    (asked(grammar=Grammar("lark", "start: /a/")), "response_format"),
]
ANTHROPIC_REFUSES: list[tuple[Request, str]] = [
    (asked(min_p=0.1), "min_p"),
    (asked(presence_penalty=0.1), "presence_penalty"),
    (asked(frequency_penalty=0.1), "frequency_penalty"),
    (asked(repetition_penalty=1.1), "repetition_penalty"),
    (asked(logit_bias={1: 1}), "logit_bias"),
    (asked(seed=0), "seed"),
    (asked(logprobs=0), "logprobs"),
    (asked(n=2), "n"),
    (asked(ignore_eos=True), "ignore_eos"),
    (asked(temperature=1.5), "temperature"),
    (asked(echo=True), "echo"),
    (Request(prompt=(1, 2)), "prompt"),
    (asked(grammar=Grammar("regex", "a+")), "response_format"),
    (asked(grammar=Grammar("json_object")), "response_format"),
    (asked(Message("user", "hi", name="ann")), "messages.0.name"),
    (asked(Message("user", "a"), Message("system", "b"), Message("user", "c")), "messages"),
]


@pytest.mark.parametrize(
    ("provider", "request_", "field"),
    [("openai", *case) for case in OPENAI_REFUSES]
    + [("anthropic", *case) for case in ANTHROPIC_REFUSES],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_a_provider_cannot_do_is_refused_by_name_and_not_sent(
    server: Any, provider: str, request_: Request, field: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        await complete(model_of(server, provider), request_)
    assert caught.value.param == field
    assert server.bodies == []


@pytest.mark.parametrize(
    "request_", [Request((Message("user", "hi"),)), asked(Message("system", "only"))]
)
async def test_anthropic_says_what_it_lacks(server: Any, request_: Request) -> None:
    with pytest.raises(InputError):
        await complete(anthropic(server), request_)
    assert server.bodies == []


# Errors.


@pytest.fixture
def refuses_greedy(server: Any) -> Callable[[str], None]:
    """The server refuses each temperature, as for models that reason."""

    def begin(provider: str) -> None:
        def reply() -> Any:
            if "temperature" in server.bodies[-1]:
                said = "Unsupported value: 'temperature' does not support 0 with this model."
                error = {"type": "invalid_request_error", "message": said}
                return JSONResponse({"error": error}, 400)
            return HELLO if provider == "openai" else BONJOUR

        server.reply = reply

    return begin


@both
async def test_a_model_that_takes_no_temperature_of_0_is_not_drawn_from_in_silence(
    server: Any, provider: str, refuses_greedy: Callable[[str], None]
) -> None:
    """A result that says 0 would be another each time."""
    refuses_greedy(provider)
    model = model_of(server, provider)
    for _ in range(2):
        with pytest.raises(InputError, match="temperature") as caught:
            await complete(model, asked(temperature=0))
        assert "ask at the temperature 1" in (caught.value.hint or "")
    assert ["temperature" in body for body in server.bodies] == [True, True]


@both
async def test_where_it_may_be_it_is_asked_without_one_from_then_on_and_that_is_said(
    server: Any,
    provider: str,
    refuses_greedy: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    refuses_greedy(provider)
    model = model_of(server, provider, may_draw=True)
    for _ in range(2):
        assert (await complete(model, asked(temperature=0))).text in ("Hello", "Bonjour")
    assert ["temperature" in body for body in server.bodies] == [True, False, False]
    assert caplog.text.count("from now on its answers are drawn") == 1
    with pytest.raises(InputError, match="temperature"):
        await complete(model, asked(temperature=0.5))
    assert len(server.bodies) == 4


def refusal(status: int, kind: str, message: str, **headers: str) -> Response:
    error = {"type": kind, "code": kind, "message": message, "param": "messages"}
    return JSONResponse({"type": "error", "error": error}, status, headers=headers)


@both
@pytest.mark.parametrize(
    ("status", "kind", "message", "expected"),
    [
        (401, "authentication_error", "no", AuthError),
        (403, "permission_error", "no", AuthError),
        (404, "not_found_error", "no such model", NotFoundError),
        (429, "rate_limit_error", "slow down", OverloadedError),
        (529, "overloaded_error", "busy", OverloadedError),
        (503, "unavailable", "busy", OverloadedError),
        (400, "invalid_request_error", "bad field", InputError),
        (400, "context_length_exceeded", "9000 tokens", ContextLengthError),
        (400, "invalid_request_error", "prompt is too long: 9000 tokens", ContextLengthError),
        (422, "invalid_request_error", "bad", InputError),
        (500, "api_error", "oops", RemoteError),
        (502, "bad_gateway", "oops", RemoteError),
    ],
)
async def test_each_status_is_the_error_that_says_what_to_do(
    server: Any,
    provider: str,
    status: int,
    kind: str,
    message: str,
    expected: type[LmstackError],
) -> None:
    server.reply = lambda: refusal(status, kind, message)
    with pytest.raises(LmstackError) as caught:
        await complete(model_of(server, provider), asked())
    assert type(caught.value) is expected
    assert caught.value.hint or caught.value.param


@both
async def test_a_rate_limit_says_how_long_to_wait(server: Any, provider: str) -> None:
    server.reply = lambda: refusal(429, "rate_limit_error", "slow", **{"retry-after": "7"})
    with pytest.raises(OverloadedError) as caught:
        await complete(model_of(server, provider), asked())
    assert caught.value.retry_after_s == 7


@both
@pytest.mark.parametrize("after", ["", "Wed, 21 Oct 2026 07:28:00 GMT", "nan", "-5", "inf"])
async def test_a_strange_retry_after_is_a_finite_wait(
    server: Any, provider: str, after: str
) -> None:
    server.reply = lambda: refusal(429, "rate_limit_error", "slow", **{"retry-after": after})
    with pytest.raises(OverloadedError) as caught:
        await complete(model_of(server, provider), asked())
    assert 0 <= caught.value.retry_after_s < 3600


@both
@pytest.mark.parametrize("body", ["", "<html>", "[]", '{"error": "text"}', '{"error": null}'])
async def test_an_error_without_the_usual_body_is_still_one_of_ours(
    server: Any, provider: str, body: str
) -> None:
    server.reply = lambda: Response(body, 500)
    with pytest.raises(RemoteError, match="500"):
        await complete(model_of(server, provider), asked())


@both
async def test_an_error_event_in_mid_stream_is_mapped(server: Any, provider: str) -> None:
    error = {"type": "overloaded_error", "message": "busy"}
    if provider == "openai":
        server.reply = lambda: [chunk("x"), f"data: {json.dumps({'error': error})}\n\n"]
    else:
        server.reply = lambda: [STARTED, block("x"), {"type": "error", "error": error}]
    with pytest.raises(OverloadedError):
        await complete(model_of(server, provider), asked())


@both
@pytest.mark.parametrize("how", ["break", "end", "garbage"])
async def test_a_stream_that_breaks_off_is_an_error_not_a_short_answer(
    server: Any, provider: str, how: str
) -> None:
    event: Any = chunk("half") if provider == "openai" else block("half")
    last = {"break": ["break"], "end": [], "garbage": ["event: message_delta\ndata: {not json\n\n"]}
    start = [] if provider == "openai" else [STARTED]
    server.reply = lambda: [*start, event, *last[how]]
    seen: list[str] = []

    async def read() -> None:
        async for delta in model_of(server, provider).stream(asked()):
            seen.append(delta.text)  # noqa: PERF401 (what came before the error is kept)

    with pytest.raises(RemoteError):
        await read()
    assert seen == ["half"]


@both
async def test_an_event_that_lacks_what_the_api_promises_is_a_remote_error(
    server: Any, provider: str
) -> None:
    server.reply = lambda: (
        [{"choices": [{"index": 0}]}, {"choices": 5}]
        if provider == "openai"
        else [{"type": "message_start"}]
    )
    with pytest.raises(RemoteError):
        await complete(model_of(server, provider), asked())


async def test_a_server_that_is_not_there_says_which(server: Any) -> None:
    model = OpenAIModel("gpt", base_url="http://127.0.0.1:9/v1", max_retries=0)
    with pytest.raises(RemoteError, match=r"127\.0\.0\.1:9"):
        await complete(model, asked())


@both
async def test_a_client_that_goes_away_closes_the_connection(server: Any, provider: str) -> None:
    start = [chunk("a")] if provider == "openai" else [STARTED, block("a")]
    server.reply = lambda: [*start, "hang"]
    stream = model_of(server, provider).stream(asked())
    await anext(stream)
    assert server.streaming == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(server.closed.wait, 5)
    assert server.streaming == 0


@both
async def test_a_cancelled_task_closes_the_connection(server: Any, provider: str) -> None:
    start = [chunk("a")] if provider == "openai" else [STARTED, block("a")]
    server.reply = lambda: [*start, "hang"]
    task = asyncio.create_task(complete(model_of(server, provider), asked()))
    while server.streaming == 0 and not task.done():
        await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(server.closed.wait, 5)


@both
def test_one_model_serves_one_event_loop_after_another(server: Any, provider: str) -> None:
    server.reply = lambda: HELLO if provider == "openai" else BONJOUR
    model = model_of(server, provider)
    texts = {complete_sync(model, asked()).text for _ in range(3)}
    assert len(texts) == 1


# Keys.


@both
async def test_a_wrong_key_is_an_auth_error_that_shows_no_part_of_it(
    server: Any,
    provider: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    variable = provider.upper() + "_API_KEY"
    monkeypatch.setenv(variable, "sk-wrong-secret")
    model = model_of(server, provider)
    with pytest.raises(AuthError, match=variable) as caught:
        await complete(model, asked())
    error: BaseException | None = caught.value
    while error is not None:
        assert "wrong-secret" not in str(error) + repr(error)
        error = error.__cause__ or error.__context__
    assert "wrong-secret" not in caplog.text + repr(model)


@both
async def test_a_key_that_the_provider_quotes_is_taken_out(server: Any, provider: str) -> None:
    server.reply = lambda: refusal(500, "api_error", f"cannot use {server.key} now")
    with pytest.raises(RemoteError) as caught:
        await complete(model_of(server, provider), asked())
    assert server.key not in str(caught.value)


@pytest.mark.parametrize("make", [OpenAIModel, AnthropicModel])
def test_without_a_key_nothing_is_made(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(make.key_variable, raising=False)
    with pytest.raises(AuthError, match=make.key_variable):
        make("m")


@both
def test_a_model_that_holds_a_key_is_not_written_anywhere(server: Any, provider: str) -> None:
    with pytest.raises(InputError):
        pickle.dumps(model_of(server, provider))


def test_the_address_is_never_taken_from_the_environment(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://evil.example")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://evil.example")
    assert OpenAIModel("m").base_url == "https://api.openai.com/v1"
    assert AnthropicModel("m").base_url == "https://api.anthropic.com"


def test_importing_core_imports_no_sdk_and_no_torch() -> None:
    script = (
        "import sys, lmstack.core; print([m for m in ('openai', 'anthropic', 'httpx', 'torch')"
        " if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
