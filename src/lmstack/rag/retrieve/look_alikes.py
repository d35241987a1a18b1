"""Which of the documents found look alike, as those do that one template made.

A model that reads one passage cannot tell them apart: only the names in them differ. Among other
documents it can, and a name that is mentioned says less than what it reads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from lmstack.rag.dates import iso_dates
from lmstack.rag.disjoint_sets import DisjointSets
from lmstack.rag.name_forms import has_digit, only_mentions, ordinal_of
from lmstack.rag.names import name_groups
from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.retrieval import HitDocuments
from lmstack.rag.words import STOP_WORDS

__all__ = ["groups_asked", "look_alikes", "names_of_others", "unheld", "words_of_numbers"]

_NUMBER = re.compile(r"\d+")
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
    said = [frozenset(filter(str.islower, _WORD.findall(hit.text))) for hit in hits]
    columns = {word: n for n, word in enumerate(frozenset().union(*said))}
    holds = np.zeros((len(hits), len(columns)), np.float32)
    for row, words in enumerate(said):
        holds[row, [columns[word] for word in words]] = 1
    shared, sizes = holds @ holds.T, holds.sum(axis=1)
    union = np.maximum(1, sizes[:, None] + sizes - shared)
    owners = np.array([hit.document_id for hit in hits])
    pairs = (shared >= ALIKE * union) & (owners[:, None] != owners)
    numbers = list(dict.fromkeys(hit.document_id for hit in hits))
    places = {number: n for n, number in enumerate(numbers)}
    kinds = DisjointSets(len(places))
    for one, other in zip(*np.nonzero(np.triu(pairs)), strict=True):
        kinds.join(places[int(owners[one])], places[int(owners[other])])
    alike = {int(number) for number in owners[pairs.any(axis=1)]}
    named = {hit.document_id: _NUMBER.sub("0", hit.path) for hit in hits}
    files = {named[number]: number for number in numbers if number in alike}
    for number, file in named.items():
        kinds.join(places[files.get(file, number)], places[number])
    return alike, {number: kinds.root(place) for number, place in places.items()}


def groups_asked(question: str, hits: Sequence[Hit]) -> list[tuple[str, ...]]:
    """The names in ``question``, for which ``hits`` were found: they say which words without a
    capital are names, and which names say nothing."""
    told = {name for hit in hits for name in hit.names}
    groups = name_groups(question, set(filter(str.islower, told)))
    return [kept for group in groups if (kept := tuple(n for n in group if n in told))]


def unheld(hits: Sequence[Hit]) -> set[str]:
    """The names that no document of ``hits`` holds."""
    held = {name for hit in hits for name, weight in hit.names.items() if weight > 0}
    return {name for hit in hits for name in hit.names} - held


def names_of_others(
    question: str,
    groups: Sequence[Sequence[str]],
    hits: Sequence[Hit],
    documents: HitDocuments,
    *,
    strict: bool = False,
) -> dict[int, tuple[str, ...]]:
    """What of ``question``, whose names are ``groups``, says that another document is meant, for
    each document that looks like another among ``hits``: the rare names that it lacks, or all of
    them where one of its kind has them sooner, after fewer others of their form. Of a short number
    that is the only name also what stands before it, of one among several where the document has
    another word there. Where it is ``strict``, also those that a look-alike only mentions, though
    no other document has them sooner. Empty for a document that may be meant. One that looks like
    no other is told of if it holds all of the names, if it holds the digits of one but not the
    name, or if one of its kind is meant."""
    rare = [g for g in groups if hits and sum(abs(hits[0].names.get(n, 0)) for n in g) >= RARE]
    only = len(groups) == 1 and len(groups[0]) == 1
    before = words_of_numbers(question, hits) if groups else {}
    if not rare and not (only and before):
        return {}
    alike, kinds = look_alikes(hits)
    nobody = unheld(hits)
    held = [g for g in rare if nobody.isdisjoint(g)]
    found: dict[int, tuple[str, ...]] = {}
    # Other numbers are not rare, and decide between those that hold what is.
    digits = [g for g in groups if g not in rare and any(map(has_digit, g))]
    places: dict[int, tuple[int, int]] = {}
    told = set(alike)
    for hit in {hit.document_id: hit for hit in hits}.values():
        number = hit.document_id
        lacking = [name for g in rare if any(hit.names.get(n, 0) < 0 for n in g) for name in g]
        if not lacking or (held and nobody.issuperset(lacking)):
            text = _text(hit, documents)
            ordinals = [ordinal_of(text, group) for group in held]
            away = [n for g, o in zip(held, ordinals, strict=True) if o is None for n in g]
            # Its words are there, the number that they would be is not.
            told |= {number} if any(map(_NUMBER.search, away)) else set()
            if strict and number in alike:
                others = (group for group in (*held, *digits) if only_mentions(text, group))
                away += [name for group in others for name in group]
            lacking += away or _other_words(text, before, only=only)
            if rare and nobody.issuperset(lacking):
                later = (ordinal_of(text, group) for group in digits)
                places[number] = (
                    sum(ordinal or 0 for ordinal in ordinals),
                    sum(len(text) if ordinal is None else ordinal for ordinal in later),
                )
        found[number] = tuple(lacking)
    told |= {number for number in places if not found[number]}
    soonest: dict[int, tuple[int, int]] = {}
    for number, place in places.items():
        soonest[kinds[number]] = min(place, soonest.get(kinds[number], place))
    for number, place in places.items():
        if place > soonest[kinds[number]]:
            found[number] = tuple(name for group in groups for name in group)
    # Where one of a kind is meant, no other one is.
    meant = {kinds[number] for number in places if number in alike}
    return {n: names for n, names in found.items() if n in told or kinds[n] in meant}


def _text(hit: Hit, documents: HitDocuments) -> str:
    """That of the document of ``hit`` below its title, unless that is the number of a file."""
    document = documents.of(hit)
    title, text = (hit.prefix, hit.text) if document is None else (document.title, document.text)
    return text if title.isdigit() else f"{title}\n{text}"


def _other_words(text: str, before: Mapping[str, Sequence[str]], *, only: bool) -> list[str]:
    """Of the words ``before`` numbers those that ``text`` lacks or, unless a number is the ``only``
    name, has others for."""
    if not before:
        return []
    said = set(_WORD.findall(text.casefold()))
    return sorted(
        word
        for n, words in before.items()
        for word in (words if only else words[-1:])
        if (word not in said if only else _has_another(text, word, n))
    )


# Words before a number that may be part of a name: "pump controller version 4.3".
_BEFORE = 4
_WORDS_AND_DAYS = re.compile(rf"\d+-\d+-\d+|{_WORD.pattern}")


def words_of_numbers(question: str, hits: Sequence[Hit]) -> dict[str, list[str]]:
    """Of each short number in ``question`` the words before it that stand before a number too in
    one of ``hits``, which were found for it: they name a thing together, as those of
    "pump controller 4.3" do where passages say "pump controller 5.1", and "signed" of "who signed
    4711" does not. In small letters. A day, or a number of five digits, says enough alone."""
    asked = _WORDS_AND_DAYS.findall(iso_dates(question).casefold())
    words: dict[str, list[str]] = {}
    found = ""
    for place, word in enumerate(asked):
        if not word[0].isdigit() or len(word) > 4 or (place and asked[place - 1][0].isdigit()):
            continue
        found = found or " \n ".join(
            " ".join(_WORD.findall(f"{hit.prefix} {hit.text}".casefold())) for hit in hits
        )
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
