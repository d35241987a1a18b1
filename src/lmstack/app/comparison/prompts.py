"""Prompts to compare two models on, from rows of any format that has one.

A conversation or an instruction with its answer is asked again without the answer. Not covered:
what the other columns mean; rewards read those.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmstack.core import InputError, LmstackError, Message
from lmstack.evals.answers import ModelAnswer
from lmstack.evals.diversity import words
from lmstack.train.data.formats import (
    messages_of,
    preference_of,
    prompt_of,
    refuse_tools,
    text_of,
)
from lmstack.train.data.rows import BadRow, Row, Rows, find_data

__all__ = ["AskedPrompt", "read_preferences", "read_prompts"]

_NOTED = 3
_PAIRS = 1000


@dataclass(frozen=True)
class AskedPrompt:
    """``row``: all columns of its data row."""

    messages: tuple[Message, ...]
    row: Mapping[str, Any]


def read_prompts(
    files: Sequence[str],
    most: int,
    *,
    seed: int = 0,
    param: str = "prompts",
    note: Callable[[str], None] = lambda _: None,
) -> list[AskedPrompt]:
    """``most`` different prompts of ``files`` at most, drawn by ``seed``. ``note`` is told what
    cannot be used. `InputError` where nothing can."""
    found: dict[str, AskedPrompt] = {}
    bad = 0
    for row in Rows(find_data(files)):
        prompt = _prompt(row)
        if isinstance(prompt, AskedPrompt):
            found.setdefault(json.dumps([(m.role, m.content) for m in prompt.messages]), prompt)
            continue
        bad += 1
        if bad <= _NOTED:
            note(f"left out {prompt}")
    if not found:
        raise InputError(
            f"there is no prompt in {', '.join(map(str, files))}",
            hint='rows such as {"prompt": "How do I ...?"}',
            param=param,
        )
    prompts = list(found.values())
    chosen = sorted(random.Random(seed).sample(range(len(prompts)), min(most, len(prompts))))
    return [prompts[i] for i in chosen]


def read_preferences(files: Sequence[str]) -> list[tuple[ModelAnswer, ModelAnswer]]:
    """What is chosen and what is rejected of the first pairs of ``files``, as text; a token is a
    word here. Empty where the rows are no pairs."""
    found: list[tuple[ModelAnswer, ModelAnswer]] = []
    for row in Rows(find_data(files)):
        if isinstance(row, BadRow) or "chosen" not in row.values:
            continue
        try:
            pair = preference_of(row)
        except LmstackError:
            continue  # the run's own report names it
        found.append((_answer(pair.chosen[-1].content), _answer(pair.rejected[-1].content)))
        if len(found) == _PAIRS:
            break
    return found


def _answer(text: str) -> ModelAnswer:
    return ModelAnswer(text, len(words(text)))


def _prompt(row: Row | BadRow) -> AskedPrompt | str:
    """The prompt of ``row``, or what is wrong with it."""
    if isinstance(row, BadRow):
        return f"{row.place}: {row.reason}"
    try:
        return AskedPrompt(tuple(_messages(row)), row.values)
    except LmstackError as error:
        return f"{row.place}: {error.message}"


def _messages(row: Row) -> list[Message]:
    """The conversation that is to be answered; `InputError` where there is none."""
    if row.values.get("prompt") is not None:
        return prompt_of(row)
    if "text" in row.values and len(row.values) == 1:
        return [Message("user", text_of(row))]
    if "chosen" in row.values:
        return list(preference_of(row).prompt)
    refuse_tools(row)
    turns = messages_of(row)
    while turns and turns[-1].role == "assistant":
        turns.pop()
    if not turns:
        raise InputError("the conversation has no turn to answer", hint="leave the row out")
    return turns
