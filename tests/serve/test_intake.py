"""Broken bodies: each is a 4xx in OpenAI's shape that says what was wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import tracemalloc

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from lmstack.core import ScriptedModel
from lmstack.serve import create_app
from lmstack.serve.http.body import MAX_BODY_BYTES, MAX_DEPTH, parse_json, read_body, validate
from lmstack.serve.http.embeddings import EmbeddingBody
from lmstack.serve.http.errors import HttpError
from lmstack.serve.http.messages_request import MessagesBody
from lmstack.serve.http.requests import ChatBody, CompletionBody
from lmstack.serve.http.responses_request import ResponsesBody
from lmstack.serve.http.tokens import DetokenizeBody

JSON = {"content-type": "application/json"}
ROUTES = [
    *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"),
    *("/v1/embeddings", "/tokenize", "/detokenize"),
]


@pytest.fixture
def app():
    return create_app(models={"m": ScriptedModel()})


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"model": "\xff"}', "not JSON"),
        (b'{"model": NaN}', "not JSON"),
        (b'{"model": Infinity}', "not JSON"),
        (b'{"model": 1e999}', "too large"),
        (b'{"model": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"model": "\\ud800"}', "not JSON"),
        (b'{"model": "\\udc00\\ud800"}', "not JSON"),
        (b'{"model": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
        (b'{"model": ' + b"[" * 70 + b"]" * 70 + b"}", f"deeper than {MAX_DEPTH}"),
        (b'{"model": "m"} x', "not JSON"),
        (b'{"model": "m", "model": "n"}', "'model' twice"),
        (b'{"messages": [{"role": "user", "role": "system"}]}', "'role' twice"),
        (b"\xef\xbb\xbf{}", "not JSON"),
    ],
    ids=lambda value: str(value[:24]) if isinstance(value, bytes) else None,
)
async def test_a_body_that_is_not_strict_json_is_400(http, app, route, data, words):
    async with http(app) as client:
        answer = await client.post(route, content=data, headers=JSON)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert words in error["message"]
    code = error["details"]["error_code"] if route == "/v1/messages" else error["code"]
    assert code == "invalid_json"


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data", "", "application/jsonx"])
async def test_another_content_type_is_415(http, app, kind):
    async with http(app) as client:
        answer = await client.post(
            "/v1/chat/completions", content=b"{}", headers={"content-type": kind}
        )
    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "unsupported_media_type"


async def test_a_charset_after_the_content_type_is_fine(http, app):
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    async with http(app) as client:
        answer = await client.post(
            "/v1/chat/completions",
            content=json.dumps(body),
            headers={"content-type": "Application/JSON; charset=utf-8"},
        )
    assert answer.status_code == 200


async def test_a_declared_length_over_the_limit_is_413_before_reading(http, app):
    async with http(app) as client:
        answer = await client.post(
            "/v1/completions",
            content=b"{}",
            headers=JSON | {"content-length": str(MAX_BODY_BYTES + 1)},
        )
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


async def test_an_undeclared_length_is_counted_while_reading(serve, app):
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 2**16
            yield b" " * 2**16

    async with serve(app) as url, httpx.AsyncClient(base_url=url) as client:
        try:
            answer = await client.post("/v1/completions", content=endless(), headers=JSON)
            assert answer.status_code == 413
        except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
            pass  # the server answered and closed while we were still sending
    assert sent < 2 * MAX_BODY_BYTES


def request_of(*messages: dict) -> Request:
    left = list(messages)

    async def receive() -> dict:
        if not left:
            await asyncio.sleep(60)
        return left.pop(0)

    return Request({"type": "http", "headers": [], "method": "POST"}, receive)


async def test_a_body_that_never_ends_is_408():
    request = request_of({"type": "http.request", "body": b"{", "more_body": True})
    with pytest.raises(HttpError) as caught:
        await read_body(request, timeout_s=0.02)
    assert (caught.value.http_status, caught.value.code) == (408, "request_timeout")


async def test_nothing_past_the_limit_is_kept():
    piece = {"type": "http.request", "body": b"x" * 60, "more_body": True}
    with pytest.raises(HttpError) as caught:
        await read_body(request_of(piece, piece), limit=100)
    assert caught.value.http_status == 413


async def test_too_many_messages_are_400(http, app):
    messages = [{"role": "user", "content": "x"}] * 1025
    async with http(app) as client:
        answer = await client.post(
            "/v1/chat/completions", json={"model": "m", "messages": messages}
        )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages"


async def test_a_large_body_is_parsed_off_the_event_loop(http, app, monkeypatch):
    threads = []

    def parse(data: bytes):
        threads.append(threading.get_ident())
        return parse_json(data)

    monkeypatch.setattr("lmstack.serve.http.body.parse_json", parse)
    messages = [{"role": "user", "content": "x" * 1000}] * 1000
    async with http(app) as client:
        answer = await client.post(
            "/v1/chat/completions", json={"model": "m", "messages": messages}
        )
    assert answer.status_code == 200
    assert threading.get_ident() not in threads


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                *("model", "messages", "stop", "n", "logit_bias", "prompt", "x", "input"),
                *("tools", "tool_choice", "system", "text", "max_tokens", "metadata"),
            ]
        ),
        JSON_VALUES,
    ),
    st.sampled_from(["/v1/chat/completions", "/v1/responses", "/v1/messages"]),
)
async def test_no_json_object_is_a_5xx(http, app, body, route):
    async with http(app) as client:
        answer = await client.post(
            route,
            content=json.dumps(body).encode("utf-8", "surrogatepass"),
            headers=JSON,
        )
    assert answer.status_code in (200, 400, 404)
    assert answer.status_code == 200 or answer.json()["error"]["message"]


@given(st.binary(max_size=40))
def test_bytes_that_parse_are_json_to_the_standard_library_too(data):
    with contextlib.suppress(HttpError):
        value = parse_json(data)
        assert json.loads(data) == value


MANY = 50_000


@pytest.mark.parametrize(
    "kind",
    [ChatBody, CompletionBody, ResponsesBody, MessagesBody, EmbeddingBody, DetokenizeBody],
)
@pytest.mark.parametrize(
    "field",
    [
        {"tokens": ["a"] * MANY},
        {"prompt": [None] * MANY},
        {"prompt": [[0.5]] * MANY},
        {"prompt": [[None] * MANY]},
        {"input": [None] * MANY},
        {"input": [[0.5] * MANY]},
        {"stop": [None] * MANY},
        {"logit_bias": {str(i): "x" for i in range(MANY)}},
        {"metadata": dict.fromkeys(map(str, range(MANY)), 1)},
        {"messages": [{}] * MANY},
        {"messages": [{"role": "user", "content": [{}] * MANY}]},
        {"messages": [{"role": "assistant", "tool_calls": [{}] * MANY}]},
        {"input": [{"type": "function_call_output", "output": [{}] * MANY}]},
        {"tools": [{"type": "function"}] * MANY},
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{}] * MANY}},
        {"system": [{}] * MANY},
        {"modalities": ["x"] * MANY},
        dict.fromkeys(map(str, range(MANY)), 1),
    ],
    ids=lambda field: next(iter(field)),
)
def test_many_mistakes_cost_no_more_than_one(field, kind):
    body = {"model": "m", **field}
    tracemalloc.start()
    with pytest.raises(HttpError):
        validate(body, kind)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6  # messages for every mistake take 20 MB


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        (EmbeddingBody, {"input": []}, "input: list should have at least 1 item"),
        (EmbeddingBody, {"input": ["x"] * 3000}, "not 3000"),
        (CompletionBody, {"prompt": "a", "n": 1000}, "n: input should be less than"),
        (CompletionBody, {"prompt": "a", "n": 1000}, "not 1000"),
        (CompletionBody, {"prompt": "a", "temperature": "hot"}, "not 'hot'"),
    ],
)
def test_a_refusal_names_the_value_and_the_member_of_the_union_that_was_meant(kind, body, message):
    with pytest.raises(HttpError) as caught:
        validate({"model": "m", **body}, kind)
    assert message in caught.value.message
