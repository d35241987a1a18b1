"""YAML of which only what settings need is read, so that nothing can be misread, unfold without
end, or take more than seconds. Does not cover files, nor what the settings mean."""

from __future__ import annotations

import re
from typing import Any

import yaml

from lmstack.core.errors import FormatError, shown

__all__ = ["parse_yaml"]

MAX_CHARS, MAX_VALUES = 1 << 20, 20_000


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML of which only what a recipe needs means more than text: true and false, null, whole
    numbers of up to 100 digits and decimal fractions, 1e-4 too. So ``no`` is a word, a date a name,
    and 010 ten. A key that stands twice and an alias (``*name``) are errors."""

    values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event, self.values = self.peek_event(), self.values + 1
        problem = f"it has more than {MAX_VALUES:,} keys and values"
        if isinstance(event, yaml.events.AliasEvent):
            problem = f"it has the alias *{event.anchor}: write the value out"
        elif self.values <= MAX_VALUES:
            return super().compose_node(parent, index)
        raise yaml.MarkedYAMLError(None, None, problem, event.start_mark)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if (name := str(key.value)) in seen:
                problem = f"{shown(name)} stands twice"
                raise yaml.MarkedYAMLError(None, None, problem, key.start_mark)
            seen.add(name)
        return dict(super().construct_mapping(node, deep))


_Loader.yaml_implicit_resolvers = {}
_SIGNED = list("-+0123456789")
for _tag, _pattern, _first in (
    ("null", r"^(null|~|)$", ["n", "~", ""]),
    ("bool", r"^(true|false)$", list("tf")),
    ("int", r"^[-+]?\d{1,100}$", _SIGNED),
    ("float", r"^[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$", [*_SIGNED, "."]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: float(node.value))


def parse_yaml(text: str, source: str) -> Any:
    """The value in ``text``; `FormatError` with ``source`` and the line where it is not YAML."""
    try:
        if len(text) > MAX_CHARS:
            raise yaml.YAMLError(f"it has {len(text):,} characters, at most {MAX_CHARS:,}")
        return _Loader(text).get_single_data()
    except RecursionError as error:
        raise FormatError(f"{source} is nested too deep", hint="key: value, by line") from error
    except yaml.YAMLError as error:
        reason = str(getattr(error, "problem", None) or error)
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark is not None else source
        raise FormatError(f"{place} is not YAML: {reason}", hint="key: value, by line") from error
