"""HTTP/1.1 over one connection: an end to waiting for a client, a place, and one length of it.

uvicorn waits for ever for a head or the rest of a body that never comes and for a client that does
not read its answer, so that a handful of clients can hold every file descriptor (slowloris), and
takes a request that states its length twice. Covers what a connection waits for and for how long;
which connections go when there are too many is `connections`'.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from lmstack.serve.http.connections import Connections, Place, State
from lmstack.serve.http.errors import HttpError, error_response

__all__ = ["HEAD_TIMEOUT_S", "OneLength", "PatientProtocol", "protocol_for"]

HEAD_TIMEOUT_S = 30.0
# A client that sends or reads less than this is looked at as one that does nothing.
SLOWEST_BYTES_S = 1024
LOOK_S = 5.0
# In all longer than `intake.READ_TIMEOUT_S`: a client of the API is told why with status 408.
LOOKS = 7


class PatientProtocol(H11Protocol):
    """Closes a connection whose request head is not whole ``head_timeout_s`` after its first byte,
    or after connecting, and one whose body or answer stands still for ``looks`` looks in a row,
    ``look_s`` apart."""

    places: Connections
    head_timeout_s = HEAD_TIMEOUT_S
    look_s = LOOK_S
    looks = LOOKS

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._place: Place | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._received = 0  # bytes since the last look
        self._unread = 0  # bytes that the client had not read then
        self._has_read = False  # nearly all of them since
        self._still = 0  # looks in a row that saw it do nothing

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        self._place = self.places.enter(address, transport.abort)
        # Requests find it in their scope, so that `KeyGuard` can say whose connection it is.
        self.app_state = {**self.app_state, "place": self._place}
        self._follow()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._follow()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._follow()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._has_read = True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._place is not None:
            self._place.leave()
        self._disarm()
        if self._look_timer is not None:
            self._look_timer.cancel()
            self._look_timer = None
        super().connection_lost(exc)

    def _follow(self) -> None:
        """Say in which state the connection is, and set the timers that belong to it."""
        state = self._state()
        if self._look_timer is None and (state is State.SENDING or self._buffered()):
            self._received, self._unread, self._has_read = 0, self._buffered(), False
            self._look_timer = self.loop.call_later(self.look_s, self._look)
        if self._place is None or self.transport.is_closing():
            return
        stands = self._still and (state is State.SENDING or self._buffered())
        self._place.move(State.UNFINISHED if stands else state)
        if state is State.UNFINISHED:
            self._arm()
        else:
            self._disarm()
        # uvicorn stops this timer at the rest of a body that was answered before its end.
        if state is State.IDLE and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _state(self) -> State:
        theirs = self.conn.their_state
        if self.cycle is None:
            return State.UNFINISHED
        if not self.cycle.response_complete:
            return State.SENDING if theirs is h11.SEND_BODY else State.ANSWERING
        begun = bool(self.conn.trailing_data[0])  # of the next request
        return State.IDLE if theirs is h11.IDLE and not begun else State.UNFINISHED

    def _buffered(self) -> int:
        return self.transport.get_write_buffer_size()

    def _look(self) -> None:
        self._look_timer = None
        least = SLOWEST_BYTES_S * self.look_s
        stands = self._may_send() and self._received < least
        stands |= self._must_read() and self._unread - self._buffered() < least
        self._still = self._still + 1 if stands else 0
        if self._still < self.looks:
            self._follow()
        else:
            self.transport.abort()

    def _may_send(self) -> bool:
        """Whether the rest of a body is for the client to send: the server may be the one who
        does not read, or has not yet asked for it."""
        waits = self._state() is State.SENDING and not self.cycle.waiting_for_100_continue
        return waits and not self.flow.read_paused

    def _must_read(self) -> bool:
        """Whether all that happened to the buffer since the last look was the client reading."""
        is_written = self.cycle is not None and self.cycle.response_complete
        return (
            self._buffered() > 0 and not self._has_read and (is_written or self.flow.write_paused)
        )

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


def protocol_for(places: Connections) -> type[PatientProtocol]:
    """The protocol of one server: uvicorn makes an instance for each connection."""

    class Protocol(PatientProtocol):
        pass

    Protocol.places = places
    return Protocol


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
