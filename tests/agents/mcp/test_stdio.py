"""A server's program: what of it is kept for an error, and that it ends with its session."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from lmstack.agents.mcp import McpServer, transports
from lmstack.agents.mcp.transports import Errors, Statuses, http_transport
from lmstack.core import ExtraMissingError

STUBBORN = 'trap "" TERM; echo ready; while :; do sleep 600; done'


@contextlib.asynccontextmanager
async def program(script: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A shell that runs ``script`` in a session of its own."""
    pipe = subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", script), stdin=pipe, stdout=pipe, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def test_what_does_not_end_when_it_is_asked_to_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transports, "GRACE_S", 0.02)
    async with program(STUBBORN) as process:
        assert process.stdout is not None
        await process.stdout.readline()  # it ignores the signal from here on
        await transports._ended(process)
        assert process.returncode == -signal.SIGKILL


async def test_what_ends_with_its_input_or_when_it_is_asked_to_is_not_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with program("read line; exit 7") as process:
        await transports._ended(process)
        assert process.returncode == 7
    monkeypatch.setattr(transports, "GRACE_S", 0.05)
    async with program("exec sleep 600") as process:
        await transports._ended(process)
        assert process.returncode == -signal.SIGTERM


async def test_a_kill_reaches_all_of_the_session_and_one_that_is_gone_is_no_error() -> None:
    async with program("sleep 600 & echo ready; wait") as process:
        assert process.stdout is not None
        await process.stdout.readline()
        transports._kill(process.pid)
        await asyncio.wait_for(process.stdout.read(), 10)  # the child held it open
        assert await process.wait() == -signal.SIGKILL
        transports._kill(process.pid)


async def test_the_last_line_of_its_errors_is_kept() -> None:
    errors = Errors()
    assert str(errors) == ""
    stream = asyncio.StreamReader()
    stream.feed_data(b"one\n\x1b[31mtwo \xff\n \n\n")
    stream.feed_eof()
    await errors.read(stream)
    assert str(errors) == "[31mtwo \ufffd"
    for number in range(100):
        errors.add(str(number))
    assert list(errors._lines) == [str(number) for number in range(80, 100)]


async def test_a_line_that_is_too_long_ends_the_stream_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transports, "MAX_MESSAGE_BYTES", 1_000)
    errors, stream = Errors(), asyncio.StreamReader(limit=4)
    stream.feed_data(b"a\n" + b"x" * 99 + b"\n")
    assert [await transports._line(stream, errors) for _ in range(2)] == [b"a\n", b""]
    assert str(errors) == "it sent a message of more than 1,000 bytes"


async def transport(server: McpServer) -> None:
    async with transports.stdio_transport(server, Errors()):
        pytest.fail("it cannot work without the package")


async def http(server: McpServer) -> None:
    async with http_transport(server, Statuses()):
        pytest.fail("it cannot work without the package")


async def receive(_: McpServer) -> None:
    await transports._receive(SimpleNamespace(stdout=None), None, Errors())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("anyio", transport),
        ("mcp.client.stdio", transports._started),
        ("mcp.types", receive),
        ("mcp.shared.message", receive),
        ("anyio", receive),
        ("httpx2", http),
        ("mcp.client.streamable_http", http),
    ],
)
async def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, use: Callable[[McpServer], Awaitable[Any]]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExtraMissingError) as raised:
        await use(McpServer("a", command="no-such-program"))
    assert raised.value.hint == "pip install 'lmstack[mcp]'"
