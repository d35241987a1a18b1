"""A model behind the HTTP server on this machine, or `lmstack up`, for as long as a block lasts."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping

import uvicorn

from lmstack.serve import LocalModel, create_app

__all__ = ["lmstack_up", "served"]


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


@contextlib.contextmanager
def lmstack_up(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """The base URL of ``lmstack up ARGUMENTS`` on a free port, once it says that it serves. Its
    progress and notes go to standard error."""
    command = [sys.executable, "-m", "lmstack", "up", *arguments, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True)
    try:
        assert process.stdout is not None
        before, said, address = process.stdout.readline().partition(" at http://")
        if not said:
            raise SystemExit(f"lmstack up ended before it was ready: {before}")
        yield f"http://{address.split()[0].rstrip('/')}"
    finally:
        process.terminate()
        process.wait(60)
