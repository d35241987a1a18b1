"""A YAML file of settings: recipes, and principles.

``key=value`` changes a setting, with dots for nested keys. Does not cover what the settings mean,
nor what of YAML is read (`lmstack.core.yaml_text`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, InputError, NotFoundError, nearest, shown
from lmstack.core.files import store_error
from lmstack.core.yaml_text import parse_yaml

__all__ = ["read_settings"]


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
        _set(values, key.split("."), parse_yaml(text, override))
    return values


def _mapping(path: Path, what: str) -> dict[str, Any]:
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
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


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = values.get(key)
        if not isinstance(inner, dict):
            inner = {"name": inner} if key == "objective" and isinstance(inner, str) else {}
            values[key] = inner
        values = inner
    values[keys[-1]] = value
