"""What an answer to a prompt is worth beside the output that is right.

    exact      says the same, whatever its case, punctuation and way to write a number
    contains   the output stands in it
    regex      the output, a pattern, matches somewhere in it
    json       is JSON of the prompt's schema, and equal to the output where there is one

Does not cover who answers (`prompt_tests`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from lmstack.core import InputError, nearest, shown
from lmstack.core.json_text import parse_json
from lmstack.evals.metrics.json_match import json_matches
from lmstack.prompting import AnswerForm, normalized

__all__ = ["SCORERS", "check_scorer", "score"]

SCORERS = ("exact", "contains", "regex", "json")


def check_scorer(name: Any, output: str | None, place: str) -> None:
    """`InputError` unless ``name`` is a scorer, and can do with ``output``."""
    if name not in SCORERS:
        guess = nearest(str(name), SCORERS)
        raise InputError(
            f"{place} has the scorer {shown(name)}",
            hint=f"did you mean {guess!r}?" if guess else f"scorers are {', '.join(SCORERS)}",
            param="scorer",
        )
    if output is None and name != "json":
        raise InputError(
            f"{place} has no output, which the scorer {name} compares with",
            hint="add the output that is right, or use the scorer json",
            param="examples",
        )
    if name == "regex":
        try:
            re.compile(output or "")
        except re.error as error:
            raise InputError(
                f"{place} has the output {shown(output)}, which is no pattern: {error}",
                param="examples",
            ) from error
    if name == "json" and output is not None:
        try:
            parse_json(output)
        except ValueError as error:
            raise InputError(
                f"{place} has the output {shown(output)}, which is not JSON: {error}",
                hint="write it as JSON, or use another scorer",
                param="examples",
            ) from error


def score(
    scorer: str, answer: Any, output: str | None, form: AnswerForm[Any] | None = None
) -> bool:
    """Whether ``answer``, a value of ``form`` or text, is right; None is not."""
    if answer is None:
        return False
    if scorer == "json":
        return json_matches(answer, output, form)
    assert output is not None
    if not isinstance(answer, str):
        answer = json.dumps(answer, ensure_ascii=False)
    return _TEXT_SCORERS[scorer](answer, output)


_TEXT_SCORERS: Mapping[str, Callable[[str, str], bool]] = {
    "exact": lambda answer, output: normalized(answer) == normalized(output),
    "contains": lambda answer, output: _flat(output) in _flat(answer),
    "regex": lambda answer, output: re.search(output, answer) is not None,
}


def _flat(text: str) -> str:
    return " ".join(text.casefold().split())
