"""What people thought of answers as rows to train on; only of those who agreed to that.

A correction is a pair by itself: the corrected answer over the one that was given. A verdict is a
rated answer; one whose sources are wrong is not a good one. A source that was called wrong is a
passage that does not answer the question, for the objective ``reader``.

The prompt is that of a model that writes from passages, with the numbers that it would cite, so
what was quoted can be learned too. Who said it and their comment are left out. Does not cover
judging answers (`lmstack.release.feedback`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmstack.core import Message
from lmstack.rag.answer.writing import EarlierTurn, build_messages
from lmstack.train.data.formats import Preference
from lmstack.train.data.preferences import as_written, row_of

__all__ = ["FeedbackRows", "feedback_rows"]

Record = Mapping[str, Any]
_NUMBER = re.compile(r"\[(\d{1,4})\]")


@dataclass
class FeedbackRows:
    """By the file that they are for: ``pairs`` and ``ratings`` of answers, ``choices`` of
    passages. ``withheld``: judgements without consent."""

    pairs: list[dict[str, Any]] = field(default_factory=list)
    ratings: list[dict[str, Any]] = field(default_factory=list)
    choices: list[dict[str, Any]] = field(default_factory=list)
    used: int = 0
    withheld: int = 0

    @property
    def files(self) -> dict[str, list[dict[str, Any]]]:
        return {"pairs": self.pairs, "ratings": self.ratings, "choices": self.choices}


def feedback_rows(records: Iterable[Record], passages: int = 5) -> FeedbackRows:
    """``records``: of `FeedbackStore.all`. ``passages``: of a question that its prompt shows, the
    first ones and those that are cited; 0: the question alone, and answers without numbers."""
    found = FeedbackRows()
    for record in records:
        if not record["consent"]:
            found.withheld += 1
            continue
        found.used += 1
        _add(record, passages, found)
    return found


def _add(record: Record, passages: int, found: FeedbackRows) -> None:
    shown, numbers = _shown(record, passages)
    prompt = _prompt(record, shown)
    answer = _renumbered(record["answer"], numbers)
    edit = _renumbered(record["edit"], numbers)
    if edit.strip() and edit.strip() != answer.strip():
        pair = Preference(prompt, (_said(edit),), (_said(answer),))
        found.pairs.append(row_of(pair))
    is_good = record["verdict"] == "helpful" and not record["wrong_sources"]
    if record["verdict"] is not None or record["wrong_sources"]:
        asked, said = as_written(prompt, "user"), as_written((_said(answer),), "assistant")
        found.ratings.append({"prompt": asked, "completion": said, "label": is_good})
    choice = _choice(record)
    if choice is not None:
        found.choices.append(choice)


def _shown(record: Record, most: int) -> tuple[list[Mapping[str, Any]], dict[int, int | None]]:
    """The passages of the prompt, and for each citation its passage's number among them; None
    where no passages are shown."""
    passages = list(record["passages"])
    lies_in: dict[int, int] = {}
    for citation in record["citations"]:
        place = next((n for n, p in enumerate(passages) if _holds(p, citation)), len(passages))
        if place == len(passages):
            passages.append(citation)
        lies_in[citation["id"]] = place
    if not most:
        return [], dict.fromkeys(lies_in)
    kept = sorted({*range(min(most, len(record["passages"]))), *lies_in.values()})
    number = {place: n for n, place in enumerate(kept, 1)}
    return [passages[place] for place in kept], {i: number[p] for i, p in lies_in.items()}


def _holds(passage: Mapping[str, Any], citation: Mapping[str, Any]) -> bool:
    is_there: bool = passage["path"] == citation["path"]
    return is_there and passage["start"] <= citation["start"] and citation["end"] <= passage["end"]


def _prompt(record: Record, shown: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    past = [(question, answer) for question, answer in record.get("past", ())]
    if not shown:
        turns: list[Message] = []
        for question, answer in past:
            turns += [Message("user", question), *([_said(answer)] if answer else [])]
        return (*turns, Message("user", record["question"]))
    job = record.get("task", "answer")
    texts = [
        (
            p["path"],
            f"[{n}] {p['quote']}" if job == "answer" else f"[{n}] {p['path']}: {p['quote']}",
        )
        for n, p in enumerate(shown, 1)
    ]
    earlier = [EarlierTurn(question, answer, 0) for question, answer in past]
    return build_messages(record["question"], texts, earlier=earlier, job=job)


def _renumbered(text: str, numbers: Mapping[int, int | None]) -> str:
    """``text`` with the numbers of passages in place of those of citations; without the numbers
    where no passages are shown."""

    def written(match: re.Match[str]) -> str:
        number = numbers.get(int(match[1]), int(match[1]))
        return "" if number is None else f"[{number}]"

    found = _NUMBER.sub(written, text)
    return found if found == text or None not in numbers.values() else _without_gaps(found)


def _without_gaps(text: str) -> str:
    return re.sub(r"[ \t]+(?=[.,;:!?\n]|$)", "", re.sub(r"[ \t]{2,}", " ", text))


def _choice(record: Record) -> dict[str, Any] | None:
    """Passages that answer the question and that do not, where anybody said so."""
    wrong, cited = set(record["wrong_sources"]), record["citations"]
    if not wrong:
        return None
    negatives = [each["quote"] for each in cited if each["id"] in wrong]
    positives = [each["quote"] for each in cited if each["id"] not in wrong]
    if record["verdict"] != "helpful":
        positives = []
    return {"query": record["question"], "positives": positives, "negatives": negatives}


def _said(text: str) -> Message:
    return Message("assistant", text)
