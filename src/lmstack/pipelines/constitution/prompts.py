"""The prompts of a constitutional run, each with a key that follows from what it says.

Rows are of the format ``prompt``. Prompts that say the same are used once. Does not cover how they
are answered (`stages`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmstack.core import InputError, Message
from lmstack.train.data.formats import prompt_of
from lmstack.train.data.rows import BadRow, Row, Rows, find_data

__all__ = ["ReadPrompts", "as_json", "from_json", "key_of", "read_prompts"]

Conversation = tuple[Message, ...]


@dataclass(frozen=True)
class ReadPrompts:
    """``by_key``: in the order of the files. ``left_out``: rows that could not be read, each with
    its place and the reason. ``repeated``: rows that say what an earlier one said."""

    by_key: dict[str, Conversation]
    left_out: tuple[BadRow, ...]
    repeated: int

    @property
    def digest(self) -> str:
        return hashlib.sha256("".join(self.by_key).encode()).hexdigest()


def read_prompts(data: Sequence[str], most: int | None = None, seed: int = 0) -> ReadPrompts:
    """The prompts in the files of ``data``; of more than ``most`` those that a hash of ``seed`` and
    key draws. `InputError` where there is none."""
    found: dict[str, Conversation] = {}
    left_out: list[BadRow] = []
    rows = 0
    for row in Rows(find_data(data)):
        rows += 1
        prompt = _prompt(row)
        if isinstance(prompt, BadRow):
            left_out.append(prompt)
        else:
            found.setdefault(key_of(prompt), prompt)
    if not found:
        reason = f"; {left_out[0].place}: {left_out[0].reason}" if left_out else ""
        raise InputError(
            f"there is no prompt in {', '.join(data)}{reason}",
            hint='a row is {"prompt": "..."}, a text or messages',
            param="data",
        )
    repeated = rows - len(left_out) - len(found)
    if most is not None and most < len(found):
        ranked = sorted(found, key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())
        kept = set(ranked[:most])
        found = {key: prompt for key, prompt in found.items() if key in kept}
    return ReadPrompts(found, tuple(left_out), repeated)


def _prompt(row: Row | BadRow) -> Conversation | BadRow:
    if isinstance(row, BadRow):
        return row
    try:
        return tuple(prompt_of(row))
    except InputError as error:
        return BadRow(row.place, error.message)


def key_of(prompt: Conversation) -> str:
    """Sixteen hex digits, the same as long as every turn is."""
    return hashlib.sha256(json.dumps(as_json(prompt)).encode()).hexdigest()[:16]


def as_json(prompt: Conversation) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in prompt]


def from_json(turns: Sequence[Any]) -> Conversation:
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)
