"""Answers commands of the same user over the socket of a running `lmstack up`.

    server   {"version", "folder", "model", ...}      what it serves (`command_identity`)
    command  {"question", "where", "folder"}           or nothing, if that is not what it wants
    server   {"event": "indexing" | "indexed" | "text" | "done" | "error", ...} ...

A line of JSON each. Each connection has a thread and an event loop; when its command goes away,
its answer is cancelled. It comes from the index as the folder is now, guarded; a command sees all
documents, as it does when it opens the index itself: whoever runs it owns the index. Does not
cover the socket (`command_socket`).
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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lmstack.app.server.command_socket import is_same_user, listen
from lmstack.app.server.kept_index import Standing
from lmstack.app.server.not_read import not_read_text
from lmstack.app.server.told_answer import shown_from, told
from lmstack.app.server.workspace import Asking, Question, Workspace
from lmstack.core import InputError, LmstackError, shown
from lmstack.rag import AnswerWishes
from lmstack.rag.filters import parse_filter

__all__ = ["COMMAND", "CommandDoor", "CommandServer", "command_events", "open_server"]


log = logging.getLogger("lmstack.app")

MAX_QUESTION_BYTES = 1 << 22
# Commands that are answered at once; further ones wait until one of these is done.
MOST_AT_ONCE = 8
QUESTION_S = 10.0
Told = AsyncGenerator[Mapping[str, Any], None]
Events = Callable[[Mapping[str, Any]], Told]


class CommandServer:
    """``identity``: what is said first. ``events``: of the answer to what a command asks."""

    def __init__(self, path: Path, identity: Mapping[str, Any], events: Events) -> None:
        self._path = path
        self.serve(identity, events)
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._room = threading.Semaphore(MOST_AT_ONCE)

    def serve(self, identity: Mapping[str, Any], events: Events) -> None:
        """From the next command on. One that was told what was served before is answered by
        that."""
        self._served = identity, events

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
                    identity, events = self._served
                    _send(connection, identity)
                    asked = _question(connection)
                    if asked is not None:
                        asyncio.run(self._answer(connection, events(asked)))
        except (OSError, ValueError) as error:
            log.info("a command went away: %s", error)
        finally:
            with self._lock:
                self._open.discard(connection)
            self._room.release()

    async def _answer(self, connection: socket.socket, events: Told) -> None:
        """Send the events of an answer, unless its command goes away."""
        sending = asyncio.ensure_future(self._send_all(connection, events))
        loop = asyncio.get_running_loop()
        # Nothing more is said by a command: what can be read is the end.
        loop.add_reader(connection, sending.cancel)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await sending
        finally:
            loop.remove_reader(connection)

    async def _send_all(self, connection: socket.socket, answer: Told) -> None:
        try:
            async with aclosing(answer) as events:
                async for event in events:
                    await asyncio.to_thread(_send, connection, event)
        except LmstackError as error:
            about = {"message": error.message, "hint": error.hint, "param": error.param}
            await asyncio.to_thread(
                _send, connection, {"event": "error", "code": error.code, **about}
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


# Whom limits and the audit log know a command by. No client of the API is called so: those have
# an address, or a key's name with a colon.
COMMAND = "command"


@dataclass(frozen=True)
class CommandDoor:
    """``path`` of the socket, and what a command is told that the server serves."""

    path: Path
    identity: Mapping[str, Any]

    def with_model(self, digest: str | None) -> CommandDoor:
        """The same where the model with this ``digest`` is served."""
        return replace(self, identity={**self.identity, "model": digest})


def open_server(door: CommandDoor, workspace: Workspace) -> CommandServer | None:
    """What answers commands from ``workspace``; None where another server does already."""

    server = CommandServer(door.path, door.identity, command_events(workspace))
    return server if server.start() else None


def command_events(workspace: Workspace) -> Events:
    """Answers commands by the model that ``workspace`` has now."""
    return partial(_events, workspace, workspace.asking())


async def _events(workspace: Workspace, asking: Asking, asked: Mapping[str, Any]) -> Told:
    """How far the index is until it is up to date, then the answer."""
    question, folder = (_text(asked, name) for name in ("question", "folder"))
    where = None if asked.get("where") is None else parse_filter(asked["where"])
    wishes = AnswerWishes.from_mapping(asked.get("wishes") or {}).given
    standing: Standing | None = None
    async for standing in workspace.brought_up_to_date():
        total = len(standing.round.plan.add) + len(standing.round.plan.change)
        if standing.round.waiting:
            done = total - len(standing.round.waiting)
            yield {"event": "indexing", "done": done, "total": total}
    assert standing is not None
    if standing.failure is not None:
        raise standing.failure
    open_from = shown_from(folder)
    view = workspace.view_of(COMMAND)
    now = standing.round
    if standing.indexed:
        view.matching(where, named=open_from)
    yield {"event": "indexed", "not_read": not_read_text(now.plan.not_read, now.problems)}
    answer = asking(Question(prompt=question, client=COMMAND, where=where, wishes=wishes))
    async with aclosing(told(answer, view, open_from)) as events:
        async for event in events:
            yield event


def _text(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str):
        raise InputError(f"{name} is {shown(value)}, not a text", param=name)
    return value
