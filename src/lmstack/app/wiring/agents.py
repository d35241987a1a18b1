"""What an agent of the command line is made of: a model, tools, and where its runs are kept.

Like `wiring`, imports what it wires when it is called.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.app.wiring import retrieval
from lmstack.core import InputError, NotFoundError
from lmstack.registry import home

if TYPE_CHECKING:
    from lmstack.agents import RunStore
    from lmstack.agents.tools import AgentTool
    from lmstack.app.server.approvals import PageApprover
    from lmstack.rag import Index

__all__ = [
    "index_tools",
    "page_of",
    "pins_path",
    "run_store",
    "runs_path",
]

_RUNS = "agents.db"
_PINS = "mcp"


def runs_path() -> Path:
    """Where the runs of this user are kept."""
    return home() / _RUNS


def pins_path() -> Path:
    """Where it is kept which MCP servers this user approved, and what they offered then."""
    return home() / _PINS


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


def index_tools(
    index: Index | None, note: Callable[[str], None] = lambda _: None
) -> list[AgentTool]:
    """``search``, which finds passages of ``index`` as `lmstack search` does, and ``open_source``,
    which reads the document that one is from; nothing without an index."""
    if index is None:
        return []
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
