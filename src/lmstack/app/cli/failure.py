"""How a command fails: two lines on stderr (or one JSON object), an exit code, never a traceback.

    error: port 8000 is in use by another program
    try:   lmstack up docs --port 8001

| code | why                                              |
|------|--------------------------------------------------|
| 1    | an `LmstackError`, or the system refused (disk, permission, memory) |
| 2    | the command line itself is wrong                 |
| 70   | a fault of lmstack; a crash report was written   |
| 130  | Ctrl-C                                           |
| 141  | the program that read the output has gone        |
| 143  | SIGTERM ended `lmstack up`                       |

A fault of ours leaves a crash report: versions, the name of the command and the frames of the
traceback. It leaves out what exceptions say, arguments and local values: any of them may quote a
prompt, a document or a key. Does not cover where exceptions come from; `program.run` is the one
place that catches.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

import lmstack
from lmstack.app.server.stopping import EXIT_INTERRUPTED
from lmstack.core import InputError, LmstackError, nearest, shown

__all__ = [
    "EXIT_BROKEN_PIPE",
    "EXIT_CRASH",
    "EXIT_INTERRUPTED",
    "CommandLineError",
    "Failure",
    "describe",
    "is_usage_error",
    "place",
    "write_report",
]


EXIT_CRASH = 70
EXIT_BROKEN_PIPE = 141

# typer carries its own copy of click from 0.27 on and uses the package before; both are reached
# through the one class that typer exports.
_ClickException = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

_OS_HINTS = {
    errno.ENOSPC: "free some space, or remove a model: lmstack model rm NAME",
    errno.EDQUOT: "free some of your quota, or remove a model: lmstack model rm NAME",
    errno.EROFS: "choose a writable folder: LMSTACK_HOME=FOLDER lmstack ...",
    errno.EACCES: "check who owns it, or choose another folder: LMSTACK_HOME=FOLDER lmstack ...",
    errno.EPERM: "check who owns it, or choose another folder: LMSTACK_HOME=FOLDER lmstack ...",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
    errno.ENOENT: "check the path; lmstack doctor looks at the store",
}


class CommandLineError(InputError):
    """Options that do not go together. Exit 2."""

    code = "usage"


@dataclass(frozen=True)
class Failure:
    """What to print. ``message`` holds the value seen; ``hint`` is a command where one helps."""

    message: str
    hint: str | None
    exit_code: int
    code: str
    param: str | None = None
    report: str | None = None

    def lines(self) -> list[str]:
        out = [f"error: {self.message}"]
        if self.hint:
            out.append(f"try:   {self.hint}")
        return out

    def to_json(self) -> dict[str, Any]:
        body = {
            "message": self.message,
            "hint": self.hint,
            "code": self.code,
            "param": self.param,
        }
        if self.report:
            body["report"] = self.report
        return {"error": body}


def is_usage_error(error: BaseException) -> bool:
    return isinstance(error, _ClickException | CommandLineError)


def describe(error: BaseException, typed: str = "lmstack") -> Failure | None:
    """The failure that people see, or None when ``error`` is a fault of ours. ``typed``: the
    command without its arguments, for hints."""
    if isinstance(error, CommandLineError):
        return Failure(error.message, error.hint, 2, error.code, error.param)
    if isinstance(error, LmstackError):
        return Failure(error.message, error.hint, 1, error.code, error.param)
    if isinstance(error, _ClickException):
        return _usage(error, typed)
    if isinstance(error, MemoryError):
        return Failure(
            "there is not enough memory",
            "lmstack doctor shows how much is free",
            1,
            "out_of_memory",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return _system(error)
    return None


def _system(error: OSError) -> Failure | None:
    """The system refused something about a file; without a file it may be a fault of ours."""
    hint = _OS_HINTS.get(error.errno or 0)
    if hint is None and not error.filename:
        return None
    reason = (error.strerror or "the system refused").lower()
    where = f" ({error.filename})" if error.filename else ""
    return Failure(f"{reason}{where}", hint or "check the path", 1, "storage_error")


def _usage(error: Any, typed: str) -> Failure:
    """A mistake in the command line, as typer reports it, in our two lines."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else typed
    option = getattr(error, "option_name", None)
    parameter = getattr(error, "param", None)
    kind = type(error).__name__
    if kind == "NoSuchOption" and option:
        return _unknown_option(option, context, path)
    if kind == "MissingParameter" and parameter is not None:
        named = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
        missing = named or parameter.name.upper()
        return Failure(
            f"{path} needs {missing}", f"{path} --help", 2, "usage", param=parameter.name
        )
    if kind == "BadParameter" and parameter is not None:
        named = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
        what = _wrong_value(str(named or parameter.name), error)
        return Failure(what, f"{path} --help", 2, "usage", parameter.name)
    message = re.sub(r"\s+", " ", error.format_message()).rstrip(".")
    extra = re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)$", message)
    if extra:
        return Failure(
            f"{path} got more than it takes: {extra[1]}",
            f'put words that belong together in quotes, "like this"; see {path} --help',
            2,
            "usage",
        )
    message = message[:1].lower() + message[1:]
    return Failure(message, f"{path} --help", 2, "usage", param=option)


def _wrong_value(named: str, error: Any) -> str:
    """``-k is 'abc': input should be a valid integer``."""
    message = re.sub(r"\s+", " ", error.message).rstrip(".").removeprefix("Value error, ")
    details = getattr(error.__cause__, "errors", None)  # pydantic's, in newer versions of typer
    if details is None:
        return f"{named}: {message}"
    value = shown(details()[0].get("input"))
    message = message.removeprefix(f"{value} is ")
    if message.startswith("Input should"):
        message = "it" + message.removeprefix("Input").partition(",")[0]
    return f"{named} is {value}: {message}"


def _unknown_option(option: str, context: Any, path: str) -> Failure:
    known = (
        [o for p in context.command.get_params(context) for o in (*p.opts, *p.secondary_opts)]
        if context is not None
        else []
    )
    guess = nearest(option, [o for o in known if o.startswith("--")])
    hint = f"{path} {guess}" if guess else f"{path} --help"
    return Failure(f"{path} has no option {option!r}", hint, 2, "usage", param=option)


def place(error: BaseException) -> str:
    """Where it happened: ``KeyError in rag/search/hybrid.py:120``."""
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
