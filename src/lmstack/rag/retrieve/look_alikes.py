"""Which of the documents found look alike, and whether one is that which a question names.

Documents look alike that one template made. A model that reads one passage cannot tell them
apart: only the names in them differ, and the wrong one answers as well as the right one, with
another value. So one that looks like another that was found must be that of the names in the
question. Any other document may lack some, unless they say far more than what it holds: among
those a name that is mentioned says less than what it reads. How names are told, and what they do
to the order of passages, is in `naming`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from lmstack.rag.dates import iso_dates
from lmstack.rag.disjoint_sets import DisjointSets
from lmstack.rag.name_forms import LONG, has_digit, place_of
from lmstack.rag.names import name_groups
from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.retrieval import HitDocuments
from lmstack.rag.words import STOP_WORDS, fold

__all__ = [
    "groups_asked",
    "look_alikes",
    "names_another",
    "names_lacking",
    "names_of_others",
    "unheld",
]

_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"[^\W_]+")
_ASKED = re.compile(r"\d+(?:[-.]\d+)+|\d+|[^\W\d_]+")
# Share of the words of two passages, names and numbers aside, that both have if one template made
# them: pages of twelve templates share .48 or more with one of 39 others. At .3 pages of ordinary
# collections count as alike too, and answers are lost (docs/decisions.md).
ALIKE = 0.4
# Names that one passage in ten holds say little of which document is meant.
RARE = math.log(10)
# Characters in which a document says what it is of; further down it mentions others.
HEAD = 150
# Of the documents of one kind that say a name the share that has to say it there, for it to be of
# what they are called by; the share that tells nothing, and scores that are the same.
EARLY, WORD_EARLY, SAID_BY_ALL, SAME = 0.2, 0.8, 0.9, 0.98
# A name so short that no document of a kind has may be an abbreviation: "St".
SHORT = 2


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
    each document that looks like another among ``hits``: the names that it lacks, or all of them
    where one of its kind says sooner what is asked for. Where it is ``strict``, also those that it
    says further down than others say theirs, though none of its kind has them sooner. Empty for a
    document that may be meant. One that looks like no other is told of if it holds all of the rare
    names, if it holds the digits of one but not the name, or if one of its kind is meant."""
    rare = [g for g in groups if hits and sum(abs(hits[0].names.get(n, 0)) for n in g) >= RARE]
    if not rare:
        return {}
    alike, kinds = look_alikes(hits)
    nobody = unheld(hits)
    told, texts = set(alike), dict[int, str]()
    found: dict[int, tuple[str, ...]] = {}
    for hit in {hit.document_id: hit for hit in hits}.values():
        number = hit.document_id
        text = texts[number] = iso_dates(fold(_text(hit, documents)))
        lacking = [name for g in rare if any(hit.names.get(n, 0) < 0 for n in g) for name in g]
        if not lacking:
            lacking = [n for g in rare for n in g if place_of(text, (n,)) is None]
            # Its words are there, the number that they would be is not.
            told |= {number} if not lacking or any(map(has_digit, lacking)) else set()
        found[number] = tuple(lacking)
    asked = tuple(dict.fromkeys(name for group in groups for name in group))
    parts = list(_parts(question, groups, hits[0].names, texts))
    pairs = [(one, other) for one, other in _beside(question) if len(one) > 1 and one.isalpha()]
    for kind in set(map(kinds.__getitem__, alike)):
        numbers = [number for number in found if kinds[number] == kind]
        if 2 * len(alike.intersection(numbers)) < len(numbers):
            # Most are only called as these are: their files have numbers for names.
            numbers = [number for number in numbers if number in alike]
        heads = {number: texts[number][:HEAD].casefold() for number in numbers}
        own = [part.among(numbers) for part in parts]
        key = [part for part in own if part.name and part.begins_documents()]
        unsaid = {n: [p.name for p in key if p.places.get(n, HEAD) >= HEAD] for n in numbers}
        rare_ones = [
            part for part in own if part.name in asked and part.places and part.weight >= RARE
        ]
        for number in numbers:
            unsaid[number] += [p.name for p in rare_ones if number not in p.places]
            if any(_has_another(heads, number, *pair) for pair in pairs):
                unsaid[number] += asked
        may = [n for n in numbers if strict and not unsaid[n]]
        if not strict:
            may = [n for n in numbers if key and nobody.issuperset(unsaid[n])]
            may = may or [n for n in numbers if nobody.issuperset(found[n])]
        scores = {n: sum(part.says(n) for part in own if part.tells(numbers)) for n in may}
        best = max(scores.values(), default=0.0)
        near = [n for n in may if scores[n] >= SAME * best]
        places = {n: sum(part.places.get(n, 0) for part in key) for n in near}
        first = {n for n in near if places[n] == min(places.values())}
        for number in numbers:
            others = tuple(dict.fromkeys(unsaid[number]))
            if number in first:
                found[number] = tuple(name for name in others if name in nobody)
            else:
                found[number] = others or asked
        told |= set(numbers) if may or strict else set()
    return {n: names for n, names in found.items() if n in told}


