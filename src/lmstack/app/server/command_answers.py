"""How a running `lmstack up` answers commands: from the index as the folder is now, guarded.

A command sees all documents, as it does when it opens the index itself: whoever runs it owns the
index. Does not cover which server may answer (`document_wiring`) or the socket.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstack.app.server.command_server import CommandServer
from lmstack.app.server.kept_index import Standing
from lmstack.app.server.not_read import not_read_text
from lmstack.app.server.page_model import Question
from lmstack.app.server.told_answer import shown_from, told
from lmstack.app.server.workspace import Workspace
from lmstack.core import InputError, shown
from lmstack.rag import AnswerWishes
from lmstack.rag.filters import parse_filter

__all__ = ["COMMAND", "CommandDoor", "open_server"]

# Whom limits and the audit log know a command by. No client of the API is called so: those have
# an address, or a key's name with a colon.
COMMAND = "command"


@dataclass(frozen=True)
class CommandDoor:
    """``path`` of the socket, and what a command is told that the server serves."""

    path: Path
    identity: Mapping[str, Any]


def open_server(door: CommandDoor, workspace: Workspace) -> CommandServer | None:
    """What answers commands from ``workspace``; None where another server does already."""

    def events(asked: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        return _events(workspace, asked)

    server = CommandServer(door.path, door.identity, events)
    return server if server.start() else None


async def _events(
    workspace: Workspace, asked: Mapping[str, Any]
) -> AsyncGenerator[Mapping[str, Any], None]:
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
    now = standing.round
    yield {"event": "indexed", "not_read": not_read_text(now.plan.not_read, now.problems)}
    answer = workspace.events(Question(prompt=question, client=COMMAND, where=where, wishes=wishes))
    async with aclosing(told(answer, workspace.view_of(COMMAND), open_from)) as events:
        async for event in events:
            yield event


def _text(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str):
        raise InputError(f"{name} is {shown(value)}, not a text", param=name)
    return value
