"""Tools that agents call: made from functions, built in, of a sandbox, and of MCP servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstack.agents.tools.addresses import AllowedHosts
from lmstack.agents.tools.calculator import calculator
from lmstack.agents.tools.files import Roots, file_tools
from lmstack.agents.tools.function import FunctionTool, tool
from lmstack.agents.tools.http_get import HttpGetConfig, http_get_tool
from lmstack.agents.tools.results import Secret
from lmstack.agents.tools.search import FoundPassage, SourceText, open_source_tool, search_tool
from lmstack.agents.tools.tool import AgentTool, Picture, ToolContext, ToolResult
from lmstack.agents.tools.toolbox import Toolbox
from lmstack.lazy_names import lazy_names

if TYPE_CHECKING:
    from lmstack.agents.tools.python import PythonTool

__all__ = [
    "AgentTool",
    "AllowedHosts",
    "FoundPassage",
    "FunctionTool",
    "HttpGetConfig",
    "Picture",
    "PythonTool",
    "Roots",
    "Secret",
    "SourceText",
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

__getattr__, __dir__ = lazy_names(__name__)
