"""Which passages bear a written sentence out, and how far."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lmstack.rag.answer.quoting import Passage
from lmstack.rag.answer.support import (
    Claim,
    Evidence,
    Judge,
    Source,
    SupportScorer,
    WrittenSentence,
    check,
)
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


async def _checked(
    said: str,
    sources: Sequence[Source],
    scorer: SupportScorer,
    *cited: int,
    judge: Judge | None = None,
) -> Claim:
    return await check(WrittenSentence(said, cited), Evidence(sources), scorer, 0.5, judge)


async def test_a_sentence_is_cited_to_what_bears_it_out_whatever_number_it_has():
    said = "The ferry sails."
    sources = [_source(1, "Cows graze."), _source(2, said), _source(3, said)]
    scorer = _Known({(said, said): 1.0})
    for cited, path in (((1,), "2.md"), ((), "2.md"), ((3,), "3.md"), ((1, 3), "3.md")):
        claim = await _checked(said, sources, scorer, *cited)
        assert [quote.hit.path for quote in claim.quotes] == [path]


async def test_support_of_a_sentence_of_two_clauses_is_that_of_the_worse():
    one, other = "The ferry sails daily", "the crew is small."
    scorer = _Known({(one, "It sails daily."): 0.9, (other, "Its crew is small."): 0.6})
    sources = [_source(1, "It sails daily. Its crew is small.")]
    claim = await _checked(f"{one}, {other}", sources, scorer, 1)
    assert len(claim.quotes) == 2
    assert claim.support == pytest.approx(0.6)


TOLD = "Ferry 7 leaves at noon. The pier is wet. Tickets cost 12 euros."


@pytest.mark.parametrize(("probability", "shown"), [(0.9, True), (0.4, False), (None, False)])
async def test_the_model_is_asked_about_what_is_no_quotation(probability, shown):
    asked: list[tuple[str, str]] = []

    async def judge(sentence: str, evidence: str) -> float | None:
        asked.append((sentence, evidence))
        return probability

    said = "- For 12 euros ferry 7 departs midday."
    claim = await _checked(said, [_source(1, TOLD)], _Known({}), judge=judge)
    assert asked == [(said[2:], f"{TOLD[:23]}\nTickets cost 12 euros.")]
    assert bool(claim.quotes) == shown
    assert bool(claim.reason) != shown
    if shown:  # cited to the sentences that hold what it says, and to no other
        assert [q.quote for q in claim.quotes] == [TOLD[:23], "Tickets cost 12 euros."]
        assert claim.support == 0.9


async def test_a_quotation_is_borne_out_whatever_the_model_says():
    async def judge(*_: str) -> float:
        raise AssertionError("it was asked")

    said = "The pier is wet."
    claim = await _checked(said, [_source(1, TOLD)], _Known({(said, said): 1.0}), judge=judge)
    assert [quote.quote for quote in claim.quotes] == [said]


async def test_words_decide_where_the_model_does_not_say():
    async def judge(*_: str) -> None:
        return None

    said = "The ferry 7 leaves at noon."
    known = _Known({(said, TOLD[:23]): 0.7})
    claim = await _checked(said, [_source(1, TOLD)], known, judge=judge)
    assert (claim.support, [quote.quote for quote in claim.quotes]) == (0.7, [TOLD[:23]])


@pytest.mark.parametrize("said", ["Ferry 8 leaves at noon.", "The ferry Ulla leaves at noon."])
async def test_the_model_is_not_asked_to_believe_numbers_and_names_of_its_own(said):
    async def judge(*_: str) -> float:
        raise AssertionError("it was asked")

    known = _Known({(said, TOLD[:23]): 0.9})
    claim = await _checked(said, [_source(1, TOLD)], known, judge=judge)
    assert claim.quotes == ()
    assert said.split()[1 if "8" in said else 2] in claim.reason


async def test_numbers_and_names_of_the_question_are_not_invented():
    async def judge(*_: str) -> float:
        return 1.0

    evidence = Evidence([_source(1, TOLD)], "When does Ulla, ferry 7 of 2024, leave?")
    said = WrittenSentence("The Ulla of 2024 leaves at noon.")
    claim = await check(said, evidence, _Known({}), 0.5, judge)
    assert [quote.quote for quote in claim.quotes] == [TOLD[:23]]
