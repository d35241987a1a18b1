"""Large bodies: counted before they are parsed, one of a client at a time, bounded in memory."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import httpx
import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import OverloadedError, ScriptedModel
from lmstack.serve import create_app
from lmstack.serve.http import body as body_module
from lmstack.serve.http.body import (
    MAX_NAMES,
    MAX_VALUES,
    SMALL_BYTES,
    BodyBudget,
    HeldBody,
    count_json,
    parse_json,
    validate,
)
from lmstack.serve.http.embeddings import EmbeddingBody
from lmstack.serve.http.errors import HttpError
from lmstack.serve.http.requests import ChatBody, CompletionBody
from lmstack.serve.http.tokens import DetokenizeBody

JSON = {"content-type": "application/json"}
UNKNOWN = b"{" + b",".join(b'"%x":0' % n for n in range(MAX_NAMES + 1)) + b"}"

AWKWARD = st.text(st.sampled_from('\\":,[]{}é\n a'), max_size=12)
VALUES = st.recursive(
    st.none() | st.integers() | AWKWARD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(AWKWARD, inner, max_size=4),
    max_leaves=12,
)


def tree_counts(value: Any) -> tuple[int, int]:
    """Names and values, as whoever reads the tree counts them."""
    if isinstance(value, dict):
        below = [tree_counts(item) for item in value.values()]
        return len(value) + sum(n for n, _ in below), 1 + sum(v for _, v in below)
    if isinstance(value, list):
        below = [tree_counts(item) for item in value]
        return sum(n for n, _ in below), 1 + sum(v for _, v in below)
    return 0, 1


@given(VALUES, st.integers(1, 9), st.booleans())
def test_what_strings_hold_is_not_counted_wherever_a_step_ends(value, step, is_ascii):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(body_module, "_STEP", step)
        counts = count_json(json.dumps(value, ensure_ascii=is_ascii).encode())
    names, values = tree_counts(value)
    assert counts.names == names
    assert values <= counts.values <= 2 * values


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (UNKNOWN, f"{MAX_NAMES} names"),
        (b'{"a": [' + b'{"b":0},' * (MAX_NAMES + 1) + b"0]}", f"{MAX_NAMES} names"),
        (b'{"a":[' + b"0," * MAX_VALUES + b"0]}", f"{MAX_VALUES} values"),
        (b'{"a":' + b"[" * (MAX_VALUES + 1), f"{MAX_VALUES} values"),
    ],
    ids=["fields", "objects", "values", "lists"],
)
async def test_a_body_of_too_many_parts_is_refused_before_it_is_parsed(
    http, monkeypatch, body, words
):
    monkeypatch.setattr(pydantic_core, "from_json", None)
    monkeypatch.setattr(json, "loads", None)
    async with http(create_app(models={"m": ScriptedModel()})) as client:
        answer = await client.post("/v1/chat/completions", content=body, headers=JSON)
    assert answer.status_code == 413
    assert words in answer.text
    assert '"body_too_large"' in answer.text


QUOTES = 'He said "no: [never], {ever}" \\ and left.\n'


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (ChatBody, {"messages": [{"role": "user", "content": QUOTES * 150_000}]}),
        (ChatBody, {"messages": [{"role": "user", "content": QUOTES}] * 1024}),
        (
            ChatBody,
            {
                "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 20}]
                * 1024
            },
        ),
        (CompletionBody, {"prompt": list(range(100_000))}),
        (EmbeddingBody, {"input": [QUOTES * 50] * 2048}),
        (EmbeddingBody, {"input": [list(range(500))] * 2048}),
        (DetokenizeBody, {"tokens": [7] * 2**20}),
    ],
    ids=["text", "messages", "parts", "ids", "inputs", "id-inputs", "detokenize"],
)
def test_large_bodies_that_a_route_can_use_are_read(kind, body):
    data = json.dumps({"model": "m", **body}, separators=(",", ":")).encode()
    assert len(data) < 8 * 2**20
    read = validate(parse_json(data), kind).model_dump(exclude_unset=True)
    assert json.loads(json.dumps(read)) == {"model": "m", **body}


@pytest.mark.parametrize("place", ["first", "deep"])
def test_a_name_given_twice_is_found_without_parsing_twice(monkeypatch, place):
    data = b'{"a":1,"b":2,"a":1}' if place == "first" else b'{"x":[{"a":1,"\\u0061":2}]}'
    with pytest.raises(HttpError, match="the name 'a' twice"):
        parse_json(data)
    monkeypatch.setattr(json, "loads", None)
    assert parse_json(b'{"a":":\\"","b":{"a":[]}}') == {"a": ':"', "b": {"a": []}}


LARGE = b" " * (SMALL_BYTES + 1)


async def test_one_body_of_a_client_is_parsed_at_a_time_and_others_do_not_wait():
    queue, release, begun = BodyBudget(), threading.Event(), []

    def parse(data: bytes) -> str:
        begun.append(threading.current_thread().name)
        release.wait(30)
        return "slow"

    slow = [asyncio.create_task(queue.parsed("greedy", parse, LARGE)) for _ in range(6)]
    while not begun:
        await asyncio.sleep(0.001)
    try:
        assert await queue.parsed("other", lambda data: "quick", LARGE) == "quick"
        assert len(begun) == 1
        assert begun[0].startswith("lmstack-body")
    finally:
        release.set()
    assert await asyncio.gather(*slow) == ["slow"] * 6


async def test_a_client_pauses_after_a_body_and_others_do_not(monkeypatch):
    monkeypatch.setattr(body_module, "PAUSE", 1e9)
    queue = BodyBudget()
    loop = asyncio.get_running_loop()
    await queue.parsed("greedy", len, LARGE)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await queue.parsed("greedy", len, LARGE)
    assert await queue.parsed("greedy", len, b"small") == 5
    assert await queue.parsed("other", len, LARGE) == len(LARGE)
    assert queue._turns["greedy"].free_at > loop.time() + 100


async def test_clients_without_bodies_are_forgotten():
    queue = BodyBudget()
    await queue.parsed("one", len, LARGE)
    with pytest.raises(ZeroDivisionError):
        await queue.parsed("two", lambda data: 1 // 0, LARGE)
    async with asyncio.timeout(30):
        while queue._turns:
            await asyncio.sleep(0.001)


async def test_what_a_client_has_in_memory_is_bounded_and_given_back(monkeypatch):
    monkeypatch.setattr(body_module, "MOST_BYTES_OF_ONE", 100)
    monkeypatch.setattr(body_module, "MOST_BYTES", 150)
    queue = BodyBudget()
    first, second, other = HeldBody(queue, "a"), HeldBody(queue, "a"), HeldBody(queue, "b")
    first.grow(60)
    first.grow(80)
    with pytest.raises(OverloadedError, match="80 bytes"):
        second.grow(21)
    other.grow(60)
    with pytest.raises(OverloadedError):
        second.grow(11)
    second.grow(10)
    for held in (first, second, other, first):
        held.release()
    HeldBody(queue, "a").grow(100)
    assert queue._held == {"a": 100}


async def test_a_large_request_is_counted_until_it_is_answered(serve, monkeypatch):
    large = {"model": "m", "messages": [{"role": "user", "content": "x" * 2 * SMALL_BYTES}]}
    monkeypatch.setattr(body_module, "MOST_BYTES_OF_ONE", 3 * SMALL_BYTES)
    app = create_app(models={"m": ScriptedModel(["a b c d"] * 3, delay_s=0.05)})
    async with serve(app) as url, httpx.AsyncClient(base_url=url) as client:
        async with client.stream(
            "POST", "/v1/chat/completions", json=large | {"stream": True}
        ) as slow:
            lines = slow.aiter_lines()
            await anext(lines)
            refused = await client.post("/v1/chat/completions", json=large)
            async for _ in lines:
                pass
        answered = await client.post("/v1/chat/completions", json=large)
    assert (refused.status_code, answered.status_code) == (429, 200)
    assert not app.state.shared.bodies._held


async def test_a_client_with_too_much_in_memory_is_told_to_wait(http, monkeypatch):
    monkeypatch.setattr(body_module, "MOST_BYTES_OF_ONE", SMALL_BYTES)
    large = {"model": "m", "messages": [{"role": "user", "content": "x" * 2 * SMALL_BYTES}]}
    async with http(create_app(models={"m": ScriptedModel()})) as client:
        answer = await client.post("/v1/chat/completions", json=large)
        small = await client.post("/v1/completions", json={"model": "m", "prompt": "x"})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert small.status_code == 200
