"""The text that a tool hands to a model: bounded, and free of what no reader can see.

Covers cutting out the middle of a long text, dropping control and hidden characters, and showing
these to a person. Does not
cover secrets (`secret`), nor what a model makes of orders in a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["bounded", "exact", "one_line", "plain", "plain_data"]

# Of a text that is cut, two thirds of what is kept are from its beginning.
_HEAD = 2 / 3
# C0 and C1 controls but for tab and newline; marks and overrides of direction; invisible
# operators; the byte order mark; interlinear annotations; language tags and the second set of
# variation selectors, in which whole orders can be hidden from the person who reads the text.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufe00-\ufe0d"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)

# Letters and marks that are drawn as nothing, though Unicode calls them printable.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def exact(text: str, keep: str = "\n\t") -> str:
    """``text`` for a person to approve: every character that cannot be seen, or looks like a space
    and is none, is its escape, except those to ``keep``."""
    return "".join(c if c in keep or _is_seen(c) else _escape(c) for c in text)


def _is_seen(c: str) -> bool:
    selects = "\ufe00" <= c <= "\ufe0f" or "\U000e0100" <= c <= "\U000e01ef"
    return c.isprintable() and c not in _BLANK and not selects


def _escape(c: str) -> str:
    return c.encode("unicode_escape").decode("ascii")


def plain(text: str) -> str:
    """``text`` without control characters and characters that nobody sees, newlines as ``\\n``,
    and well-formed: half of a surrogate pair becomes ``?``."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _HIDDEN.sub("", text).encode("utf-8", "replace").decode()


def plain_data(value: Any) -> Any:
    """JSON values with every string in them `plain`, keys too."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Mapping):
        return {plain_data(key): plain_data(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [plain_data(each) for each in value]
    return value


def one_line(text: str, max_chars: int = 200) -> str:
    """`plain` ``text`` on one line of at most ``max_chars`` characters."""
    line = " ".join(plain(text).split())
    return line if len(line) <= max_chars else line[: max_chars - 1] + "…"


def bounded(text: str, max_chars: int) -> str:
    """``text`` in at most ``max_chars`` characters: where it is longer, its head and its tail with
    a note between them that says how much was left out."""
    if len(text) <= max_chars:
        return text
    note = "\n[... {} of {} characters left out ...]\n"
    room = max_chars - len(note.format(len(text), len(text)))
    if room <= 0:
        return text[:max_chars]
    head = int(room * _HEAD)
    tail = room - head
    cut = note.format(len(text) - room, len(text))
    return text[:head] + cut + text[len(text) - tail :]
