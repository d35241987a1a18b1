"""A Python that keeps its state from call to call, in a sandbox.

    with sandbox.session() as session:
        session.run("x = 20")
        session.run("x + 1").value  # "21"

A call that runs over a limit or dies ends the process, and with it all that earlier calls defined:
its result says so, and so does that of the next call, which begins in a new process. Files in the
working folder stay, but for the rare end of the supervisor itself, which is said too.

Files are named by printable text: what is not printable in a name, and a backslash, is written
with a backslash. Symbolic links, FIFOs and devices are neither listed nor opened, nor are names
that begin with a dot listed. Matplotlib, where `SandboxConfig.packages` makes it visible, draws
without a display (Agg); otherwise it cannot be imported.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from lmstack.agents.sandbox.config import SandboxConfig
from lmstack.agents.sandbox.exchange import EndedError, Exchange
from lmstack.agents.sandbox.execution import (
    CodeError,
    Execution,
    FolderFile,
    read_execution,
    read_files,
)
from lmstack.agents.sandbox.inside.folder import FolderError, raw
from lmstack.agents.sandbox.isolation import Input, Isolation, Job, in_memory
from lmstack.agents.sandbox.processes import Running
from lmstack.core import EngineError, InputError, shown

__all__ = ["MOST_CODE", "PICTURE_BYTES", "SandboxSession"]

MOST_CODE = 256 * 1024  # bytes of one call
PICTURE_BYTES = 4 << 20  # of one picture
_START_S = 60.0  # for an interpreter to start, on a machine that has much else to do
_GRACE_S = 30.0  # for the supervisor to answer, beyond what a call may take
_MOST_READ = 1 << 30
_LOST = "the sandbox ended; its files are lost, and the next call begins anew"


class SandboxSession:
    """One working folder and one process at a time. It may be used from several threads, one call
    after the other; `stop` ends a call that another thread waits for."""

    def __init__(
        self,
        isolation: Isolation,
        config: SandboxConfig,
        files: Mapping[str, bytes],
        inputs: Mapping[str, Input],
    ) -> None:
        for name in (*files, *inputs):
            _check_path(name)
        for given in inputs.values():
            if isinstance(given, Path) and not given.is_file():
                raise InputError(f"the input {shown(str(given))} is no file", param="inputs")
        self._isolation, self._config = isolation, config
        self._files = dict(files)
        self._inputs = {os.fsdecode(raw(name)): given for name, given in inputs.items()}
        self._asking = threading.Lock()
        self._stack = ExitStack()
        self._running: Running | None = None
        self._exchange: Exchange | None = None
        self._is_closed = self._is_lost = False
        self._cpu_s = self._wall_s = 0.0

    def __enter__(self) -> Self:
        with self._asking:
            self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, code: str) -> Execution:
        """Run ``code`` after what ran before. `InputError` where it is too long, or where the
        session has used up its time."""
        _check_code(code)
        with self._asking:
            limits = self._limits()
            is_lost, self._is_lost = self._is_lost, False
            message = {"do": "call", "code": code, "limits": limits}
            began = time.monotonic()
            try:
                found, blobs = self._ask(
                    {**message, "picture_bytes": PICTURE_BYTES}, seconds=limits["wall_s"]
                )
            except EndedError:
                self._is_lost = True
                seconds = time.monotonic() - began
                self._wall_s += seconds
                self._cpu_s += min(seconds, limits["cpu_s"])
                error = CodeError("Killed", "the sandbox was ended")
                return Execution(
                    "killed", error=error, is_restarted=is_lost, lost_state=True, lost_files=True
                )
            if "failed" in found:
                raise EngineError(f"a process of the session did not start: {found['failed']}")
            self._cpu_s += found["cpu_s"]
            self._wall_s += found["seconds"]
            done = read_execution(
                {**found, "limits": limits}, blobs, self._config, is_restarted=is_lost
            )
            self._is_lost = done.lost_state
            return done

    def files(self) -> tuple[FolderFile, ...]:
        """What is in the working folder, sorted, at most the first 200."""
        with self._asking:
            return read_files(self._asked({"do": "list"})[0])

    def read(self, path: str, limit: int = 16 << 20) -> bytes:
        """A file of the working folder, by its path as it is listed. `InputError` where there is
        none, or where it has more than ``limit`` bytes."""
        if not 0 <= limit <= _MOST_READ:
            raise InputError(f"limit is {shown(limit)}", hint=f"at most {_MOST_READ:,} bytes")
        _check_path(path)
        with self._asking:
            return self._asked({"do": "read", "path": path, "limit": limit})[1][0]

    def write(self, path: str, data: bytes) -> None:
        """Put a file into the working folder, in place of one that is there."""
        _check_path(path)
        with self._asking:
            self._asked({"do": "write", "path": path}, [data])

    def stop(self) -> None:
        """End the call that runs, if one does, and all of its sandbox. From any thread."""
        running = self._running
        if running is not None:
            running.stop()

    def close(self) -> None:
        """End the process and remove the working folder."""
        self._is_closed = True
        self.stop()
        with self._asking:
            self._end()

    def _limits(self) -> dict[str, Any]:
        """Of the next call: what is left of the session's time, at most."""
        config = self._config
        cpu_s = min(config.cpu_s, config.session_cpu_s - self._cpu_s)
        wall_s = min(config.wall_s, config.session_wall_s - self._wall_s)
        if cpu_s <= 0 or wall_s <= 0:
            used, most = (
                (f"{config.session_cpu_s:g} s of processor time", "session_cpu_s")
                if cpu_s <= 0
                else (f"{config.session_wall_s:g} s", "session_wall_s")
            )
            raise InputError(
                f"the session has used up its {used}",
                hint=f"begin another one, or set a larger {most}",
                param=most,
            )
        return {"cpu_s": cpu_s, "wall_s": wall_s, "output_bytes": config.output_bytes}

    def _asked(
        self, message: Mapping[str, Any], blobs: Sequence[bytes] = ()
    ) -> tuple[dict[str, Any], list[bytes]]:
        try:
            found, answers = self._ask(message, blobs)
        except EndedError as error:
            self._is_lost = True
            raise EngineError(_LOST) from error
        return _checked(found), answers

    def _ask(
        self, message: Mapping[str, Any], blobs: Sequence[bytes] = (), *, seconds: float = 0.0
    ) -> tuple[dict[str, Any], list[bytes]]:
        exchange = self._exchange or self._start()
        try:
            return exchange.ask(message, blobs, seconds + _GRACE_S)
        except EndedError:
            self._end()
            raise

    def _start(self) -> Exchange:
        if self._is_closed:
            raise InputError("the session is closed", hint="begin another one")
        if self._exchange is not None:
            return self._exchange
        with ExitStack() as stack:
            job = Job("session", (), {}, self._inputs)
            prepared = stack.enter_context(self._isolation.prepared(self._config, job))
            errors = stack.enter_context(in_memory(b""))
            pipe = subprocess.PIPE
            running = Running(prepared, stdin=pipe, stdout=pipe, stderr=errors, is_of_thread=False)
            exchange = Exchange(stack.enter_context(running))
            try:
                exchange.receive(_START_S)
                for path, data in self._files.items():
                    _checked(exchange.ask({"do": "write", "path": path}, [data], _GRACE_S)[0])
            except EndedError as error:
                raise EngineError(f"a sandbox did not start: {_last(errors)}") from error
            self._stack = stack.pop_all()
        self._running, self._exchange = running, exchange
        return exchange

    def _end(self) -> None:
        self._running = self._exchange = None
        self._stack.close()


def _checked(found: dict[str, Any]) -> dict[str, Any]:
    if "failed" in found:
        raise InputError(found["failed"], param="path")
    return found


def _last(errors: IO[bytes]) -> str:
    errors.seek(0)
    text = errors.read().decode(errors="replace").strip()
    return text[-300:] or "it said nothing"


def _check_code(code: str) -> None:
    if not isinstance(code, str):
        raise InputError(f"the code is {shown(code)}, not text", param="code")
    size = len(code.encode("utf-8", "surrogatepass"))
    if size > MOST_CODE:
        raise InputError(f"the code has {size:,} bytes, at most {MOST_CODE:,}", param="code")


def _check_path(path: str) -> None:
    """That it stays inside, whatever else is wrong with it."""
    try:
        parts = raw(path).split(b"/")
    except FolderError as error:
        raise InputError(str(error), param="path") from error
    if any(part in (b"", b".", b"..") or b"\0" in part or len(part) > 255 for part in parts):
        raise InputError(
            f"{shown(path)} is no path inside the working folder",
            hint="write it relative to the folder, without ..",
            param="path",
        )
