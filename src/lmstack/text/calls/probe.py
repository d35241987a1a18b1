"""The format of a template's calls, found by rendering some.

A conversation with marked names, keys, values and ids is rendered, and what stands around the
marks is the format. So a template is never known by its name, and what is read back is what it
writes. Covers templates that write a name before its arguments, and the arguments as JSON or one by
one between tags. Of any other nothing is found, and its model is asked in `fallback`'s words.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from lmstack.core import FormatError, InputError
from lmstack.text.calls.call_format import CallFormat, JsonArguments, TaggedArguments

__all__ = ["probed", "shows_tools"]

Render = Callable[[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]], bool], str]
ArgumentsAs = Literal["value", "text"]
Arguments = JsonArguments | TaggedArguments

_NAMES = ("qzxnamea", "qzxnameb", "qzxnamec")
_IDS = ("qzxid0001", "qzxid0002", "qzxid0003")
_KEYS = ("qzxkeya", "qzxkeyb")
_VALUES = ("qzxvala", "qzxvalb")
_SAID, _RESULT, _ASKED = "qzxsaid", "qzxresult", "qzxasked"
_ARGUMENTS = dict(zip(_KEYS, _VALUES, strict=True))
_PARAMETERS = {
    "type": "object",
    "properties": {key: {"type": "string", "description": "A text."} for key in _KEYS},
    "required": list(_KEYS),
}
_TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "description": "Does it.", "parameters": _PARAMETERS},
    }
    for name in _NAMES
]
_USER = {"role": "user", "content": _ASKED}


def probed(render: Render) -> CallFormat | None:
    """The format of the template behind ``render`` (messages, tools, whether a prompt follows);
    None where it does not show calls and their results, or in a way that is not understood."""
    return next(_formats(render), None)


def shows_tools(render: Render) -> bool:
    """Whether the template shows a model the tools that it may call."""
    try:
        return _NAMES[0] in render([_USER], _TOOLS, True)
    except (FormatError, InputError):
        return False


def _formats(render: Render) -> Iterator[CallFormat]:
    """Of each way to give calls to the template. JSON text is for one that fails on values: one
    that prints them in a way of its own would print the text as if it were one."""
    ways: list[tuple[ArgumentsAs, str | None]]
    ways = [("value", ""), ("value", None), ("text", ""), ("text", None)]
    shows_values = False
    for arguments_as, empty in ways:
        if arguments_as == "text" and shows_values:
            return
        probe = _Probe(render, arguments_as, empty)
        try:
            found = probe.format()
        except (FormatError, InputError):
            continue
        except _NotUnderstoodError as error:
            shows_values |= error.has_name
            continue
        yield found


class _NotUnderstoodError(Exception):
    """What a template writes has not the expected form. ``has_name``: but it does write calls."""

    has_name = True


class _Probe:
    """One way of giving calls to a template."""

    def __init__(self, render: Render, arguments_as: ArgumentsAs, empty: str | None) -> None:
        self._render, self._as, self._empty = render, arguments_as, empty

    def format(self) -> CallFormat:
        turn = self._turn(1, followed=True)
        if _NAMES[0] not in turn:
            error = _NotUnderstoodError()
            error.has_name = False
            raise error
        lead, rest = _cut(turn, _NAMES[0])
        name_end, arguments, after = _arguments(rest)
        if isinstance(arguments, TaggedArguments):
            arguments = replace(arguments, python_names=self._has_python_names(arguments))
        opening, plain_end = self._plain()
        if lead.startswith(opening):
            lead = lead.removeprefix(opening)
        else:
            opening = ""
        last = _after_arguments(self._turn(1), arguments)
        id_lead = None
        if _IDS[0] in last:
            id_lead, last = _cut(last, _IDS[0])
        end = _without(last, plain_end)
        if _IDS[0] in after:
            after = after.partition(_IDS[0])[2]
        if not after.startswith(end.rstrip()) or _RESULT not in after:
            raise _NotUnderstoodError
        between, end_of_many, most = self._several(arguments, id_lead, end, plain_end)
        found = CallFormat(
            opening=opening,
            lead=lead,
            name_end=name_end,
            end=end,
            arguments=arguments,
            lead_after_text=self._lead_after_text(opening, lead),
            between=between,
            end_of_many=None if end_of_many == end else end_of_many,
            id_lead=id_lead,
            max_calls=most,
            arguments_as=self._as,
            empty_content=self._empty,
        )
        if "qzx" in repr(found):
            raise _NotUnderstoodError
        return found

    def _several(
        self,
        arguments: Arguments,
        id_lead: str | None,
        end: str,
        plain_end: str,
    ) -> tuple[str | None, str, int | None]:
        """What stands between two calls, what ends more than one, and how many there can be."""
        try:
            two = _parts(self._turn(2), 2, arguments, id_lead)
        except (FormatError, InputError, _NotUnderstoodError):
            return None, end, 1
        between, end_of_many = two[0], _without(two[1], plain_end)
        try:
            three = _parts(self._turn(3), 3, arguments, id_lead)
        except (FormatError, InputError, _NotUnderstoodError):
            return between, end_of_many, 2
        alike = three[:2] == [between] * 2 and _without(three[2], plain_end) == end_of_many
        return between, end_of_many, None if alike else 2

    def _lead_after_text(self, opening: str, lead: str) -> str | None:
        try:
            turn = self._turn(1, content=_SAID, followed=True)
        except (FormatError, InputError):
            return None
        before, said, rest = turn.partition(_SAID)
        if not said or before != opening or _NAMES[0] not in rest:
            return None
        found = rest.partition(_NAMES[0])[0]
        return found if found.strip() == lead.strip() else None

    def _has_python_names(self, form: TaggedArguments) -> bool:
        turn = self._turn(1, arguments={_KEYS[0]: True, _KEYS[1]: None})
        return f"{_KEYS[0]}{form.key_end}True{form.value_end}" in turn

    def _plain(self) -> tuple[str, str]:
        """What begins and what ends a turn without calls."""
        prompt = self._render([_USER], _TOOLS, True)
        answered = [_USER, {"role": "assistant", "content": _SAID}]
        whole = self._render(answered, _TOOLS, False)
        opening, _, end = _past_prompt(whole, prompt).rpartition(_SAID)
        return opening, end

    def _turn(
        self,
        count: int,
        *,
        content: str = "",
        followed: bool = False,
        arguments: Mapping[str, Any] = _ARGUMENTS,
    ) -> str:
        """A turn with ``count`` calls, to the end of the conversation. ``followed`` by results,
        as turns with calls are when a model reads them."""
        prompt = self._render([_USER], _TOOLS, True)
        calls = [self._call(place, arguments) for place in range(count)]
        said = content or self._empty
        messages: list[Mapping[str, Any]]
        messages = [_USER, {"role": "assistant", "content": said, "tool_calls": calls}]
        if followed:
            messages += [
                {"role": "tool", "content": _RESULT, "tool_call_id": i, "name": n}
                for i, n in zip(_IDS[:count], _NAMES[:count], strict=True)
            ]
        return _past_prompt(self._render(messages, _TOOLS, False), prompt)

    def _call(self, place: int, arguments: Mapping[str, Any]) -> dict[str, Any]:
        given = arguments if self._as == "value" else json.dumps(arguments)
        function = {"name": _NAMES[place], "arguments": given}
        return {"id": _IDS[place], "type": "function", "function": function}


def _past_prompt(whole: str, prompt: str) -> str:
    """What ``whole`` has beyond ``prompt``, of which a template may leave the end out again (an
    opened block of thoughts)."""
    common = len(_common_prefix(whole, prompt))
    tag = prompt.rfind("<", 0, common)
    if common < len(prompt) and ">" not in prompt[tag:common]:
        common = tag  # tags that only begin alike
    if common < prompt.rfind(_ASKED) + len(_ASKED):
        raise _NotUnderstoodError
    if prompt[common:].strip() and not prompt[common:].lstrip().startswith("<"):
        raise _NotUnderstoodError
    return whole[common:]


def _common_prefix(one: str, other: str) -> str:
    pairs = enumerate(zip(one, other, strict=False))
    return one[: next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))]


def _cut(text: str, mark: str) -> tuple[str, str]:
    before, found, after = text.partition(mark)
    if not found:
        raise _NotUnderstoodError
    return before, after


def _without(text: str, end: str) -> str:
    """``text`` without the ``end`` of a turn."""
    if end and text.endswith(end):
        return text.removesuffix(end)
    bare = end.strip()
    return text.rstrip().removesuffix(bare) if bare else text


def _arguments(text: str) -> tuple[str, Arguments, str]:
    """The text between a name and its arguments, their form, and the text after them."""
    before, after = _cut(text, _KEYS[0])
    start = before.rfind("{")
    if start >= 0:
        try:
            value, stop = json.JSONDecoder().raw_decode(text[start:])
        except ValueError:
            value, stop = None, 0
        if value == _ARGUMENTS:
            return before[:start], _json_form(text[start : start + stop]), text[start + stop :]
    return _tagged(before, after)


def _json_form(written: str) -> JsonArguments:
    for item, key in itertools.product((", ", ","), (": ", ":")):
        if json.dumps(_ARGUMENTS, separators=(item, key)) == written:
            return JsonArguments(item, key)
    raise _NotUnderstoodError


def _tagged(before: str, after: str) -> tuple[str, Arguments, str]:
    """Of ``before`` the first key and what is ``after`` it: KEY key_end VALUE, again, and the end.
    Where a name's end stops and the lead of its first key begins cannot be told from here, and
    need not be: the lead is what also stands between two of them."""
    key_end, rest = _cut(after, _VALUES[0])
    joint, rest = _cut(rest, _KEYS[1])
    again, rest = _cut(rest, _VALUES[1])
    if again != key_end or not key_end:
        raise _NotUnderstoodError
    lead = _common_prefix(before[::-1], joint[::-1])[::-1].lstrip("\n")
    value_end = joint.removesuffix(lead)
    if not lead or not value_end.strip() or not rest.startswith(value_end):
        raise _NotUnderstoodError
    form = TaggedArguments(lead, key_end, value_end)
    return before.removesuffix(lead), form, rest.removeprefix(value_end)


def _after_arguments(turn: str, form: Arguments) -> str:
    _, found, after = _arguments(_cut(turn, _NAMES[0])[1])
    if not _is_alike(found, form):
        raise _NotUnderstoodError
    return after


def _is_alike(found: Arguments, form: Arguments) -> bool:
    if isinstance(found, TaggedArguments) and isinstance(form, TaggedArguments):
        return replace(found, python_names=form.python_names) == form
    return found == form


def _parts(turn: str, count: int, form: Arguments, id_lead: str | None) -> list[str]:
    """What stands after each call of ``turn``, up to the next name."""
    parts = []
    for place in range(count):
        rest = _cut(turn, _NAMES[place])[1]
        _, found, after = _arguments(rest)
        if not _is_alike(found, form):
            raise _NotUnderstoodError
        if id_lead is not None:
            lead, after = _cut(after, _IDS[place])
            if lead != id_lead:
                raise _NotUnderstoodError
        turn = after
        parts.append(after.partition(_NAMES[place + 1])[0] if place + 1 < count else after)
    return parts
