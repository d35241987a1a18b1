"""What a function returned or raised, as the result that a model is shown: bounded, free of what no
reader can see, and without secrets.

Texts stay as they are; pydantic models, dataclasses and other JSON values become JSON. Covers
cutting out the middle of a long text, dropping control and hidden characters or showing these to a
person, the type by which a function asks for a secret, and taking the values of secrets out of
whatever text comes back, also where they are written with escapes. Does not cover a tool that sends
them elsewhere or spells them in a way of its own, nor what a model makes of orders in a text.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, quote_plus

from pydantic_core import PydanticSerializationError, from_json, to_json

from lmstack.agents.tools.tool import ToolResult
from lmstack.core import InputError, LmstackError, shown

__all__ = [
    "Secret",
    "SecretMask",
    "bounded",
    "error_result",
    "exact",
    "finished",
    "one_line",
    "plain",
    "plain_data",
    "result_of",
]

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


MASK = "***"


@dataclass(frozen=True, slots=True)
class Secret:
    """A parameter of this type is filled from `ToolContext.secrets` under its own name, or under
    the name in ``Annotated[Secret, "NAME"]``, and is not part of the tool's schema. ``value``: the
    secret itself; its text and its repr are ``***``."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return MASK


class SecretMask:
    """Replaces ``values`` by ``***``, also where JSON, URLs, Python or base64 write them."""

    def __init__(self, values: Iterable[str]) -> None:
        spellings = {spelling for value in values if value for spelling in _spellings(value)}
        # The longest first: one secret may be the beginning of another.
        longest = sorted(spellings, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, longest))) if longest else None

    def text(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def data(self, value: Any) -> Any:
        """JSON values with every string in them masked, keys too."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.data(key): self.data(each) for key, each in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            return [self.data(each) for each in value]
        return value


def _spellings(value: str) -> set[str]:
    data = value.encode("utf-8", "surrogatepass")
    return {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        quote(data, safe=""),
        quote(data),
        quote_plus(data),
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(data).decode(),
    }


# Of more JSON than this only the text is kept, which is bounded.
MAX_DATA_CHARS = 1 << 20
MAX_ERROR_CHARS = 2_000


def result_of(value: Any, mask: SecretMask) -> ToolResult:
    """``value`` as a result, whole; `InputError` where it cannot be written as JSON. Values are
    masked before they are written: JSON inside of JSON escapes a secret twice."""
    if isinstance(value, ToolResult):
        return value
    if value is None:
        return ToolResult("Done.")
    if isinstance(value, str):
        return ToolResult(str(value))
    if isinstance(value, Iterator):
        problem = f"the tool returned {shown(value)}, whose end nobody knows"
        raise InputError(problem, hint="return a list")
    try:
        written = to_json(value, inf_nan_mode="strings", bytes_mode="base64")
        data = mask.data(from_json(written))
        text = json.dumps(data, ensure_ascii=False)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        problem = f"the tool returned a {type(value).__name__}, which is not JSON: {error}"
        raise InputError(problem, hint="return text, or values that JSON can write") from error
    return ToolResult(text, data=data if len(text) <= MAX_DATA_CHARS else None)


def error_result(error: BaseException) -> ToolResult:
    """``error`` in words: its message and what to do, without a traceback."""
    if isinstance(error, LmstackError):
        return ToolResult(str(error), is_error=True)
    message = str(error).strip()
    name = type(error).__name__
    return ToolResult(f"{name}: {message}" if message else name, is_error=True)


def finished(result: ToolResult, mask: SecretMask, max_chars: int) -> ToolResult:
    """``result`` with its secrets masked first, then cut to ``max_chars``: the other way round
    half a secret could be left over."""
    limit = min(max_chars, MAX_ERROR_CHARS) if result.is_error else max_chars
    text = mask.text(result.text).encode("utf-8", "replace").decode()
    return replace(result, text=bounded(text, limit), data=mask.data(result.data))
