"""Serve tools by the Model Context Protocol, and use them from here: python examples/mcp_tools.py

With the word ``serve`` it is the server, for this program or any other client of MCP.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from lmstack.agents.mcp import McpServer, Offer, Pins, mcp_server, mcp_tools, serve_stdio
from lmstack.agents.tools import Toolbox, calculator, tool


@tool
def plant(name: str, depth_cm: float = 2.0) -> str:
    """Say how to plant something."""
    return f"Plant the {name} {depth_cm:g} cm deep."


def approve(offer: Offer) -> bool:
    print(offer.text())
    return True


async def use(folder: Path) -> None:
    garden = McpServer("garden", command=sys.executable, arguments=(__file__, "serve"))
    async with mcp_tools([garden], Pins(folder / "pins"), approve) as tools:
        box = Toolbox(tools)
        print((await box.call("garden__plant", {"name": "bulb", "depth_cm": 10})).text)
        print("6 * 7 is", (await box.call("garden__calculator", {"expression": "6 * 7"})).text)


if sys.argv[1:] == ["serve"]:
    asyncio.run(serve_stdio(mcp_server([plant, calculator()], "garden")))
else:
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(use(Path(made)))
