"""What a model wrote, sentence by sentence, and how far the passages bear it out.

A sentence is cited to what bears it out best, in whatever passage that stands: the numbers that a
small model writes are often wrong where its sentence is right, so they only decide between equals.
What is no quotation is borne out if a model that can tell says so of the few sentences that
together hold its words, once all its numbers and names are there. Without such a model words and
vectors decide: one sentence bears it out, or two, where it joins two clauses. How a model is asked
is in `writing`.

The default score looks at the words and the vectors, and is strict about what inventions mostly
change: numbers, names, and whether something is denied. What it cannot see is in docs/asking.md.

Negations and numerals are words of closed classes, which grammars list in full; they are listed
here for English, German, French, Spanish and Japanese, without those that are common in one of
these languages with another meaning. Negation by meaning ("fails to", "is free of") is not
covered, nor its scope: a clause with a negation in it counts as negated from end to end.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lmstack.core import Embedder
from lmstack.rag.answer.quoting import Passage, Quote
from lmstack.rag.chunk import embedded_text
from lmstack.rag.words import (
    STOP_WORDS,
    content_words,
    covered_share,
    name_words,
    number_words,
)

__all__ = [
    "ITEM",
    "NEGATIONS",
    "Claim",
    "Evidence",
    "Judge",
    "OverlapSupport",
    "Source",
    "SupportScorer",
    "WrittenSentence",
    "check",
    "clauses",
    "halves",
    "held",
    "invented",
    "numerals",
    "parts_of",
    "source_of",
]

_ENGLISH = "not no never none nobody nothing nowhere neither nor without cannot"
_GERMAN = (
    "nicht nichts nie niemals niemand niemanden niemandem nirgends ohne weder kein keine keinen "
    "keinem keiner keines"
)
_FRENCH = "ne n pas jamais aucun aucune sans ni rien"
_SPANISH = "nunca jamás ningún ninguno ninguna nada nadie tampoco sin"
NEGATIONS = frozenset(" ".join((_ENGLISH, _GERMAN, _FRENCH, _SPANISH)).split())
_ENDINGS = ("n't", "n’t")
_JAPANESE = re.compile("ない|なかっ|なけれ|なく|ませ|まじ|ずに|ざる|ぬ")
_LETTERS = re.compile(r"[^\W\d_]+(?:['’]t\b)?")
# Marks that end a clause; not those within a number, a name or a path.
_END = re.compile(r"[,;:.!?](?=\s|$)|[、。，；：！？—–()\n]")
_NUMERALS = {
    word: str(value)
    for value, words in {
        0: "zero null cero zéro",
        2: "two zwei deux dos",
        3: "three drei trois tres",
        4: "four vier quatre cuatro",
        5: "five fünf cinq cinco",
        6: "six sechs seis",
        7: "seven sieben sept siete",
        8: "eight acht huit ocho",
        9: "nine neun nueve",
        10: "ten zehn dix diez",
        11: "eleven elf onze",
        12: "twelve zwölf douze doce",
        13: "thirteen dreizehn treize trece",
        14: "fourteen vierzehn quatorze catorce",
        15: "fifteen fünfzehn quinze quince",
        16: "sixteen sechzehn dieciséis",
        17: "seventeen siebzehn diecisiete",
        18: "eighteen achtzehn dieciocho",
        19: "nineteen neunzehn diecinueve",
        20: "twenty zwanzig vingt veinte",
        30: "thirty dreißig trente treinta",
        40: "forty vierzig quarante cuarenta",
        50: "fifty fünfzig cinquante cincuenta",
        60: "sixty sechzig soixante sesenta",
        70: "seventy siebzig setenta",
        80: "eighty achtzig ochenta",
        90: "ninety neunzig noventa",
        100: "hundred hundert cien ciento",
        1000: "thousand tausend mille mil",
        1_000_000: "million millions millionen millón millones",
    }.items()
    for word in words.split()
}
ITEM = re.compile(r"[ \t]*(?:(?:[-*+•]|\d{1,3}[.)])[ \t]+|#{1,6}[ \t]+|>[ \t]*)")


@dataclass(frozen=True, slots=True)
class WrittenSentence:
    """A sentence, a heading, a row of a table or a block of code, without the passage ``numbers``
    in it, of which only those that exist are kept. ``apart``: what stands before it, a space or
    one or two line ends."""

    text: str
    numbers: tuple[int, ...] = ()
    apart: str = " "

    @property
    def said(self) -> str:
        """Without the mark of an item or a heading."""
        mark = ITEM.match(self.text)
        return self.text if mark is None else self.text[mark.end() :]


def clauses(text: str) -> Iterator[tuple[str, bool]]:
    """The clauses of a text, and whether each is negated."""
    start = 0
    for end in (*(mark.end() for mark in _END.finditer(text)), len(text)):
        clause = text[start:end]
        if clause.strip():
            yield clause, _is_negated(clause)
        start = end


def halves(text: str) -> Iterator[tuple[str, str]]:
    """``text`` in two, at the end of each clause."""
    for mark in _END.finditer(text):
        one, other = text[: mark.start()].strip(), text[mark.end() :].strip()
        if one and other:
            yield one, other


def _is_negated(clause: str) -> bool:
    words = [word.casefold() for word in _LETTERS.findall(clause)]
    negated = any(word in NEGATIONS or word.endswith(_ENDINGS) for word in words)
    return negated or _JAPANESE.search(clause) is not None


def numerals(text: str) -> set[str]:
    """The numbers that stand in words, in digits."""
    words = {word.casefold() for word in _LETTERS.findall(text)}
    return {_NUMERALS[word] for word in words & _NUMERALS.keys()}


_INVENTED = 0.2
_WORD = re.compile(r"[^\W\d_][\w'’-]*")


class SupportScorer(Protocol):
    def score(self, claims: Sequence[str], evidence: Sequence[str]) -> list[list[float]]:
        """Support of each claim by each piece of evidence, shape (claims, evidence)."""
        ...


class OverlapSupport:
    """The mean of the cosine and of the share of the claim's words found; 1 for a quotation.

    At most 0.2 where the claim has a number or a name that the evidence has not, another subject
    as its first word, or where it affirms what the evidence denies or denies what it affirms."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def score(self, claims: Sequence[str], evidence: Sequence[str]) -> list[list[float]]:
        if not claims or not evidence:
            return [[] for _ in claims]
        vectors = np.asarray(self._embedder.embed([*claims, *evidence], "passage"))
        cosines = vectors[: len(claims)] @ vectors[len(claims) :].T
        names = _names(evidence)
        return [
            [_support(claim, text, float(cosines[i, j]), names) for j, text in enumerate(evidence)]
            for i, claim in enumerate(claims)
        ]


