"""Text with ``{{fields}}`` of a row in it, and nothing else: no logic, no filters.

A value is put in once, as it is: braces in it stay braces. ``\\{{`` writes two braces. Not covered:
which turns a prompt has (`task_file`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lmstack.core import InputError, check_text, nearest, shown

__all__ = ["InputTemplate", "value_text"]

_SLOT = re.compile(r"\\?\{\{(?:\s*([^{}\s][^{}]*?)\s*\}\})?")


@dataclass(frozen=True)
class InputTemplate:
    text: str

    def __post_init__(self) -> None:
        check_text("input", self.text)
        for slot in _SLOT.finditer(self.text):
            if slot[1] is None and not slot[0].startswith("\\"):
                start = slot.start()
                raise InputError(
                    f"the template has {shown(self.text[start : start + 20])}",
                    hint="write {{field}}, with a name and nothing else, or \\{{ for two braces",
                    param="input",
                )

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The names in it, each once, in their order."""
        slots = _SLOT.finditer(self.text)
        names = [slot[1] for slot in slots if slot[1] and not slot[0].startswith("\\")]
        return tuple(dict.fromkeys(names))

    def render(self, row: Mapping[str, Any]) -> str:
        """`InputError` where ``row`` lacks a field, or has null or a list in it."""

        def put(slot: re.Match[str]) -> str:
            if slot[0].startswith("\\"):
                return slot[0][1:]
            return value_text(row, slot[1])

        return _SLOT.sub(put, self.text)


def value_text(row: Mapping[str, Any], name: str) -> str:
    """The field ``name`` of ``row`` as text. Numbers and truth values are as JSON has them."""
    if name not in row:
        guess = nearest(name, row)
        hint = f"did you mean {guess!r}?" if guess else f"it has {', '.join(row) or 'no fields'}"
        raise InputError(f"there is no field {shown(name)}", hint=hint, param=name)
    value = row[name]
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise InputError(f"the field {name} is {shown(value)}, not text", param=name)
