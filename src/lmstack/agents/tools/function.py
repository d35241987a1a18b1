"""Tools from typed Python functions.

Covers the schema from annotations and docstring, arguments checked before the call, results and
errors as bounded text, timeouts, secrets filled in and taken out again. Does not cover who may call
a tool, nor a function that blocks the event loop it was started in: define it without async, and it
runs in a thread.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, overload

import docstring_parser

from lmstack.agents.tools.parameters import Parameters
from lmstack.agents.tools.results import error_result, finished, result_of
from lmstack.agents.tools.secret import SecretMask
from lmstack.agents.tools.texts import plain, plain_data
from lmstack.agents.tools.threads import CallOutcome, Threads
from lmstack.agents.tools.tool import ToolContext, ToolResult
from lmstack.core import InputError, LmstackError, Tool, check_range, check_whole

__all__ = ["FunctionTool", "tool"]

MAX_CHARS = 20_000
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class FunctionTool:
    """An `AgentTool` that calls ``function``. ``max_chars``: of the text that it returns. Make one
    with `of`, or by decorating the function with `tool`."""

    function: Callable[..., Any]
    tool: Tool
    parameters: Parameters
    is_dangerous: bool = False
    is_untrusted: bool = False
    timeout_s: float = TIMEOUT_S
    max_chars: int = MAX_CHARS
    _threads: Threads = field(default_factory=Threads, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_range("timeout_s", self.timeout_s, 0, 86_400, low_open=True)
        check_whole("max_chars", self.max_chars, 100, 10_000_000)

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        **options: Any,
    ) -> FunctionTool:
        """A tool from ``function``, which may be async. ``name`` and ``description``: unless
        given, its own name and its docstring; ``options``: the other fields. `InputError` names
        the parameter that has no annotation, or a type that JSON does not have."""
        name = name or str(getattr(function, "__name__", ""))
        documentation = docstring_parser.parse(inspect.getdoc(function) or "")
        described = {
            each.arg_name: " ".join(each.description.split())
            for each in documentation.params
            if each.description
        }
        parameters = Parameters.of(function, name, described)
        if description is None:
            parts = (documentation.short_description, documentation.long_description)
            description = "\n\n".join(part for part in parts if part)
        shown = Tool(name, description, parameters.schema)
        return cls(function, shown, parameters, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, as Python does."""
        return self.function(*args, **kwargs)

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Check ``arguments``, run the function, and return what it returned or raised."""
        mask = SecretMask(context.secrets.values())
        try:
            outcome = await self._outcome(arguments, context)
            if outcome.error is None:
                result = result_of(outcome.value, mask)
            else:
                result = error_result(outcome.error)
        except LmstackError as error:
            result = error_result(error)
        if self.is_untrusted:
            text, data = plain(result.text), plain_data(result.data)
            result = replace(result, text=text, data=data)
        return finished(result, mask, self.max_chars)

    async def _outcome(self, arguments: Mapping[str, Any], context: ToolContext) -> CallOutcome:
        args, kwargs = self.parameters.bind(arguments, context)
        call = functools.partial(self.function, *args, **kwargs)
        try:
            async with asyncio.timeout(self.timeout_s) as deadline:
                return await self._run(call)
        except TimeoutError:
            if not deadline.expired():
                raise
            problem = f"{self.tool.name} took longer than {self.timeout_s:g} s and was given up"
            raise InputError(problem, hint="ask for less at once") from None

    async def _run(self, call: Callable[[], Any]) -> CallOutcome:
        if not inspect.iscoroutinefunction(self.function):
            return await self._threads.run(call, self.tool.name)
        try:
            return CallOutcome(await call())
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return CallOutcome(error=error)  # of something that the function itself had started
        except (Exception, SystemExit) as error:
            return CallOutcome(error=error)


@overload
def tool(function: Callable[..., Any], /) -> FunctionTool: ...


@overload
def tool(**options: Any) -> Callable[[Callable[..., Any]], FunctionTool]: ...


def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Decorate a function to make it a tool: ``@tool``, or ``@tool(timeout_s=5, ...)`` with the
    arguments of `FunctionTool.of`."""
    if function is None:
        return functools.partial(FunctionTool.of, **options)
    return FunctionTool.of(function)
