"""Answers that a model is rating, on their way into a file of ratings.

Reads preference pairs, rated answers and rows of a prompt with completions: every answer in them,
each once. Does not cover how an answer is rated (`lmstack.evals.judging`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstack.core import Message
from lmstack.evals.judging import RatingJudge
from lmstack.pipelines.judging import asked_of_all, each_once
from lmstack.pipelines.output_journal import OutputJournal
from lmstack.train.data.formats import completions_of, preference_of, ratings_of
from lmstack.train.data.preferences import as_written, text_of_turns
from lmstack.train.data.rows import BadRow, Row

__all__ = ["Answered", "JudgedRatings", "answers_in", "rate_all"]

Turns = tuple[Message, ...]


@dataclass(frozen=True)
class Answered:
    """A prompt and an answer to it."""

    prompt: Turns
    answer: Turns

    @property
    def row(self) -> dict[str, Any]:
        asked, said = as_written(self.prompt, "user"), as_written(self.answer, "assistant")
        return {"prompt": asked, "completion": said}

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(self.row, sort_keys=True).encode()).hexdigest()[:24]


def answers_in(files: Sequence[Path]) -> tuple[list[Answered], list[BadRow]]:
    """The answers in ``files``, each once, and the rows that hold none."""
    return each_once(files, _of)


def _of(row: Row) -> Iterator[Answered]:
    if row.values.get("chosen") is not None:
        pair = preference_of(row)
        yield Answered(pair.prompt, pair.chosen)
        yield Answered(pair.prompt, pair.rejected)
    elif row.values.get("completions") is not None:
        prompt, answers = completions_of(row)
        yield from (Answered(prompt, answer) for answer in answers)
    else:
        yield from (Answered(each.prompt, each.answer) for each in ratings_of(row))


def rate_all(
    judge: RatingJudge, answers: Sequence[Answered], batch: int
) -> AsyncIterator[tuple[Answered, float | None]]:
    """In the order of ``answers``, ``batch`` of them at a time; None of what the judge did not
    rate, because it is too long for it or because it gave no digit."""

    async def rated(each: Answered) -> float | None:
        return await judge.rate(each.prompt, text_of_turns(each.answer))

    return asked_of_all(rated, answers, batch)


class JudgedRatings(OutputJournal):
    """A journal of ratings."""

    def keep(self, each: Answered, rating: float | None) -> None:
        self.add(each.key, {"rating": rating})

    def rows(self, answers: Sequence[Answered], judge: str) -> list[dict[str, Any]]:
        """Of the answers that were rated, by the rater ``judge``."""
        rated = ((each, self.items[each.key]["rating"]) for each in answers)
        return [
            {**each.row, "rating": rating, "rater": judge}
            for each, rating in rated
            if rating is not None
        ]
