"""Which passages bear a written sentence out, and how far."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lmstack.rag.answer.checking import Source, check
from lmstack.rag.answer.prompting import Written
from lmstack.rag.answer.quoting import Passage
from lmstack.rag.answer.units import read_units
from lmstack.rag.retrieve.hybrid import Hit


def _source(number: int, text: str) -> Source:
    hit = Hit(
        number, 1.0, f"{number}.md", 0, len(text), text, None, {}, number, number, "", (), "", 0.5
    )
    return Source(hit.path, text, (Passage(hit, text, 0, tuple(read_units(text))),))


class _Known:
    """Support of a claim by a piece of evidence, as it is given; 0 otherwise."""

    def __init__(self, support: dict[tuple[str, str], float]) -> None:
        self._support = support

    def score(self, claims: Sequence[str], evidence: Sequence[str]) -> list[list[float]]:
        return [[self._support.get((c, e), 0.0) for e in evidence] for c in claims]


async def test_a_sentence_is_not_borne_out_by_a_passage_that_it_does_not_cite():
    said = "The ferry sails."
    sources = [_source(1, "Cows graze."), _source(2, "The ferry sails.")]
    scorer = _Known({(said, "The ferry sails."): 1.0})
    (of_other,) = await check(Written(said, (1,)), sources, scorer, 0.5)
    assert (of_other.quotes, of_other.support) == ((), 0.0)
    for cited in ((2,), (1, 2), ()):
        (claim,) = await check(Written(said, cited), sources, scorer, 0.5)
        assert [quote.hit.path for quote in claim.quotes] == ["2.md"]


async def test_support_of_a_sentence_of_two_clauses_is_that_of_the_worse():
    one, other = "The ferry sails daily", "the crew is small."
    scorer = _Known({(one, "It sails daily."): 0.9, (other, "Its crew is small."): 0.6})
    sources = [_source(1, "It sails daily. Its crew is small.")]
    (claim,) = await check(Written(f"{one}, {other}", (1,)), sources, scorer, 0.5)
    assert len(claim.quotes) == 2
    assert claim.support == pytest.approx(0.6)
