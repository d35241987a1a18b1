"""What an agent of the command line is made of: a model, tools, and where its runs are kept.

Like `wiring`, imports what it wires when it is called.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
import socket
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app.wiring import retrieval
from lmstack.core import InputError, NotFoundError, shown
from lmstack.registry import home

if TYPE_CHECKING:
    from lmstack.agents import RunStore
    from lmstack.agents.mcp import McpServer, Offer
    from lmstack.agents.tools import AgentTool
    from lmstack.app.server.approvals import PageApprover
    from lmstack.rag import Index

__all__ = [
    "ToolChoice",
    "index_tools",
    "mcp_server_of",
    "page_of",
    "run_store",
    "runs_path",
    "tools_of",
]

_RUNS = "agents.db"
_PINS = "mcp"


@dataclass(frozen=True)
class ToolChoice:
    """Which tools there are, beside the calculator: ``files``: folders whose files may be read;
    ``hosts``: that may be asked; ``python``: code in a sandbox; ``mcp``: servers, each a command
    line or a URL."""

    files: Sequence[Path] = ()
    hosts: Sequence[str] = ()
    python: bool = False
    mcp: Sequence[str] = ()


def runs_path() -> Path:
    """Where the runs of this user are kept."""
    return home() / _RUNS


def run_store(path: Path | None) -> RunStore:
    """The runs of this user, or those in the file ``path``."""
    from lmstack.agents import RunStore

    path = path or runs_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    return RunStore(path)


@asynccontextmanager
async def page_of(store: RunStore, port: int, log: Path) -> AsyncIterator[tuple[PageApprover, str]]:
    """Who is asked at the page of ``store``'s runs while the block runs, and its address, with the
    key that it wants. ``log``: where decisions are recorded. `InputError` where the port is
    taken."""
    import uvicorn

    from lmstack.app.page.agents.live import LiveRuns
    from lmstack.app.page.agents.routes import agents_app
    from lmstack.app.server.approvals import PageApprover
    from lmstack.safety import AuditLog

    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise InputError(
            f"port {port} cannot be used: {error.strerror}", hint="--page with another one"
        ) from error
    approver = PageApprover(timeout_s=None)
    key = secrets.token_urlsafe()
    app = agents_app(LiveRuns(store, approver), AuditLog(log).append, key)

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            yield  # Ctrl-C is for the run

    server = Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield approver, f"http://127.0.0.1:{port}/agents#key={key}"
    finally:
        approver.close()
        server.should_exit = True
        await serving


@asynccontextmanager
async def tools_of(
    choice: ToolChoice,
    index: Index | None = None,
    *,
    approve: Callable[[Offer], Any] | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[list[AgentTool]]:
    """The tools of ``choice``, and the search of ``index``; nothing of them is left after the
    block. ``approve``: is asked what an MCP server offers before it is used the first time."""
    from lmstack.agents.tools import PythonTool, calculator, file_tools, http_get_tool

    found: list[AgentTool] = [calculator()]
    if index is not None:
        found += index_tools(index, note)
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
            pins = Pins(home() / _PINS)
            found += await stack.enter_async_context(mcp_tools(servers, pins, approve))
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


def index_tools(index: Index, note: Callable[[str], None] = lambda _: None) -> list[AgentTool]:
    """``search``, which finds passages of ``index`` as `lmstack search` does, and ``open_source``,
    which reads the document that one is from."""
    from lmstack.agents.tools import FoundPassage, SourceText, open_source_tool, search_tool
    from lmstack.rag.retrieve.retrieval import preset

    retriever = retrieval.retriever(index, retrieval.feasible(preset("default"), note))

    def search(query: str, count: int) -> list[FoundPassage]:
        hits = retriever.search(query, count).hits
        return [FoundPassage(str(hit.document_id), hit.path, hit.text, hit.start) for hit in hits]

    def open_source(identity: str) -> SourceText | None:
        try:
            document = index.document(int(identity))
        except (ValueError, NotFoundError):
            return None
        return SourceText(identity, document.path, document.text)

    return [search_tool(search), open_source_tool(open_source)]
