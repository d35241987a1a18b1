"""Our tools as an MCP server, to be run as a program of its own.

The first argument is ``stdio`` or a port for streamable HTTP, the second a key.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Literal

from lmstack.agents.mcp import mcp_server, serve_http, serve_stdio
from lmstack.agents.tools import Picture, Secret, ToolResult, calculator, tool


@tool
def greet(name: str, style: Literal["short", "long"] = "short") -> str:
    """Greet somebody.

    Args:
        name: Who is greeted.
    """
    print("this must not reach the wire")
    return f"Hello {name}" if style == "short" else f"A very good day to you, {name}"


@tool
def secret(token: Secret) -> str:
    """Give a secret away."""
    return f"it is {token.value}"


@tool
def draw() -> ToolResult:
    """Draw a picture."""
    return ToolResult("drawn", pictures=(Picture("image/png", b"\x89PNG"),), data={"size": 4})


@tool
async def fail() -> str:
    """Fail."""
    raise ValueError("no such row")


@tool(timeout_s=0.05)
async def wait() -> str:
    """Wait too long."""
    await asyncio.sleep(60)
    return "late"


server = mcp_server(
    [calculator(), greet, secret, draw, fail, wait], "ours", secrets={"token": "planted-secret"}
)
if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        asyncio.run(serve_stdio(server))
    else:
        key = sys.argv[2] if len(sys.argv) > 2 else None
        asyncio.run(serve_http(server, port=int(sys.argv[1]), key=key))
