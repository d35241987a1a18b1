"""The tools of MCP servers, for the length of a run.

Covers connecting, approval of what is new or has changed, and calls whose results are bounded text.
Names, descriptions, schemas and results are untrusted; unless the user named a tool safe, each call
of it needs approval. A server's resources and prompts, and its questions to the user or to a model,
are not covered: it is told that there is nobody to ask.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from lmstack.agents.mcp.connection import Connection
from lmstack.agents.mcp.offers import Description, Offer, Pins, describe
from lmstack.agents.mcp.servers import McpServer
from lmstack.agents.tools.addresses import check_host
from lmstack.agents.tools.results import (
    SecretMask,
    error_result,
    finished,
    one_line,
    plain,
    plain_data,
)
from lmstack.agents.tools.tool import Picture, ToolContext, ToolResult
from lmstack.core import GuardError, InputError, RemoteError, Tool, require

__all__ = ["Approve", "McpTool", "mcp_tools"]

# Whether what a server offers may be used; a person decides.
Approve = Callable[[Offer], "bool | Awaitable[bool]"]

PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
MAX_PICTURE_BYTES = 4 << 20


@dataclass(frozen=True)
class McpTool:
    """A tool of an MCP server as an `AgentTool`. ``name``: what the server calls it."""

    name: str
    tool: Tool
    is_dangerous: bool
    server: McpServer
    connection: Connection = field(repr=False, compare=False)
    is_untrusted: bool = True
    is_foreign: bool = True

    @property
    def timeout_s(self) -> float:
        return self.server.timeout_s

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        try:
            self._check_host(context)
            result = _result(await self.connection.call(self.name, arguments))
        except (GuardError, RemoteError) as error:
            result = error_result(error)
        mask = SecretMask((*context.secrets.values(), *self.server.secrets))
        return finished(result, mask, self.server.max_chars)

    def _check_host(self, context: ToolContext) -> None:
        """A server at a URL is a host that is asked; what one does in turn is not known here."""
        if self.server.url:
            parts = urlsplit(self.server.url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            check_host(parts.hostname or "", port, context.hosts)


@contextlib.asynccontextmanager
async def mcp_tools(
    servers: Sequence[McpServer], pins: Pins, approve: Approve | None = None
) -> AsyncIterator[tuple[McpTool, ...]]:
    """The tools of ``servers``, connected to until the block ends, and no process of them after it.

    ``approve`` is asked where a description is not the one in ``pins``; without it, or where it
    says no, that is a `GuardError` and no server's tools can be called. `RemoteError` where one
    cannot be reached."""
    require("mcp", "mcp")
    names = [server.name for server in servers]
    if len(set(names)) < len(names):
        raise InputError("two MCP servers have the same name", hint="give one another name")
    async with contextlib.AsyncExitStack() as stack:
        connections = [Connection(server) for server in servers]
        for connection in connections:
            stack.push_async_callback(connection.close)
        opened = await asyncio.gather(
            *(each.open() for each in connections), return_exceptions=True
        )
        tools: list[McpTool] = []
        for connection, listed in zip(connections, opened, strict=True):
            if isinstance(listed, BaseException):
                raise listed
            offered = await _approved(connection.server, listed, pins, approve)
            tools += [_tool(each, connection) for each in offered]
        yield tuple(tools)


async def _approved(
    server: McpServer, listed: Sequence[Mapping[str, Any]], pins: Pins, approve: Approve | None
) -> list[Description]:
    """The tools of ``listed`` that can be used, all of them approved."""
    offered: dict[str, Description] = {}
    refused: dict[str, str] = {}
    for each in listed:
        name = one_line(str(each.get("name")), 80)
        try:
            found = describe(server.name, each)
            if found.name in offered:
                raise InputError("two tools have that name")
            offered[found.name] = found
        except InputError as error:
            refused[name] = error.message
    tools = list(offered.values())
    offer = pins.offer(server, tools, refused)
    if offer.needs_approval:
        answer = approve(offer) if approve is not None else False
        if (await answer if inspect.isawaitable(answer) else answer) is not True:
            raise GuardError(
                f"the tools of the MCP server {server.name} are new or have changed, and nobody"
                " has approved them",
                hint="look at what it offers, and approve it",
            )
        pins.approve(server, tools)
    return tools


def _tool(description: Description, connection: Connection) -> McpTool:
    is_safe = description.name in connection.server.safe
    return McpTool(description.name, description.tool, not is_safe, connection.server, connection)


def _result(answer: Any) -> ToolResult:
    """A server's answer as text; pictures are kept for people, what else is no text is named."""
    if not hasattr(answer, "content"):
        problem = "the server asks for something before it answers, and there is nobody to ask"
        return ToolResult(problem, is_error=True)
    parts: list[str] = []
    pictures: list[Picture] = []
    for each in answer.content:
        part = _part(each)
        if isinstance(part, Picture):
            pictures.append(part)
            part = f"[a picture, {part.media_type}, {len(part.data):,} bytes]"
        parts.append(part)
    data = plain_data(answer.structured_content)
    if not parts and data is not None:
        parts.append(json.dumps(data, ensure_ascii=False))
    text = plain("\n".join(parts)) or ("Failed." if answer.is_error else "Done.")
    return ToolResult(text, bool(answer.is_error), data, tuple(pictures))


def _part(content: Any) -> str | Picture:
    kind = content.type
    if kind == "text":
        return str(content.text)
    if kind == "image" and content.mime_type in PICTURES:
        try:
            data = base64.b64decode(content.data, validate=True)
        except (ValueError, binascii.Error):
            return "[a picture that cannot be decoded]"
        if len(data) <= MAX_PICTURE_BYTES:
            return Picture(content.mime_type, data)
        return f"[a picture of {len(data):,} bytes, which is too large]"
    if kind == "resource" and hasattr(content.resource, "text"):
        return f"[{one_line(str(content.resource.uri))}]\n{content.resource.text}"
    if kind == "resource_link":
        return f"[a link to {one_line(str(content.uri))}]"
    return f"[{one_line(str(kind), 40)} content, which cannot be read as text]"
