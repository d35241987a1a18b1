"""What a model wrote, sentence by sentence, beside the sentences of the passages it cites.

A sentence is supported by one sentence of them that bears it out; or by two, where it joins two
clauses and each is borne out by one. Does not cover how far a sentence bears another out
(`support`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from lmstack.rag.answer.prompting import Written, space_of
from lmstack.rag.answer.quoting import Passage, Quote
from lmstack.rag.answer.support import SupportScorer, halves
from lmstack.rag.chunk import embedded_text
from lmstack.rag.sentences import split_prose
from lmstack.rag.words import content_words

__all__ = ["Claim", "Source", "check", "source_of"]

# Words with a meaning of their own that a clause has at least: fewer state nothing.
CLAUSE_WORDS = 2


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


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence that was written, ``apart`` from what is before it by that white space.
    ``quotes`` bear it out, each of the passage at its place in ``passages``; both are empty where
    nothing does."""

    text: str
    quotes: tuple[Quote, ...]
    passages: tuple[Passage, ...]
    support: float
    apart: str = " "

    @property
    def states(self) -> bool:
        """Whether it has words enough to say something: "Summary:" has not."""
        return len(content_words(self.text)) >= CLAUSE_WORDS

    @property
    def note(self) -> Source:
        """As a model is shown it, to write on from it."""
        return Source(self.passages[0].hit.path, self.text, self.passages)


async def check(
    written: Written, sources: Sequence[Source], scorer: SupportScorer, least: float
) -> list[Claim]:
    """The sentences of ``written``; ``least``: the support that is enough."""
    spans = split_prose(written.text, 0, len(written.text))
    texts = [written.text[a:b] for a, b in spans]
    gaps = [written.text[a:b] for (_, a), (b, _) in itertools.pairwise(spans)]
    apart = [written.apart, *map(space_of, gaps)]
    pool = _evidence(written, sources)
    evidence = [passage.point(passage.units[n]) for passage, n in pool]
    whole = await asyncio.to_thread(_best, scorer, texts, evidence)
    found: dict[int, list[tuple[float, int]]] = {
        n: [best] for n, best in enumerate(whole) if best[0] >= least
    }
    joined = {n: _joined(text) for n, text in enumerate(texts) if n not in found}
    parts = list({part for cuts in joined.values() for cut in cuts for part in cut})
    of_part = dict(zip(parts, await asyncio.to_thread(_best, scorer, parts, evidence), strict=True))
    for n, cuts in joined.items():
        borne = [[of_part[part] for part in cut] for cut in cuts]
        best = max(borne, key=min, default=[(0.0, -1)])
        if min(best)[0] >= least:
            found[n] = best
    claims = []
    for n, text in enumerate(texts):
        by = [(pool[place][0], pool[place][1]) for _, place in found.get(n, ())]
        quotes = tuple(passage.quote(unit, unit, unit) for passage, unit in by)
        support = min(found[n])[0] if n in found else whole[n][0]
        claims.append(Claim(text, quotes, tuple(passage for passage, _ in by), support, apart[n]))
    return claims


def _evidence(written: Written, sources: Sequence[Source]) -> list[tuple[Passage, int]]:
    """The sentences of the passages that are cited, or of all where none is: (passage, unit)."""
    cited = {
        (passage.hit.document_id, passage.hit.start): passage
        for number, source in enumerate(sources, 1)
        if not written.numbers or number in written.numbers
        for passage in source.passages
    }
    return [(passage, n) for passage in cited.values() for n in passage.readable]


def _best(
    scorer: SupportScorer, texts: Sequence[str], evidence: Sequence[str]
) -> list[tuple[float, int]]:
    """Of each text the highest support, and the place in ``evidence`` that it comes from."""
    if not texts or not evidence:
        return [(0.0, -1)] * len(texts)
    rows = scorer.score(texts, evidence)
    best = [max(range(len(row)), key=row.__getitem__) for row in rows]
    return [(row[n], n) for row, n in zip(rows, best, strict=True)]


def _joined(text: str) -> list[tuple[str, str]]:
    """``text`` as two clauses, wherever it may join them."""
    return [cut for cut in halves(text) if all(len(content_words(c)) >= CLAUSE_WORDS for c in cut)]
