"""One call of a session's worker: what counts of its output, and what is a reply."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from lmstack.agents.sandbox.inside.calls import Call, Pipes, ProcessLimits


@pytest.fixture
def ends() -> Iterator[tuple[Pipes, list[int]]]:
    """The supervisor's pipes, and the ends to write into: of the reply, output and errors."""
    pairs = [os.pipe() for _ in range(4)]
    pipes = Pipes(pairs[0][1], *(read for read, _ in pairs[1:]))
    yield pipes, [write for _, write in pairs[1:]]
    for pair in pairs:
        for fd in pair:
            os.close(fd)


def made(pipes: Pipes) -> Call:
    nothing: Any = None
    call = Call(nothing, pipes, nothing, ProcessLimits(1.0, 1.0, output_bytes=4), ())
    call.texts = {pipes.stdout: bytearray(), pipes.stderr: bytearray()}
    return call


@pytest.mark.parametrize("stream", [1, 2])
@pytest.mark.parametrize(
    ("size", "before", "ended"),
    [(3, "", ""), (4, "", ""), (5, "", "output"), (900, "", "output"), (5, "time", "time")],
)
def test_output_that_came_beside_the_reply_counts_too(
    ends: tuple[Pipes, list[int]], stream: int, size: int, before: str, ended: str
) -> None:
    pipes, writes = ends
    call = made(pipes)
    call._ended = before
    os.write(writes[stream], b"x" * size)
    call._drain()
    assert call._ended == ended
    texts = [len(call.texts[pipes.stdout]), len(call.texts[pipes.stderr])]
    assert texts[stream - 1] == min(size, 4)
    assert texts[2 - stream] == 0


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    "wrong",
    [
        framed(b"{"),
        framed(b'["t"]'),
        framed(b'{"id": "other"}'),
        framed(b'{"id": "t"}') + b"x",
        framed(b"[" * 100_000),
        framed(b'{"id": "t"}')[:-1],
        b"\0\0\0",
    ],
)
def test_what_is_no_reply_to_this_call_is_none(ends: tuple[Pipes, list[int]], wrong: bytes) -> None:
    call = made(ends[0])
    call._reply += wrong
    assert call._answer("t") is None


def test_a_reply_is_read_once_it_is_whole_and_of_a_call_that_has_not_ended(
    ends: tuple[Pipes, list[int]],
) -> None:
    said = {"id": "t", "value": "3"}
    call = made(ends[0])
    frame = framed(json.dumps(said).encode())
    for byte in frame[:-1]:
        call._reply.append(byte)
        assert not call._has_reply()
    call._reply.append(frame[-1])
    assert call._has_reply()
    assert call._answer("t") == said
    call._ended = "time"
    assert call._answer("t") is None
