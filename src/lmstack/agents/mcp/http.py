"""A server at a URL, spoken to over streamable HTTP.

The transport of the official package with a client whose answers are bounded: redirects stay on the
server's origin, nothing may be compressed, and an answer that is too long ends the request.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from lmstack.agents.mcp.servers import McpServer
from lmstack.core import require

__all__ = ["Statuses", "http_transport"]

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
