"""Tools from typed Python functions.

Covers the schema from annotations and docstring, arguments checked before the call, results and
errors as bounded text, timeouts, secrets filled in and taken out again. A function that is not
async runs in a thread of its own. A thread cannot be killed: one whose call took too long or was
cancelled goes on by itself, does not keep the process from ending, and counts against the calls
that may run at once. Does not cover who may call a tool, nor a function that blocks the event loop
it was started in.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, overload

import docstring_parser

from lmstack.agents.tools.parameters import Parameters
from lmstack.agents.tools.results import (
    SecretMask,
    error_result,
    finished,
    plain,
    plain_data,
    result_of,
)
from lmstack.agents.tools.tool import ToolContext, ToolResult
from lmstack.core import InputError, LmstackError, OverloadedError, Tool, check_range, check_whole

__all__ = ["FunctionTool", "Threads", "tool"]


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """What a function returned, or the error that it raised. Not every error may be raised out of
    a thread: SystemExit would end the event loop, and StopIteration is lost in a future."""

    value: Any = None
    error: BaseException | None = None


class Threads:
    """At most ``limit`` calls at once, those counted that nobody waits for any more."""

    def __init__(self, limit: int = 8) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._running = 0

    async def run(self, function: Callable[[], Any], name: str) -> CallOutcome:
        """What calling ``function`` comes to. ``name``: of the thread."""
        self._enter(name)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[CallOutcome] = loop.create_future()
        context = contextvars.copy_context()

        def settle(outcome: CallOutcome) -> None:
            if not future.done():
                future.set_result(outcome)

        def work() -> None:
            try:
                outcome = CallOutcome(context.run(function))
            except BaseException as error:
                outcome = CallOutcome(error=error)
            self._leave()
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(settle, outcome)

        try:
            threading.Thread(target=work, name=f"tool {name}", daemon=True).start()
        except RuntimeError as error:
            self._leave()
            raise OverloadedError(f"no thread can be started for {name}: {error}") from error
        return await future

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1

    def _enter(self, name: str) -> None:
        with self._lock:
            if self._running >= self._limit:
                raise OverloadedError(f"{self._running} calls of {name} still run", hint="wait")
            self._running += 1


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
