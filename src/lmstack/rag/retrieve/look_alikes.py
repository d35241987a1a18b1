"""Which of the documents found look alike, as those do that one template made.

A model that reads one passage cannot tell them apart: only the names in them differ. Among other
documents it can, and a name that is mentioned says less than what it reads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import combinations

from lmstack.rag.dates import iso_dates
from lmstack.rag.disjoint_sets import DisjointSets
from lmstack.rag.names import holds_together, ordinal_of
from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.retrieval import HitDocuments
from lmstack.rag.words import STOP_WORDS

__all__ = ["look_alikes", "names_of_others", "words_of_numbers"]

_NUMBER = re.compile(r"\d+")
_HEAD = re.compile(r"\S.*")
_WORD = re.compile(r"[^\W_]+")
# Share of the words of two passages, names and numbers aside, that both have if one template made
# them: pages of twelve templates share .48 or more with one of 39 others. At .3 pages of ordinary
# collections count as alike too, and answers are lost (docs/decisions.md).
ALIKE = 0.4
# Names that one passage in ten holds say little of which document is meant.
RARE = math.log(10)


def look_alikes(hits: Sequence[Hit]) -> tuple[set[int], dict[int, int]]:
    """The ids of documents of which a passage says nearly the same as one of another document among
    ``hits``, but for names and numbers. And of which kind, by number, each document is: those that
    look alike are of one kind, and so is one whose file is called as theirs but for numbers."""
    words = [
        (hit.document_id, frozenset(filter(str.islower, _WORD.findall(hit.text)))) for hit in hits
    ]
    places = {number: n for n, number in enumerate(dict.fromkeys(n for n, _ in words))}
    kinds = DisjointSets(len(places))
    alike: set[int] = set()
    for (number, own), (other, theirs) in combinations(words, 2):
        if other != number and len(own & theirs) >= ALIKE * max(1, len(own | theirs)):
            kinds.join(places[number], places[other])
            alike |= {number, other}
    named = {hit.document_id: _NUMBER.sub("0", hit.path) for hit in hits}
    files = {named[number]: number for number in alike}
    for number, file in named.items():
        kinds.join(places[files.get(file, number)], places[number])
    return alike, {number: kinds.root(place) for number, place in places.items()}


def names_of_others(
    question: str, groups: Sequence[Sequence[str]], hits: Sequence[Hit], documents: HitDocuments
) -> dict[int, tuple[str, ...]]:
    """What of ``question``, whose names are ``groups``, says that another document is meant, for
    each document that looks like another among ``hits``: the rare names that
    it lacks, or all of them where it only mentions them, further down than its head and
    after others of their form, or where one of its kind has them sooner. Of a short number that is
    the only name also what stands before it, of one among several where the document has another
    word there. Empty for a document that may be meant. One that looks like no other is told of if
    it holds all of the names, if it holds the digits of one but not the name, or if one of its kind
    is meant."""
    if not groups:
        return {}
    alike, kinds = look_alikes(hits)
    only = len(groups) == len(groups[0]) == 1
    before = words_of_numbers(question, [f"{hit.prefix} {hit.text}" for hit in hits])
    found: dict[int, tuple[str, ...]] = {}
    unlike: dict[int, tuple[str, ...]] = {}
    places: dict[int, int] = {}
    for hit in {hit.document_id: hit for hit in hits}.values():
        number = hit.document_id
        rare = [g for g in groups if sum(abs(hit.names.get(name, 0)) for name in g) >= RARE]
        if not rare and not (only and before):
            continue
        lacking = [name for g in rare if any(hit.names.get(n, 0) < 0 for n in g) for name in g]
        misses = False
        if not lacking:
            document = documents.of(hit)
            title, text = hit.prefix, hit.text
            if document is not None:
                title, text = document.title, document.text
            head = "\n".join((title, *_HEAD.findall(text)[:2]))
            text = f"{title}\n{text}"
            ordinals = [ordinal_of(text, group) for group in rare]
            lacking = [n for g, o in zip(rare, ordinals, strict=True) if o is None for n in g]
            if number in alike and not lacking:
                # Whatever it is of stands at its head, and these further down.
                lacking = [
                    name
                    for group, ordinal in zip(rare, ordinals, strict=True)
                    if ordinal and not holds_together(head, group)
                    for name in group
                ]
            # Its words are there, the number that they would be is not.
            misses = any(map(_NUMBER.search, lacking))
            said = set(_WORD.findall(text.casefold()))
            lacking = lacking or sorted(
                word
                for n, words in before.items()
                for word in (words if only else words[-1:])
                if (word not in said if only else _has_another(text, word, n))
            )
            if rare and not lacking:
                places[number] = sum(ordinal or 0 for ordinal in ordinals)
        if number in alike or number in places or misses:
            found[number] = tuple(lacking)
        elif lacking:
            unlike[number] = tuple(lacking)
    soonest: dict[int, int] = {}
    for number, place in places.items():
        soonest[kinds[number]] = min(place, soonest.get(kinds[number], place))
    # Where one of a kind is meant, no other one is.
    meant = {kinds[number] for number in places if number in alike}
    found |= {number: names for number, names in unlike.items() if kinds[number] in meant}
    for number, place in places.items():
        if place > soonest[kinds[number]]:
            found[number] = tuple(name for group in groups for name in group)
    return found


# Words before a number that may be part of a name: "pump controller version 4.3".
_BEFORE = 4
_WORDS_AND_DAYS = re.compile(rf"\d+-\d+-\d+|{_WORD.pattern}")


def words_of_numbers(question: str, texts: Sequence[str]) -> dict[str, list[str]]:
    """Of each short number in ``question`` the words before it that stand before a number too in
    one of ``texts``, which were found for it: they name a thing together, as those of
    "pump controller 4.3" do where passages say "pump controller 5.1", and "signed" of "who signed
    4711" does not. In small letters. A day, or a number of five digits, says enough alone."""
    asked = _WORDS_AND_DAYS.findall(iso_dates(question).casefold())
    found = " \n ".join(" ".join(_WORD.findall(text.casefold())) for text in texts)
    words: dict[str, list[str]] = {}
    for place, word in enumerate(asked):
        if not word[0].isdigit() or len(word) > 4 or (place and asked[place - 1][0].isdigit()):
            continue
        for first in range(max(0, place - _BEFORE), place):
            before = asked[first:place]
            if STOP_WORDS.isdisjoint(before) and re.search(
                rf"(?<!\w){re.escape(' '.join(before))} \d", found
            ):
                words[word] = before
                break
    return words


def _has_another(text: str, word: str, number: str) -> bool:
    """Whether other words than ``word`` stand right before ``number`` in ``text``, and never it."""
    found = re.findall(rf"(?<!\w)([^\W\d_]+) {re.escape(number)}(?!\w)", text.casefold())
    return word not in found and not STOP_WORDS.issuperset(found)
