"""Calls that a model wrote in other words than its template's.

Small models, and those trained on other templates, write a call as JSON in a fenced block, between
the tags of another family, or as their whole answer. What names a tool of the request and has
arguments that it takes is a call; everything else stays the text that it was, to the byte. Text
is held back only while it may still become a call. Does not cover the template's own format
(`reader`), nor a block within another one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmstack.core.json_text import parse_json

__all__ = ["Fits", "SpelledCall", "SpelledReader"]

Fits = Callable[[str, Mapping[str, Any]], bool]

_FENCE = "```"
# What may stand after a fence: anything else is code.
_INFO = ("", "json", "tool", "tool_call", "tool_calls", "function_call")
# Tags that calls stand between, and those of Mistral and Llama, which nothing closes.
_TAGS = ("tool_call", "tool_calls", "tools", "function_call")
_MARKS = ("[TOOL_CALLS]", "<|python_tag|>")
_FUNCTION = "<function="
_OPENING = re.compile(
    rf"(?<=\n)[ \t]*(?P<fence>{_FENCE})[ \t]*(?P<info>[^\s{{\[`]*)"
    rf"|<(?P<tag>{'|'.join(_TAGS)})>|(?P<mark>{'|'.join(map(re.escape, _MARKS))})"
    rf"|{_FUNCTION}(?P<function>[A-Za-z0-9_-]*)>?"
)
_OPENINGS = (_FENCE, _FUNCTION, *_MARKS, *(f"<{tag}>" for tag in _TAGS))
_WHOLE = re.compile(r"\s*(?=[{\[])")
_BETWEEN = re.compile(r"[\s,;]*")
# Qwen2.5-Coder's template shows calls in doubled braces, as if a format had to halve them; the
# model closes them with one too many.
_CLOSING = re.compile(r"[\s}]*")
_MAX_CHARS = 1 << 16  # of a block: a longer one is text
_HEAD_CHARS = 400  # of a block, where the name of its tool stands
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class SpelledCall:
    """``arguments``: a JSON object that the tool takes."""

    name: str
    arguments: str


class _More(Exception):  # noqa: N818 - no error
    """Whether it is a call depends on what comes."""


class _Text(Exception):  # noqa: N818 - no error
    """It is no call."""


class SpelledReader:
    """One answer. ``fits``: whether the tool of a name takes these arguments."""

    def __init__(self, names: Sequence[str], fits: Fits) -> None:
        self._names, self._fits = frozenset(names), fits
        self._beginnings = tuple(_beginnings(names))
        self._buffer = "\n"  # an answer begins a line; it is not said
        self._is_start = True
        self._may_be_whole = True  # the answer may yet be calls and nothing else
        self._is_in_fence = self._is_after_call = False

    def push(self, text: str, *, final: bool = False) -> list[str | SpelledCall]:
        """More of the answer, for the text and calls that are certain. ``final``: that was all."""
        self._buffer += text
        parts: list[str | SpelledCall] = []
        while self._fence(parts, final) if self._is_in_fence else self._text(parts, final):
            pass
        return parts

    # Both take what they can from the buffer; True: there may be more to take.

    def _fence(self, parts: list[str | SpelledCall], final: bool) -> bool:
        """In a block that is no call nothing is one, and its end begins no other."""
        end = self._buffer.find(_FENCE)
        if end < 0:
            self._say(parts, len(self._buffer if final else self._buffer.rstrip("`")))
            return False
        self._is_in_fence = False
        self._say(parts, end + len(_FENCE))
        return True

    def _text(self, parts: list[str | SpelledCall], final: bool) -> bool:
        opening = _WHOLE.match(self._buffer) if self._may_be_whole else None
        opening = opening or _OPENING.search(self._buffer)
        if opening is None:
            self._say_text(parts, final)
            return False
        start = len(self._buffer[: opening.start()].rstrip())  # white space goes with a call
        try:
            calls, end = self._read(opening, final)
        except _More:
            self._say(parts, start)
            return False
        except _Text:
            if opening.re is _WHOLE:
                self._may_be_whole = False
            else:
                self._is_in_fence = bool(opening["fence"])
                self._say(parts, opening.end())
            return True
        rest = self._buffer[end:]
        self._say(parts, start)
        parts += calls
        self._buffer, self._is_start = rest, False
        self._is_after_call, self._may_be_whole = True, False
        return True

    def _say_text(self, parts: list[str | SpelledCall], final: bool) -> None:
        """What is in the buffer, but for what may begin a call."""
        if final and self._is_after_call and not self._buffer.strip():
            self._buffer = ""
            return
        end = len(self._buffer)
        if not final:
            most = range(max(map(len, _OPENINGS)), 0, -1)
            ends = (self._buffer[-n:] for n in most)
            held = (e for e in ends if any(opening.startswith(e) for opening in _OPENINGS))
            end = len(self._buffer[: end - len(next(held, ""))].rstrip())
        self._say(parts, end)

    def _say(self, parts: list[str | SpelledCall], end: int) -> None:
        text, self._buffer = self._buffer[:end], self._buffer[end:]
        if text and self._is_start:
            text, self._is_start = text[1:], False
        if text:
            parts.append(text)
        if text.strip():
            self._is_after_call = self._may_be_whole = False

    def _read(self, opening: re.Match[str], final: bool) -> tuple[list[SpelledCall], int]:
        """The calls of the block that ``opening`` begins, and where it ends. `_More`, `_Text`."""
        is_cut = not final and opening.end() == len(self._buffer)
        close, is_one = "", False
        if opening.re is _OPENING:
            close, is_one = self._close(opening, is_cut)
        calls: list[SpelledCall] = []
        place = _past(_BETWEEN, self._buffer, opening.end())
        while self._buffer[place : place + 1] in ("{", "[") and not (is_one and calls):
            found, place = self._value(place, opening, final)
            calls += found
            place = place if is_one else _past(_BETWEEN, self._buffer, place)
        if place - opening.start() > _MAX_CHARS:
            raise _Text
        rest = self._buffer[place:]
        if not final and close.startswith(rest) and rest != close:
            raise _More
        if not final and not (rest or close) and (not is_one or not calls):
            raise _More
        # Without anything that closes it a single value ends itself, and others end the answer.
        is_closed = rest.startswith(close) if close or is_one else not rest
        if not calls or not (is_closed or close.startswith(rest)):
            raise _Text
        return calls, min(place + len(close), len(self._buffer))

    def _close(self, opening: re.Match[str], is_cut: bool) -> tuple[str, bool]:
        """What closes a block, and whether it holds a single value."""
        if opening["fence"]:
            info = opening["info"]
            if is_cut and any(each.startswith(info) for each in _INFO):
                raise _More
            if info not in _INFO:
                raise _Text
            return _FENCE, False
        if opening["function"] is not None:
            name = opening["function"]
            if is_cut and not opening[0].endswith(">"):
                if any(each.startswith(name) for each in self._names):
                    raise _More
                raise _Text
            if name not in self._names or not opening[0].endswith(">"):
                raise _Text
            return "</function>", True
        return ("", True) if opening["mark"] else (f"</{opening['tag']}>", False)

    def _value(
        self, place: int, opening: re.Match[str], final: bool
    ) -> tuple[list[SpelledCall], int]:
        """The calls that the JSON at ``place`` holds, and where it ends."""
        name = opening["function"] if opening.re is _OPENING else None
        doubled = self._buffer.startswith("{{", place)
        place += doubled
        head = "".join(self._buffer[place : place + _HEAD_CHARS].split())
        if name is None and not any(
            head.startswith(each) or each.startswith(head) for each in self._beginnings
        ):
            raise _Text
        try:
            _, end = _DECODER.raw_decode(self._buffer, place)
            value = parse_json(self._buffer[place:end])
        except json.JSONDecodeError as error:
            # The last characters may be half a word or half an escape.
            is_cut = error.msg.startswith("Unterminated") or error.pos > len(self._buffer) - 7
            too_long = len(self._buffer) - place > _MAX_CHARS
            raise (_More if is_cut and not final and not too_long else _Text) from None
        except (ValueError, RecursionError):
            raise _Text from None
        items = value if isinstance(value, list) else [value]
        calls = [self._call(item, name) for item in items]
        if not calls:
            raise _Text
        if doubled:
            end = _past(_CLOSING, self._buffer, end)
            if end == len(self._buffer) and not final:
                raise _More
        return calls, end

    def _call(self, item: Any, name: str | None) -> SpelledCall:
        """What ``item`` calls, or the tool ``name`` with these arguments."""
        arguments = item
        if name is None:
            name, arguments = _named(item)
        if isinstance(arguments, str):
            try:
                arguments = parse_json(arguments)
            except ValueError:
                raise _Text from None
        if name not in self._names or not isinstance(arguments, dict):
            raise _Text
        if not self._fits(name, arguments):
            raise _Text
        return SpelledCall(name, json.dumps(arguments, ensure_ascii=False))


def _named(item: Any) -> tuple[Any, Any]:
    """Name and arguments of a call. What has other keys describes something else."""
    if isinstance(item, dict) and "function" in item:
        if not item.keys() <= {"type", "id", "function"}:
            raise _Text
        item = item["function"]
    if not isinstance(item, dict):
        raise _Text
    [*arguments] = item.keys() & {"arguments", "parameters"}
    if len(arguments) != 1 or not item.keys() <= {"type", "id", "name", *arguments}:
        raise _Text
    if not isinstance(item.get("name"), str) or item.get("type", "function") != "function":
        raise _Text
    return item["name"], item[arguments[0]]


def _beginnings(names: Sequence[str]) -> Iterator[str]:
    """How JSON that calls one of ``names`` begins, without white space."""
    named = [f'{{"name":"{name}"' for name in names]
    others = ['{"arguments":', '{"parameters":', '{"id":', '{"type":"function"']
    for one in (*named, *others, *(f'{{"function":{each}' for each in (*named, *others))):
        yield from (one, f"[{one}")


def _past(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    assert found is not None, "it matches nothing as well"
    return found.end()
