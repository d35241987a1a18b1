"""The two ways to a server: a program started here, spoken to over its standard input and output,
and a URL, over streamable HTTP.

Both are transports of the official package with bounds on what a server sends. Of a program the end
of what it writes on its standard error is kept for an error message, and every process of its
session ends with the connection, also those that outlive the program itself; a process that leaves
the session by `setsid` is not found again. Over HTTP redirects stay on the server's origin, nothing
may be compressed, and an answer that is too long ends the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from lmstack.agents.mcp.servers import McpServer
from lmstack.agents.tools.results import one_line
from lmstack.core import RemoteError, require, shown

__all__ = ["Errors", "Statuses", "http_transport", "stdio_transport"]

MAX_MESSAGE_BYTES = 8 << 20
# After its input is closed, and after it was asked to end.
GRACE_S = 1.0
_LINES = 20
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has the latter alone


class Errors:
    """The last lines that a program wrote on its standard error."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_LINES)

    def add(self, line: str) -> None:
        self._lines.append(line)

    async def read(self, stream: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await stream.read(4096):
                for line in data.decode("utf-8", "replace").splitlines():
                    if line.strip():
                        self.add(one_line(line))

    def __str__(self) -> str:
        return self._lines[-1] if self._lines else ""


@contextlib.asynccontextmanager
async def stdio_transport(server: McpServer, errors: Errors) -> AsyncIterator[tuple[Any, Any]]:
    """The streams of messages that `mcp.Client` takes, with the program behind them."""
    anyio = require("anyio", "mcp")
    process = await _started(server)
    writer, read = anyio.create_memory_object_stream(0)
    write, reader = anyio.create_memory_object_stream(0)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_receive, process, writer, errors)
            tasks.start_soon(_send, process, reader, writer)
            tasks.start_soon(errors.read, process.stderr)
            yield read, write
            tasks.cancel_scope.cancel()
    finally:
        try:
            with anyio.CancelScope(shield=True):
                await _ended(process)
        finally:
            _kill(process.pid)
            for stream in (writer, read, write, reader):
                stream.close()


async def _started(server: McpServer) -> asyncio.subprocess.Process:
    inherited = require("mcp.client.stdio", "mcp").get_default_environment()
    pipe = asyncio.subprocess.PIPE
    try:
        return await asyncio.create_subprocess_exec(
            server.command,
            *server.arguments,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env={**inherited, **server.environment},
            cwd=server.folder,
            start_new_session=True,
            limit=MAX_MESSAGE_BYTES,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RemoteError(
            f"the MCP server {server.name} cannot be started: {shown(server.command)}: {reason}",
            hint="check its command, its arguments and its folder",
        ) from error


async def _receive(process: asyncio.subprocess.Process, writer: Any, errors: Errors) -> None:
    """Messages of the program, one a line; what is none reaches the session as an error."""
    types = require("mcp.types", "mcp")
    message = require("mcp.shared.message", "mcp").SessionMessage
    anyio = require("anyio", "mcp")
    assert process.stdout is not None
    gone = (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError)
    with contextlib.suppress(*gone):
        async with writer:
            while line := await _line(process.stdout, errors):
                try:
                    parsed = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError as error:
                    errors.add("it sent a line that is no message")
                    await writer.send(error)
                else:
                    await writer.send(message(parsed))


async def _line(stream: asyncio.StreamReader, errors: Errors) -> bytes:
    """The next line; empty at the end, and where a line is longer than a message may be."""
    try:
        return await stream.readline()
    except ValueError:
        errors.add(f"it sent a message of more than {MAX_MESSAGE_BYTES:,} bytes")
        return b""


async def _send(process: asyncio.subprocess.Process, reader: Any, writer: Any) -> None:
    assert process.stdin is not None
    try:
        async with reader:
            async for each in reader:
                text = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()
    except OSError:
        # The program reads no more: the session sees the end instead of waiting for answers.
        await writer.aclose()


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Let the program end by itself, then ask it to, then kill all of its session."""
    if process.stdin is not None:
        process.stdin.close()
    if not await _exits(process):
        _signal(process.pid, signal.SIGTERM)
        await _exits(process)
    _kill(process.pid)
    await _exits(process)
    # Pipes that a process outside of the session still holds would keep the transport open.
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()


async def _exits(process: asyncio.subprocess.Process) -> bool:
    """Whether it ends in time. Waiting for the process itself would wait for its pipes too."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + GRACE_S
    while process.returncode is None:
        if loop.time() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


def _kill(pid: int) -> None:
    _signal(pid, _KILL)


def _signal(pid: int, number: int) -> None:
    """To the program's session, whose number is the program's own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


MAX_ANSWER_BYTES = 8 << 20


class Statuses:
    """The last status by which the server refused a request, for an error message."""

    def __init__(self) -> None:
        self.refused = 0

    def __str__(self) -> str:
        return f"it answered {self.refused}" if self.refused else ""


@contextlib.asynccontextmanager
async def http_transport(server: McpServer, statuses: Statuses) -> AsyncIterator[tuple[Any, Any]]:
    """The streams of messages that `mcp.Client` takes."""
    httpx2 = require("httpx2", "mcp")
    streamable = require("mcp.client.streamable_http", "mcp")

    async def look(response: Any) -> None:
        if response.status_code >= 400:
            statuses.refused = response.status_code
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            raise httpx2.DecodingError(
                "an answer is compressed, though that was not asked for", request=response.request
            )
        if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            response.stream = _bounded_stream(httpx2, response.stream)

    headers = {"Accept-Encoding": "identity", **server.headers}
    # A stream of events may be silent for as long as a call may take.
    timeout = httpx2.Timeout(server.connect_s, read=max(server.timeout_s, server.connect_s))
    hooks = {"response": [look]}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout, event_hooks=hooks) as client,
        streamable.streamable_http_client(server.url, http_client=client) as streams,
    ):
        yield streams


def _bounded_stream(httpx2: Any, stream: Any) -> Any:
    class Bounded(httpx2.AsyncByteStream):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            seen = 0
            async for part in stream:
                seen += len(part)
                if seen > MAX_ANSWER_BYTES:
                    raise httpx2.StreamError(f"an answer has more than {MAX_ANSWER_BYTES:,} bytes")
                yield part

        async def aclose(self) -> None:
            await stream.aclose()

    return Bounded()
