"""The Model Context Protocol, both ways: tools of any server, and ours for any client."""

from __future__ import annotations

from lmstack.agents.mcp.client import Approve, McpTool, mcp_tools
from lmstack.agents.mcp.offers import Description, Offer, Pins
from lmstack.agents.mcp.servers import McpServer
from lmstack.agents.mcp.serving import http_app, mcp_server, serve_http, serve_stdio

__all__ = [
    "Approve",
    "Description",
    "McpServer",
    "McpTool",
    "Offer",
    "Pins",
    "http_app",
    "mcp_server",
    "mcp_tools",
    "serve_http",
    "serve_stdio",
]
