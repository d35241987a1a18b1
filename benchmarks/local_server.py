"""A model behind the HTTP server on this machine, for as long as a block lasts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import uvicorn

from lmstack.serve import LocalModel, create_app

__all__ = ["served"]


@contextlib.asynccontextmanager
async def served(model: LocalModel, name: str) -> AsyncIterator[str]:
    """The server's base URL."""
    app = create_app(models={name: model})
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task
