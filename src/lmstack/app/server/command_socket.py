"""Where a running `lmstack up` can be asked by commands of the same user.

    $LMSTACK_HOME/run/INDEX.sock      in a folder that only its owner can enter

The kernel says which user is at the other end of a Unix socket, so a question goes to no one
else, and no one else is answered. Where it cannot say so (outside Linux), or the path is too long
for a socket, there is none, and commands answer by themselves. `find_server` asks the other side
what it serves; one that serves something else is told nothing. Loads nothing that takes time.
Does not cover how it answers (`command_server`).
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lmstack.core import EngineError, LmstackError
from lmstack.registry.home import locked

__all__ = [
    "RunningServer",
    "ServerGoneError",
    "connect",
    "find_server",
    "is_same_user",
    "listen",
    "socket_path",
]


# What a Unix socket's address has room for, without its last zero byte.
_LONGEST_PATH = 107
_BACKLOG = 16
_CONNECT_S = 2.0
_CREDENTIALS = struct.Struct("3i")  # process, user, group


def socket_path(home: Path, index: Path) -> Path | None:
    """That of the server of ``index``; None where there can be none."""
    path = home / "run" / f"{index.name[:16]}.sock"
    possible = hasattr(socket, "SO_PEERCRED") and len(os.fsencode(path)) <= _LONGEST_PATH
    return path if possible else None


def listen(path: Path) -> socket.socket | None:
    """A listening socket; None where another server of this user has it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(_lock_of(path)):
        if not _is_private(path.parent):
            return None
        other = _connected(path)
        if other is not None:
            other.close()
            return None
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(os.fspath(path))
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        return listener


def connect(path: Path) -> socket.socket | None:
    """A connection to a process of this user; None where there is none. A socket whose server
    was killed is deleted."""
    if not path.exists() or not _is_private(path.parent):
        return None
    found = _connected(path)
    if found is None:
        with locked(_lock_of(path)):  # no server can begin meanwhile
            found = _connected(path)
            if found is None:
                path.unlink(missing_ok=True)
    if found is not None and not is_same_user(found):
        found.close()
        return None
    return found


def is_same_user(connection: socket.socket) -> bool:
    """Whether a process of this user is at the other end, as the kernel says."""
    size = _CREDENTIALS.size
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return bool(_CREDENTIALS.unpack(credentials)[1] == os.geteuid())


def _connected(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_CONNECT_S)
    try:
        connection.connect(os.fspath(path))
    except OSError:
        connection.close()
        return None
    return connection


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")


def _is_private(folder: Path) -> bool:
    """Whether ``folder`` is this user's, and nobody else's to enter."""
    facts = folder.lstat()
    others = stat.S_IMODE(facts.st_mode) & 0o077
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() and not others


HELLO_S = 2.0
MAX_LINE_BYTES = 1 << 26


class ServerGoneError(EngineError):
    """The server ended before its answer did."""


class RunningServer:
    """A server that would answer as this process would. A context manager."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()
        self._connection.close()

    def hello(self) -> Mapping[str, Any]:
        """What it serves; nothing if it does not say so."""
        self._connection.settimeout(HELLO_S)
        try:
            return self._read()
        except (OSError, ValueError, ServerGoneError):
            return {}

    def ask(
        self, question: str, where: Any, wishes: Mapping[str, str]
    ) -> Iterator[Mapping[str, Any]]:
        """The events of its answer, to the last. ``where``: a filter's JSON; ``wishes``: what is
        wanted otherwise than is usual. Paths in the answer open from the current folder."""
        self._connection.settimeout(None)
        asked = {"question": question, "where": where, "folder": os.getcwd(), "wishes": wishes}
        try:
            self._connection.sendall(json.dumps(asked).encode("ascii") + b"\n")
            while True:
                event = self._read()
                if event.get("event") == "error":
                    raise _error(event)
                yield event
                if event.get("event") == "done":
                    return
        except (OSError, ValueError) as error:
            raise _gone() from error

    def _read(self) -> Mapping[str, Any]:
        line = self._lines.readline(MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise _gone()
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError("a line is no JSON object")
        return found


def find_server(path: Path | None, wanted: Mapping[str, Any]) -> RunningServer | None:
    """The server at ``path``, if it is of this user and serves what is ``wanted``."""
    connection = None if path is None else connect(path)
    if connection is None:
        return None
    server = RunningServer(connection)
    if wanted.items() <= server.hello().items():
        return server
    server.close()
    return None


def _gone() -> ServerGoneError:
    return ServerGoneError("the running server ended before its answer", hint="ask again")


def _error(event: Mapping[str, Any]) -> LmstackError:
    """The error that the server met, as if it had been met here."""
    error = LmstackError(
        str(event.get("message")), hint=event.get("hint"), param=event.get("param")
    )
    error.code = str(event.get("code"))
    return error
