"""HTTP/1.1 connections: time limits for slow clients (slowloris), one length of a request (request
smuggling), and which connections are evicted when there are too many.

uvicorn waits for ever for a head or the rest of a body that never comes and for a client that does
not read its answer, so that a handful of clients can hold every file descriptor, and takes a
request that states its length twice. Connections are evicted where there are too many

    without an API key     the first in `State`'s order, of these the longest in its state
    of one group           likewise among its own, but never a request that is under way
    in all                 without an API key as above, then with one

A group is an address (of IPv6 its /64, which one customer has as a whole), or a key once it has
been shown. The newest connection always stays, so whoever sends a request at once gets in, also
beside clients that hold all places with requests that never end, and through a proxy whose clients
all have one address.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import ipaddress
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from lmstack.serve.http.errors import HttpError, error_response

__all__ = [
    "ConnectionSlot",
    "Connections",
    "OneLength",
    "PatientProtocol",
    "State",
    "descriptor_limit",
    "protocol_for",
]

# More would hold more memory than descriptors: each may keep 64 KiB of a head.
MOST_CONNECTIONS = 4096
MOST_DESCRIPTORS = 65_536
HEAD_TIMEOUT_S = 30.0
# A client that sends or reads less than this is looked at as one that does nothing.
SLOWEST_BYTES_S = 1024
LOOK_S = 5.0
# In all longer than `body.READ_TIMEOUT_S`: a client of the API is told why with status 408.
LOOKS = 7


class State(enum.IntEnum):
    """What a connection is doing, in the order in which places are taken away."""

    UNFINISHED = 0  # the client owes the rest of a request, or does not read its answer
    IDLE = 1  # kept open between requests
    SENDING = 2  # a body that comes fast enough
    ANSWERING = 3


# What a group that is over its share loses. The rest are requests under way.
_SPARE = (State.UNFINISHED, State.IDLE)


class ConnectionSlot:
    """One connection's. ``drop`` closes it, and is called at most once."""

    def __init__(self, connections: Connections, address: str, drop: Callable[[], None]) -> None:
        self.group = _network(address)
        self.state = State.UNFINISHED
        self.is_known = False
        self.drop = drop
        self._connections: Connections | None = connections

    def move(self, state: State) -> None:
        """The connection is in ``state`` from now on."""
        if self._connections is not None and state is not self.state:
            with self._connections.moving(self):
                self.state = state

    def know(self, client: str) -> None:
        """A request on the connection showed the API key of ``client``."""
        if self._connections is not None and (not self.is_known or client != self.group):
            with self._connections.moving(self):
                self.group, self.is_known = client, True
            self._connections.make_room(self)

    def leave(self) -> None:
        """The connection is closed."""
        if self._connections is not None:
            self._connections.remove(self)
            self._connections = None


Line = dict[ConnectionSlot, None]  # in the order in which they came


def _lines() -> dict[State, Line]:
    return {state: {} for state in State}


@dataclass
class _Group:
    size: int = 0
    lines: dict[State, Line] = field(default_factory=_lines)


class Connections:
    """The places of one server; of its event loop only. ``most``: of all connections. A quarter
    is kept for clients that have shown a key, and nobody's share is more than half."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.most_strangers = most - most // 4
        self.most_of_a_group = most // 2
        self._groups: dict[str, _Group] = {}
        self._strangers = _Group()
        self._known = _Group()

    def __len__(self) -> int:
        return self._strangers.size + self._known.size

    def enter(self, address: str, drop: Callable[[], None]) -> ConnectionSlot:
        """A place for a new connection from ``address``; another may be dropped for it."""
        place = ConnectionSlot(self, address, drop)
        self._add(place)
        self.make_room(place)
        return place

    def make_room(self, newest: ConnectionSlot) -> None:
        """Drop what is over a limit, but not ``newest``."""
        group = self._groups[newest.group]
        if group.size > self.most_of_a_group:
            self._drop_first(group, _SPARE, newest)
        if self._strangers.size > self.most_strangers:
            self._drop_first(self._strangers, tuple(State), newest)
        if len(self) > self.most and not self._drop_first(self._strangers, tuple(State), newest):
            self._drop_first(self._known, tuple(State), newest)

    @staticmethod
    def _drop_first(group: _Group, states: tuple[State, ...], newest: ConnectionSlot) -> bool:
        for state in states:
            for place in group.lines[state]:
                if place is not newest:
                    place.leave()
                    place.drop()
                    return True
        return False

    @contextlib.contextmanager
    def moving(self, place: ConnectionSlot) -> Iterator[None]:
        """Put around a change of ``place``, which then is the last in its lines."""
        self.remove(place)
        yield
        self._add(place)

    def _add(self, place: ConnectionSlot) -> None:
        for group in self._of(place):
            group.size += 1
            group.lines[place.state][place] = None

    def remove(self, place: ConnectionSlot) -> None:
        for group in self._of(place):
            group.size -= 1
            del group.lines[place.state][place]
        if not self._groups[place.group].size:
            del self._groups[place.group]

    def _of(self, place: ConnectionSlot) -> tuple[_Group, _Group]:
        everyone = self._known if place.is_known else self._strangers
        return everyone, self._groups.setdefault(place.group, _Group())


def descriptor_limit() -> int:
    """How many descriptors this process may open. The soft limit is raised as far as it may be:
    the usual 1,024 are fewer than the connections that one client can open in a second."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS refuses some values below the hard limit
        return soft
    return wanted


def _network(address: str) -> str:
    """``address``, of IPv6 its first 64 bits."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return f"{ipaddress.ip_address(int(found) >> 64 << 64)}/64"
    return str(found)


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
        self._place: ConnectionSlot | None = None
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
