"""Tools that agents call. Python, which needs the sandbox, is looked up when it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lmstack.agents.tools.tool import AgentTool, Picture, ToolContext, ToolResult

if TYPE_CHECKING:
    from lmstack.agents.tools.python import PythonTool

__all__ = ["AgentTool", "Picture", "PythonTool", "ToolContext", "ToolResult"]

_HOMES = {"PythonTool": "lmstack.agents.tools.python"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found
