"""Self-consistency: one request, votes by what an answer says, and ties that are called so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.errors import about

from lmstack.core import (
    Delta,
    InputError,
    Message,
    Request,
    SamplingParams,
    ScriptedModel,
    UnsupportedError,
    Usage,
)
from lmstack.prompting import ChainOfThought, normalized, self_consistency


class Several(ScriptedModel):
    """Its choices differ."""

    def __init__(self, texts: list[str], cut: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.texts, self.cut = texts, cut

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.requests.append(request)
        for index in range(request.sampling.n):
            yield Delta(self.texts[index], index)
            finish: Any = "length" if index in self.cut else "stop"
            yield Delta("", index, finish_reason=finish)
        yield Delta(usage=Usage(10, 5 * request.sampling.n, 0))


class NoChoices(ScriptedModel):
    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        if request.sampling.n > 1:
            raise UnsupportedError("no n", param="n")
        async for delta in super().stream(request):
            yield delta


def ask(**sampling: Any) -> Request:
    return Request((Message("user", "3 + 4?"),), sampling=SamplingParams(**sampling))


async def test_all_samples_are_one_request_and_votes_have_their_shares() -> None:
    model = Several(["so\nAnswer: 7", "Answer: **7.0**", "Answer: 12", "none", "Answer: 7!"])
    votes = await self_consistency(model, ask(), 5, chain=ChainOfThought())
    assert [(v.answer, v.count, v.share) for v in votes.votes] == [("7", 3, 0.6), ("12", 1, 0.2)]
    assert (votes.answer, votes.is_tied, votes.unparsed, votes.samples) == ("7", False, 1, 5)
    assert votes.texts == tuple(model.texts)
    [request] = model.requests
    assert request.sampling.n == 5
    assert votes.usage == Usage(10, 25, 0)


async def test_a_tie_has_leaders_and_no_answer() -> None:
    votes = await self_consistency(Several(["b", "a", "A.", '"b"', "c"]), ask(), 5)
    assert (votes.leaders, votes.is_tied, votes.answer) == (("b", "a"), True, None)


async def test_samples_that_were_cut_are_not_parsed() -> None:
    votes = await self_consistency(Several(["12", "1", "1"], cut=(1, 2)), ask(), 3)
    assert (votes.answer, votes.unparsed) == ("12", 2)
    chain = ChainOfThought()
    model = Several(["Answer: 1", "Answer: 12"], cut=(0,))
    assert (await self_consistency(model, ask(), 2, chain=chain)).unparsed == 1


async def test_no_answer_at_all_is_no_tie() -> None:
    votes = await self_consistency(Several(["", " "]), ask(), 2)
    assert (votes.leaders, votes.is_tied, votes.answer, votes.unparsed) == ((), False, None, 2)


async def test_a_provider_without_n_is_asked_as_often_with_other_seeds() -> None:
    model = NoChoices(["7", "7", "8"])
    votes = await self_consistency(model, ask(seed=40), 3)
    assert (votes.answer, votes.votes[0].count) == ("7", 2)
    assert [r.sampling.seed for r in model.requests] == [40, 41, 42]
    assert {r.sampling.n for r in model.requests} == {1}
    assert votes.usage.completion_tokens == 3


async def test_without_a_seed_none_is_made_up() -> None:
    model = NoChoices(["7", "7"])
    await self_consistency(model, ask(), 2)
    assert [r.sampling.seed for r in model.requests] == [None, None]


async def test_as_many_samples_as_are_allowed_may_be_drawn() -> None:
    for n in (2, 16):
        assert (await self_consistency(Several(["7"] * n), ask(), n)).samples == n
    assert (await self_consistency(Several(["7"] * 5), ask())).samples == 5


async def test_a_way_of_ones_own_to_find_comes_before_the_chain_s() -> None:
    found = await self_consistency(
        Several(["Answer: 1", "Answer: 2"]),
        ask(),
        2,
        chain=ChainOfThought(),
        extract=lambda text, finish: finish,
    )
    assert (found.answer, found.unparsed) == ("stop", 0)


async def test_other_errors_are_raised() -> None:
    error = UnsupportedError("no top_k", param="top_k")
    model = ScriptedModel([error])
    with pytest.raises(UnsupportedError, check=about("top_k")) as caught:
        await self_consistency(model, ask(), 3)
    assert caught.value is error
    assert len(model.requests) == 1


async def test_equal_samples_and_odd_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="temperature is 0") as caught:
        await self_consistency(ScriptedModel(), ask(temperature=0), 3)
    assert caught.value.param == "temperature"
    for n in (1, 17):
        with pytest.raises(InputError, match=f"n is {n}", check=about("n")):
            await self_consistency(ScriptedModel(), ask(), n)


async def test_ones_own_ways_to_find_and_compare() -> None:
    votes = await self_consistency(
        Several(["x1", "y2", "x2"]),
        ask(),
        3,
        extract=lambda text, finish: text[1:],
        normalize=lambda answer: answer,
    )
    assert [(v.answer, v.count) for v in votes.votes] == [("2", 2), ("1", 1)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", " paris. "),
        ('"Paris"', "**PARIS**"),
        ("New  York", "new york!"),
        ("1,234", "1234"),
        ("11.0", "11"),
        ("011", "11"),
        (".5", "0.50"),
        ("-3", "\u22123.0"),
        ("+7", "7."),
        ("-0", "0"),
        ("７", "7"),
        ('"12."', "12"),
        ("9" * 60 + ".10", "9" * 60 + ".1"),
    ],
)
def test_answers_that_say_the_same_are_equal(one: str, other: str) -> None:
    assert normalized(one) == normalized(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5", ".5"),
        ("3", "-3"),
        ("12,34", "1234"),
        ("1.5", "15"),
        ("10", "1"),
        ("a b", "ab"),
        ("+", "-"),
        ("3/4", "34"),
    ],
)
def test_answers_that_do_not_are_not(one: str, other: str) -> None:
    assert normalized(one) != normalized(other)
