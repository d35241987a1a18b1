"""A YAML file of settings: recipes, and principles.

Of YAML only what settings need is read, so that nothing can be misread and nothing can unfold
without end. ``key=value`` changes a setting, with dots for nested keys. Does not cover what the
settings mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lmstack.core import FormatError, InputError, NotFoundError, nearest, shown
from lmstack.core.files import store_error

__all__ = ["read_settings"]


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML of which only what a recipe needs means more than text: true and false, null, whole
    numbers and decimal fractions, 1e-4 too. So ``no`` is a word, a date a name, and 010 ten. A key
    that stands twice and an alias (``*name``), which can unfold without end, are errors."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem=f"it has the alias *{event.anchor}: write the value out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{shown(key.value)} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


_Loader.yaml_implicit_resolvers = {}
_SIGNED = list("-+0123456789")
for _tag, _pattern, _first in (
    ("null", r"^(null|~|)$", ["n", "~", ""]),
    ("bool", r"^(true|false)$", list("tf")),
    ("int", r"^[-+]?\d+$", _SIGNED),
    ("float", r"^[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$", [*_SIGNED, "."]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: float(node.value))


def read_settings(
    path: Path | str, overrides: Sequence[str] = (), what: str = "recipe"
) -> dict[str, Any]:
    """The settings in the YAML file ``path``, changed by ``overrides`` (``key=value``). ``what``
    the file is, for messages."""
    values = _mapping(Path(path), what)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise InputError(
                f"{shown(override)} is not key=value", hint="lr=1e-4", param="overrides"
            )
        _set(values, key.split("."), _parsed(text, override))
    return values


def _mapping(path: Path, what: str) -> dict[str, Any]:
    try:
        values = _parsed(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        beside = [file.stem for file in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        guess = nearest(path.stem, beside)
        raise NotFoundError(
            f"there is no {what} {path}",
            hint=f"did you mean {path.with_name(guess + '.yaml')}?"
            if guess
            else f"a {what} is a YAML file, such as recipes/sft-lora.yaml",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError):
            raise store_error(error, path, "reading") from error
        raise FormatError(f"{path} is not UTF-8 text (byte {error.start})") from error
    if not isinstance(values, dict):
        raise FormatError(f"{path} holds {shown(values)}, not settings", hint="key: value, by line")
    return values


def _parsed(text: str, source: str) -> Any:
    try:
        return _Loader(text).get_single_data()
    except RecursionError as error:
        raise FormatError(f"{source} is nested too deep", hint="key: value, by line") from error
    except yaml.YAMLError as error:
        reason = str(getattr(error, "problem", None) or error)
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark is not None else source
        raise FormatError(f"{place} is not YAML: {reason}", hint="key: value, by line") from error


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = values.get(key)
        if not isinstance(inner, dict):
            inner = {"name": inner} if key == "objective" and isinstance(inner, str) else {}
            values[key] = inner
        values = inner
    values[keys[-1]] = value
