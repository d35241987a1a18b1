"""A YAML file of settings: recipes, and principles.

``key=value`` changes a setting, with dots for nested keys. Recipes that lmstack brings are found by
their names, wherever it is installed. Does not cover what the settings mean,
nor what of YAML is read (`lmstack.core.yaml_text`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, InputError, NotFoundError, nearest, shown
from lmstack.core.files import store_error
from lmstack.core.yaml_text import parse_yaml

__all__ = ["RECIPES", "read_settings", "shipped_recipes"]

# In a clone a link to recipes/.
RECIPES = Path(__file__).parents[1] / "recipes"


def read_settings(
    path: Path | str, overrides: Sequence[str] = (), what: str = "recipe"
) -> dict[str, Any]:
    """The settings in the YAML file ``path``, changed by ``overrides`` (``key=value``). ``what``
    the file is, for messages; a recipe may be one of `shipped_recipes`, by its name or as
    ``recipes/NAME.yaml``."""
    values = _mapping(_shipped(Path(path)) if what == "recipe" else Path(path), what)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise InputError(
                f"{shown(override)} is not key=value", hint="lr=1e-4", param="overrides"
            )
        _set(values, key.split("."), parse_yaml(text, override))
    return values


def shipped_recipes() -> dict[str, str]:
    """The recipes that lmstack brings: by name, the first sentence of each."""
    return {
        file.stem: _first_sentence(file.read_text(encoding="utf-8"))
        for file in sorted(RECIPES.glob("*.yaml"))
    }


def _first_sentence(recipe: str) -> str:
    """Of the comment that it begins with, up to the command in it."""
    lines = takewhile(lambda line: re.match(r"# \S", line), recipe.splitlines())
    return " ".join(line.removeprefix("# ") for line in lines).partition(". ")[0].rstrip(".")


def _shipped(path: Path) -> Path:
    """``path``, or where it is none the recipe of that name."""
    named = path in (Path(path.stem), Path("recipes", f"{path.stem}.yaml"))
    file = RECIPES / f"{path.stem}.yaml"
    return file if named and not path.is_file() and file.is_file() else path


def _mapping(path: Path, what: str) -> dict[str, Any]:
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise _absent(path, what) from None
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError):
            raise store_error(error, path, "reading") from error
        raise FormatError(f"{path} is not UTF-8 text (byte {error.start})") from error
    if not isinstance(values, dict):
        raise FormatError(f"{path} holds {shown(values)}, not settings", hint="key: value, by line")
    return values


def _absent(path: Path, what: str) -> NotFoundError:
    beside = [file.stem for file in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    guess = nearest(path.stem, beside)
    meant = str(path.with_name(f"{guess}.yaml")) if guess else None
    if meant is None and what == "recipe":
        meant = nearest(path.stem, shipped_recipes())
    return NotFoundError(
        f"there is no {what} {path}",
        hint=f"did you mean {meant}?"
        if meant
        else f"a {what} is a YAML file; lmstack train --list names recipes",
    )


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = values.get(key)
        if not isinstance(inner, dict):
            inner = {"name": inner} if key == "objective" and isinstance(inner, str) else {}
            values[key] = inner
        values = inner
    values[keys[-1]] = value
