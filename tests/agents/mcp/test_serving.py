"""The official client against our server."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import httpx
import httpx2
import mcp
import pytest
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from tests.agents.mcp.conftest import FOLDER, Started

from lmstack.agents.mcp import http_app, mcp_server
from lmstack.agents.mcp.serving import _keyed
from lmstack.agents.tools import calculator, tool
from lmstack.core import ExtraMissingError, InputError


@tool(is_dangerous=True)
def erase() -> str:
    """Erase everything."""
    return "gone"


async def used(client: mcp.Client) -> None:
    """Everything that a client does with our tools."""
    listed = {each.name: each for each in (await client.list_tools()).tools}
    assert list(listed) == ["calculator", "greet", "secret", "draw", "fail", "wait"]
    assert listed["greet"].description == "Greet somebody."
    assert listed["greet"].input_schema == {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "Who is greeted."},
            "style": {"type": "string", "enum": ["short", "long"], "default": "short"},
        },
        "required": ["name"],
        "additionalProperties": False,
    }

    async def text(name: str, /, **arguments: Any) -> tuple[bool, str]:
        result = await client.call_tool(name, arguments)
        return bool(result.is_error), result.content[0].text  # type: ignore[union-attr]

    assert await text("calculator", expression="6 * 7") == (False, "42")
    assert await text("greet", name="Ada") == (False, "Hello Ada")
    assert await text("secret") == (False, "it is ***")
    assert await text("fail") == (True, "ValueError: no such row")
    is_error, words = await text("wait")
    assert is_error
    assert "took longer than 0.05 s" in words
    for arguments in ({}, {"name": 3}, {"name": "a", "style": "odd"}, {"name": "a", "x": 1}):
        is_error, words = await text("greet", **arguments)
        assert is_error
        assert words.startswith("wrong arguments for greet: ")
    is_error, words = await text("calculate")
    assert is_error
    assert "did you mean calculator?" in words
    drawn = await client.call_tool("draw", {})
    assert [each.type for each in drawn.content] == ["text", "image"]
    assert drawn.structured_content == {"size": 4}


async def test_over_stdio() -> None:
    environment = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    program = [str(FOLDER / "our_server.py"), "stdio"]
    parameters = StdioServerParameters(command=sys.executable, args=program, env=environment)
    async with mcp.Client(parameters) as client:
        await used(client)
        assert client.server_info is not None
        assert client.server_info.name == "ours"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_over_streamable_http(started: Started, mode: str) -> None:
    """By the newest version of the protocol, and by the handshake of the older ones."""
    port = started("our_server.py")
    async with mcp.Client(f"http://127.0.0.1:{port}/mcp", mode=mode) as client:
        await used(client)


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


async def test_only_the_servers_own_names_and_origins_are_answered(started: Started) -> None:
    """A page at evil.test whose name leads to this machine sends its own Host and Origin."""
    port = started("our_server.py")
    own = f"127.0.0.1:{port}"
    with httpx.Client(base_url=f"http://{own}", trust_env=False) as client:
        for headers, status in (
            ({}, 200),
            ({"Host": f"localhost:{port}"}, 200),
            ({"Origin": f"http://{own}"}, 200),
            ({"Host": "evil.test"}, 421),
            ({"Host": f"evil.test:{port}"}, 421),
            ({"Host": f"127.0.0.1.evil.test:{port}"}, 421),
            ({"Host": f"127.0.0.1:{port + 1}"}, 421),
            ({"Origin": "http://evil.test"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": f"http://127.0.0.1:{port + 1}"}, 403),
            ({"Content-Type": "text/plain"}, 400),
        ):
            answer = client.post("/mcp", json=INITIALIZE, headers={**HEADERS, **headers})
            assert answer.status_code == status, headers
        large = json.dumps({**INITIALIZE, "x": "x" * (5 << 20)})
        assert client.post("/mcp", content=large, headers=HEADERS).status_code == 413


async def test_a_client_that_opens_hundreds_of_sessions_takes_none_from_others(
    started: Started,
) -> None:
    port = started("our_server.py")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        for _ in range(150):
            answer = client.post("/mcp", json=INITIALIZE, headers=HEADERS)
            assert answer.status_code == 200
    async with mcp.Client(f"http://127.0.0.1:{port}/mcp", mode="legacy") as other:
        assert (await other.list_tools()).tools


async def test_no_stream_can_be_left_open(started: Started) -> None:
    """We never send anything that was not asked for, so nobody has to wait for it."""
    port = started("our_server.py")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        for method in ("GET", "DELETE"):
            answer = client.request(method, "/mcp", headers={"Accept": "text/event-stream"})
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_with_a_key_nothing_is_answered_without_it(started: Started) -> None:
    port = started("our_server.py", "the-key-of-ours")
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, trust_env=False) as client:
        for path in ("/mcp", "/", "/other"):
            for sent in (
                {},
                {"Authorization": "Bearer the-key-of-ourz"},
                {"Authorization": "the-key-of-ours"},
            ):
                answer = client.post(path, json=INITIALIZE, headers={**HEADERS, **sent})
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
    keyed = httpx2.AsyncClient(headers={"Authorization": "Bearer the-key-of-ours"})
    async with (
        keyed,
        mcp.Client(streamable_http_client(f"{url}/mcp", http_client=keyed)) as official,
    ):
        await used(official)


@pytest.mark.parametrize("kind", ["http", "websocket", "something-new"])
async def test_nothing_but_the_start_of_the_server_gets_by_without_the_key(kind: str) -> None:
    reached: list[str] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["type"])

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {}

    keyed = _keyed(app, "sesame")
    for headers in ([], [(b"authorization", b"Bearer other")]):
        await keyed({"type": kind, "headers": headers}, receive, send)
    assert reached == []
    assert [each["status"] for each in sent if "status" in each] == [401] * 2 * (kind == "http")
    await keyed({"type": kind, "headers": [(b"authorization", b"Bearer sesame")]}, receive, send)
    await keyed({"type": "lifespan"}, receive, send)
    assert reached == [kind, "lifespan"]


def test_dangerous_tools_are_not_offered_unless_the_client_asks() -> None:
    with pytest.raises(InputError, match="erase needs a person's approval"):
        mcp_server([calculator(), erase], "ours")
    assert mcp_server([erase], "ours", allow_dangerous=True)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_an_open_server_needs_a_key(host: str) -> None:
    server = mcp_server([calculator()], "ours")
    with pytest.raises(InputError, match="could call the tools"):
        http_app(server, host=host, port=80)
    assert http_app(server, host=host, port=80, key="k")
    assert http_app(server, host="localhost")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.types", None)
    with pytest.raises(ExtraMissingError) as raised:
        mcp_server([], "ours")
    assert raised.value.hint == "pip install 'lmstack[mcp]'"
