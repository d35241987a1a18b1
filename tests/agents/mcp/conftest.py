"""Programs that speak MCP, started for tests and gone after them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lmstack.agents.mcp import McpServer, Pins

FOLDER = Path(__file__).parent
PLAIN: dict[str, Any] = {"type": "object", "properties": {}}
TOOLS = [
    {"name": name, "description": f"What {name} does.", "inputSchema": PLAIN}
    for name in ("greet", "die", "nonsense", "odd", "leave_a_child")
]

Example = Callable[..., McpServer]
Started = Callable[..., int]


@pytest.fixture
def pins(tmp_path: Path) -> Pins:
    return Pins(tmp_path / "pins")


def server_of(program: str, name: str, environment: Mapping[str, str], settings: Any) -> McpServer:
    return McpServer(
        name,
        command=sys.executable,
        arguments=(str(FOLDER / program), "stdio"),
        environment={**environment, **settings.pop("environment", {})},
        **settings,
    )


@pytest.fixture
def example() -> Example:
    """The official SDK's server over stdio."""

    def make(behaviour: str = "plain", name: str = "example", **settings: Any) -> McpServer:
        return server_of("example_server.py", name, {"BEHAVIOUR": behaviour}, settings)

    return make


@pytest.fixture
def raw(tmp_path: Path) -> Example:
    """A server that is quick to start, by its behaviour and by what it lists."""

    def make(
        behaviour: str = "plain",
        name: str = "raw",
        tools: Sequence[Mapping[str, Any]] = TOOLS,
        **settings: Any,
    ) -> McpServer:
        path = tmp_path / f"{name}-tools.json"
        path.write_text(json.dumps(tools))
        environment = {"BEHAVIOUR": behaviour, "TOOLS": str(path)}
        return server_of("raw_server.py", name, environment, settings)

    return make


@pytest.fixture(scope="session")
def started() -> Iterator[Started]:
    """Start a program of this folder on a port, once for the same ``arguments``, and wait until it
    listens there."""
    ports: dict[tuple[str, ...], int] = {}
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> int:
        if arguments not in ports:
            ports[arguments] = _listening(processes, *arguments)
        return ports[arguments]

    yield start
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(30)


def _listening(processes: list[subprocess.Popen[bytes]], program: str, *arguments: str) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, str(FOLDER / program), str(port), *arguments]
    process = subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.DEVNULL)
    processes.append(process)
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return port
        except OSError:
            assert process.poll() is None, f"{program} ended"
            assert time.monotonic() < deadline, f"{program} does not listen"
            time.sleep(0.02)
