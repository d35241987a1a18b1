"""HTTP/1.1 over one connection: an end to waiting for a request's head, and one length of it.

uvicorn waits for ever for a request line and headers that never end, so that a handful of
clients can hold every file descriptor (slowloris), and takes a request that states its length
twice. Covers heads only; bodies have their own time limit (`intake.read_body`), and connections
kept open between requests uvicorn's (`server.KEEP_ALIVE_S`).
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from lmstack.serve.errors import HttpError, error_response

__all__ = ["HEAD_TIMEOUT_S", "OneLength", "PatientProtocol"]

HEAD_TIMEOUT_S = 30.0


class PatientProtocol(H11Protocol):
    """Closes a connection whose request head is not whole ``head_timeout_s`` after its first
    byte, or after connecting."""

    head_timeout_s = HEAD_TIMEOUT_S
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._arm()
        else:
            self._disarm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()


class OneLength:
    """Refuses a request with both Transfer-Encoding and Content-Length and closes its connection.

    A proxy in front that goes by the other header sees the end of the request elsewhere, so that
    one client's bytes become the beginning of another's request (request smuggling; RFC 9112,
    section 6.1).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        names = {name for name, _ in scope.get("headers", ())}
        if {b"transfer-encoding", b"content-length"} <= names:
            refusal = HttpError(
                400,
                "ambiguous_length",
                "the request has both a Transfer-Encoding and a Content-Length header",
                hint="send one of the two",
                headers={"Connection": "close"},
            )
            await error_response(refusal)(scope, receive, send)
        else:
            await self._app(scope, receive, send)
