"""Asks a running `lmstack up` of the same user, folder and models, instead of loading them anew.

Loads nothing that takes time. A server that serves something else is told nothing. Does not cover
the socket (`command_socket`) or what is printed.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lmstack.app.server.command_socket import connect
from lmstack.core import EngineError, LmstackError

__all__ = ["RunningServer", "ServerGoneError", "find_server"]

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
