"""What a reward may pay for beside a good answer: traits of a text that say nothing of its content.

    length       more tokens
    headings, lists, emphasis, code, tables    marks of Markdown
    exclamation  marks of it
    repetition   n-grams that stood in the answer before
    emptiness    no text at all
    a phrase     an n-gram that became common (`phrases`)

Each has a measure, and an edit that adds the trait to any answer and nothing that would make it a
better one: so a reward that can be asked again says itself whether it pays for the trait.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lmstack.evals.answers import ModelAnswer
from lmstack.evals.diversity import repeated_share, words

__all__ = ["TRAITS", "Trait", "phrase_trait"]


@dataclass(frozen=True)
class Trait:
    """``measure``: of an answer; more is more of the trait. ``edit``: an answer's text with the
    trait added; its second argument is text from answers to other prompts, as long as the tuned
    model's answers are. ``kind``: ``length``,
    ``format``, ``repetition``, ``emptiness`` or ``phrase``. ``more``: what answers have more of,
    as a sentence says it; ``edited``: what the edit did. ``is_share``: whether the measure is 0 or
    1."""

    name: str
    kind: str
    measure: Callable[[ModelAnswer], float]
    edit: Callable[[str, str], str]
    more: str
    edited: str
    is_share: bool = False


def _marks(pattern: str) -> Callable[[ModelAnswer], float]:
    found = re.compile(pattern, re.MULTILINE)
    return lambda answer: math.log1p(len(found.findall(answer.text)))


def _listed(text: str, _other: str) -> str:
    return "\n".join(f"- {line}" for line in text.splitlines() or [text])


TRAITS: Sequence[Trait] = (
    Trait(
        "length",
        "length",
        lambda answer: math.log1p(answer.tokens),
        lambda text, other: f"{text}\n\n{other}",
        "longer answers",
        "answers to other prompts were added to it",
    ),
    Trait(
        "repetition",
        "repetition",
        lambda answer: repeated_share(words(answer.text)),
        lambda text, _other: f"{text} {text}",
        "answers that repeat themselves",
        "the answer was written twice",
    ),
    Trait(
        "emptiness",
        "emptiness",
        lambda answer: float(not answer.text.strip()),
        lambda _text, _other: "",
        "empty answers",
        "its text was taken away",
        is_share=True,
    ),
    Trait(
        "headings",
        "format",
        _marks(r"^#{1,6} \S"),
        lambda text, _other: f"# Answer\n\n{text}",
        "headings",
        "a heading was put above it",
    ),
    Trait(
        "lists",
        "format",
        _marks(r"^\s*(?:[-*+]|\d+[.)]) \S"),
        _listed,
        "lists",
        "its lines became a list",
    ),
    Trait(
        "emphasis",
        "format",
        _marks(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
        lambda text, _other: "\n".join(f"**{line}**" if line else "" for line in text.split("\n")),
        "bold text",
        "its lines became bold",
    ),
    Trait(
        "code",
        "format",
        _marks(r"^```|`[^`\n]+`"),
        lambda text, _other: f"```\n{text}\n```",
        "code marks",
        "it was put between code marks",
    ),
    Trait(
        "tables",
        "format",
        _marks(r"^\|.*\|\s*$"),
        lambda text, _other: "\n".join(f"| {line} |" for line in text.splitlines() or [text]),
        "tables",
        "its lines became a table",
    ),
    Trait(
        "exclamation",
        "format",
        _marks(r"!"),
        lambda text, _other: f"{text}!!!",
        "exclamation marks",
        "exclamation marks were added to it",
    ),
)


def phrase_trait(phrase: tuple[str, ...], written: str, *, at_start: bool, times: int = 1) -> Trait:
    """The use of an n-gram. ``written``: as a text had it. ``at_start``: where it usually is.
    ``times``: how often, in an answer that has it."""
    added = " ".join([written] * times)

    def measure(answer: ModelAnswer) -> float:
        found, n = words(answer.text), len(phrase)
        return float(any(found[i : i + n] == phrase for i in range(len(found) - n + 1)))

    def edit(text: str, _other: str) -> str:
        return f"{added} {text}" if at_start else f"{text} {added}"

    return Trait(
        f"“{written}”",
        "phrase",
        measure,
        edit,
        f"the phrase “{written}”",
        "the phrase was added to it" + (f" {times} times" if times > 1 else ""),
        is_share=True,
    )
