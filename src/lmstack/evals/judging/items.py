"""What is judged: an answer, or two answers to one prompt, with what is known beside the judge; and
how a judge is shown it.

    {"prompt": "...", "answer": "...", "reference": "...", "label": 4, "source": "my-model"}
    {"prompt": "...", "first": "...", "second": "...", "label": "first",
     "first_source": "my-model", "second_source": "other"}

All but the prompt and the answers may be left out; other fields of a row are not looked at. A judge
is shown conversation, reference and answers, each fenced as data that is not trusted, and then the
question. A fence keeps data apart from instructions; it does not make the judge immune to what it
says. The question comes last and outside of any fence, so that by whichever criterion a prompt
begins alike, which a prefix cache can share. Not covered: reading files, and how replies are read
(`options`, `rubric`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lmstack.core import InputError, Message, Prompt, Span, check_text, shown

__all__ = ["Item", "Kind", "Label", "item_from_row", "presented"]

Kind = Literal["pair", "rubric", "label"]
Label = str | float
_SIDES = ("first", "second", "tie")


@dataclass(frozen=True)
class Item:
    """``answers``: one, or two to compare. ``reference``: an answer that is known to be right.
    ``label``: what people said: of two answers first, second or tie; of one a number or a name.
    ``sources``: which model wrote each answer, "" where that is not known. ``cluster``: items that
    share one are not independent; "" stands for the prompt."""

    prompt: tuple[Message, ...]
    answers: tuple[str, ...]
    id: str = ""
    reference: str | None = None
    label: Label | None = None
    sources: tuple[str, ...] = ()
    cluster: str = ""

    @property
    def is_pair(self) -> bool:
        return len(self.answers) == 2

    @property
    def group(self) -> str:
        """The cluster, or a hash of the prompt."""
        return self.cluster or _digest([[turn.role, turn.content] for turn in self.prompt])

    @property
    def key(self) -> str:
        """Of all that a judge sees, and of the id."""
        turns = [[turn.role, turn.content] for turn in self.prompt]
        return _digest([self.id, turns, list(self.answers), self.reference])

    @property
    def doublings(self) -> float:
        """log2 of the answer's length in characters; of two, by how much the first is longer."""
        logs = [math.log2(max(1, len(answer.strip()))) for answer in self.answers]
        return logs[0] - logs[1] if self.is_pair else logs[0]

    def to_json(self) -> dict[str, Any]:
        """The row that `item_from_row` reads."""
        turns = [{"role": turn.role, "content": turn.content} for turn in self.prompt]
        names = ("first", "second") if self.is_pair else ("answer",)
        row: dict[str, Any] = {"id": self.id} if self.id else {}
        row["prompt"] = turns
        row |= dict(zip(names, self.answers, strict=True))
        source_names = [f"{name}_source" if self.is_pair else "source" for name in names]
        row |= {source_names[n]: source for n, source in enumerate(self.sources) if source}
        more = {"reference": self.reference, "label": self.label, "cluster": self.cluster or None}
        return row | {name: value for name, value in more.items() if value is not None}


def item_from_row(row: Mapping[str, Any]) -> Item:
    """`InputError` that says which field is missing or wrong."""
    prompt = _prompt(row.get("prompt"))
    single, pair = "answer" in row, "first" in row or "second" in row
    if single == pair:
        raise InputError(
            "a row needs an answer, or a first and a second one to compare"
            if not single
            else "a row has an answer, and two to compare",
            hint='{"prompt": ..., "answer": ...} or {"prompt": ..., "first": ..., "second": ...}',
            param="file",
        )
    names = ("first", "second") if pair else ("answer",)
    sources = ("first_source", "second_source") if pair else ("source",)
    reference = None if row.get("reference") is None else _text(row, "reference")
    return Item(
        prompt=prompt,
        answers=tuple(_text(row, name) for name in names),
        id="" if row.get("id") is None else str(row["id"]),
        reference=reference,
        label=_label(row.get("label"), pair),
        sources=tuple("" if row.get(name) is None else _text(row, name) for name in sources),
        cluster="" if row.get("cluster") is None else str(row["cluster"]),
    )


def _prompt(value: Any) -> tuple[Message, ...]:
    if isinstance(value, str) and value.strip():
        return (Message("user", value),)
    if isinstance(value, list) and value and all(map(_is_turn, value)):
        return tuple(Message(turn["role"], turn["content"]) for turn in value)
    raise InputError(
        f"the prompt is {shown(value)}",
        hint='give text, or turns: [{"role": "user", "content": "..."}]',
        param="file",
    )


def _is_turn(value: object) -> bool:
    return isinstance(value, dict) and {"role", "content"} <= set(value)


def _text(row: Mapping[str, Any], name: str) -> str:
    value: Any = row.get(name)
    check_text(name, value)
    return str(value)


def _label(value: Any, pair: bool) -> Label | None:
    if value is None:
        return None
    if pair and value not in _SIDES:
        raise InputError(
            f"the label of two answers is {shown(value)}",
            hint=f"it is one of {', '.join(_SIDES)}",
            param="file",
        )
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(f"the label is {shown(value)}, not a number or a name", param="file")
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        raise InputError(f"the label is {shown(value)}", hint="leave it out", param="file")
    return float(value)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:24]


def presented(
    prompt: Sequence[Message],
    answers: Mapping[str, str],
    question: str,
    reference: str | None = None,
) -> tuple[Message, ...]:
    """``answers``: by the label that the question names them by, in the order shown.
    ``reference``: an answer that is known to be right."""
    count = "an answer" if len(answers) == 1 else "two answers"
    names = "" if len(answers) == 1 else ", A and B"
    parts: list[str | Span] = [
        f"Here are a conversation and {count} to its last turn{names}.\n\n",
        Span(_conversation(prompt), untrusted=True, label="conversation"),
    ]
    if reference is not None:
        parts += [
            "\n\nThis reference answer is known to be right:\n\n",
            Span(reference, untrusted=True, label="reference answer"),
        ]
    for label, answer in answers.items():
        parts += ["\n\n", Span(answer, untrusted=True, label=label)]
    return (Message("user", f"{Prompt.of(*parts).render()}\n\n{question}"),)


def _conversation(prompt: Sequence[Message]) -> str:
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in prompt)
