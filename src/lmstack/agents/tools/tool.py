"""What an agent can call: a tool with its rights, and what comes back.

Covers the shape that every tool has, wherever it comes from. Does not cover making one from a
function, MCP's, or whether an agent may call it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from lmstack.core import Tool

__all__ = ["AgentTool", "Picture", "ToolContext", "ToolResult"]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that a tool made: ``data`` of the ``media_type`` (``image/png``)."""

    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ToolResult:
    """``text``: what the model is shown. ``is_error``: the call failed, and the text says why.
    ``data``: the result as JSON values, where there is more than text. ``pictures``: for people."""

    text: str
    is_error: bool = False
    data: Any = None
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The call that a tool answers. ``run_id``, ``call_id``: of the run and of the call in it;
    the same call of a resumed run has the same. ``secrets``: by their names, for tools that ask for
    them; never shown to a model and never stored. ``roots``, ``hosts``: what the run's rights name;
    a tool that opens files or asks hosts keeps to these too. None: to its own alone."""

    run_id: str = ""
    call_id: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    roots: frozenset[str] | None = None
    hosts: frozenset[str] | None = None


class AgentTool(Protocol):
    """``tool``: what the model is shown. ``is_dangerous``: a person has to approve each call.
    ``is_untrusted``: what it returns was written by others (a page, a file, another server), and
    may hold orders that are not the user's. ``timeout_s``: how long a call may take.

    A tool whose name, description and schema were written by others, too, has a further attribute
    ``is_foreign``, which is true: those of a server, not those of a function here. A tool that
    keeps something for a run has a method ``run_ended(run_id)``, which is called when the run has
    ended and cannot be resumed; another task may still follow in its conversation."""

    @property
    def tool(self) -> Tool: ...

    @property
    def is_dangerous(self) -> bool: ...

    @property
    def is_untrusted(self) -> bool: ...

    @property
    def timeout_s(self) -> float: ...

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Answer a call whose ``arguments`` follow the schema of ``tool``. What the model can do
        better next time is a result with ``is_error``; cancelling the task ends the work."""
        ...
