"""What the columns of a row mean: the formats that objectives read.

    text          text
    chat          messages: [{role, content}, ...]
    instruction   instruction, input (optional), output; or prompt, completion

A row that is of no such format is an `InputError` that names its columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.core import InputError, Message, shown
from lmstack.train.data.rows import Row

__all__ = ["messages_of", "text_of"]

# Names that recipes of the field give the roles of a conversation.
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}


def text_of(row: Row) -> str:
    """The column ``text``."""
    return _text(row, "text")


def messages_of(row: Row) -> list[Message]:
    """A conversation, from any of the formats that hold one."""
    values = row.values
    for key in ("messages", "conversations"):
        if key in values:
            return _conversation(values[key])
    for asked, answered in (("instruction", "output"), ("prompt", "completion")):
        if asked in values and answered in values:
            question = _text(row, asked)
            if values.get("input"):
                question += "\n\n" + _text(row, "input")
            return [Message("user", question), Message("assistant", _text(row, answered))]
    columns = ", ".join(sorted(map(str, values)))
    raise InputError(
        f"the row has the columns {shown(columns)}, and no conversation",
        hint="messages; or instruction and output; or prompt and completion",
    )


def _conversation(turns: Any) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        raise InputError(f"messages is {shown(turns)}, not a list of turns")
    found = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise InputError(f"a turn is {shown(turn)}, not an object")
        role = turn.get("role", turn.get("from"))
        content = turn.get("content", turn.get("value"))
        if not isinstance(role, str) or not isinstance(content, str):
            raise InputError(f"a turn is {shown(dict(turn))}", hint="it needs a role and a content")
        found.append(Message(_ROLES.get(role, role), content))  # type: ignore[arg-type]
    return found


def _text(row: Row, column: str) -> str:
    value = row.values.get(column)
    if not isinstance(value, str):
        columns = ", ".join(sorted(map(str, row.values)))
        raise InputError(
            f"{column} is {shown(value)}, not text", hint=f"the row has the columns {columns}"
        )
    return value