class _Part(NamedTuple):
    """A word of a question, or some that belong together, and where documents say it first.
    ``name`` is empty for what is no name."""

    name: str
    weight: float
    places: Mapping[int, int]
    early: float = EARLY

    def among(self, numbers: Sequence[int]) -> _Part:
        return self._replace(places={n: self.places[n] for n in numbers if n in self.places})

    def tells(self, numbers: Sequence[int]) -> bool:
        """Whether not nearly all of the documents ``numbers`` say it."""
        return bool(self.name) or len(self.places) < SAID_BY_ALL * len(numbers)

    def begins_documents(self) -> bool:
        """Whether documents say it where they say what they are of, if they do; or whether it is
        rare and none of them says it."""
        if not self.places:
            return len(self.name) > SHORT and self.weight >= RARE
        early = sum(place < HEAD for place in self.places.values())
        return early >= self.early * len(self.places)

    def says(self, number: int) -> float:
        """How much the document says by saying it so soon."""
        place = self.places.get(number)
        return 0.0 if place is None else self.weight / (1 + (place / HEAD) ** 3)


def _parts(
    question: str,
    groups: Sequence[Sequence[str]],
    weights: Mapping[str, float],
    texts: Mapping[int, str],
) -> Iterator[_Part]:
    """Names, other words, and numbers with the word beside them."""

    def part(name: str, find: Callable[[str], int | None], weight: float | None) -> _Part:
        places = {n: place for n, text in texts.items() if (place := find(text)) is not None}
        if weight is None:
            weight = math.log(len(texts) / max(1, len(places)))
        return _Part(name, weight, places)

    used: set[str] = set()
    for name in dict.fromkeys(name for group in groups for name in group):
        used |= {name.casefold(), *_WORD.findall(name.casefold())}
        yield part(name, partial(place_of, name=(name,)), abs(weights.get(name, 0.0)))
    said = iso_dates(fold(question)).casefold()
    # Beside other names words tell little: half of the tickets do not say "ticket".
    before = _before_numbers(said) if len(groups) == len(groups[0]) == 1 else set()
    for word in dict.fromkeys(_ASKED.findall(said)):
        if len(word) > 1 and STOP_WORDS.union(used).isdisjoint((word, word.lstrip("0"))):
            whole = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.I)
            found = part(word if word in before else "", partial(_first, whole), None)
            yield found._replace(early=WORD_EARLY) if found.places else found._replace(name="")
    for one, other in _beside(question):
        joint = rf"(?<!\w){re.escape(one)}[^\w\n]{{0,3}}0*{re.escape(other)}(?!\w)"
        yield part("", partial(_first, re.compile(joint, re.I)), None)


