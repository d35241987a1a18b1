"""The worker of a session: runs one text of Python after the other in one ``__main__``.

Nothing here can be trusted once code has run: it may replace all of it. What it can do at most is
to send a frame that its supervisor reads as plain data (`wire`).
"""

from __future__ import annotations

import ast
import code
import codeop
import contextlib
import itertools
import linecache
import os
import sys
import traceback
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from . import wire

__all__ = ["serve"]

_OF_THE_TEXT = (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError)
_MOST_TEXT = 20_000  # characters of a value, of a message and of a traceback
_RESERVES = (1 << 22, 1 << 21, 1 << 20, 1 << 19)  # bytes
_FIRST_LINES, _LAST_LINES = 3, 7  # of a traceback


def serve(read: int, write: int, packages: Sequence[str]) -> None:
    """Answer calls from the file descriptor ``read`` on ``write`` until it is closed."""
    asked, told = os.fdopen(read, "rb"), os.fdopen(write, "wb")
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    sys.argv[:] = [""]
    sys.path[:] = [*sys.path, *packages, os.getcwd()]
    interpreter = _Interpreter(main)
    while True:
        try:
            call = wire.receive(asked)
        except wire.WireError:
            return
        wire.send(told, {"id": call["id"], **interpreter.answer(call["code"])})


def _open_streams() -> list[IO[str]]:
    """Anew: what Python opened at its start were the supervisor's."""
    streams: list[IO[str]] = []
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        stream = os.fdopen(fd, mode, 1, "utf-8", "backslashreplace", closefd=False)
        setattr(sys, f"__{name}__", stream)
        streams.append(stream)
    return streams


class _Interpreter(code.InteractiveInterpreter):
    """Compiles and runs as Python's own console does, so a ``from __future__ import`` holds on."""

    def __init__(self, main: types.ModuleType) -> None:
        super().__init__(vars(main))
        self._build = codeop.Compile()
        self._streams = _open_streams()
        self._number = 0
        self._reserve = bytearray()
        self._raised: BaseException | None = None
        self._values: list[str] = []

    def answer(self, text: str) -> dict[str, Any]:
        """What came of ``text``: ``value``, the repr of the last expression if it ends with one
        that is not None, and ``error``."""
        self._number += 1
        name = f"<call {self._number}>"
        self._raised, self._values = None, []
        self._restore()
        lines = text.splitlines(keepends=True)
        linecache.cache[name] = (len(text), None, lines, name)
        try:
            parts = self._parts(text, name)
        except _OF_THE_TEXT as refusal:
            return {"value": None, "error": _told(refusal)}
        self._hold_reserve()
        for part in parts:
            self._run(part)
            if self._raised is not None:
                break
        self._reserve = bytearray()
        self._flush()
        value = self._values[-1] if self._values and self._raised is None else None
        error, self._raised = self._raised, None
        return {"value": value, "error": None if error is None else _told(error)}

    def _hold_reserve(self) -> None:
        """While the code runs, which could not be told otherwise that it has used up all memory,
        and could not free any in the next call."""
        for size in _RESERVES:
            with contextlib.suppress(MemoryError):
                self._reserve = bytearray(size)
                return

    def _restore(self) -> None:
        if any(stream.closed for stream in self._streams):
            self._streams = _open_streams()
        sys.stdin, sys.stdout, sys.stderr = self._streams
        sys.displayhook = self._shown

    def _parts(self, text: str, name: str) -> list[types.CodeType]:
        tree = ast.parse(text, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        parts = [self._build(tree, name, "exec")]  # type: ignore[arg-type]
        if last is not None:
            parts.append(self._build(ast.Interactive([last]), name, "single"))  # type: ignore[arg-type]
        return parts

    def _shown(self, value: object) -> None:
        if value is not None:
            self._values.append(_cut(repr(value)))

    def _run(self, part: types.CodeType) -> None:
        """An error in which the code has no part is one of this process, which the code has
        changed so that it can run nothing any more: the process ends."""
        try:
            self.runcode(part)
        except SystemExit as error:
            self._raised = error
        if self._raised is not None and next(_own_lines(self._raised), None) is None:
            raise self._raised

    def showtraceback(self) -> None:
        self._reserve = bytearray()
        self._raised = sys.exc_info()[1]

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr, *self._streams[1:]):
            with contextlib.suppress(AttributeError, ValueError, OSError):  # closed, or replaced
                stream.flush()


def _told(error: BaseException) -> dict[str, str]:
    kind = type(error)
    return {
        "type": _safely(lambda: kind.__name__),
        "message": _safely(lambda: str(error)),
        "traceback": _safely(lambda: _traceback(error)),
    }


def _own_lines(error: BaseException) -> Iterator[tuple[types.FrameType, int]]:
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename.startswith("<call "):
            yield frame, number


def _traceback(error: BaseException) -> str:
    """Of the lines of the code that was sent alone."""
    own = _own_lines(error)
    first = list(itertools.islice(own, _FIRST_LINES))
    last: deque[tuple[types.FrameType, int]] = deque(maxlen=_LAST_LINES)
    left_out = -_LAST_LINES
    for pair in own:  # there may be a million of them
        last.append(pair)
        left_out += 1
    lines = traceback.StackSummary.extract(iter([*first, *last])).format()
    if left_out > 0:
        lines.insert(_FIRST_LINES, f"  [{left_out:,} more]\n")
    return "".join([*lines, *traceback.format_exception_only(error)]).rstrip("\n")


def _safely(text: Callable[[], str]) -> str:
    """An exception can be made so that it cannot be shown."""
    try:
        return _cut(str(text()))
    except BaseException as error:
        return f"<{type(error).__name__} while the error was read>"


def _cut(text: str) -> str:
    more = len(text) - _MOST_TEXT
    return text if more <= 0 else f"{text[:_MOST_TEXT]}... ({more:,} more characters)"
