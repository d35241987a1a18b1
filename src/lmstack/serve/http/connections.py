"""Which connections a server keeps when there are more than it has places for.

    strangers over their part    the first in `State`'s order goes, the longest in its state first
    one group over its share     the same among its own, but never a request that is under way
    all over their number        strangers as above, then clients that showed an API key

A group is an address (of IPv6 its /64, which one customer has as a whole), or a key once it has
been shown. The newest connection always stays, so whoever sends a request at once gets in, also
beside clients that hold all places with requests that never end, and through a proxy whose clients
all have one address. Covers choosing only; what a connection is doing `protocol` says.
"""

from __future__ import annotations

import contextlib
import enum
import ipaddress
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

__all__ = ["Connections", "Place", "State", "descriptor_limit"]

# More would hold more memory than descriptors: each may keep 64 KiB of a head.
MOST_CONNECTIONS = 4096
MOST_DESCRIPTORS = 65_536


class State(enum.IntEnum):
    """What a connection is doing, in the order in which places are taken away."""

    UNFINISHED = 0  # the client owes the rest of a request, or does not read its answer
    IDLE = 1  # kept open between requests
    SENDING = 2  # a body that comes fast enough
    ANSWERING = 3


# What a group that is over its share loses. The rest are requests under way.
_SPARE = (State.UNFINISHED, State.IDLE)


class Place:
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


Line = dict[Place, None]  # in the order in which they came


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

    def enter(self, address: str, drop: Callable[[], None]) -> Place:
        """A place for a new connection from ``address``; another may be dropped for it."""
        place = Place(self, address, drop)
        self._add(place)
        self.make_room(place)
        return place

    def make_room(self, newest: Place) -> None:
        """Drop what is over a limit, but not ``newest``."""
        group = self._groups[newest.group]
        if group.size > self.most_of_a_group:
            self._drop_first(group, _SPARE, newest)
        if self._strangers.size > self.most_strangers:
            self._drop_first(self._strangers, tuple(State), newest)
        if len(self) > self.most and not self._drop_first(self._strangers, tuple(State), newest):
            self._drop_first(self._known, tuple(State), newest)

    @staticmethod
    def _drop_first(group: _Group, states: tuple[State, ...], newest: Place) -> bool:
        for state in states:
            for place in group.lines[state]:
                if place is not newest:
                    place.leave()
                    place.drop()
                    return True
        return False

    @contextlib.contextmanager
    def moving(self, place: Place) -> Iterator[None]:
        """Put around a change of ``place``, which then is the last in its lines."""
        self.remove(place)
        yield
        self._add(place)

    def _add(self, place: Place) -> None:
        for group in self._of(place):
            group.size += 1
            group.lines[place.state][place] = None

    def remove(self, place: Place) -> None:
        for group in self._of(place):
            group.size -= 1
            del group.lines[place.state][place]
        if not self._groups[place.group].size:
            del self._groups[place.group]

    def _of(self, place: Place) -> tuple[_Group, _Group]:
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
