"""Values of a task file that stand for something else: choices that are the same for each row, the
form of what is generated, and a scorer's Python file. Not covered: the file as a whole
(`task_file`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmstack.core import Grammar, InputError, check_text, nearest, shown
from lmstack.prompting import form_of

__all__ = ["constant_choices", "form_grammar", "scorer_beside"]

_FORMS = {"schema": "schema: {type: object, ...}", "choices": "choices: [spam, ham]"}


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
