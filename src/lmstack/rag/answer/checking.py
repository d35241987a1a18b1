"""What a model wrote, sentence by sentence, beside the sentences of the passages.

A sentence is cited to what bears it out best, in whatever passage that stands: the numbers that a
small model writes are often wrong where its sentence is right, so they only decide between equals.
What is no quotation is borne out if a model that can tell says so of the few sentences that
together hold its words, once all its numbers and names are there. Without such a model words and
vectors decide: one sentence bears it out, or two, where it joins two clauses. Does not cover how
far words bear a sentence out (`support`), nor how a model is asked (`writing`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from lmstack.rag.answer.prompting import WrittenSentence
from lmstack.rag.answer.quoting import Passage, Quote
from lmstack.rag.answer.support import SupportScorer, halves, held, invented, parts_of
from lmstack.rag.chunk import embedded_text
from lmstack.rag.words import content_words

__all__ = ["Claim", "Evidence", "Judge", "Source", "check", "source_of"]

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
