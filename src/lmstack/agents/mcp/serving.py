"""Tools of ours for other programs, by the Model Context Protocol.

Covers a server over standard input and output, and one over streamable HTTP that answers only under
its own host names (against DNS rebinding) and, if it has a key, only with that. Tools that need a
person's approval are refused unless the caller leaves approval to the client. Does not cover
resources, prompts, or OAuth.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from lmstack.agents.arguments import check_value_schema, problems
from lmstack.agents.tools.results import SecretMask, error_result, finished, one_line
from lmstack.agents.tools.tool import AgentTool, ToolContext, ToolResult
from lmstack.agents.tools.toolbox import Toolbox
from lmstack.core import InputError, LmstackError, require, shown

__all__ = ["http_app", "mcp_server", "serve_http", "serve_stdio"]

App = Callable[[MutableMapping[str, Any], Callable[[], Awaitable[Any]], Any], Awaitable[None]]

MAX_CHARS = 100_000
MAX_BODY_BYTES = 4 << 20
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def mcp_server(
    tools: Sequence[AgentTool],
    name: str,
    *,
    version: str = "",
    secrets: Mapping[str, str] | None = None,
    allow_dangerous: bool = False,
) -> Any:
    """A `mcp.server.Server` that offers ``tools``, to be served by `serve_stdio` or `serve_http`.

    ``secrets``: for tools that ask for them. ``allow_dangerous``: whether tools that need approval
    are offered, which leaves it to the client to ask; otherwise one of them is an `InputError`."""
    types = require("mcp.types", "mcp")
    server_type = require("mcp.server", "mcp").Server
    box = Toolbox(tools)
    dangerous = [each for each in box if box[each].is_dangerous]
    if dangerous and not allow_dangerous:
        raise InputError(
            f"the tool {dangerous[0]} needs a person's approval, which a server cannot ask for",
            hint="leave it out, or allow_dangerous where the client asks",
        )
    caller = _Caller(box, dict(secrets or {}))
    listed = [
        types.Tool(name=each.name, description=each.description, input_schema=dict(each.parameters))
        for each in box.shown
    ]

    async def list_tools(*_: Any) -> Any:
        return types.ListToolsResult(tools=listed)

    async def call_tool(context: Any, params: Any) -> Any:
        call_id = str(getattr(context, "request_id", "") or "")
        return _content(await caller.call(params.name, params.arguments or {}, call_id), types)

    return server_type(
        name,
        version=version,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema=lambda tool: dict(box[tool].tool.parameters) if tool in box else None,
    )


class _Caller:
    """Answers calls: unknown names, wrong arguments, errors and slow tools in words."""

    def __init__(self, box: Toolbox, secrets: Mapping[str, str]) -> None:
        for each in box.shown:
            check_value_schema(f"the tool {each.name}", each.parameters)
        self._box, self._secrets = box, secrets

    async def call(self, name: str, arguments: Mapping[str, Any], call_id: str) -> ToolResult:
        mask = SecretMask(self._secrets.values())
        try:
            result = await self._answer(name, arguments, call_id)
        except LmstackError as error:
            result = error_result(error)
        except Exception as error:
            result = ToolResult(f"{name} failed with {type(error).__name__}", is_error=True)
        return finished(result, mask, MAX_CHARS)

    async def _answer(self, name: str, arguments: Mapping[str, Any], call_id: str) -> ToolResult:
        tool = self._box[name]
        if wrong := problems(tool.tool.parameters, arguments):
            raise InputError(f"wrong arguments for {name}: {'; '.join(map(one_line, wrong))}")
        context = ToolContext(call_id=call_id, secrets=self._secrets)
        try:
            # A tool has its own timeout, with an error of its own.
            async with asyncio.timeout(tool.timeout_s + 1) as deadline:
                return await tool.call(arguments, context)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise InputError(f"{name} took longer than {tool.timeout_s:g} s") from None


def _content(result: ToolResult, types: Any) -> Any:
    content = [types.TextContent(type="text", text=result.text)]
    content += [
        types.ImageContent(
            type="image",
            data=base64.b64encode(picture.data).decode(),
            mime_type=picture.media_type,
        )
        for picture in result.pictures
    ]
    structured = result.data if isinstance(result.data, Mapping) else None
    return types.CallToolResult(
        content=content, structured_content=structured, is_error=result.is_error
    )


async def serve_stdio(server: Any) -> None:
    """Serve on standard input and output until the input ends. What else is printed meanwhile goes
    to standard error."""
    stdio = require("mcp.server.stdio", "mcp")
    async with stdio.stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def http_app(
    server: Any,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    hosts: Sequence[str] = (),
    key: str | None = None,
) -> App:
    """An ASGI application with ``server`` at ``/mcp``. Requests for other hosts than ``host`` and
    ``hosts``, or from pages of other origins, are refused; with ``key``, so are those without it
    (``Authorization: Bearer KEY``). `InputError` where others could reach it without a key."""
    if not _is_loopback(host) and not key:
        raise InputError(
            f"everybody who reaches {shown(host)} could call the tools",
            hint="set a key, or serve on 127.0.0.1",
        )
    security = require("mcp.server.transport_security", "mcp")
    own = (*LOOPBACK, *(() if _is_loopback(host) else (host,)))
    ports = "*" if port is None else str(port)
    names = [*(f"{each}:{ports}" for each in own), *hosts]
    settings = security.TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=names,
        allowed_origins=[f"{scheme}://{name}" for scheme in ("http", "https") for name in names],
    )
    app: App = server.streamable_http_app(
        host=host,
        transport_security=settings,
        max_request_body_size=MAX_BODY_BYTES,
        # No call of ours needs another: without sessions no client can use up those of others.
        stateless_http=True,
    )
    return _keyed(_posted(app), key) if key else _posted(app)


def _posted(app: App) -> App:
    """``app`` without its streams of what nobody asked for: we send none, and a client that left
    many of them open would take the server's connections."""

    async def checked(
        scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Any
    ) -> None:
        if scope["type"] == "http" and scope["method"] != "POST":
            await _refuse(send, 405, (b"allow", b"POST"))
        else:
            await app(scope, receive, send)

    return checked


async def _refuse(send: Any, status: int, header: tuple[bytes, bytes]) -> None:
    headers = [header, (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _keyed(app: App, key: str) -> App:
    """``app`` for those who send ``key``. Everything but the start and the end of the server needs
    it."""
    wanted = f"Bearer {key}".encode()

    async def checked(
        scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Any
    ) -> None:
        sent = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] == "lifespan" or hmac.compare_digest(sent, wanted):
            await app(scope, receive, send)
        elif scope["type"] == "http":
            await _refuse(send, 401, (b"www-authenticate", b"Bearer"))

    return checked


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


async def serve_http(
    server: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 8001,
    hosts: Sequence[str] = (),
    key: str | None = None,
) -> None:
    """Serve over streamable HTTP, at ``http://host:port/mcp``, until the task is cancelled or the
    process is asked to end."""
    uvicorn = require("uvicorn", "mcp")
    app = http_app(server, host=host, port=port, hosts=hosts, key=key)
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", lifespan="on")
    await uvicorn.Server(config).serve()
