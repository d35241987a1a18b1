"""One server, connected to for as long as a run lasts.

The connection lives in a task of its own, so that whatever a server does (it dies, hangs, or
answers nonsense) ends the connection, and never the run. Each of it is an error in words.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from lmstack.agents.mcp.servers import McpServer
from lmstack.agents.mcp.transports import Errors, Statuses, http_transport, stdio_transport
from lmstack.agents.tools.results import SecretMask, one_line
from lmstack.core import LmstackError, RemoteError, require

__all__ = ["Connection"]

MAX_PAGES = 100
# The processes of a server are ended in less.
CLOSE_S = 5.0


class Connection:
    """To ``server``. Use: `open`, then `call` from any task, then `close`."""

    def __init__(self, server: McpServer) -> None:
        self.server = server
        self._notes: Errors | Statuses = Statuses() if server.url else Errors()
        self._session: Any = None
        self._task: asyncio.Task[None] | None = None
        self._scope: Any = None
        self._closing = asyncio.Event()
        self._reason = ""

    async def open(self) -> list[dict[str, Any]]:
        """Connect, and return the tools that the server lists, in MCP's JSON."""
        loop = asyncio.get_running_loop()
        listed: asyncio.Future[list[dict[str, Any]]] = loop.create_future()
        listed.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._task = asyncio.create_task(self._live(listed), name=f"MCP {self.server.name}")
        try:
            async with asyncio.timeout(self.server.connect_s):
                return await asyncio.shield(listed)
        except TimeoutError:
            problem = f"did not answer in {self.server.connect_s:g} s"
            raise self._error(problem, "check that it runs and speaks MCP") from None
        finally:
            if self._session is None:
                await self.close()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """What the server answers to a call of its tool ``name``; `RemoteError` in words where
        it does not. The result is not checked against a schema of the server's own."""
        if self._session is None:
            raise self._error(f"has ended{self._reason}", "start the run again")
        types, error_type = require("mcp.types", "mcp"), require("mcp", "mcp").MCPError
        params = types.CallToolRequestParams(name=name, arguments=dict(arguments))
        seconds = self.server.timeout_s
        try:
            async with asyncio.timeout(seconds):
                return await self._session.send_request(
                    types.CallToolRequest(params=params),
                    TypeAdapter(types.CallToolResult | types.InputRequiredResult),
                    request_read_timeout_seconds=seconds + 1,
                )
        except TimeoutError:
            problem = f"did not answer in {seconds:g} s"
            raise self._error(problem, "ask for less at once") from None
        except error_type as error:
            raise self._error(f"did not answer the call: {_words(error)}") from None
        except Exception as error:
            raise self._error(f"sent what is no answer: {_words(error)}") from None

    async def close(self) -> None:
        """End the connection and every process of it. Safe to call twice, and when cancelled."""
        self._closing.set()
        task = self._task
        if task is None:
            return
        if self._session is None and self._scope is not None:
            self._scope.cancel()
        try:
            await asyncio.wait({task}, timeout=CLOSE_S)
        finally:
            if not task.done() and self._scope is not None:
                self._scope.cancel()
        await asyncio.wait({task}, timeout=CLOSE_S)

    async def _live(self, listed: asyncio.Future[list[dict[str, Any]]]) -> None:
        anyio = require("anyio", "mcp")
        try:
            with anyio.CancelScope() as self._scope:
                async with contextlib.AsyncExitStack() as stack:
                    session = await self._connected(stack)
                    tools = await self._listing(session)
                    self._session = session
                    if not listed.done():
                        listed.set_result(tools)
                    await self._closing.wait()
        except Exception as error:
            leaf = _leaf(error)
            self._reason = f": {_words(leaf)}"
            if not listed.done():
                problem = f"cannot be connected to{self._reason}"
                words = leaf if isinstance(leaf, LmstackError) else self._error(problem)
                listed.set_exception(words)
        finally:
            self._session = None
            if not listed.done():
                listed.set_exception(self._error("was closed before it answered"))

    async def _connected(self, stack: contextlib.AsyncExitStack) -> Any:
        mcp = require("mcp", "mcp")
        if isinstance(self._notes, Statuses):
            transport = http_transport(self.server, self._notes)
        else:
            transport = stdio_transport(self.server, self._notes)
        client = mcp.Client(
            transport,
            cache=None,
            client_info=mcp.types.Implementation(name="lmstack", version="1"),
            read_timeout_seconds=self.server.connect_s,
        )
        return (await stack.enter_async_context(client)).session

    async def _listing(self, session: Any) -> list[dict[str, Any]]:
        types = require("mcp.types", "mcp")
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            params = types.PaginatedRequestParams(cursor=cursor) if cursor else None
            page = await session.list_tools(params=params)
            found += [each.model_dump(by_alias=True, exclude_none=True) for each in page.tools]
            if len(found) > self.server.max_tools:
                problem = f"lists more than {self.server.max_tools} tools"
                raise self._error(problem, "raise max_tools, or use another server")
            cursor = page.next_cursor
            if not cursor:
                return found
        raise self._error(f"lists its tools on more than {MAX_PAGES} pages", "use another server")

    def _error(self, problem: str, hint: str | None = None) -> RemoteError:
        mask = SecretMask(self.server.secrets)
        note = mask.text(str(self._notes))
        text = f"the MCP server {self.server.name} {mask.text(problem)}"
        return RemoteError(f"{text} ({note})" if note else text, hint=hint)


def _leaf(error: BaseException) -> BaseException:
    """The first error of a group, which is what went wrong."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _words(error: BaseException) -> str:
    return one_line(str(error)) or type(error).__name__
