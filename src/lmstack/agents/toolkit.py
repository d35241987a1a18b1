"""The tools that a person chooses for an agent: by folders, hosts and servers, opened for its runs.

Not covered: what each tool does (`tools`), and what a run may do with them (`rights`).
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.core import InputError, shown

if TYPE_CHECKING:
    from lmstack.agents.mcp import McpServer, Offer
    from lmstack.agents.tools import AgentTool

__all__ = ["ChosenTools", "mcp_server_of", "tools_of"]


@dataclass(frozen=True)
class ChosenTools:
    """Which tools there are, beside the calculator: ``files``: folders whose files may be read;
    ``hosts``: that may be asked; ``python``: code in a sandbox; ``mcp``: servers, each a command
    line or a URL."""

    files: Sequence[Path] = ()
    hosts: Sequence[str] = ()
    python: bool = False
    mcp: Sequence[str] = ()


@asynccontextmanager
async def tools_of(
    choice: ChosenTools,
    more: Sequence[AgentTool] = (),
    *,
    pins: Path,
    approve: Callable[[Offer], Any] | None = None,
) -> AsyncIterator[list[AgentTool]]:
    """The tools of ``choice``, and ``more``; nothing of them is left after the block. ``pins``: the
    folder that remembers what MCP servers offered. ``approve``: is asked what one offers before it
    is used the first time."""
    from lmstack.agents.tools import PythonTool, calculator, file_tools, http_get_tool

    found: list[AgentTool] = [calculator(), *more]
    if choice.files:
        found += file_tools(list(choice.files))
    if choice.hosts:
        found.append(http_get_tool(tuple(choice.hosts)))
    async with AsyncExitStack() as stack:
        if choice.python:
            found.append(await stack.enter_async_context(PythonTool()))
        if choice.mcp:
            from lmstack.agents.mcp import Pins, mcp_tools

            servers = [mcp_server_of(text) for text in choice.mcp]
            found += await stack.enter_async_context(mcp_tools(servers, Pins(pins), approve))
        yield found


def mcp_server_of(text: str) -> McpServer:
    """``NAME=COMMAND ...`` or ``NAME=URL``."""
    from lmstack.agents.mcp import McpServer

    name, equals, what = text.partition("=")
    if not equals or not what.strip():
        raise InputError(
            f"--mcp is {shown(text)}",
            hint='--mcp files="npx some-server" or --mcp files=http://127.0.0.1:8001/mcp',
            param="mcp",
        )
    if what.startswith(("http://", "https://")):
        return McpServer(name=name, url=what)
    command, *arguments = shlex.split(what)
    return McpServer(name=name, command=command, arguments=tuple(arguments))
