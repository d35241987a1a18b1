"""Answers commands of the same user over the socket of a running `lmstack up`.

    server   {"version", "folder", "model", ...}      what it serves (`command_identity`)
    command  {"question", "where", "folder"}           or nothing, if that is not what it wants
    server   {"event": "indexing" | "indexed" | "text" | "done" | "error", ...} ...

A line of JSON each. Each connection has a thread and an event loop; when its command goes away,
its answer is cancelled. Does not cover the socket (`command_socket`) or the answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from lmstack.app.server.command_socket import is_same_user, listen
from lmstack.core import LmstackError

__all__ = ["CommandServer"]

log = logging.getLogger("lmstack.app")

MAX_QUESTION_BYTES = 1 << 22
# Commands that are answered at once; further ones wait until one of these is done.
MOST_AT_ONCE = 8
QUESTION_S = 10.0
Events = Callable[[Mapping[str, Any]], AsyncGenerator[Mapping[str, Any], None]]


class CommandServer:
    """``identity``: what is said first. ``events``: of the answer to what a command asks."""

    def __init__(self, path: Path, identity: Mapping[str, Any], events: Events) -> None:
        self._path, self._identity, self._events = path, identity, events
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._room = threading.Semaphore(MOST_AT_ONCE)

    def start(self) -> bool:
        """Whether commands are answered from now on: not if another server does it already."""
        self._listener = listen(self._path)
        if self._listener is not None:
            threading.Thread(target=self._accept, name="lmstack-commands", daemon=True).start()
        return self._listener is not None

    def close(self) -> None:
        """Answer nobody any more; answers that are under way end."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        with self._lock:
            for connection in (listener, *self._open):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        listener.close()

    def _accept(self) -> None:
        listener = self._listener
        while listener is not None and self._listener is listener:
            self._room.acquire()
            try:
                connection, _ = listener.accept()
            except OSError:  # closed, or its command has gone already
                self._room.release()
                continue
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                if is_same_user(connection):
                    _send(connection, self._identity)
                    asked = _question(connection)
                    if asked is not None:
                        asyncio.run(self._answer(connection, asked))
        except (OSError, ValueError) as error:
            log.info("a command went away: %s", error)
        finally:
            with self._lock:
                self._open.discard(connection)
            self._room.release()

    async def _answer(self, connection: socket.socket, asked: Mapping[str, Any]) -> None:
        """Send the events of an answer, unless its command goes away."""
        sending = asyncio.ensure_future(self._send_all(connection, asked))
        loop = asyncio.get_running_loop()
        # Nothing more is said by a command: what can be read is the end.
        loop.add_reader(connection, sending.cancel)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await sending
        finally:
            loop.remove_reader(connection)

    async def _send_all(self, connection: socket.socket, asked: Mapping[str, Any]) -> None:
        try:
            async with aclosing(self._events(asked)) as events:
                async for event in events:
                    await asyncio.to_thread(_send, connection, event)
        except LmstackError as error:
            told = {"message": error.message, "hint": error.hint, "param": error.param}
            await asyncio.to_thread(
                _send, connection, {"event": "error", "code": error.code, **told}
            )


def _send(connection: socket.socket, data: Mapping[str, Any]) -> None:
    # ASCII JSON: a lone surrogate in a document or a path is carried as an escape.
    connection.sendall(json.dumps(data).encode("ascii") + b"\n")


def _question(connection: socket.socket) -> Mapping[str, Any] | None:
    """What the command asks; None if it wants something else than is served here."""
    connection.settimeout(QUESTION_S)
    with connection.makefile("rb") as lines:
        line = lines.readline(MAX_QUESTION_BYTES)
    connection.settimeout(None)
    asked = json.loads(line) if line.endswith(b"\n") else None
    return asked if isinstance(asked, dict) else None
