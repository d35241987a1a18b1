"""What stands in a task file and in its data: templates, rows, choices, forms, scorers' files.

A template is text with ``{{fields}}`` of a row in it, and nothing else: no logic, no filters. A
value is put in once, as it is: braces in it stay braces. ``\\{{`` writes two braces. Rows are one
JSON object a line, or a text file, whole or in parts. Not covered: the file as a whole
(`task_file`), and data of benchmarks (`benchmarks.data_files`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, Grammar, InputError, NotFoundError, check_text, nearest, shown
from lmstack.core.files import store_error
from lmstack.prompting import form_of

__all__ = [
    "MAX_BYTES",
    "TEXT_SUFFIX",
    "InputTemplate",
    "constant_choices",
    "form_grammar",
    "numbered_rows",
    "read_text",
    "scorer_beside",
    "value_text",
]

_FORMS = {"schema": "schema: {type: object, ...}", "choices": "choices: [spam, ham]"}
_SLOT = re.compile(r"\\?\{\{(?:\s*([^{}\s][^{}]*?)\s*\}\})?")
MAX_BYTES = 1 << 30
TEXT_SUFFIX = ".txt"


def constant_choices(choices: Sequence[Any]) -> tuple[str, ...]:
    """Choices that are the same for each row."""
    for choice in choices:
        if not isinstance(choice, str):
            raise InputError(
                f"choices has {shown(choice)}, not text",
                hint='in YAML a word such as yes, or a number, is text in quotes: "yes"',
                param="choices",
            )
        check_text("a choice", choice)
    if len(choices) < 2 or len(set(choices)) < len(choices) or "" in choices:
        raise InputError(
            f"choices is {shown(list(choices))}",
            hint="give two or more different texts, or the name of the field that holds them",
            param="choices",
        )
    return tuple(choices)


def scorer_beside(scorer: Any, folder: Path) -> Any:
    """``scorer`` with the Python files that it names in ``folder``."""
    if isinstance(scorer, list | tuple):
        return [scorer_beside(each, folder) for each in scorer]
    if isinstance(scorer, Mapping) and isinstance(scorer.get("file"), str):
        return {**scorer, "file": str(folder / scorer["file"])}
    return scorer


def form_grammar(wanted: Mapping[str, Any] | None) -> Grammar | None:
    """Of the form that answers are held to: its keys are those of prompt files."""
    if wanted is None:
        return None
    known = ("schema", "choices", "pattern")
    key = next(iter(wanted)) if len(wanted) == 1 else None
    if key not in known:
        guess = nearest(str(key), known) if key is not None else None
        raise InputError(
            f"form is {shown(dict(wanted))}",
            hint=f"did you mean {guess!r}?" if guess else f"give one of {', '.join(known)}",
            param="form",
        )
    value = wanted[key]
    if key == "pattern":
        check_text("pattern", value)
        return Grammar("regex", value)
    if not isinstance(value, Mapping if key == "schema" else list):
        raise InputError(
            f"{key} of form is {shown(value)}", hint=f"form: {{{_FORMS[key]}}}", param="form"
        )
    return form_of(value).grammar


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


def numbered_rows(path: Path, separator: str) -> list[tuple[int, str]]:
    """The rows of ``path`` with their numbers, from 1; of a text file its parts."""
    text = read_text(path, "data")
    if path.suffix == TEXT_SUFFIX:
        rows = text.split(separator) if separator else [text]
    else:
        rows = text.split("\n")
    return [(number, row) for number, row in enumerate(rows, 1) if row.strip()]


def read_text(path: Path, what: str) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has more than {MAX_BYTES:,} bytes", param="data")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        beside = [each.name for each in path.parent.glob(f"*{path.suffix}")]
        guess = nearest(path.name, beside)
        raise NotFoundError(
            f"there is no {path}, which should be {what}",
            hint=f"did you mean {path.with_name(guess)}?" if guess else "check the path",
        ) from None
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise store_error(error, path, "reading") from error
