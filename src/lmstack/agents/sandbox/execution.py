"""What came of one call of a session, read from what its supervisor sent.

The worker's part of it, values and errors, is what the code made of it: it is checked to be text of
bounded size, and no more can be said of it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lmstack.agents.sandbox.config import SandboxConfig

if TYPE_CHECKING:
    from lmstack.agents.tools.tool import Picture

__all__ = ["CodeError", "Ended", "Execution", "FolderFile", "read_execution", "read_files"]

Ended = Literal["ok", "error", "time", "memory", "output", "killed"]
_MOST_TEXT = 25_000  # characters; a worker cuts its own at fewer
_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class CodeError:
    """``type``: of the exception, or of the end of the process: `TimeLimit`, `OutputLimit`,
    `Killed`. ``traceback``: of the code's own lines, with the message."""

    type: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class FolderFile:
    """``path``: in the working folder, as printable text."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Execution:
    """``ended``: it came to its end (``ok``), raised (``error``; ``memory`` for a MemoryError), or
    was ended over its ``time`` or its ``output``, or otherwise (``killed``). ``value``: the repr of
    the last expression, where the code ends with one that is not None.

    ``is_restarted``: it ran in a new process, without what earlier calls had defined.
    ``lost_state``: so will the next one. ``lost_files``: the working folder was lost as well.
    ``files``: in the working folder now, and ``files_left_out`` more. ``pictures``: PNG and JPEG
    files that are new or have changed; an SVG is a file like any other."""

    ended: Ended
    stdout: str = ""
    stderr: str = ""
    value: str | None = None
    error: CodeError | None = None
    seconds: float = 0.0
    cpu_s: float = 0.0
    is_restarted: bool = False
    lost_state: bool = False
    lost_files: bool = False
    files: tuple[FolderFile, ...] = ()
    files_left_out: int = 0
    pictures: tuple[Picture, ...] = ()


def read_execution(
    message: Mapping[str, Any],
    blobs: Sequence[bytes],
    config: SandboxConfig,
    *,
    is_restarted: bool,
) -> Execution:
    ended, error = message["ended"], _error(message.get("error"))
    if ended == "ok" and error is not None:
        ended = "memory" if error.type == "MemoryError" else "error"
    elif ended != "ok":
        error = _of_the_end(message, config)
    return Execution(
        ended=ended,
        stdout=_decoded(blobs[0]),
        stderr=_decoded(blobs[1]),
        value=_text(message.get("value")) if ended == "ok" else None,
        error=error,
        seconds=message["seconds"],
        cpu_s=message["cpu_s"],
        is_restarted=is_restarted,
        lost_state=message["status"] is not None,
        files=read_files(message),
        files_left_out=message["left_out"],
        pictures=tuple(filter(None, map(_picture, blobs[2:]))),
    )


def read_files(message: Mapping[str, Any]) -> tuple[FolderFile, ...]:
    return tuple(FolderFile(path, size) for path, size in message["files"])


def _error(found: Mapping[str, str | None] | None) -> CodeError | None:
    if found is None:
        return None
    return CodeError(*(_text(found[name]) or "" for name in ("type", "message", "traceback")))


def _of_the_end(message: Mapping[str, Any], config: SandboxConfig) -> CodeError:
    if message["ended"] == "time":
        limits = message["limits"]
        is_cpu = message["cpu_s"] >= limits["cpu_s"]
        what = "processor time" if is_cpu else "time"
        most = limits["cpu_s" if is_cpu else "wall_s"]
        return CodeError("TimeLimit", f"it took more than {most:g} s of {what}")
    if message["ended"] == "output":
        return CodeError("OutputLimit", f"it wrote more than {config.output_bytes:,} bytes")
    if message["ended"] == "memory":
        return CodeError("MemoryError", "the process has no memory left")
    status = message["status"]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        named = signal.strsignal(number) or "unknown"
        return CodeError("Killed", f"the process was ended by signal {number} ({named})")
    return CodeError("Killed", f"the process ended itself with status {status >> 8}")


def _text(value: str | None) -> str | None:
    """Text that UTF-8 can write, or None."""
    if value is None:
        return None
    return value[:_MOST_TEXT].encode("utf-8", "backslashreplace").decode()


def _decoded(output: bytes) -> str:
    return output.decode("utf-8", "replace")


def _picture(data: bytes) -> Picture | None:
    from lmstack.agents.tools.tool import Picture  # loads the other tools, which rewards do without

    kinds = (kind for magic, kind in _MAGIC.items() if data.startswith(magic))
    kind = next(kinds, None)
    return None if kind is None else Picture(kind, data)