def _support(claim: str, evidence: str, cosine: float, names: Collection[str]) -> float:
    if _contradicts(claim, evidence):
        return _INVENTED
    flat = " ".join(claim.split())
    if flat and flat in " ".join(evidence.split()):
        return 1.0
    words = dict.fromkeys(content_words(claim), 1.0)
    score = min(0.5 * max(cosine, 0.0) + 0.5 * covered_share(words, evidence), 1.0)
    if not _numbers(claim) <= _numbers(evidence) or _invents_name(claim, evidence, names):
        return min(score, _INVENTED)
    return score


def _numbers(text: str) -> set[str]:
    return number_words(text) | numerals(text)


def parts_of(claim: str, question: str) -> frozenset[str]:
    """What ``claim`` says beyond ``question``: its numbers and its words with a meaning."""
    said = frozenset(content_words(claim)) | _numbers(claim)
    return said - frozenset(content_words(question)) - _numbers(question) or said


def held(parts: Collection[str], text: str) -> frozenset[str]:
    """Those of ``parts`` that ``text`` holds."""
    numbers = _numbers(text)
    return frozenset(p for p in parts if p in numbers or covered_share({p: 1.0}, text) > 0)


def invented(claim: str, evidence: str, *, capitals: bool = True) -> list[str]:
    """Numbers in ``claim`` that ``evidence`` has not, however a date is written there, and words
    with a digit or, where ``capitals`` make names, with one beyond the first."""
    known = {number.lstrip("0") for number in re.split(r"\D+", evidence)} | _numbers(evidence)
    words = {word.casefold() for word in re.findall(r"\w+", evidence)}
    numbers = [n for n in sorted(_numbers(claim)) if n not in known and n.lstrip("0") not in known]
    names = [
        name
        for name in name_words(claim)
        if not name[0].isdigit()
        and (capitals or any(map(str.isdigit, name)))
        and not words.issuperset(re.findall(r"\w+", name.casefold()))
    ]
    return [*numbers, *names]


