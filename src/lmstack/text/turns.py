"""Which characters of a rendered conversation the assistant wrote, and which tokens.

A template may say it itself, by ``{% generation %}`` marks. Of any other, a turn of the assistant
is what the conversation with it has beyond the prompt for it, and the prompt must be how that
conversation begins: then it is what the model would have generated when served. Works on text in
which the contents of messages are hidden where they spell control tokens (`control`). Does not
cover rendering and encoding (`chat`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lmstack.core import FormatError, InputError
from lmstack.text.control import START, STOP
from lmstack.text.tokenizer import Tokenizer

__all__ = ["assistant_ranges", "generation_ranges", "token_ranges"]

Range = tuple[int, int]
Messages = Sequence[Mapping[str, Any]]
Render = Callable[[Messages, bool], str]


def generation_ranges(marked: str) -> tuple[str, list[Range]]:
    """``marked`` without the marks that ``{% generation %}`` printed, and what lay between them."""
    text, found = _unmarked(marked)
    if not found:
        raise InputError(
            "the conversation has no turn that the chat template marks as the assistant's"
        )
    return text, found


def assistant_ranges(messages: Messages, render: Render, after: int = 0) -> tuple[str, list[Range]]:
    """The conversation, and each turn of the assistant in it with what ends the turn, but for those
    among the ``after`` first messages.

    `InputError`: there is none, or the template renders earlier turns in another way once the
    conversation goes on, so that the model would learn after a prompt that it never sees.
    """
    turns = enumerate(messages)
    places = [n for n, message in turns if n >= after and message["role"] == "assistant"]
    if not places:
        raise InputError("the conversation has no turn of the assistant")
    whole = render(messages, False)
    found = {place: _exact(messages, place, whole, render) for place in {places[0], places[-1]}}
    if len(places) > 2:
        # Each prompt by itself is work that grows with the square of the turns.
        alike = _alike(messages, places, found, whole, render)
        rest = places[1:-1] if alike is None else ()
        found |= alike or {place: _exact(messages, place, whole, render) for place in rest}
    return whole, [found[place] for place in places]


def token_ranges(
    ranges: Sequence[Range],
    ids: Sequence[int],
    offsets: Sequence[Range],
    text: str,
    tokenizer: Tokenizer,
    *,
    is_marked: bool,
) -> list[Range]:
    """``ranges`` of characters as ranges of tokens. A token that begins before a range is not the
    assistant's: it is no token of the prompt either, but nothing would generate it there. Unless
    the template marked them, a range ends with the control token that ends the turn: white space
    after it is the template's."""
    found, token = [], 0
    for start, stop in ranges:
        while token < len(ids) and offsets[token][0] < start:
            token += 1
        first = token
        while token < len(ids) and offsets[token][0] < stop:
            token += 1
        last = token
        while last > first and ids[last - 1] not in tokenizer.special_ids:
            low, high = offsets[last - 1]
            if text[low:high].strip():
                break
            last -= 1
        ends = last > first and ids[last - 1] in tokenizer.special_ids
        found.append((first, last if ends and not is_marked else token))
    return found


def _exact(messages: Messages, place: int, whole: str, render: Render) -> Range:
    try:
        before = render(messages[:place], True)
    except FormatError:
        if place:
            raise
        raise InputError(
            "the conversation begins with the assistant, for which the chat template has no prompt",
            hint="begin it with a turn of the user",
        ) from None
    is_last = place == len(messages) - 1
    after = whole if is_last else render(messages[: place + 1], False)
    if not after.startswith(before) or not whole.startswith(after):
        raise InputError(
            "the chat template renders earlier turns in another way as the conversation goes on, so"
            " that the assistant's tokens cannot be told",
            hint="use a base whose template keeps earlier turns as they were, or marks the"
            " assistant's with {% generation %}, or train on text",
        )
    return len(before), len(after)


class _Frame(NamedTuple):
    """What stands around the content of a turn: between the content before it and where the
    assistant begins, and from its content to the end of the turn."""

    lead: str
    end: str


def _alike(
    messages: Messages,
    places: Sequence[int],
    known: Mapping[int, Range],
    whole: str,
    render: Render,
) -> dict[int, Range] | None:
    """The turns between the first and the last, where the template puts around them what it puts
    around those two, after a turn of the same role; None where it does not."""
    cores = _cores(messages, whole, render)
    if cores is None:
        return None
    frames: dict[str, _Frame] = {}
    for place in (places[-1], places[0]):  # the first is followed by another, as those between
        if not place:
            continue
        (_, before), (begin, end) = cores[place - 1], cores[place]
        start, stop = known[place]
        if not before <= start <= begin <= end <= stop:
            return None
        lead = whole[before:start].removeprefix(_tail(messages[place - 1]))
        frames[messages[place - 1]["role"]] = _Frame(
            lead, whole[end:stop].removeprefix(_tail(messages[place]))
        )
    found = {}
    for place in places[1:-1]:
        frame = frames.get(messages[place - 1]["role"])
        if frame is None:
            return None
        (_, before), (begin, end) = cores[place - 1], cores[place]
        first = _past(whole, before, _tail(messages[place - 1]), frame.lead)
        last = _past(whole, end, _tail(messages[place]), frame.end)
        if first is None or last is None or whole[first:begin] not in ("", _head(messages[place])):
            return None
        found[place] = (first, last)
    return found


def _past(text: str, place: int, kept: str, wanted: str) -> int | None:
    """Where ``wanted`` ends, which stands at ``place``, after ``kept`` if the template keeps it."""
    for found in (kept + wanted, wanted):
        if text.startswith(found, place):
            return place + len(found)
    return None


def _cores(messages: Messages, whole: str, render: Render) -> list[Range] | None:
    """Where each content is in ``whole``, without the white space around it; None where that
    cannot be told: a template may look into contents, and see the marks in them."""
    contents = [message["content"].strip() for message in messages]
    if not all(contents):
        return None
    marked = [
        {**message, "content": f"{_head(message)}{START}{content}{STOP}{_tail(message)}"}
        for message, content in zip(messages, contents, strict=True)
    ]
    try:
        text, found = _unmarked(render(marked, False))
    except (InputError, FormatError):
        return None
    if text != whole or [text[start:stop] for start, stop in found] != contents:
        return None
    return found


def _unmarked(marked: str) -> tuple[str, list[Range]]:
    found: list[Range] = []
    parts: list[str] = []
    length, open_at = 0, -1
    for part in marked.split(START):
        if parts:
            open_at = length
        inside, closed, outside = part.partition(STOP)
        parts += [inside, outside]
        length += len(inside)
        if closed and open_at >= 0:
            found.append((open_at, length))
        length += len(outside)
    return "".join(parts).replace(STOP, ""), found


def _head(message: Mapping[str, Any]) -> str:
    content: str = message["content"]
    return content[: len(content) - len(content.lstrip())]


def _tail(message: Mapping[str, Any]) -> str:
    content: str = message["content"]
    return content[len(content.rstrip()) :]
