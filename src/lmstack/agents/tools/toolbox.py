"""The tools of a run, by their names.

Covers gathering them from functions, tools and MCP servers, choosing some by name or pattern, and
saying which name was meant. Does not cover approval or budgets.
"""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from lmstack.agents.tools.function import FunctionTool
from lmstack.agents.tools.tool import AgentTool, ToolContext, ToolResult
from lmstack.core import InputError, NotFoundError, Tool, nearest, shown

__all__ = ["Toolbox"]

# Of the names in an error: with fifty tools the list would be longer than the conversation.
MAX_NAMES = 10


class Toolbox(Mapping[str, AgentTool]):
    """Tools with unique names, in the order in which they were given. ``sources``: tools, functions
    (see `FunctionTool`), or iterables of them, such as another toolbox's values."""

    def __init__(self, *sources: AgentTool | Callable[..., Any] | Iterable[Any]) -> None:
        self._tools: dict[str, AgentTool] = {}
        for each in _each(sources):
            name = each.tool.name
            if name in self._tools:
                raise InputError(
                    f"two tools have the name {name}", hint="give one of them another name"
                )
            self._tools[name] = each

    def __getitem__(self, name: str) -> AgentTool:
        if name not in self._tools:
            raise NotFoundError(f"there is no tool {shown(name)}", hint=self._meant(name))
        return self._tools[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __repr__(self) -> str:
        return f"Toolbox({', '.join(self._tools)})"

    @property
    def shown(self) -> tuple[Tool, ...]:
        """What a model is shown of them: the ``tools`` of a request."""
        return tuple(each.tool for each in self._tools.values())

    def select(self, *names: str) -> Toolbox:
        """Those of ``names``, in this toolbox's order; ``files__*`` is all that begin so.
        `NotFoundError` for a name or a pattern that fits none."""
        chosen: set[str] = set()
        for name in names:
            found = fnmatch.filter(self._tools, name) if set(name) & set("*?[") else [name]
            if not found:
                raise NotFoundError(f"no tool fits {shown(name)}", hint=self._meant(name))
            chosen.update(self[each].tool.name for each in found)
        return Toolbox(each for name, each in self._tools.items() if name in chosen)

    async def call(
        self, name: str, arguments: Mapping[str, Any], context: ToolContext | None = None
    ) -> ToolResult:
        """The answer of the tool ``name``, an error in words where there is none of that name."""
        try:
            found = self[name]
        except NotFoundError as error:
            return ToolResult(str(error), is_error=True)
        return await found.call(arguments, context or ToolContext())

    def _meant(self, name: str) -> str:
        if not self._tools:
            return "there are no tools"
        if (guess := nearest(name, self._tools)) is not None:
            return f"did you mean {guess}?"
        names = list(self._tools)
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        return f"there are {', '.join(names[:MAX_NAMES])}{more}"


def _each(sources: Iterable[Any]) -> Iterator[AgentTool]:
    for source in sources:
        if isinstance(getattr(source, "tool", None), Tool):
            yield source
        elif inspect.isroutine(source):
            yield FunctionTool.of(source)
        elif isinstance(source, Mapping):
            yield from _each(source.values())
        elif isinstance(source, Iterable) and not isinstance(source, str | bytes):
            yield from _each(source)
        else:
            raise InputError(f"{shown(source)} is not a tool", hint="give tools or functions")
