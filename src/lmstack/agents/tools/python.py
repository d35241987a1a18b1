"""Python as a tool: the code of a model, in a sandbox that keeps its state while a run lasts.

Covers one session for each run (`ToolContext.run_id`) and its end, what of a call's outcome the
model is told, and the end of a call that is cancelled. The isolation, its limits and what it does
not protect from are those of `lmstack.agents.sandbox`; where nothing isolates, a call raises what
`Sandbox.check` does, and runs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from lmstack.agents.sandbox import Execution, FolderFile, Sandbox, SandboxSession
from lmstack.agents.sandbox.isolation import Input
from lmstack.agents.tools.tool import ToolContext, ToolResult
from lmstack.core import InputError, OverloadedError, Tool, check_range, check_whole

__all__ = ["PythonTool"]

_PARAMETERS = {
    "type": "object",
    "properties": {"code": {"type": "string", "description": "Python code to run"}},
    "required": ["code"],
    "additionalProperties": False,
}
# To begin a session and to answer, on a machine that has much else to do.
_MORE_S = 90.0
_MOST_NAMED = 20  # files
_MOST_REMEMBERED = 1_000  # runs whose session was closed, to be told so when they go on
# Control characters but tabs and ends of lines, and those that turn the direction of text: an
# output must not be able to steer a terminal or to look like another one.
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass
class _Run:
    session: SandboxSession
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    files: tuple[FolderFile, ...] = ()
    is_restarted: bool = False
    closing: asyncio.TimerHandle | None = None


class PythonTool:
    """The tool ``python``. Variables, imports and functions live on from call to call of one run.

        async with PythonTool() as tool:
            await tool.call({"code": "6 * 7"}, ToolContext("run", "call"))

    ``files``: put into the working folder of each run; ``inputs``: to be read there, under
    ``inputs/``. ``is_dangerous``: whether a person has to approve each call. ``most_text``:
    characters of a result. ``most_sessions``: runs at a time. One more takes the place of a run
    that has ended, or else of the one whose last call is longest ago; where all of them are running
    code it is an `OverloadedError`. ``keep_s``: how long the session of a run that has ended is
    kept for another task in its conversation. What it returns counts as untrusted: it may come from
    any file that the code read."""

    def __init__(
        self,
        sandbox: Sandbox | None = None,
        *,
        files: Mapping[str, bytes] | None = None,
        inputs: Mapping[str, Input] | None = None,
        is_dangerous: bool = False,
        most_text: int = 10_000,
        most_sessions: int = 8,
        keep_s: float = 600.0,
    ) -> None:
        check_whole("most_text", most_text, 100, 1_000_000)
        check_whole("most_sessions", most_sessions, 1, 1000)
        check_range("keep_s", keep_s, 0, 1e9)
        self._sandbox = Sandbox() if sandbox is None else sandbox
        self._files, self._inputs = dict(files or {}), dict(inputs or {})
        self._most_text, self._most_sessions = most_text, most_sessions
        self._is_dangerous = is_dangerous
        self._keep_s = keep_s
        self._runs: dict[str, _Run] = {}  # the one whose last call is longest ago is the first
        self._closed: dict[str, None] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    @property
    def tool(self) -> Tool:
        return Tool("python", self._description(), _PARAMETERS)

    @property
    def is_dangerous(self) -> bool:
        return self._is_dangerous

    @property
    def is_untrusted(self) -> bool:
        return True

    @property
    def timeout_s(self) -> float:
        return self._sandbox.config.wall_s + _MORE_S

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        run = await self._run_of(context.run_id)
        async with run.lock:
            try:
                done = await _finished(run.session, arguments["code"])
            except InputError as error:
                return ToolResult(str(error), is_error=True)
            done = replace(done, is_restarted=done.is_restarted or run.is_restarted)
            text = self._text(done, run.files)
            run.files, run.is_restarted = done.files, False
        data = {
            "ended": done.ended,
            "value": done.value,
            "seconds": round(done.seconds, 6),
            "files": [{"path": each.path, "size": each.size} for each in done.files],
        }
        return ToolResult(text, done.ended != "ok", data, done.pictures)

    def run_ended(self, run_id: str) -> None:
        """The run has ended: its session is closed in ``keep_s``, unless the run goes on."""
        run = self._runs.get(run_id)
        if run is not None:
            self._stop_closing(run)
            loop = asyncio.get_running_loop()
            run.closing = loop.call_later(self._keep_s, self._end_later, run_id)

    async def end(self, run_id: str) -> None:
        """Close the session of a run, if it has one."""
        run = self._runs.pop(run_id, None)
        if run is None:
            return
        self._stop_closing(run)
        self._closed[run_id] = None
        if len(self._closed) > _MOST_REMEMBERED:
            del self._closed[next(iter(self._closed))]
        await asyncio.to_thread(run.session.close)

    async def aclose(self) -> None:
        """Close all sessions."""
        for run_id in list(self._runs):
            await self.end(run_id)
        await asyncio.gather(*self._ending)

    def _end_later(self, run_id: str) -> None:
        task = asyncio.ensure_future(self.end(run_id))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _stop_closing(self, run: _Run) -> None:
        if run.closing is not None:
            run.closing.cancel()
            run.closing = None

    async def _run_of(self, run_id: str) -> _Run:
        async with self._opening:
            found = self._runs.pop(run_id, None)
            if found is None:
                if len(self._runs) >= self._most_sessions:
                    await self._make_room()
                session = await asyncio.to_thread(self._sandbox.session, self._files, self._inputs)
                found = _Run(session, is_restarted=run_id in self._closed)
                self._closed.pop(run_id, None)
            self._stop_closing(found)
            self._runs[run_id] = found
            return found

    async def _make_room(self) -> None:
        idle = [run_id for run_id, run in self._runs.items() if not run.lock.locked()]
        if not idle:
            raise OverloadedError(
                f"{len(self._runs)} runs are running Python code, the most there may be",
                hint="wait until one of them ends",
            )
        await self.end(min(idle, key=lambda run_id: self._runs[run_id].closing is None))

    def _description(self) -> str:
        config = self._sandbox.config
        more = ", with the packages installed for it" if config.packages else " alone"
        inputs = f" Files to read: {', '.join(f'inputs/{name}' for name in self._inputs)}."
        return (
            f"Runs Python {sys.version_info.major}.{sys.version_info.minor} code and returns what"
            " it prints and the value of its last expression. Variables, imports and functions"
            f" stay for the next call. It has the standard library{more}: no network, no other"
            " programs, processes or threads, no input. The current folder is its own, for"
            f" {config.disk_mib} MiB of files.{inputs if self._inputs else ''} A PNG or JPEG file"
            f" saved there is shown to the user. A call may take {config.cpu_s} s of processor"
            f" time and {config.wall_s:g} s in all, and use {config.memory_mib} MiB of memory; one"
            " that takes more is ended, and variables are lost."
        )

    def _text(self, done: Execution, before: tuple[FolderFile, ...]) -> str:
        parts = []
        if done.is_restarted:
            parts.append("[Python was restarted: what earlier calls defined is gone.]")
        parts += [done.stdout, f"[errors]\n{done.stderr}" if done.stderr else ""]
        if done.value is not None:
            parts.append(f"[value]\n{done.value}")
        if done.error is not None:
            error = done.error
            parts.append(f"[error]\n{error.traceback or f'{error.type}: {error.message}'}")
        if done.lost_state:
            files = "" if done.lost_files else " Files are kept."
            parts.append(f"[Python was ended, and what calls defined is lost.{files}]")
        if done.files != before:
            parts.append(_listed(done.files, done.files_left_out))
        text = "\n".join(part.rstrip("\n") for part in parts if part.strip())
        return _cut(_visible(text), self._most_text) or "[no output]"


async def _finished(session: SandboxSession, code: str) -> Execution:
    """What came of the call; where the task is cancelled, once its process has ended."""
    call = asyncio.ensure_future(asyncio.to_thread(session.run, code))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        session.stop()
        with contextlib.suppress(Exception):
            await call
        raise


def _listed(files: tuple[FolderFile, ...], left_out: int) -> str:
    named = [f"{each.path} ({each.size:,} bytes)" for each in files[:_MOST_NAMED]]
    more = len(files) - len(named) + left_out
    return f"[files: {', '.join(named) or 'none'}{f' and {more:,} more' if more else ''}]"


def _visible(text: str) -> str:
    text = text.replace("\r\n", "\n")
    return _HIDDEN.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _cut(text: str, most: int) -> str:
    """The beginning and the end of a longer text."""
    if len(text) <= most:
        return text
    note = f"\n[{len(text) - most:,} characters left out]\n"
    kept = max(0, most - len(note))
    last = kept // 3
    return text[: kept - last] + note + text[len(text) - last :]
