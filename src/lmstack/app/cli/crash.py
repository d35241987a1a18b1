"""Crash reports: a file that helps to mend a fault and holds nothing that was asked or secret.

A report has versions, the name of the command and the frames of the traceback. It leaves out
what exceptions say, arguments and local values: any of them may quote a prompt, a document or a
key.
"""

from __future__ import annotations

import os
import platform
import sys
import time
import traceback
from pathlib import Path

import lmstack

__all__ = ["place", "report_text", "write_report"]


def place(error: BaseException) -> str:
    """Where it happened: ``KeyError in rag/retrieve/hybrid.py:120``."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f"{os.sep}lmstack{os.sep}" in f.filename]
    name = type(error).__name__
    if not frames:
        return name
    frame = (ours or frames)[-1]
    return f"{name} in {_short(frame.filename)}:{frame.lineno}"


def report_text(error: BaseException, command: str) -> str:
    lines = [
        f"lmstack {lmstack.__version__}",
        f"command: {command}",
        f"python {platform.python_version()} on {platform.platform()}",
        f"time: {time.strftime('%Y-%m-%dT%H:%M:%S%z')}",
    ]
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        lines += ["", f"{type(current).__module__}.{type(current).__qualname__}"]
        for frame in traceback.extract_tb(current.__traceback__):
            lines.append(f"  {frame.filename}:{frame.lineno} in {frame.name}")
            if frame.line:
                lines.append(f"    {frame.line}")
        current = current.__cause__ or current.__context__
    return "\n".join(lines) + "\n"


def write_report(error: BaseException, command: str, home: Path) -> Path | None:
    """The path of the new report, or None when it cannot be written (a full disk)."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    path = home / "crashes" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(report_text(error, command), encoding="utf-8")
    except OSError:
        return None
    return path


def _short(filename: str) -> str:
    for root in (str(Path(lmstack.__file__).parent), *sys.path):
        if root and filename.startswith(root + os.sep):
            return filename[len(root) + 1 :]
    return filename
