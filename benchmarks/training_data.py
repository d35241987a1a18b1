"""Conversations for the training benchmarks: chitchat-dataset, between people, as chat messages.

The one who begins is the user, the other the assistant; what one of them writes in a row is one
turn. Cut into pieces of ``turns`` turns, since an instruction set's examples (Alpaca's, which the
guide trains on) have a question and an answer, not the 30 turns of these conversations. Split by
conversation.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import Any

from pinned import Wheel, wheel_files

__all__ = ["chat_files", "conversations"]

CHITCHAT = Wheel(
    "chitchat-dataset", "0.9.0", "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e"
)
FILE = "chitchat_dataset/dataset.json"
HELD_OUT = 0.05

Messages = list[dict[str, str]]


def conversations() -> dict[str, Messages]:
    """Each conversation of two people by its id, as messages."""
    (path,) = wheel_files(CHITCHAT, (FILE,))
    found = {}
    for key, row in json.loads(path.read_text(encoding="utf-8")).items():
        messages: Messages = []
        roles: dict[str, str] = {}
        for said in (each for turn in row["messages"] for each in turn):
            text = said["text"].strip()
            if not text:
                continue
            role = roles.setdefault(said["sender"], "assistant" if roles else "user")
            if messages and messages[-1]["role"] == role:
                messages[-1]["content"] += "\n" + text
            else:
                messages.append({"role": role, "content": text})
        if len(roles) == 2:
            found[key] = messages
    return found


def pieces(messages: Messages, turns: int | None) -> list[Messages]:
    """``messages`` cut into conversations of ``turns``, each of which ends with the assistant;
    None: the whole one."""
    size = len(messages) if turns is None else turns
    found = []
    for start in range(0, len(messages), size):
        piece = messages[start : start + size]
        if piece and piece[-1]["role"] == "user":
            piece = piece[:-1]
        if piece:
            found.append(piece)
    return found


def chat_files(
    folder: pathlib.Path, *, turns: int | None, train: int, held_out: int
) -> dict[str, Any]:
    """``train.jsonl`` and ``held_out.jsonl`` in ``folder``: so many conversations of ``turns``
    turns. Which conversation is held out follows from its id."""
    rows: dict[str, list[str]] = {"train": [], "held_out": []}
    wanted = {"train": train, "held_out": held_out}
    found = conversations()
    places = {key: _place(key) for key in found}
    for key in sorted(found, key=lambda key: places[key]):
        part = "held_out" if places[key] < HELD_OUT else "train"
        # A few pieces of each, so that they are of many conversations.
        for piece in pieces(found[key], turns)[: None if turns is None else 4]:
            if len(rows[part]) < wanted[part]:
                rows[part].append(json.dumps({"messages": piece}))
    folder.mkdir(parents=True, exist_ok=True)
    for part, lines in rows.items():
        (folder / f"{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {part: str(folder / f"{part}.jsonl") for part in rows}


def _place(key: str) -> float:
    """Where a conversation falls in [0, 1)."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
