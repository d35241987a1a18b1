"""YAML of which only what settings need is read, so that nothing can be misread, nothing can unfold
without end, and no text takes more than seconds. Does not cover files, nor what the settings mean.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from lmstack.core.errors import FormatError, shown

__all__ = ["parse_yaml"]

MAX_CHARS, MAX_VALUES = 1 << 20, 20_000
# Python takes time by the square of the digits to read a number, and refuses one of over 4,300.
MAX_DIGITS = 100


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML of which only what a recipe needs means more than text: true and false, null, whole
    numbers and decimal fractions, 1e-4 too. So ``no`` is a word, a date a name, and 010 ten. A key
    that stands twice or is no word, and an alias (``*name``), which can unfold without end, are
    errors."""

    values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem=f"it has the alias *{event.anchor}: write the value out",
                problem_mark=event.start_mark,
            )
        self.values += 1
        if self.values > MAX_VALUES:
            raise yaml.MarkedYAMLError(
                problem=f"it has more than {MAX_VALUES:,} keys and values",
                problem_mark=self.peek_event().start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="a key is a list or a mapping", problem_mark=key.start_mark
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{shown(key.value)} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found

    def construct_number(self, node: Any) -> int | float:
        if len(node.value) > MAX_DIGITS:
            raise yaml.MarkedYAMLError(
                problem=f"a number has {len(node.value):,} digits, at most {MAX_DIGITS}",
                problem_mark=node.start_mark,
            )
        return int(node.value) if node.tag.endswith(":int") else float(node.value)


_Loader.yaml_implicit_resolvers = {}
_SIGNED = list("-+0123456789")
for _tag, _pattern, _first in (
    ("null", r"^(null|~|)$", ["n", "~", ""]),
    ("bool", r"^(true|false)$", list("tf")),
    ("int", r"^[-+]?\d+$", _SIGNED),
    ("float", r"^[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$", [*_SIGNED, "."]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


def parse_yaml(text: str, source: str) -> Any:
    """The value in ``text``; `FormatError` with ``source`` and the line where it is not YAML, or is
    longer than settings are."""
    if len(text) > MAX_CHARS:
        raise FormatError(
            f"{source} has {len(text):,} characters, and settings at most {MAX_CHARS:,}",
            hint="keep data in a file of its own",
        )
    try:
        return _Loader(text).get_single_data()
    except RecursionError as error:
        raise FormatError(f"{source} is nested too deep", hint="key: value, by line") from error
    except yaml.YAMLError as error:
        reason = str(getattr(error, "problem", None) or error)
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark is not None else source
        raise FormatError(f"{place} is not YAML: {reason}", hint="key: value, by line") from error
