"""JSON in what a model wrote: by itself, in a block of Markdown code, or with text around it.

Only what is closed counts. Nothing inside of an object that is open, or that is not JSON, is taken
for the answer: half of what was meant would look like all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lmstack.core.json_text import parse_json

__all__ = ["json_texts"]

_FENCED = re.compile(r"```[\w+-]*[ \t]*\r?\n(.*?)```", re.S)
_MARK = re.compile(r'["\\{}\[\]]')
_OPENS = re.compile(r"[{\[]")
_CLOSES = {"{": "}", "[": "]"}
_KINDS = {"{": "object", "[": "array"}
_LIKE_JSON = re.compile(r'\{\s*"|\[\s*[{\["]')


def json_texts(text: str) -> list[str]:
    """The parts of ``text`` that are JSON, in the order in which they are likely to be the answer:
    all of it, blocks of code, then objects and arrays by their place. `ValueError` says why there
    are none."""
    problems: list[str] = []
    found = list(_parsed([text.strip()], problems))
    if not found:
        found = [*_parsed(_FENCED.findall(text), problems), *_parsed(_regions(text), problems)]
    found = list(dict.fromkeys(found))
    if not found:
        # Of all of the text by itself, unless there is something more like JSON in it.
        raise ValueError(problems[1] if len(problems) > 1 else problems[0])
    return found


def _parsed(parts: Iterator[str] | list[str], problems: list[str]) -> Iterator[str]:
    """Those of ``parts`` that are JSON; what is wrong with the others."""
    try:
        for part in parts:
            try:
                parse_json(part)
            except ValueError as error:
                problems.append(str(error))
            else:
                yield part
    except _OpenError as error:
        problems.append(str(error))


class _OpenError(Exception):
    """An object or an array does not end, or by a bracket of the other kind."""


def _regions(text: str) -> Iterator[str]:
    """From each outermost bracket to the one that closes it; `_OpenError` where none does.
    Brackets in prose may be crossed: what does not begin like JSON is passed over."""
    place = 0
    while (begin := _OPENS.search(text, place)) is not None:
        start = begin.start()
        end, crossed = _region_end(text, start)
        what = f"the {_KINDS[text[start]]} that begins at character {start}"
        if end is None:
            raise _OpenError(f"{what} is not closed")
        if crossed and _LIKE_JSON.match(text, start):
            raise _OpenError(f"{what} is closed by {text[end - 1]}")
        if not crossed:
            yield text[start:end]
        place = end


def _region_end(text: str, start: int) -> tuple[int | None, bool]:
    """After the bracket that closes the one at ``start``, or else after the first that closes
    none, and whether it is that."""
    closers: list[str] = []
    in_string, place = False, start
    while (mark := _MARK.search(text, place)) is not None:
        char, place = mark[0], mark.end()
        if char == "\\":
            place += in_string
        elif char == '"':
            in_string = not in_string
        elif in_string:
            continue
        elif char in _CLOSES:
            closers.append(_CLOSES[char])
        elif closers.pop() != char:
            return place, True
        elif not closers:
            return place, False
    return None, False