def _first(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return found and found.start()


def _before_numbers(said: str) -> set[str]:
    """The words right before a number or a version in the question ``said``: they name a thing
    together, as those of "pump controller version 4.3" do."""
    words: set[str] = set()
    run: list[str] = []
    end = 0
    for match in _ASKED.finditer(said):
        word, parted = match.group(), said[end : match.start()]
        run = run if parted == " " else []
        if word[0].isdigit():
            words.update(run)
        run = [*run, word] if word not in STOP_WORDS and word.isalpha() else []
        end = match.end()
    return words


def _beside(question: str) -> Iterator[tuple[str, str]]:
    """Words of ``question`` right beside one another of which one is a number of up to four digits,
    or a letter: they say together what neither does alone. In small letters."""
    said = iso_dates(fold(question)).casefold()
    for one, other in pairwise(_ASKED.finditer(said)):
        words = one.group(), other.group()
        parted = said[one.end() : other.start()]
        if parted == " " and STOP_WORDS.isdisjoint(words) and len(set(map(_is_short, words))) > 1:
            yield words


def _is_short(word: str) -> bool:
    return len(word) == 1 or (word.isdigit() and len(word) < LONG)


def _has_another(heads: Mapping[int, str], number: int, word: str, short: str) -> bool:
    """Whether the head of the document ``number`` has another number or letter behind ``word``, or
    another word before ``short``, where any of ``heads`` has one behind ``word``."""
    behind = rf"(?<!\w){re.escape(word)}[ #:.]{{1,2}}0*([^\W\d_]|\d{{1,4}})(?![\w-])"
    if not any(re.search(behind, head) for head in heads.values()):
        return False
    head = heads[number]
    shorts = re.findall(behind, head)
    if shorts:
        return short.lstrip("0") not in shorts
    words = re.findall(rf"(?<!\w)([^\W\d_]+) 0*{re.escape(short)}(?![\w-])", head)
    return word not in words and not STOP_WORDS.issuperset(words)


def _text(hit: Hit, documents: HitDocuments) -> str:
    """That of the document of ``hit`` below its title, unless that is the number of a file."""
    document = documents.of(hit)
    title, text = (hit.prefix, hit.text) if document is None else (document.title, document.text)
    return text if title.isdigit() else f"{title}\n{text}"


def names_lacking(
    question: str,
    hits: Sequence[Hit],
    documents: HitDocuments,
    found: Sequence[Hit] = (),
    *,
    capitals: bool = True,
) -> list[tuple[str, ...]]:
    """Of each hit the names in ``question`` that its document lacks, where it is therefore another
    than the one asked for; nothing for one that may be it. Without ``capitals`` only what has a
    digit is a name: in German every noun has a capital. Look-alikes are sought among all that was
    ``found``, or among ``hits``."""
    groups = [
        named
        for group in groups_asked(question, found or hits)
        if (named := tuple(n for n in group if capitals or any(map(str.isdigit, n))))
    ]
    alike = names_of_others(question, groups, found or hits, documents, strict=True)
    return [
        alike[hit.document_id]
        if hit.document_id in alike
        else tuple(name for g in groups for name in g if hit.names.get(name, 0) < 0)
        if names_another(groups, hit.names)
        else ()
        for hit in hits
    ]


def names_another(groups: Sequence[Sequence[str]], names: Mapping[str, float]) -> bool:
    """Whether ``groups`` of names are, by something rare, those of another document than the one
    whose ``names`` are given (as `Naming.of` does), or of one that is not there. A document must
    hold all of a group ("Anna Keller" is not Maria Keller); of several groups it may lack some,
    as where two are compared, unless what it holds says far less than what it lacks."""
    held = lacked = 0.0
    for group in groups:
        weights = [names[name] for name in group if name in names]
        lack = -sum(weight for weight in weights if weight < 0)
        lacked += lack
        held += 0 if lack else sum(weights)
    return lacked >= RARE and lacked > 2 * held
