"""`lmstack mcp serve`: the index, its search and files as tools for any MCP client."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.agents.toolkit import ChosenTools, tools_of
from lmstack.app.cli import indexing
from lmstack.app.cli.command import command, group
from lmstack.app.cli.commands._options import Docs, EmbedderName, IndexFolder
from lmstack.app.cli.output import Output
from lmstack.app.wiring.agents import index_tools, pins_path
from lmstack.core import InputError

if TYPE_CHECKING:
    from lmstack.rag import Index

__all__ = ["serve"]

_KEY = "LMSTACK_MCP_KEY"


group(
    "mcp",
    "serve",
    """
    Offer your documents to other programs' agents, by the Model Context Protocol.

    The tools of other MCP servers are for `lmstack agent run`, which takes `--mcp`.

    lmstack mcp serve --docs docs
    """,
)


@command(
    "mcp serve",
    f"""
    --files DIR: A folder whose files may be read; repeat it.
    --http PORT: Serve streamable HTTP on this port of this machine, at /mcp, instead of standard
        input and output. With ${_KEY}, only those who send that key.

    lmstack mcp serve --docs docs
    lmstack mcp serve --index docs.index --http 8001
    """,
    returns=False,
)
def serve(
    out: Output,
    docs: Docs = None,
    index: IndexFolder = None,
    files: list[Path] | None = None,
    http: int | None = None,
    embedder: EmbedderName = None,
) -> None:
    """Serve the search of an index, and the files of folders, as tools.

    They are `search` and `open_source`, `list_files` and `read_file`, and a calculator. A client
    starts this command itself and speaks over its standard input and output; with --http several
    can share one server. Nothing is written and nothing is run for them."""
    if docs is None and index is None and not files:
        raise InputError(
            "there is nothing to serve", hint="lmstack mcp serve --docs DIR", param="docs"
        )
    with ExitStack() as stack:
        opened = None
        if docs is not None or index is not None:
            opened = stack.enter_context(indexing.open_source(out, docs, index, embedder))
        out.interrupted = ("the index is kept", out.again())
        asyncio.run(_serve(out, opened, files or [], http))


async def _serve(out: Output, index: Index | None, files: list[Path], port: int | None) -> None:
    from lmstack.agents.mcp import mcp_server, serve_http, serve_stdio

    searching = index_tools(index, out.note)
    async with tools_of(ChosenTools(files=files), searching, pins=pins_path()) as tools:
        server = mcp_server(tools, "lmstack")
        if port is None:
            if sys.stdin.isatty():
                out.note("waiting for an MCP client on standard input; Ctrl-D ends")
            await serve_stdio(server)
            return
        out.note(f"serving MCP at http://127.0.0.1:{port}/mcp; Ctrl-C ends")
        await serve_http(server, port=port, key=os.environ.get(_KEY) or None)
