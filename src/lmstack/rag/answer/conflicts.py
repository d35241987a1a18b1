"""Where another passage answers otherwise than the one that is cited.

Two sentences of different documents conflict if they state the same thing (most of their words
are the same, and the names that were asked about are in both) with other numbers or names. An
earlier or later edition of the cited document is named as such. Does not cover statements in
quite other words, nor two that differ in a "not".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lmstack.rag.answer.answer import Conflict, Relation
from lmstack.rag.answer.editions import Edition
from lmstack.rag.answer.quoting import Quote
from lmstack.rag.words import name_words, number_words, stem, stems

__all__ = ["find_conflicts"]

SAME_WORK, OTHER_WORK = 0.4, 0.7
_YEAR = re.compile(r"(?:19|20)\d\d")
_NAME = re.compile(r"[A-ZÀ-Þ][\w'’-]+")


def find_conflicts(
    citation: int,
    cited: Quote,
    question: str,
    others: Sequence[Quote],
    editions: Mapping[int, Edition],
) -> list[Conflict]:
    """Of ``others``, quotations that answer the question too, those that say otherwise than
    ``cited``: at most one a document, newest edition first."""
    known = {stem(word.lower()) for word in name_words(question)}
    own = editions.get(cited.hit.document_id)
    best: dict[int, Quote] = {}
    for rival in others:
        if rival.hit.document_id == cited.hit.document_id:
            continue
        other = editions.get(rival.hit.document_id)
        same_work = own is not None and other is not None and own.work == other.work
        # A year that was asked about chooses the edition, and the others need not hold it.
        names = {name for name in known if not _YEAR.fullmatch(name)} if same_work else known
        named = names <= stems(f"{rival.hit.prefix} {rival.shown}")
        if not named or not _differ(cited.point, rival.point, question):
            continue
        if _likeness(cited.point, rival.point) < (SAME_WORK if same_work else OTHER_WORK):
            continue
        held = best.get(rival.hit.document_id)
        if held is None or rival.score > held.score:
            best[rival.hit.document_id] = rival
    found = [
        _conflict(citation, rival, own, editions.get(document)) for document, rival in best.items()
    ]
    return sorted(found, key=lambda c: c.date, reverse=True)


def _differ(cited: str, rival: str, question: str) -> bool:
    """Whether one states a number or a name that the other and the question do not."""
    ours, theirs = _values(cited, question), _values(rival, question)
    return bool(ours and theirs) and not (ours <= theirs or theirs <= ours)


def _values(text: str, question: str) -> set[str]:
    asked = {word.casefold() for word in re.findall(r"\w+", question)}
    names = {name for name in _NAME.findall(text[1:]) if name.casefold() not in asked}
    return (number_words(text) - number_words(question)) | names


def _likeness(one: str, other: str) -> float:
    """The share of the words, numbers and names aside, that both hold."""
    left, right = _words(one), _words(other)
    return len(left & right) / max(1, len(left | right))


def _words(text: str) -> set[str]:
    names = {stem(name.lower()) for name in _NAME.findall(text[1:])}
    return {word for word in stems(text) if not any(c.isdigit() for c in word)} - names


def _conflict(citation: int, rival: Quote, own: Edition | None, other: Edition | None) -> Conflict:
    relation: Relation = "other"
    same_work = own and other and own.work == other.work and own.is_dated and other.is_dated
    if own and other and same_work and own.place != other.place:
        relation = "older" if other.place < own.place else "newer"
    hit = rival.hit
    return Conflict(
        citation,
        relation,
        hit.path,
        *rival.focus,
        rival.quote[rival.focus[0] - rival.start : rival.focus[1] - rival.start],
        rival.page,
        hit.document_id,
        other.date if other is not None else "",
        own.date if own is not None else "",
    )
