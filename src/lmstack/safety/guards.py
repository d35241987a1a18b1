"""Checks on text on its way in: small functions from a text to what was found in it.

A guard takes one text and returns findings; an empty result lets the text pass. `GUARDS` holds
those that exist by name, so a configuration can list them. What is here needs no model and has
no opinion about the subject: text that cannot be encoded, that drives a terminal, or that a
person cannot see but a model reads. Personal data, prompt injection and the like do not belong
to these and are not claimed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lmstack.core import InputError, nearest, shown

__all__ = [
    "GUARDS",
    "Finding",
    "Guard",
    "control_characters",
    "guards_named",
    "hidden_text",
    "invalid_unicode",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """``what`` says what is wrong without quoting the text, ``start`` and ``end`` say where, in
    characters."""

    guard: str
    what: str
    start: int
    end: int


Guard = Callable[[str], list[Finding]]

# Tabs, line ends and form feeds are text. The rest of C0, DEL and C1 (NEL is a line end too)
# move cursors, ring bells and start escape sequences.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]+")
_SURROGATE = re.compile("[\ud800-\udfff]+")
# Tag characters spell invisible ASCII. Their one use is the flag of a region: a black flag, up
# to six tag letters or digits, and a cancel tag (Unicode TR51, ED-14a).
_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f")
_TAGS = re.compile("[\U000e0000-\U000e007f]+")


def invalid_unicode(text: str) -> list[Finding]:
    """Half of a surrogate pair: no encoding has it, so no tokenizer can read it."""
    return [
        Finding("invalid_unicode", f"half a surrogate pair U+{ord(m[0][0]):04X}", *m.span())
        for m in _SURROGATE.finditer(text)
    ]


def control_characters(text: str) -> list[Finding]:
    """Control characters other than white space."""
    return [
        Finding("control_characters", f"the control character U+{ord(m[0][0]):04X}", *m.span())
        for m in _CONTROL.finditer(text)
    ]


def hidden_text(text: str) -> list[Finding]:
    """Unicode tag characters outside of a flag: instructions that only the model sees."""
    flags = [m.span() for m in _FLAG.finditer(text)]
    return [
        Finding("hidden_text", f"{m.end() - m.start()} invisible tag characters", *m.span())
        for m in _TAGS.finditer(text)
        if not any(start < m.start() and m.end() == end for start, end in flags)
    ]


GUARDS: Mapping[str, Guard] = MappingProxyType(
    {
        "invalid_unicode": invalid_unicode,
        "control_characters": control_characters,
        "hidden_text": hidden_text,
    }
)


def guards_named(names: Iterable[str]) -> dict[str, Guard]:
    """The guards with these names, in order; an unknown one is an `InputError`."""
    found = {}
    for name in names:
        if name not in GUARDS:
            guess = nearest(name, GUARDS)
            raise InputError(
                f"there is no guard {shown(name)}",
                hint=f"did you mean {guess!r}?" if guess else f"known: {', '.join(GUARDS)}",
                param="guards",
            )
        found[name] = GUARDS[name]
    return found
