"""Tools that agents call: made from functions, built in, of a sandbox, and of MCP servers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lmstack.agents.tools.addresses import AllowedHosts
from lmstack.agents.tools.calculator import calculator
from lmstack.agents.tools.files import Roots, file_tools
from lmstack.agents.tools.function import FunctionTool, tool
from lmstack.agents.tools.http_get import HttpGetConfig, http_get_tool
from lmstack.agents.tools.search import Passage, Source, open_source_tool, search_tool
from lmstack.agents.tools.secret import Secret
from lmstack.agents.tools.tool import AgentTool, Picture, ToolContext, ToolResult
from lmstack.agents.tools.toolbox import Toolbox

if TYPE_CHECKING:
    from lmstack.agents.tools.python import PythonTool

__all__ = [
    "AgentTool",
    "AllowedHosts",
    "FunctionTool",
    "HttpGetConfig",
    "Passage",
    "Picture",
    "PythonTool",
    "Roots",
    "Secret",
    "Source",
    "ToolContext",
    "ToolResult",
    "Toolbox",
    "calculator",
    "file_tools",
    "http_get_tool",
    "open_source_tool",
    "search_tool",
    "tool",
]

_HOMES = {"PythonTool": "lmstack.agents.tools.python"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found