def _names(texts: Sequence[str]) -> set[str]:
    """Words that have a capital within a sentence somewhere, and none nowhere."""
    words = [word for text in texts for word in _WORD.findall(text)[1:]]
    plain = {word for text in texts for word in _WORD.findall(text) if word.islower()}
    return {word.casefold() for word in words if word[0].isupper()} - plain


def _invents_name(claim: str, evidence: str, names: Collection[str]) -> bool:
    """Whether ``claim`` holds a name that ``evidence`` does not. A sentence's first word has a
    capital in any case: it counts if it is one of ``names``, or if it stands where the evidence
    has a word that the claim does not know."""
    known, said = ([w.casefold() for w in _WORD.findall(text)] for text in (evidence, claim))
    words = _WORD.findall(claim)
    if any(w[0].isupper() and w.casefold() not in known for w in words[1:]):
        return True
    if not said or not known or _is_said(said[0], evidence):
        return False
    return said[0] in names or (said[0] not in STOP_WORDS and not _is_said(known[0], claim))


def _is_said(word: str, text: str) -> bool:
    return word in STOP_WORDS or covered_share({word: 1.0}, text) > 0


def _contradicts(claim: str, evidence: str) -> bool:
    """Whether what a clause of ``claim`` says stands in clauses of ``evidence`` that deny it, or
    affirm it where the claim denies: no more than half of its words would be left."""
    told = list(clauses(evidence))
    for clause, negated in clauses(claim):
        words = {word: 1.0 for word in content_words(clause) if word not in NEGATIONS}
        alike = " ".join(text for text, denied in told if denied == negated)
        found = covered_share(words, evidence)
        if found and covered_share(words, alike) <= 0.5 * found:
            return True
    return False


# Words with a meaning of their own that a clause has at least: fewer state nothing.
CLAUSE_WORDS = 2
# What a passage that the model cites is ahead of its equals.
HINTED = 0.02
# Sentences that one is cited to at most, where the model itself says that it is borne out.
MOST_CITED = 3

# The probability that a sentence is borne out by a text; None where the model does not say.
Judge = Callable[[str, str], Awaitable[float | None]]


@dataclass(frozen=True, slots=True)
class Source:
    """What a model is shown under one number: ``text``, which ``passages`` bear out. It is a
    passage itself, or a note of what passages say."""

    path: str
    text: str
    passages: tuple[Passage, ...]


def source_of(passage: Passage) -> Source:
    hit = passage.hit
    return Source(hit.path, embedded_text(hit.prefix, hit.text), (passage,))


