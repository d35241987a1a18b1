"""What a model writes, while it writes it: text, and calls of tools.

Text comes out as soon as it cannot be the beginning of a call any more; arguments as they come.
What does not turn out to be a call of one of the tools stays text. Control tokens are marks that no
text can hold (`spelled`), so a text that only looks like one begins no call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lmstack.core import Tool, ToolCallDelta
from lmstack.text.calls.call_format import CallFormat, JsonArguments, TaggedArguments
from lmstack.text.calls.spellings import Fits, SpelledReader

__all__ = ["CallReader", "control_tokens_of", "without_marks"]

# Noncharacters: no text has them once `without_marks` went over it.
_OPEN, _CLOSE = "\ufdd4", "\ufdd5"
_MARKS = str.maketrans({_OPEN: "\ufffd", _CLOSE: "\ufffd"})
_NAME = re.compile(r"[A-Za-z0-9_-]*")
_PYTHON = {"True": True, "False": False, "None": None}

Part = str | ToolCallDelta


def spelled(text: str, control_tokens: Mapping[str, int]) -> str:
    """``text`` with each control token in it as a mark."""
    for token, number in sorted(control_tokens.items(), key=lambda each: -len(each[0])):
        text = text.replace(token, _mark(number))
    return text


def _mark(number: int) -> str:
    return f"{_OPEN}{number}{_CLOSE}"


def without_marks(text: str) -> str:
    """``text`` with nothing in it that could be a mark."""
    return text.translate(_MARKS)


class CallReader:
    """One answer. ``ids``: of its calls, in order. `push` text, and get what is certain.

    ``fits``: whether the tool of a name takes some arguments. With it, calls in other spellings
    than ``form`` are read too, at most ``max_calls`` with those of ``form``; their ids are taken
    from the end of ``ids``."""

    def __init__(
        self,
        form: CallFormat,
        tools: Sequence[Tool],
        ids: Sequence[str],
        control_tokens: Mapping[str, int],
        *,
        fits: Fits | None = None,
        max_calls: int | None = None,
    ) -> None:
        self._spelled = None if fits is None else SpelledReader([t.name for t in tools], fits)
        self._max_calls = len(ids) if max_calls is None else max_calls
        self._num_spelled = 0
        self._form = _spelled_form(form, control_tokens)
        # The control tokens that the answer may have, with the bytes that stand for them here.
        self.marks = {number: _mark(number).encode() for number in control_tokens.values()}
        self._tools = {tool.name: tool for tool in tools}
        self._ids = ids
        self._begins_anywhere = self._form.lead.lstrip()[:1] in ("<", "[", _OPEN)
        self._buffer = ""
        self._said = False  # whether any text came out
        self._raw = ""  # of a call that has not been told yet
        self._state = self._text
        self._arguments: _JsonReader | _TaggedReader | None = None
        self.num_calls = 0
        self._is_whole = False  # the template's calls have come to their end

    @property
    def is_complete(self) -> bool:
        """Whether the answer ends with calls as it should, or had some in another spelling."""
        is_own = self.num_calls > self._num_spelled
        return self._is_whole if is_own else self._num_spelled > 0

    def push(self, text: str, *, final: bool = False) -> list[Part]:
        """More of the answer. ``final``: that was all."""
        self._buffer += text
        parts: list[Part] = []
        while self._state(parts, final):
            pass
        if final:
            self._say(parts, "", final=True)
        return [part for part in parts if part != ""]

    # Each state takes what it can from the buffer; True: another state may go on.

    def _text(self, parts: list[Part], final: bool) -> bool:
        lead = self._form.lead
        place = self._buffer.find(lead)
        if place >= 0 and (self._begins_anywhere or not (self._said or place)):
            before = self._buffer[:place]
            self._raw = self._buffer[place : place + len(lead)]
            self._buffer = self._buffer[place + len(lead) :]
            self._say(parts, self._without_separator(before))
            self._state = self._name
            return True
        kept = self._held()
        begun = self._buffer[len(self._buffer) - kept :]
        # A call that was cut in its first words is no text; what may just be a sign is.
        if final and ">" not in begun and _CLOSE not in begun:
            kept = 0
        self._say(parts, self._buffer[: len(self._buffer) - kept])
        self._buffer = self._buffer[len(self._buffer) - kept :]
        return False

    def _without_separator(self, before: str) -> str:
        """``before`` without what the template puts between text and a call."""
        if not self._said and before == self._form.opening:
            return ""
        after_text = self._form.lead_after_text
        if after_text is None or not (before or self._said):
            return before
        return before.removesuffix(after_text.removesuffix(self._form.lead))

    def _held(self) -> int:
        """How many characters at the end may belong to a call."""
        if not self._begins_anywhere and self._said:
            return 0
        texts = [self._form.lead, self._form.lead_after_text or ""]
        if not self._said:
            texts.append(self._form.opening + self._form.lead)
        most = min(len(self._buffer), max(map(len, texts)))
        ends = (self._buffer[-n:] for n in range(most, 0, -1))
        held = next((end for end in ends if any(t.startswith(end) for t in texts)), "")
        if not self._begins_anywhere:
            return len(held) if len(held) == len(self._buffer) else 0
        return len(held)

    def _name(self, parts: list[Part], final: bool) -> bool:
        found = _NAME.match(self._buffer)
        assert found is not None, "the pattern matches nothing as well"
        name, rest = found[0], self._buffer[found.end() :]
        if not final and (
            not rest or (self._form.name_end.startswith(rest) and rest != self._form.name_end)
        ):
            return False
        if final and self._form.name_end.startswith(rest):
            return False  # it was cut in its name
        if name not in self._tools or not rest.startswith(self._form.name_end):
            return self._not_a_call(parts)
        self._raw = ""
        self._buffer = rest.removeprefix(self._form.name_end)
        self._say(parts, "", final=True)
        place = self.num_calls - self._num_spelled
        parts.append(ToolCallDelta(self.num_calls, self._ids[place % len(self._ids)], name))
        self.num_calls += 1
        self._arguments = (
            _JsonReader()
            if isinstance(self._form.arguments, JsonArguments)
            else _TaggedReader(self._form.arguments, self._tools[name].parameters)
        )
        self._state = self._call
        return True

    def _not_a_call(self, parts: list[Part]) -> bool:
        """Back to text, with what was taken for the beginning of a call."""
        self._say(parts, self._raw)
        self._raw = ""
        self._state = self._text
        return True

    def _call(self, parts: list[Part], final: bool) -> bool:
        assert self._arguments is not None, "a call has arguments"
        written, self._buffer = self._arguments.push(self._buffer, final=final)
        if written:
            parts.append(ToolCallDelta(self.num_calls - 1, arguments=written))
        if not self._arguments.is_done:
            return False
        self._state = self._after
        return True

    def _after(self, parts: list[Part], final: bool) -> bool:
        """After the arguments of a call: another one, or the end."""
        del parts, final
        form = self._form
        own_id = "" if form.id_lead is None else form.id_lead + self._own_id
        between = None if form.between is None else own_id + form.between
        if between is not None and self._buffer.startswith(between):
            self._buffer = self._buffer.removeprefix(between)
            self._state = self._name
            return True
        ends = (form.end, form.end_of_many)
        self._is_whole = any(self._buffer == own_id + end for end in ends if end is not None)
        return False

    @property
    def _own_id(self) -> str:
        """That of the last call in the template's spelling."""
        return self._ids[self.num_calls - self._num_spelled - 1]

    def _say(self, parts: list[Part], text: str, *, final: bool = False) -> None:
        """Text, unless it is a call in another spelling. ``final``: no more text follows."""
        self._said |= bool(text)
        text = without_marks(text)
        if self._spelled is None:
            parts.append(text)
            return
        for part in self._spelled.push(text, final=final):
            if isinstance(part, str):
                parts.append(part)
            elif self.num_calls < self._max_calls:
                own_id = self._ids[-1 - self._num_spelled]
                parts.append(ToolCallDelta(self.num_calls, own_id, part.name))
                parts.append(ToolCallDelta(self.num_calls, arguments=part.arguments))
                self.num_calls += 1
                self._num_spelled += 1


