"""JSON while it arrives: after each piece of text, the value so far.

Of what is not complete a value so far has open objects, arrays and strings. A number, a word
(``true``, ``false``, ``null``) and a name are there once they are whole, an escape once it is read.
What is read to its end is what `lmstack.core.json_text` reads, and what that refuses is refused,
as early as the text allows. Does not cover text around the JSON (`embedded_json`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from lmstack.core.errors import shown
from lmstack.core.json_text import MAX_DEPTH

__all__ = ["JsonReader"]

_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_NUMERALS = re.compile(r"[-+.0-9eE]*")
_LETTERS = re.compile(r"[a-z]*")
_WORDS = {"true": True, "false": False, "null": None}
_ESCAPED = dict(zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True))
_CODE = re.compile(r"\\u([0-9a-fA-F]{4})")
_CODE_SO_FAR = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
_ABSENT = object()


class JsonReader:
    """One value, `feed` by `feed`; `finish` says that no more comes. `ValueError` from either says
    what is wrong and where; the reader is then of no more use."""

    def __init__(self) -> None:
        # Open containers, with complete children only, and the name that each object has read.
        self._open: list[Any] = []
        self._names: list[str] = []
        self._root: Any = _ABSENT
        self._string: list[str] | None = None  # of the string that is being read
        self._is_name = False
        self._rest = ""  # of the text so far: a number, a word or an escape that may go on
        self._place = 0  # of `_rest` in all of the text
        self._next: Callable[[str, int], int] = self._value

    @property
    def has_begun(self) -> bool:
        """Whether there is a value so far."""
        return self._so_far() is not _ABSENT

    @property
    def has_ended(self) -> bool:
        """Whether the value is whole. Of a number by itself only `finish` can say that."""
        return self._root is not _ABSENT

    @property
    def value(self) -> Any:
        """The value so far, None before it has begun. What is complete in it is shared with
        earlier and later ones, so change nothing in it."""
        value = self._so_far()
        return None if value is _ABSENT else value

    def feed(self, text: str) -> None:
        """Read on."""
        text = self._rest + text
        place = 0
        while place < len(text):
            after = self._next(text, place)
            if after == place:  # it depends on what comes
                break
            place = after
        self._rest = text[place:]
        self._place += place

    def finish(self) -> Any:
        """The whole value."""
        if self._string is not None:
            raise ValueError("the text ends before a string does")
        self.feed("\n")  # ends a number
        if self._root is _ABSENT:
            raise ValueError("the text ends before the value does")
        return self._root

    # -- what may come next: each reads at `place` and gives the place after it ------------

    def _value(self, text: str, place: int) -> int:
        place = _after(_SPACE, text, place)
        if place == len(text):
            return place
        char = text[place]
        if char == "]" and self._open and self._open[-1] == []:
            return self._closed(place)
        return self._begun(text, place)

    def _item(self, text: str, place: int) -> int:
        """A value after a comma: no bracket."""
        place = _after(_SPACE, text, place)
        return place if place == len(text) else self._begun(text, place)

    def _begun(self, text: str, place: int) -> int:
        char = text[place]
        if len(self._open) > MAX_DEPTH:
            raise self._wrong(place, "it is nested too deep")
        if char in "{[":
            self._open.append({} if char == "{" else [])
            self._names.append("")
            self._next = self._first_name if char == "{" else self._value
            return place + 1
        if char == '"':
            return self._string_begun(place, is_name=False)
        if char in "-0123456789":
            return self._number(text, place)
        return self._word(text, place)

    def _number(self, text: str, place: int) -> int:
        after = _after(_NUMERALS, text, place)
        if after == len(text):
            return self._wait(self._number, place)
        numeral = text[place:after]
        if not _NUMBER.fullmatch(numeral):
            raise self._wrong(place, f"{shown(numeral)} is not a number")
        whole = numeral.lstrip("-").isdigit()
        value = int(numeral) if whole else float(numeral)
        if not whole and math.isinf(value):
            raise self._wrong(place, f"{shown(numeral)} is too large")
        self._add(value)
        return after

    def _word(self, text: str, place: int) -> int:
        after = _after(_LETTERS, text, place)
        word = text[place:after]
        if after == len(text) and any(known.startswith(word) for known in _WORDS):
            return self._wait(self._word, place)
        if word not in _WORDS:
            raise self._wrong(place, f"{shown(word or text[place])} begins no value")
        self._add(_WORDS[word])
        return after

    def _first_name(self, text: str, place: int) -> int:
        place = _after(_SPACE, text, place)
        if place < len(text) and text[place] == "}":
            return self._closed(place)
        return self._name(text, place)

    def _name(self, text: str, place: int) -> int:
        place = _after(_SPACE, text, place)
        if place == len(text):
            return place
        if text[place] != '"':
            raise self._wrong(place, f"{shown(text[place])} stands where a name has to")
        return self._string_begun(place, is_name=True)

    def _colon(self, text: str, place: int) -> int:
        place = _after(_SPACE, text, place)
        if place == len(text):
            return place
        if text[place] != ":":
            raise self._wrong(place, f"{shown(text[place])} stands where a colon has to")
        self._next = self._item
        return place + 1

    def _comma(self, text: str, place: int) -> int:
        place = _after(_SPACE, text, place)
        if place == len(text):
            return place
        is_object = isinstance(self._open[-1], dict)
        if text[place] == ",":
            self._next = self._name if is_object else self._item
            return place + 1
        if text[place] == ("}" if is_object else "]"):
            return self._closed(place)
        inside = "an object" if is_object else "an array"
        raise self._wrong(place, f"{shown(text[place])} stands in {inside} where a comma has to")

    def _end(self, text: str, place: int) -> int:
        place = _after(_SPACE, text, place)
        if place < len(text):
            raise self._wrong(place, f"{shown(text[place])} stands after the end of the value")
        return place

    # -- strings -------------------------------------------------------------------------------

    def _string_begun(self, place: int, *, is_name: bool) -> int:
        self._string, self._is_name, self._next = [], is_name, self._inside
        return place + 1

    def _inside(self, text: str, place: int) -> int:
        assert self._string is not None
        after = _after(_PLAIN, text, place)
        if after > place:
            self._string.append(self._well_formed(text[place:after], place))
            return after
        char = text[place]
        if char == '"':
            return self._string_ended(place)
        if char == "\\":
            return self._escape(text, place)
        raise self._wrong(place, f"a string holds {shown(char)}, which has to be escaped")

    def _escape(self, text: str, place: int) -> int:
        """Also of two codes that are one character."""
        assert self._string is not None
        if place + 1 == len(text):
            return place
        if (char := text[place + 1]) != "u":
            if char not in _ESCAPED:
                raise self._wrong(place, f"there is no escape {shown(text[place : place + 2])}")
            self._string.append(_ESCAPED[char])
            return place + 2
        first = _CODE.match(text, place)
        if first is None:
            if _CODE_SO_FAR.fullmatch(text, place):
                return place
            raise self._wrong(place, f"there is no escape {shown(text[place : place + 6])}")
        code = int(first[1], 16)
        if not 0xD800 <= code < 0xE000:
            self._string.append(chr(code))
            return first.end()
        second = _CODE.match(text, first.end())
        if second is None and code < 0xDC00 and _goes_on(text, first.end()):
            return place
        low = int(second[1], 16) if second else 0
        if code >= 0xDC00 or second is None or not 0xDC00 <= low < 0xE000:
            raise self._wrong(place, f"{first[0]} is half a surrogate pair")
        self._string.append(chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)))
        return second.end()

    def _string_ended(self, place: int) -> int:
        assert self._string is not None
        value, self._string = "".join(self._string), None
        if not self._is_name:
            self._add(value)
        elif value in self._open[-1]:
            raise self._wrong(place, f"the name {shown(value)} stands twice in an object")
        else:
            self._names[-1], self._next = value, self._colon
        return place + 1

    def _well_formed(self, text: str, place: int) -> str:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self._wrong(place + error.start, "a string holds half a surrogate pair") from None
        return text

    # -- the value so far ----------------------------------------------------------------------

    def _add(self, value: Any) -> None:
        """``value`` is complete."""
        if not self._open:
            self._root, self._next = value, self._end
            return
        parent = self._open[-1]
        if isinstance(parent, dict):
            parent[self._names[-1]] = value
        else:
            parent.append(value)
        self._next = self._comma

    def _closed(self, place: int) -> int:
        self._names.pop()
        self._add(self._open.pop())
        return place + 1

    def _so_far(self) -> Any:
        is_value = self._string is not None and not self._is_name
        value: Any = "".join(self._string or ()) if is_value else self._root
        for container, name in zip(reversed(self._open), reversed(self._names), strict=True):
            inner, value = value, container.copy()
            if inner is _ABSENT:
                continue
            if isinstance(value, dict):
                value[name] = inner
            else:
                value.append(inner)
        return value

    def _wait(self, step: Callable[[str, int], int], place: int) -> int:
        """Read on with ``step`` once there is more."""
        self._next = step
        return place

    def _wrong(self, place: int, reason: str) -> ValueError:
        return ValueError(f"{reason}, at character {self._place + place}")


def _after(pattern: re.Pattern[str], text: str, place: int) -> int:
    match = pattern.match(text, place)
    assert match is not None  # all of these match nothing, too
    return match.end()


def _goes_on(text: str, place: int) -> bool:
    """Whether a code may still come at ``place``."""
    return place == len(text) or _CODE_SO_FAR.fullmatch(text, place) is not None
