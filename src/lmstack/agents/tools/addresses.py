"""Which addresses a tool may connect to: hosts that the user named, at public addresses.

A name is resolved once, every address that it has is checked, and the connection goes to one of
those checked, so that an answer that changes in between changes nothing. Does not cover what is
sent there (`http_get`).
"""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from lmstack.agents.tools.function import Threads
from lmstack.core import GuardError, InputError, NotFoundError, shown

__all__ = ["AllowedHosts", "Resolve", "check_host", "is_public", "resolve"]

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The IANA registries of special-purpose addresses, with multicast and what is reserved.
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24"),
        *("192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        # Inside of the global unicast block, tunnels that carry an IPv4 address among them.
        *("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    )
)
# All public IPv6 addresses are in this block. NAT64, mapped and compatible IPv4 addresses, link
# and site local ones, unique local ones and multicast are not.
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# Even where private addresses are allowed: services of clouds that hand out keys are there.
_LINK_LOCAL = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))
_THREADS = Threads(16)


def is_public(address: str) -> bool:
    """Whether ``address``, in its usual spelling, is one that anybody on the internet can reach."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if parsed.version == 6 and parsed not in _GLOBAL_UNICAST:
        return False
    return parsed.is_global and not any(
        parsed in network for network in _SPECIAL if network.version == parsed.version
    )


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of ``host``, asked of the system; `NotFoundError` where it has none."""
    ask = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    outcome = await _THREADS.run(ask, "name resolution")
    if isinstance(outcome.error, OSError | UnicodeError):
        problem = f"the host {shown(host)} has no address: {outcome.error}"
        raise NotFoundError(problem, hint="check its name")
    if outcome.error is not None:
        raise outcome.error
    return list(dict.fromkeys(str(found[4][0]) for found in outcome.value))


@dataclass(frozen=True)
class AllowedHosts:
    """``hosts``: names, ``*.example.org`` for all below one, each with a port if it is neither 443
    nor 80. ``private``: those, in the same spelling, that may be at addresses of a private network
    or of this machine."""

    hosts: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    resolve: Resolve = resolve

    def __post_init__(self) -> None:
        for entry in (*self.hosts, *self.private):
            host, port = _split(entry)
            name = host.removeprefix("*.")
            if not name or "*" in name or "/" in entry or "@" in entry or name != name.strip():
                raise InputError(
                    f"{shown(entry)} is not a host",
                    hint="write example.org, *.example.org or example.org:8080",
                )
            if port is not None and not 0 < port < 65_536:
                raise InputError(f"{shown(entry)} has no valid port")

    def __str__(self) -> str:
        return ", ".join((*self.hosts, *self.private)) or "none"

    async def address(self, host: str, port: int, within: Collection[str] | None = None) -> str:
        """The address of ``host`` to connect to. `GuardError` where the host is not allowed, here
        and ``within`` the rights of a run, or where any address that its name has is not public."""
        name = host.lower().rstrip(".")
        check_host(name, port, within)
        is_private = any(_fits(entry, name, port) for entry in self.private)
        if not is_private and not any(_fits(entry, name, port) for entry in self.hosts):
            raise GuardError(
                f"the host {shown(f'{name}:{port}')} is not allowed", hint=f"allowed: {self}"
            )
        if _is_odd_number(name):
            raise GuardError(f"{shown(host)} is an address in an unusual spelling")
        addresses = await self.resolve(name, port)
        if not addresses:
            raise NotFoundError(f"the host {shown(host)} has no address", hint="check its name")
        for address in addresses:
            if not (_is_reachable(address) if is_private else is_public(address)):
                raise GuardError(
                    f"the host {shown(host)} is at {address}, which is not a public address"
                )
        return addresses[0]


def check_host(host: str, port: int, within: Collection[str] | None) -> None:
    """`GuardError` unless the rights of a run, ``within``, name ``host``; None: they name all."""
    if within is not None and not any(_fits(entry, host, port) for entry in within):
        raise GuardError(
            f"the rights of this run do not name the host {shown(f'{host}:{port}')}",
            hint=f"they name {', '.join(sorted(within)) or 'none'}",
        )


def _split(entry: str) -> tuple[str, int | None]:
    """Host and port of an entry; an IPv6 address stands in brackets."""
    host, colon, port = entry.lower().rpartition(":")
    if not colon or entry.endswith("]"):
        return entry.lower().strip("[]").rstrip("."), None
    if not port.isascii() or not port.isdigit():
        raise InputError(f"{shown(entry)} is not a host", hint="write host or host:port")
    return host.strip("[]").rstrip("."), int(port)


def _fits(entry: str, name: str, port: int) -> bool:
    host, own = _split(entry)
    if port not in ((443, 80) if own is None else (own,)):
        return False
    return name.endswith(host[1:]) if host.startswith("*.") else name == host


def _is_odd_number(name: str) -> bool:
    """A host that C libraries read as an address and that is not spelled as one: 2130706433,
    0x7f.1, 127.1, 0177.0.0.1."""
    try:
        ipaddress.ip_address(name.partition("%")[0])
        return "%" in name
    except ValueError:
        last = name.rpartition(".")[2]
        return last.isdigit() or last.startswith("0x")


def _is_reachable(address: str) -> bool:
    """What a host that may be private can be: any single host, but not the link-local ones."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    if mapped is not None:
        return _is_reachable(str(mapped))
    return not (
        parsed.is_multicast
        or parsed.is_unspecified
        or any(parsed in network for network in _LINK_LOCAL if network.version == parsed.version)
    )
