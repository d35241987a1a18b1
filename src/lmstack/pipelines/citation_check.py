"""The check that `lmstack ask` has of its citations, for a reward."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from lmstack.core import Embedder
from lmstack.rag import AnswerConfig, Hit, OverlapSupport
from lmstack.rag.answer.quoting import Passage
from lmstack.rag.answer.support import Evidence, check, source_of
from lmstack.rag.answer.units import read_units
from lmstack.rag.answer.writing import SentenceReader
from lmstack.train.rewards.reward import CitedClaim

__all__ = ["CitationCheck"]


class CitationCheck:
    """Claims read and checked as those of an answer are (`lmstack.rag`). ``least``: the support
    that is enough."""

    def __init__(self, embedder: Embedder, least: float = AnswerConfig.min_support) -> None:
        self._scorer, self._least = OverlapSupport(embedder), least

    def claims(self, answer: str, sources: Sequence[str]) -> list[CitedClaim]:
        """The sentences of ``answer``, each checked against the sources that it cites, or against
        all where it cites none: what is learned is to cite, so a wrong number is no hint here."""
        return asyncio.run(self._claims(answer, sources))

    async def _claims(self, answer: str, sources: Sequence[str]) -> list[CitedClaim]:
        shown = [source_of(_passage(text, place)) for place, text in enumerate(sources)]
        reader = SentenceReader(len(sources))
        found = []
        for written in (*reader.feed(answer), *reader.end()):
            cited = [shown[number - 1] for number in written.numbers] or shown
            claim = await check(written, Evidence(cited), self._scorer, self._least)
            found.append(CitedClaim(claim.text, written.numbers, bool(claim.quotes)))
        return found


def _passage(text: str, place: int) -> Passage:
    """A source as a passage that was found."""
    hit = Hit(
        rank=place,
        score=0.0,
        path=f"source {place + 1}",
        start=0,
        end=len(text),
        text=text,
        page=None,
        ranks={},
        chunk_id=place,
        document_id=place,
        title="",
        section=(),
        prefix="",
        similarity=None,
    )
    return Passage(hit, text, 0, tuple(read_units(text)))
