"""The official client against our server."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import httpx2
import mcp
import pytest
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from tests.agents.mcp.conftest import FOLDER, Started
from tests.agents.mcp.our_server import server as ours
from tests.agents.scripted_tools import FakeTool

from lmstack.agents.mcp import http_app, mcp_server, serve_http, serve_stdio
from lmstack.agents.mcp.serving import _Caller, _keyed
from lmstack.agents.tools import Toolbox, ToolContext, calculator, tool
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


async def test_in_one_process() -> None:
    async with mcp.Client(ours) as client:
        await used(client)
    async with mcp.Client(mcp_server([], "empty", version="7")) as client:
        assert (await client.list_tools()).tools == []
        assert client.server_info is not None
        assert (client.server_info.name, client.server_info.version) == ("empty", "7")


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


async def made(_: Any) -> None:
    mcp_server([], "ours")


async def asgi(server: Any) -> None:
    http_app(server)


@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("mcp.types", made),
        ("mcp.server", made),
        ("mcp.server.stdio", serve_stdio),
        ("mcp.server.transport_security", asgi),
        ("uvicorn", serve_http),
    ],
)
async def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, use: Callable[[Any], Awaitable[None]]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExtraMissingError) as raised:
        await use(FakeServer())
    assert raised.value.hint == "pip install 'lmstack[mcp]'"


@dataclass
class FakeServer:
    """Records how it is run, and answers nothing. ``made``: what its app was made with."""

    ran: tuple[Any, ...] = ()
    made: dict[str, Any] = field(default_factory=dict)

    async def run(self, *given: Any) -> None:
        self.ran = given

    def create_initialization_options(self) -> str:
        return "options"

    def streamable_http_app(self, **given: Any) -> Any:
        self.made = given
        return answer


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})


async def test_on_stdio_the_server_runs_on_its_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.asynccontextmanager
    async def stdio_server() -> AsyncIterator[tuple[str, str]]:
        yield "read", "write"

    fake = SimpleNamespace(stdio_server=stdio_server)
    monkeypatch.setitem(sys.modules, "mcp.server.stdio", fake)  # type: ignore[arg-type]
    server = FakeServer()
    await serve_stdio(server)
    assert server.ran == ("read", "write", "options")


@pytest.mark.parametrize(
    ("settings", "hosts"),
    [
        ({}, ["127.0.0.1:*", "localhost:*", "[::1]:*"]),
        ({"host": "[::1]", "port": 80}, ["127.0.0.1:80", "localhost:80", "[::1]:80"]),
        (
            {"host": "example.org", "port": 80, "hosts": ("proxy.test",), "key": "sesame"},
            ["127.0.0.1:80", "localhost:80", "[::1]:80", "example.org:80", "proxy.test"],
        ),
    ],
)
async def test_an_app_knows_its_own_names_its_limits_and_its_key(
    settings: dict[str, Any], hosts: list[str]
) -> None:
    server = FakeServer()
    app = http_app(server, **settings)
    security = server.made.pop("transport_security")
    assert server.made == {
        "host": settings.get("host", "127.0.0.1"),
        "max_request_body_size": 4 << 20,
        "stateless_http": True,
    }
    assert security.enable_dns_rebinding_protection
    assert security.allowed_hosts == hosts
    origins = [f"{scheme}://{name}" for scheme in ("http", "https") for name in hosts]
    assert security.allowed_origins == origins
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        without = await client.post("/mcp")
        headers = {"Authorization": "Bearer sesame"}
        served = await client.post("/mcp", headers=headers)
        streamed = await client.get("/mcp", headers=headers)
    assert without.status_code == (401 if settings.get("key") else 200)
    assert (served.status_code, served.text) == (200, "served")
    assert (streamed.status_code, streamed.headers["allow"]) == (405, "POST")


async def test_serving_over_http_passes_all_settings_on(monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[tuple[Any, dict[str, Any]]] = []
    served: list[Any] = []

    class Uvicorn:
        def __init__(self, config: Any) -> None:
            self.config = config

        async def serve(self) -> None:
            served.append(self.config)

    def config(app: Any, **given: Any) -> dict[str, Any]:
        configs.append((app, given))
        return given

    fake = SimpleNamespace(Config=config, Server=Uvicorn)
    monkeypatch.setitem(sys.modules, "uvicorn", fake)  # type: ignore[arg-type]
    plain, keyed = FakeServer(), FakeServer()
    await serve_http(plain)
    await serve_http(keyed, host="example.org", port=80, hosts=("proxy.test",), key="sesame")
    quiet = {"log_level": "warning", "lifespan": "on"}
    assert served == [
        {"host": "127.0.0.1", "port": 8001, **quiet},
        {"host": "example.org", "port": 80, **quiet},
    ]
    assert plain.made["transport_security"].allowed_hosts[0] == "127.0.0.1:8001"
    assert keyed.made["transport_security"].allowed_hosts[-2:] == ["example.org:80", "proxy.test"]
    transport = httpx.ASGITransport(configs[1][0])
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.post("/mcp")).status_code == 401


@pytest.mark.parametrize("error", [ValueError("planted"), TimeoutError("planted")])
async def test_a_tool_that_fails_says_no_more_than_how(error: Exception) -> None:
    broken = FakeTool(reply=error)
    failed = await _Caller(Toolbox([broken]), {"token": "s"}).call("echo", {"text": "x"}, "7")
    assert (failed.text, failed.is_error) == (f"echo failed with {type(error).__name__}", True)
    assert broken.contexts == [ToolContext(call_id="7", secrets={"token": "s"})]


async def test_a_long_result_is_cut() -> None:
    long = FakeTool(reply="x" * 200_000)
    result = await _Caller(Toolbox([long]), {}).call("echo", {"text": "x"}, "")
    assert 99_000 < len(result.text) <= 100_000


async def test_a_tool_knows_its_call_and_a_client_its_parameters() -> None:
    echo = FakeTool()
    own = mcp_server([echo], "ours")
    async with mcp.Client(own) as client:
        for _ in range(2):
            await client.call_tool("echo", {"text": "x"})
    ids = [context.call_id for context in echo.contexts]
    assert all(ids)
    assert len(set(ids)) == 2
    assert own.get_tool_input_schema("echo") == dict(echo.parameters)
    assert own.get_tool_input_schema("none") is None
