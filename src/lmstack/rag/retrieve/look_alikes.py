"""Which of the documents found look alike, as those do that one template made.

A model that reads one passage cannot tell them apart: only the names in them differ. Among other
documents it can, and a name that is mentioned says less than what it reads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.retrieval import HitDocuments
from lmstack.rag.words import STOP_WORDS, ordinal_of

__all__ = ["look_alikes", "names_of_others", "words_of_numbers"]

_WORD = re.compile(r"[^\W_]+")
# Share of the words of two passages, names and numbers aside, that both have if one template made
# them: pages of twelve templates share .48 or more with one of 39 others. At .3 pages of ordinary
# collections count as alike too, and answers are lost (docs/decisions.md).
ALIKE = 0.4
# Names that one passage in ten holds say little of which document is meant.
RARE = math.log(10)


def look_alikes(hits: Sequence[Hit]) -> set[int]:
    """The ids of documents of which a passage says nearly the same as one of another document
    among ``hits``, but for names and numbers."""
    words = [
        (hit.document_id, frozenset(filter(str.islower, _WORD.findall(hit.text)))) for hit in hits
    ]
    return {
        number
        for number, own in words
        for other, theirs in words
        if other != number and len(own & theirs) >= ALIKE * max(1, len(own | theirs))
    }


def names_of_others(
    question: str, groups: Sequence[Sequence[str]], hits: Sequence[Hit], documents: HitDocuments
) -> dict[int, tuple[str, ...]]:
    """What of ``question``, whose names are ``groups``, says that another document is meant, for
    each document that looks like another among ``hits``: the rare names that it lacks, or all of
    them where it only mentions them, after others of their form, and another has them sooner. Of a
    number that is the only name also what stands before it. Empty for a document that may be meant,
    which one that looks like no other is too if it holds all of the names."""
    if not groups:
        return {}
    alike = look_alikes(hits)
    before: set[str] = set()
    if len(groups) == len(groups[0]) == 1:
        before = words_of_numbers(question, [f"{hit.prefix} {hit.text}" for hit in hits])
    found: dict[int, tuple[str, ...]] = {}
    places: dict[int, int] = {}
    for hit in {hit.document_id: hit for hit in hits}.values():
        number = hit.document_id
        rare = [g for g in groups if sum(abs(hit.names.get(name, 0)) for name in g) >= RARE]
        if not (rare or before):
            continue
        lacking = [name for g in rare if any(hit.names.get(n, 0) < 0 for n in g) for name in g]
        if not lacking:
            document = documents.of(hit)
            text = f"{hit.prefix}\n{hit.text}"
            if document is not None:
                text = f"{document.title}\n{document.text}"
            ordinals = [ordinal_of(text, group) for group in rare]
            lacking = [n for g, o in zip(rare, ordinals, strict=True) if o is None for n in g]
            lacking = lacking or sorted(before - set(_WORD.findall(text.casefold())))
            if rare and not lacking:
                places[number] = sum(ordinal or 0 for ordinal in ordinals)
        if number in alike or number in places:
            found[number] = tuple(lacking)
    for number, place in places.items():
        if number in alike and place > min(places.values()):
            found[number] = tuple(name for group in groups for name in group)
    return found


# Words before a number that may be part of a name: "pump controller version 4.3".
_BEFORE = 4


def words_of_numbers(question: str, texts: Sequence[str]) -> set[str]:
    """Words before a number in ``question`` that stand before a number too in one of ``texts``,
    which were found for it: with it they name a thing, as those of "pump controller 4.3" do where
    passages say "pump controller 5.1", and "signed" of "who signed 4711" does not. In small
    letters."""
    asked = [word.casefold() for word in _WORD.findall(question)]
    found = " \n ".join(" ".join(_WORD.findall(text.casefold())) for text in texts)
    words: set[str] = set()
    for place, word in enumerate(asked):
        if not word[0].isdigit() or (place and asked[place - 1][0].isdigit()):
            continue
        for first in range(max(0, place - _BEFORE), place):
            before = asked[first:place]
            if STOP_WORDS.isdisjoint(before) and re.search(
                rf"(?<!\w){re.escape(' '.join(before))} \d", found
            ):
                words.update(before)
                break
    return words
