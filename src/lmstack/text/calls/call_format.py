"""How calls of tools are written in one model's language.

A turn with calls is a few fixed texts around names and arguments:

    opening TEXT lead NAME name_end ARGUMENTS (between NAME name_end ARGUMENTS)* end

Covers writing such a turn. Does not cover finding the texts (`probe`), reading (`reader`), or
formats in which a name comes after its arguments.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lmstack.core import ToolCall

__all__ = ["CallFormat", "JsonArguments", "TaggedArguments"]


@dataclass(frozen=True, slots=True)
class JsonArguments:
    """Arguments as one JSON object. The separators are those that the template writes."""

    item_separator: str = ", "
    key_separator: str = ": "

    def written(self, arguments: str) -> str:
        value = json.loads(arguments)
        separators = (self.item_separator, self.key_separator)
        return json.dumps(value, ensure_ascii=False, separators=separators)


@dataclass(frozen=True, slots=True)
class TaggedArguments:
    """Arguments one by one, each a text between tags: strings as they are, all else as JSON, or
    with Python's names of True, False and None.

        (lead KEY key_end VALUE value_end)*
    """

    lead: str
    key_end: str
    value_end: str
    python_names: bool = False

    def written(self, arguments: str) -> str:
        return "".join(
            f"{self.lead}{key}{self.key_end}{self._value(value)}{self.value_end}"
            for key, value in json.loads(arguments).items()
        )

    def _value(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        if self.python_names and (value is None or isinstance(value, bool)):
            return str(value)
        return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class CallFormat:
    """``lead``, ``name_end``, ``between``, ``end``: see above. ``opening``: what every turn begins
    with, such as the end of thoughts. ``lead_after_text``: the lead where the turn says something
    before its calls; None: a turn that calls says nothing else. ``id_lead``: what stands
    between the arguments and the id of a call, where the model writes ids. ``end_of_many``: the
    end after more than one call. ``max_calls``: of one turn; None: any number.

    ``arguments_as``: what the template wants as arguments, a value or JSON text.
    ``empty_content``: what it wants as the content of a turn that says nothing.
    """

    lead: str
    name_end: str
    end: str
    arguments: JsonArguments | TaggedArguments = JsonArguments()
    opening: str = ""
    lead_after_text: str | None = None
    between: str | None = None
    end_of_many: str | None = None
    id_lead: str | None = None
    max_calls: int | None = None
    arguments_as: Literal["value", "text"] = "value"
    empty_content: str | None = ""

    def written(self, calls: Sequence[ToolCall], content: str = "") -> str:
        """The turn as the model would write it, without what ends a turn."""
        if not calls:
            return self.opening + content
        lead = self.lead_after_text if content else self.lead
        assert lead is not None, "this format has no text before calls"
        texts = []
        for call in calls:
            arguments = self.arguments.written(call.arguments)
            own_id = "" if self.id_lead is None else self.id_lead + call.id
            texts.append(call.name + self.name_end + arguments + own_id)
        end = self.end if len(calls) == 1 or self.end_of_many is None else self.end_of_many
        return self.opening + content + lead + (self.between or "").join(texts) + end
