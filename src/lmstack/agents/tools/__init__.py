"""Tools that agents call."""

from __future__ import annotations

from lmstack.agents.tools.tool import AgentTool, Picture, ToolContext, ToolResult

__all__ = ["AgentTool", "Picture", "ToolContext", "ToolResult"]
