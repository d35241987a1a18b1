"""Constraints on the next token against transformers' logits processors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.conftest import EOS, NUM_TOKENS, Outcome, byte_vocabulary, drive, request
from transformers.generation.logits_process import (
    ForcedEOSTokenLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
)

from lmstack.core import Grammar, InputError
from lmstack.engine import Engine, EngineRequest
from lmstack.engine.decoding.logits_processors import adjust
from lmstack.engine.sequence import Sequence

V = NUM_TOKENS


def made(prompt: list[int], output: list[int], limit: int = 1000, **options: Any) -> Sequence:
    words = options.pop("bad_words", ())
    asked: EngineRequest = dataclasses.replace(request(prompt, **options), bad_words=words)
    sequence = Sequence(asked, byte_vocabulary(), limit)
    for token in output:
        sequence.append(token)
    return sequence


def row(seed: int = 0) -> torch.Tensor:
    return torch.randn(1, V, generator=torch.Generator().manual_seed(seed))


def adjusted(sequence: Sequence) -> torch.Tensor:
    found = row()
    adjust(found, [sequence])
    return found


few = st.lists(st.integers(0, 3), min_size=1, max_size=30)


@settings(max_examples=80, deadline=None)
@given(few, few, st.integers(1, 5))
def test_no_repeat_ngram_equals_transformers(prompt: list[int], output: list[int], n: int) -> None:
    expected = NoRepeatNGramLogitsProcessor(n)(torch.tensor([prompt + output]), row())
    torch.testing.assert_close(adjusted(made(prompt, output, no_repeat_ngram_size=n)), expected)


@settings(max_examples=80, deadline=None)
@given(few, st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=6))
def test_bad_words_equal_transformers(tokens: list[int], words: list[list[int]]) -> None:
    expected = NoBadWordsLogitsProcessor(words, None)(torch.tensor([tokens]), row())
    sequence = made(tokens, [], bad_words=tuple(map(tuple, words)))
    torch.testing.assert_close(adjusted(sequence), expected)


@pytest.mark.parametrize("length", range(5))
def test_min_tokens_equals_transformers(length: int) -> None:
    prompt, output = [1, 2], [3] * length
    process = MinNewTokensLengthLogitsProcessor(2, 3, [EOS])
    expected = process(torch.tensor([prompt + output]), row())
    torch.testing.assert_close(adjusted(made(prompt, output, min_tokens=3)), expected)


@pytest.mark.parametrize("length", range(1, 5))
def test_forced_eos_equals_transformers(length: int) -> None:
    tokens = [3] * length
    expected = ForcedEOSTokenLogitsProcessor(4, EOS)(torch.tensor([[1, *tokens]]), row())
    torch.testing.assert_close(adjusted(made([1], tokens, 4, forced_eos_id=EOS)), expected)


def test_forced_bos_is_the_first_token_and_no_other(make_engine: Callable[..., Engine]) -> None:
    engine, outcome = make_engine(), Outcome()
    engine.submit(request([1, 2], outcome, forced_bos_id=77, forced_eos_id=EOS, max_tokens=5))
    drive(engine)
    assert (outcome.tokens[0], outcome.tokens[-1]) == (77, EOS)
    assert 77 not in outcome.tokens[1:]


def test_nothing_is_forced_into_a_grammar(make_engine: Callable[..., Engine]) -> None:
    engine, outcome = make_engine(), Outcome()
    forced = {"forced_bos_id": 77, "forced_eos_id": 78, "max_tokens": 4}
    engine.submit(request([1], outcome, grammar=Grammar("regex", "[ab]{8}"), **forced))
    drive(engine)
    assert not {77, 78} & set(outcome.tokens)


def test_constraints_that_leave_nothing_fail_that_request_alone(
    make_engine: Callable[..., Engine],
) -> None:
    engine, stuck, fine = make_engine(), Outcome(), Outcome()
    asked = request([1], stuck, id="stuck")
    engine.submit(dataclasses.replace(asked, allowed_tokens=lambda tokens: ()))
    engine.submit(request([2], fine, id="fine"))
    drive(engine)
    assert isinstance(stuck.last.error, InputError)
    assert len(fine.tokens) == 8


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"bad_words": ((V,),)}, "bad_words"),
        ({"bad_words": ((),)}, "bad_words"),
    ],
)
def test_words_that_are_no_tokens_are_refused(
    make_engine: Callable[..., Engine], changes: dict[str, Any], param: str
) -> None:
    with pytest.raises(InputError) as caught:
        make_engine().submit(dataclasses.replace(request([1]), **changes))
    assert caught.value.param == param