class _JsonReader:
    """One JSON object, as it is written."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._escaped = False
        self.is_done = False

    def push(self, text: str, *, final: bool) -> tuple[str, str]:
        """What of ``text`` belongs to the object, and what comes after it."""
        del final
        for place, character in enumerate(text):
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif character == "\\":
                    self._escaped = True
                elif character == '"':
                    self._in_string = False
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if not self._depth:
                    self.is_done = True
                    return text[: place + 1], text[place + 1 :]
        return text, ""


class _TaggedReader:
    """Values between tags, as a JSON object. Strings are told by the schema."""

    def __init__(self, form: TaggedArguments, schema: Mapping[str, Any]) -> None:
        self._form, self._properties = form, schema.get("properties", {})
        self._num_read = 0
        self.is_done = False

    def push(self, text: str, *, final: bool) -> tuple[str, str]:
        written = ""
        form = self._form
        while not self.is_done:
            if not text.startswith(form.lead):
                if form.lead.startswith(text) and not final:
                    return written, text
                self.is_done = True
                return written + ("}" if self._num_read else "{}"), text
            key, found, rest = text.removeprefix(form.lead).partition(form.key_end)
            value, ended, rest = rest.partition(form.value_end)
            if not (found and ended):
                return written, text
            written += ", " if self._num_read else "{"
            written += f"{json.dumps(key)}: {self._value(key, value)}"
            self._num_read += 1
            text = rest
        return written, text

    def _value(self, key: str, text: str) -> str:
        schema = self._properties.get(key)
        kind = schema.get("type") if isinstance(schema, dict) else None
        if kind in ("boolean", "null", "integer", "number", "array", "object"):
            if text in _PYTHON:
                return json.dumps(_PYTHON[text])
            try:
                return json.dumps(json.loads(text), ensure_ascii=False)
            except ValueError:
                pass
        return json.dumps(text, ensure_ascii=False)


def _spelled_form(form: CallFormat, tokens: Mapping[str, int]) -> CallFormat:
    def maybe(text: str | None) -> str | None:
        return None if text is None else spelled(text, tokens)

    arguments = form.arguments
    if isinstance(arguments, TaggedArguments):
        arguments = replace(
            arguments,
            lead=spelled(arguments.lead, tokens),
            key_end=spelled(arguments.key_end, tokens),
            value_end=spelled(arguments.value_end, tokens),
        )
    return replace(
        form,
        arguments=arguments,
        opening=spelled(form.opening, tokens),
        lead=spelled(form.lead, tokens),
        lead_after_text=maybe(form.lead_after_text),
        name_end=spelled(form.name_end, tokens),
        between=maybe(form.between),
        end=spelled(form.end, tokens),
        end_of_many=maybe(form.end_of_many),
        id_lead=maybe(form.id_lead),
    )


def control_tokens_of(form: CallFormat, special_tokens: Mapping[str, int]) -> dict[str, int]:
    """Those of ``special_tokens`` that are in the texts of ``form``."""
    return {token: number for token, number in special_tokens.items() if _holds(form, token)}


def _holds(form: CallFormat, token: str) -> bool:
    texts: Collection[str | None] = (
        *(form.opening, form.lead, form.lead_after_text, form.name_end, form.between, form.end),
        *(form.end_of_many, form.id_lead),
        *(
            ()
            if isinstance(form.arguments, JsonArguments)
            else (form.arguments.lead, form.arguments.key_end, form.arguments.value_end)
        ),
    )
    return any(token in text for text in texts if text)