class Evidence:
    """The sentences of all passages of ``sources``, each once. ``question``: its words and
    numbers need no evidence. Without ``capitals`` only what has a digit is a name: in German every
    noun has a capital."""

    def __init__(
        self, sources: Sequence[Source], question: str = "", *, capitals: bool = True
    ) -> None:
        passages: dict[tuple[int, int], Passage] = {}
        self._numbers: dict[tuple[int, int], set[int]] = {}
        for number, source in enumerate(sources, 1):
            for passage in source.passages:
                place = (passage.hit.document_id, passage.hit.start)
                passages.setdefault(place, passage)
                self._numbers.setdefault(place, set()).add(number)
        self.question, self.capitals = question, capitals
        self.places = [(p, n) for p in passages.values() for n in p.readable]
        self.texts = [passage.point(passage.units[n]) for passage, n in self.places]

    def hinted(self, place: int, numbers: Sequence[int]) -> bool:
        hit = self.places[place][0].hit
        return not self._numbers[hit.document_id, hit.start].isdisjoint(numbers)

    def around(self, places: Sequence[int]) -> str:
        """What numbers and names may come from where the sentences at ``places`` are cited: their
        passages, what stands above these, and the question."""
        passages = {self.places[n][0].hit.chunk_id: self.places[n][0] for n in places}
        hits = [passage.hit for passage in passages.values()]
        told = (text for hit in hits for text in (hit.text, hit.prefix, hit.path))
        return "\n".join((*told, *(self.texts[n] for n in places), self.question))

    def shown(self, places: Sequence[int]) -> str:
        """The sentences at ``places`` in their order, below the headings of their passages."""
        lines = dict[str, None]()
        for n in sorted(places):
            lines.setdefault(self.places[n][0].hit.prefix)
            lines.setdefault(self.texts[n])
        return "\n".join(filter(None, lines))

    def quote(self, place: int) -> Quote:
        passage, unit = self.places[place]
        return passage.quote(unit, unit, unit)


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence that was written, ``apart`` from what is before it by that white space.
    ``quotes`` bear it out, each of the passage at its place in ``passages``; both are empty where
    nothing does, and ``reason`` says why. ``support``: how far, between 0 and 1."""

    text: str
    quotes: tuple[Quote, ...]
    passages: tuple[Passage, ...]
    support: float
    apart: str = " "
    reason: str = ""

    @property
    def states(self) -> bool:
        """Whether it has words enough to say something: "Summary:" has not."""
        return len(content_words(self.text)) >= CLAUSE_WORDS

    @property
    def note(self) -> Source:
        """As a model is shown it, to write on from it."""
        return Source(self.passages[0].hit.path, self.text, self.passages)


async def check(
    written: WrittenSentence,
    evidence: Evidence,
    scorer: SupportScorer,
    least: float,
    judge: Judge | None = None,
) -> Claim:
    """What bears ``written`` out. ``least``: the support that is enough, by ``judge`` or, without
    one, by ``scorer``; a quotation needs none."""
    clauses = _clauses(written.said)
    texts = list(dict.fromkeys((written.said, *(part for cut in clauses for part in cut))))
    rows = await asyncio.to_thread(scorer.score, texts, evidence.texts)
    scores = dict(zip(texts, rows, strict=True))
    places, support = _by_words(written, clauses, evidence, scores)
    covering, reason = await asyncio.to_thread(_covering, written, evidence, scores[written.said])
    if judge is not None and support < 1 and covering and not reason:
        found = await judge(written.said, evidence.shown(covering))
        if found is not None:
            places, support = covering, found
    if support < least:
        reason = reason or "no passage says so"
    if reason:
        return Claim(written.text, (), (), support, written.apart, reason)
    quotes = tuple(evidence.quote(n) for n in places)
    passages = tuple(evidence.places[n][0] for n in places)
    return Claim(written.text, quotes, passages, support, written.apart)


def _clauses(text: str) -> list[tuple[str, str]]:
    """``text`` as two clauses, wherever it may join them."""
    return [cut for cut in halves(text) if all(len(content_words(c)) >= CLAUSE_WORDS for c in cut)]


def _by_words(
    written: WrittenSentence,
    clauses: Sequence[tuple[str, str]],
    evidence: Evidence,
    scores: Mapping[str, Sequence[float]],
) -> tuple[list[int], float]:
    """The sentence of the evidence that bears ``written`` out best, or the two of its clauses.
    ``scores``: of each text the support by each sentence of the evidence."""
    if not evidence.texts:
        return [], 0.0
    hint = [HINTED * evidence.hinted(n, written.numbers) for n in range(len(evidence.texts))]

    def best(text: str) -> tuple[float, int]:
        row = scores[text]
        place = max(range(len(row)), key=lambda n: row[n] + hint[n])
        return row[place], place

    ways = [[best(written.said)], *([best(part) for part in cut] for cut in clauses)]
    chosen = max(ways, key=lambda way: min(score for score, _ in way))
    return [place for _, place in chosen], min(score for score, _ in chosen)


def _covering(
    written: WrittenSentence, evidence: Evidence, scores: Sequence[float]
) -> tuple[list[int], str]:
    """The few sentences of the evidence that together hold what ``written`` says, the best first;
    and what of it stands nowhere near them, if anything."""
    if not evidence.texts:
        return [], "nothing was read"
    parts = parts_of(written.said, evidence.question)
    holds = [held(parts, text) for text in evidence.texts]
    hint = [HINTED * evidence.hinted(n, written.numbers) for n in range(len(holds))]
    first = max(range(len(holds)), key=lambda n: len(holds[n]) + scores[n] + hint[n])
    document = evidence.places[first][0].hit.document_id
    places, left = [first], parts - holds[first]

    def gain(n: int) -> tuple[int, bool, float]:
        same = evidence.places[n][0].hit.document_id == document
        return len(holds[n] & left), same, scores[n]

    while left and len(places) < MOST_CITED:
        best = max(range(len(holds)), key=gain)
        if not holds[best] & left:
            break
        places.append(best)
        left -= holds[best]
    around = evidence.around(places)
    missing = invented(written.said, around, capitals=evidence.capitals)
    return places, f"no passage has {', '.join(missing)}" if missing else ""
