"""Text that came from a tool or a document, found again in the arguments of a call.

A person who approves a call has to know when its arguments were not the user's words nor the
model's own, but those of a page that the model has just read. Text is compared as letters and
digits alone (NFKD, without case, accents and percent signs; Cyrillic and Greek letters that look
like Latin ones as these), so other spaces, quotes or punctuation do not hide it. Arguments hold an
origin's text if

- a run of 20 letters and digits is in both, or
- of a value, or of a command in one (``;``, ``|`` and ``&`` end it), words in a row that have half
  of its letters or more, and three at least, are words in a row in the origin, or
- a word of the arguments that looks like a name in a machine (with a digit or one of ``@.:_/-``
  inside: an address, a host, a path, a number) and has 6 or more is in the origin,

and the user did not write it too. What this does not see: text that the model has put into other
words, another language or another encoding, or written backwards, and a short one in a long value.
A tool that must never act on what others wrote has to ask a person each time, or
`Rights.ask_after_untrusted` be set.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import unquote

__all__ = ["Flow", "TextOrigin", "flows"]

RUN, NAME, WORDS = 20, 6, 3
EXCERPT = 120
_APART = re.compile(r"[\s/?&=,;()<>\[\]{}|\"'`\\]+")
_BETWEEN = re.compile(r"[^\w@.:-]+")
_MARKED = re.compile(r"\d|\w[@.:_/\\-]\w")
_COMMANDS = re.compile(r"[;|&]+")
# Of the "confusables" of Unicode's report 39 the letters that can spell a Latin word.
_LOOK_ALIKE = str.maketrans(
    "аеорсухіјѕһԁԛԝвкмнтгѵӏ" + "αορνικυχτηωϲ" + "ıɡɑ",
    "aeopcyxijshdqwbkmhtrvl" + "aopvikuxtnwc" + "iga",
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d)")


@dataclass(frozen=True, slots=True)
class TextOrigin:
    """``text`` that came from ``name`` (a tool and its call, a document). ``is_untrusted``: it was
    written by others."""

    name: str
    text: str
    is_untrusted: bool = True


@dataclass(frozen=True, slots=True)
class Flow:
    """``excerpt`` of the argument at ``path`` (``/to/0``) is also in ``origin``."""

    origin: str
    path: str
    excerpt: str
    is_untrusted: bool = True


def flows(arguments: Any, origins: Sequence[TextOrigin], own_words: str) -> tuple[Flow, ...]:
    """One `Flow` for each value of ``arguments`` and origin that share text. ``own_words``: what
    the user wrote, which is nobody else's."""
    own = _text(own_words)
    found = []
    for path, value in _values(arguments):
        parts = [value, *_COMMANDS.split(value)]
        for origin in origins:
            excerpt = _shared(_text(value), parts, _text(origin.text), own)
            if excerpt:
                found.append(Flow(origin.name, path, excerpt[:EXCERPT], origin.is_untrusted))
    return tuple(found)


class _Text:
    """A text, and its forms to compare, each made when it is first needed."""

    def __init__(self, text: str) -> None:
        plain = unicodedata.normalize("NFKD", unquote(text, errors="replace"))
        # Accents and hidden characters inside a word must not make two of it.
        plain = "".join(c for c in plain if unicodedata.category(c) not in ("Mn", "Me", "Cf"))
        self.plain = _THOUSANDS.sub("", plain)

    @cached_property
    def folded(self) -> str:
        return _folded(self.plain)

    @cached_property
    def names(self) -> frozenset[str]:
        """Words, cut where names in a machine are put together."""
        return frozenset(map(_folded, _APART.split(self.plain)))

    @cached_property
    def line(self) -> str:
        return _line(self.plain)


# The results of a run are compared with each of its calls.
_text = lru_cache(maxsize=256)(_Text)


def _shared(value: _Text, parts: Sequence[str], origin: _Text, own: _Text) -> str:
    """What of ``value`` is in ``origin`` and not in ``own``; empty if nothing is. ``parts``: the
    value, and the commands in it."""
    if _has_run(value.folded, origin.folded, own.folded):
        return value.plain.strip()
    for part in parts:
        if _has_most_words(_text(part), origin, own):
            return part.strip()
    for word in value.plain.split():
        if _is_name(word) and (line := _line(word)) in origin.line and line not in own.line:
            return word
    for word in _APART.split(value.plain):
        if _is_name(word) and (name := _folded(word)) in origin.names and name not in own.names:
            return word
    return ""


def _has_most_words(part: _Text, origin: _Text, own: _Text) -> bool:
    """Whether words in a row that have half of the letters of ``part`` are in ``origin``, and not
    in ``own``. Half of a longer part is a run that is found as such."""
    words, letters = part.line.split(), len(part.folded)
    for start in range(len(words) if letters < 2 * RUN else 0):
        for end in range(len(words), start, -1):
            size = sum(map(len, words[start:end]))
            if size < max(WORDS, letters / 2):
                break
            line = f" {' '.join(words[start:end])} "
            if line in origin.line and line not in own.line:
                return True
    return False


def _is_name(word: str) -> bool:
    return _MARKED.search(word) is not None and len(_folded(word)) >= NAME


def _line(text: str) -> str:
    """Its words with one space between and around."""
    words = filter(None, map(_folded, _BETWEEN.split(text)))
    return f" {' '.join(words)} "


def _has_run(value: str, origin: str, own: str) -> bool:
    """Whether `RUN` characters in a row are in ``value`` and ``origin``, and not in ``own``. Such
    a run covers one of the blocks that begin at every half of its length."""
    half = RUN // 2
    for start in range(0, len(value) - half + 1, half):
        block = value[start : start + half]
        place = origin.find(block)
        while place >= 0:
            first = max(start - half, start - place, 0)
            for begin in range(first, start + 1):
                run = value[begin : begin + RUN]
                there = place - (start - begin)
                if len(run) == RUN and origin.startswith(run, there) and run not in own:
                    return True
            place = origin.find(block, place + 1)
    return False


def _values(arguments: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text and number in ``arguments`` with its JSON pointer, names in objects included."""
    if isinstance(arguments, dict):
        for name, value in arguments.items():
            here = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
            if path:  # the names of the arguments themselves are the schema's
                yield here, name
            yield from _values(value, here)
    elif isinstance(arguments, list):
        for number, value in enumerate(arguments):
            yield from _values(value, f"{path}/{number}")
    elif isinstance(arguments, str):
        yield path, arguments
    elif isinstance(arguments, int | float) and not isinstance(arguments, bool):
        yield path, str(arguments)


def _folded(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum()).translate(_LOOK_ALIKE)
