"""Text with ``{{variables}}``, and what may stand in their place.

Nothing but a name stands between the braces: this is no template engine, and a value that holds
braces is put in as it is. ``\\{{`` writes two braces. Does not cover which turns a prompt has
(`template`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lmstack.core import (
    Config,
    InputError,
    Prompt,
    Span,
    check_text,
    nearest,
    shown,
)

__all__ = ["PromptSlots", "Variable", "check_values"]

Kind = Literal["text", "integer", "number", "boolean", "choice"]
KINDS = ("text", "integer", "number", "boolean", "choice")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Columns of examples that are no variables.
RESERVED = ("output", "reasoning", "label", "scorer", "answers")
_SLOT = re.compile(r"\\?\{\{(?:\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\})?")


@dataclass(frozen=True)
class Variable(Config):
    """``untrusted``: text that others wrote, which is fenced as data. ``choices``: of the kind
    ``choice``. ``default``: what stands where no value is given; without one a value has to be."""

    type: Kind = "text"
    untrusted: bool = False
    description: str = ""
    choices: tuple[str, ...] = ()
    default: Any = None

    def __post_init__(self) -> None:
        if self.type not in KINDS:
            guess = nearest(str(self.type), KINDS)
            raise InputError(
                f"a variable has the type {shown(self.type)}",
                hint=f"did you mean {guess!r}?" if guess else f"types are {', '.join(KINDS)}",
                param="type",
            )
        if not isinstance(self.untrusted, bool):
            raise InputError(f"untrusted is {shown(self.untrusted)}, not true or false")
        check_text("a description", self.description)
        if self.untrusted and self.type != "text":
            raise InputError(
                f"a variable of the type {self.type} is untrusted",
                hint="its values are checked; only text can say what it wants",
                param="untrusted",
            )
        if not isinstance(self.choices, list | tuple):
            raise InputError(f"choices are {shown(self.choices)}, not a list", param="choices")
        for choice in self.choices:
            check_text("a choice", choice)
        object.__setattr__(self, "choices", tuple(self.choices))
        if (self.type == "choice") != bool(self.choices):
            raise InputError(
                f"a variable of the type {self.type} has {len(self.choices)} choices",
                hint="type: choice, choices: [...]",
                param="choices",
            )
        if self.default is not None:
            self.check("a default", self.default)

    def check(self, name: str, value: Any) -> None:
        """`InputError` unless ``value`` is of the type."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        right = {
            "text": isinstance(value, str),
            "integer": is_number and isinstance(value, int),
            "number": is_number and value == value and abs(value) != float("inf"),
            "boolean": isinstance(value, bool),
            "choice": value in self.choices,
        }[self.type]
        if not right:
            kind = f"one of {', '.join(self.choices)}" if self.choices else self.type
            raise InputError(f"{name} is {shown(value)}, not {kind}", param=name)
        if isinstance(value, str):
            check_text(name, value)

    def parsed(self, name: str, text: str) -> Any:
        """The value that is typed as ``text``."""
        if self.type in ("text", "choice"):
            return text
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise InputError(f"{name} is {shown(text)}, not {self.type}", param=name) from None


@dataclass(frozen=True)
class PromptSlots:
    """A text and the variables in it, in order: texts stand at even places, names at odd ones."""

    parts: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> PromptSlots:
        check_text("the text of a prompt", text)
        parts, place = [""], 0
        for match in _SLOT.finditer(text):
            parts[-1] += text[place : match.start()]
            place = match.end()
            if match[0].startswith("\\"):
                parts[-1] += match[0][1:]
            elif match[1] is None:
                near = text[match.start() : match.start() + 24]
                raise InputError(
                    f"the prompt holds {shown(near)}, which is no variable",
                    hint="write {{name}}, with a name and nothing else, or \\{{ for two braces",
                )
            else:
                parts += [match[1], ""]
        parts[-1] += text[place:]
        return cls(tuple(parts))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.parts[1::2]))

    def fill(self, values: Mapping[str, Any], variables: Mapping[str, Variable]) -> Prompt:
        """The prompt with ``values``; each that is untrusted is a span of its own."""
        spans: list[Span] = []
        for place, part in enumerate(self.parts):
            if not place % 2:
                spans += [Span(part)] if part else []
                continue
            value, is_untrusted = values[part], variables[part].untrusted
            text = value if isinstance(value, str) else json.dumps(value)
            spans.append(Span(text, untrusted=is_untrusted, label=part))
        return Prompt(tuple(spans))


def check_values(
    values: Mapping[str, Any], variables: Mapping[str, Variable], what: str = "the prompt"
) -> dict[str, Any]:
    """``values`` of ``what``, defaults included, in the order of ``variables``; `InputError` where
    one is missing, is none of the variables, or is of another type."""
    for name in values:
        if name not in variables:
            guess = nearest(str(name), variables)
            known = ", ".join(variables) or "none"
            raise InputError(
                f"{what} has no variable {shown(name)}",
                hint=f"did you mean {guess!r}?" if guess else f"its variables: {known}",
                param=str(name),
            )
    found = {}
    missing = []
    for name, variable in variables.items():
        value = values.get(name, variable.default)
        if value is None:
            missing.append(name)
            continue
        variable.check(name, value)
        found[name] = value
    if missing:
        raise InputError(
            f"{what} lacks a value for {', '.join(missing)}",
            hint=f"give {missing[0]} a value",
            param=missing[0],
        )
    return found
