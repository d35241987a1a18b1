"""Which hosts and addresses may be connected to."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.agents.tools import AllowedHosts
from lmstack.agents.tools.addresses import is_public, resolve
from lmstack.core import GuardError, InputError, NotFoundError

PUBLIC = ["93.184.216.34", "8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"]
PRIVATE = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254"),
    *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1"),
    *("192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1"),
    *("240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1"),
    *("2002:7f00:1::", "2002:a00:1::1", "3fff::1", "fc00::1", "fd00::1", "fe80::1", "fe80::1%eth0"),
    *("fec0::1", "ff02::1", "5f00::1", "2001:10::1", "2001:20::1"),
]
NOT_ADDRESSES = [
    "",
    "2130706433",
    "0x7f.1",
    "127.1",
    "0177.0.0.1",
    "example.org",
    "8.8.8.8 ",
    "1.2.3",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", [*PRIVATE, *NOT_ADDRESSES])
def test_no_other_address_is(address: str) -> None:
    assert not is_public(address)


@given(st.ip_addresses())
def test_what_is_public_is_so_for_the_standard_library_too(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_private


@given(st.ip_addresses(v=4))
def test_an_address_inside_of_another_never_makes_that_public(
    address: ipaddress.IPv4Address,
) -> None:
    number = int(address)
    for prefix in ("::ffff:0:0", "::", "64:ff9b::", "::ffff:0:0:0"):
        assert not is_public(
            str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) + number))
        )
    tunnel = int(ipaddress.IPv6Address("2002::")) + (number << 80)
    assert not is_public(str(ipaddress.IPv6Address(tunnel)))


def hosts_at(
    *addresses: str, allowed: Sequence[str] = (), private: Sequence[str] = ()
) -> AllowedHosts:
    async def answer(host: str, port: int) -> Sequence[str]:
        return addresses

    return AllowedHosts(tuple(allowed), tuple(private), answer)


@pytest.mark.parametrize(
    ("entry", "host", "port"),
    [
        ("example.org", "example.org", 443),
        ("example.org", "EXAMPLE.org.", 80),
        ("example.org:8080", "example.org", 8080),
        ("*.example.org", "a.b.example.org", 443),
        ("Example.Org", "example.org", 443),
        ("example.org.", "example.org", 443),
        ("example.org.:8080", "example.org", 8080),
        ("[2001:db8::1]", "2001:db8::1", 443),
        ("[2001:db8::1]:8080", "2001:db8::1", 8080),
    ],
)
async def test_a_host_that_is_named_may_be_asked(entry: str, host: str, port: int) -> None:
    assert await hosts_at("8.8.8.8", allowed=[entry]).address(host, port) == "8.8.8.8"


@pytest.mark.parametrize(
    ("entry", "host", "port"),
    [
        ("example.org", "example.com", 443),
        ("example.org", "www.example.org", 443),
        ("example.org", "example.org.evil.com", 443),
        ("example.org", "evil-example.org", 443),
        ("example.org", "example.org", 22),
        ("example.org", "example.org", 8080),
        ("example.org:8080", "example.org", 443),
        ("*.example.org", "example.org", 443),
        ("*.example.org", "evilexample.org", 443),
    ],
)
async def test_no_other_host_or_port_may(entry: str, host: str, port: int) -> None:
    with pytest.raises(GuardError, match="is not allowed"):
        await hosts_at("8.8.8.8", allowed=[entry]).address(host, port)


async def test_nothing_is_allowed_unless_it_is_named() -> None:
    with pytest.raises(GuardError, match="is not allowed") as raised:
        await hosts_at("8.8.8.8").address("example.org", 443)
    assert raised.value.hint == "allowed: none"


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_name_that_leads_to_a_private_address_is_refused(address: str) -> None:
    for addresses in ([address], ["8.8.8.8", address], [address, "8.8.8.8"]):
        with pytest.raises(GuardError, match="not a public address"):
            await hosts_at(*addresses, allowed=["example.org"]).address("example.org", 443)


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "1.2.3"]
)
async def test_an_address_in_an_unusual_spelling_is_refused_even_where_it_is_named(
    host: str,
) -> None:
    with pytest.raises(GuardError, match="unusual spelling"):
        await hosts_at("8.8.8.8", allowed=[host]).address(host, 443)


async def test_private_hosts_are_reached_but_never_the_services_of_a_cloud() -> None:
    local = hosts_at("127.0.0.1", private=["localhost:8000"])
    assert await local.address("localhost", 8000) == "127.0.0.1"
    with pytest.raises(GuardError):
        await local.address("localhost", 80)
    for address in ("169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "224.0.0.1", "0.0.0.0"):
        with pytest.raises(GuardError):
            await hosts_at(address, private=["localhost:8000"]).address("localhost", 8000)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*",
        "*.",
        "a b:c",
        "http://example.org",
        "example.org/path",
        "u@example.org",
        "example.org:0",
        "example.org:65536",
        "example.org:-1",
        "example.org:x",
        "a.*.org",
        "exam*ple.org",
        " example.org",
    ],
)
def test_an_entry_that_is_no_host_is_refused(entry: str) -> None:
    for name in ("hosts", "private"):
        with pytest.raises(InputError, match=r"is not a host|has no valid port"):
            AllowedHosts(**{name: (entry,)})
    assert AllowedHosts(("example.org:1", "example.org:65535"))


async def test_names_are_resolved_by_the_system_once_each() -> None:
    assert "127.0.0.1" in await resolve("localhost", 80)
    with pytest.raises(NotFoundError, match="has no address"):
        await resolve("no-such-host.invalid", 80)
    with pytest.raises(NotFoundError):
        await resolve("a" * 300, 80)


def test_a_name_without_addresses_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        asyncio.run(hosts_at(allowed=["example.org"]).address("example.org", 443))
