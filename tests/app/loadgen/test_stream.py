"""One streamed request: what is a piece, what is a token, and every way to end badly."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmstack.app.loadgen.stream import Row, ask, message_of

URL = "http://127.0.0.1:1/v1/chat/completions"
DONE = b"data: [DONE]\n\n"
Scripted = Callable[..., httpx.AsyncClient]
Event = Callable[..., bytes]


async def asked(client: httpx.AsyncClient) -> Row:
    row = Row(0, 0.0)
    start = time.perf_counter()
    async with client:
        await ask(client, URL, {}, row, lambda: time.perf_counter() - start)
    return row


async def test_a_piece_is_a_chunk_with_text_and_its_time(scripted: Scripted, event: Event) -> None:
    parts = [event(""), event("a"), 0.03, event("b"), event(finish="stop"), DONE]
    row = await asked(scripted(parts))
    assert (row.error, row.finish_reason, len(row.pieces)) == (None, "stop", 2)
    assert row.pieces[1] - row.pieces[0] > 0.025
    assert row.end >= row.pieces[1]


async def test_thoughts_and_plain_completions_are_text_too(
    scripted: Scripted, event: Event
) -> None:
    thought = b'data: {"choices": [{"delta": {"reasoning_content": "hm"}}]}\n\n'
    plain = b'data: {"choices": [{"text": "hi", "finish_reason": null}]}\n\n'
    row = await asked(scripted([thought, plain, event(finish="stop"), DONE]))
    assert (row.error, len(row.pieces)) == (None, 2)


async def test_usage_counts_tokens_and_pieces_do_where_there_is_none(
    scripted: Scripted, event: Event
) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 5}
    told = event("ab"), event("c"), event(finish="length")
    row = await asked(scripted([*told, event(usage=usage), DONE]))
    assert (row.prompt_tokens, row.tokens) == (7, 5)
    row = await asked(scripted([*told, DONE]))
    assert (row.prompt_tokens, row.output_tokens, row.tokens) == (None, None, 2)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(cuts=st.lists(st.integers(0, 400), max_size=12))
def test_where_the_network_cuts_a_stream_changes_nothing(
    scripted: Scripted, event: Event, cuts: list[int]
) -> None:
    # U+2028 ends a line for Python but not in server-sent events.
    whole = b": hello\r\n\n" + event("é\u2028x") + event("\x85 y") + event(finish="stop") + DONE
    edges = sorted({0, len(whole), *(c for c in cuts if c < len(whole))})
    parts = [whole[a:b] for a, b in itertools.pairwise(edges)]
    row = asyncio.run(asked(scripted(parts)))
    assert (row.error, row.detail, len(row.pieces)) == (None, "", 2)


@pytest.mark.parametrize(
    ("status", "body", "detail"),
    [
        (429, b'{"error": {"message": "slow down", "code": 1}}', "slow down"),
        (500, b"<h1>oops</h1>", "<h1>oops</h1>"),
        (422, b'{"detail": [{"loc": ["body", "x"], "msg": "no"}]}', "'loc': ['body', 'x']"),
    ],
)
async def test_a_status_is_the_error_with_the_servers_words(
    scripted: Scripted, status: int, body: bytes, detail: str
) -> None:
    row = await asked(scripted([body], status=status))
    assert row.error == str(status)
    assert detail in row.detail


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ([], "broken off"),
        ([httpx.ReadError("reset")], "broken off"),
        ([httpx.RemoteProtocolError("peer closed")], "broken off"),
        ([httpx.ReadTimeout("")], "timeout"),
        ([b'data: {"error": {"message": "the engine failed"}}\n\n'], "error in the stream"),
        ([b"data: {half\n\n"], "not of the API"),
        ([b"data: [1]\n\n"], "not of the API"),
        ([b'data: {"choices": 3}\n\n'], "not of the API"),
    ],
)
async def test_a_stream_that_ends_badly_is_an_error_and_keeps_its_pieces(
    scripted: Scripted, event: Event, end: list[Any], error: str
) -> None:
    row = await asked(scripted([event("a"), *end]))
    assert (row.error, len(row.pieces)) == (error, 1)
    assert row.detail


async def test_a_server_that_is_not_there_is_an_error_of_its_own(scripted: Scripted) -> None:
    row = await asked(scripted([httpx.ConnectError("refused")]))
    assert (row.error, row.detail) == ("no connection", "refused")


async def test_an_end_without_a_reason_is_well_if_it_is_said(
    scripted: Scripted, event: Event
) -> None:
    assert (await asked(scripted([event("a"), DONE]))).error is None


async def test_a_request_that_is_cancelled_is_unfinished_and_keeps_its_pieces(
    scripted: Scripted, event: Event
) -> None:
    row = Row(0, 0.0)
    async with scripted([event("a"), 60.0]) as client:
        task = asyncio.create_task(ask(client, URL, {}, row, time.perf_counter))
        while not row.pieces:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (row.error, len(row.pieces)) == ("unfinished", 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"error": {"message": "no", "param": "top_k"}}', "no (top_k)"),
        ('{"error": {"message": "top_k: no", "param": "top_k"}}', "top_k: no"),
        ('{"error": "plain"}', "plain"),
        ('{"detail": "Not Found"}', "Not Found"),
        ("two\nlines", "two lines"),
        ("{}", "{}"),
        ("[" * 100_000, "[" * 300),
    ],
)
def test_an_errors_words_are_found_in_any_shape(text: str, expected: str) -> None:
    assert message_of(text) == expected
