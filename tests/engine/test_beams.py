"""Beam search against transformers' `generate`, token for token, and in the engine's company."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.engine.conftest import (
    EOS,
    Outcome,
    byte_vocabulary,
    drive,
    generate,
    request,
)
from tests.engine.oracles import causal_lm, generated

from lmstack.core import ContextLengthError, Grammar, InputError
from lmstack.engine import Engine, TokenEvent
from lmstack.model import Transformer

MakeEngine = Callable[..., Engine]
PROMPTS = [[5], [1, 2, 3], list(range(40, 60))]


@pytest.fixture(scope="module")
def oracle(module: Transformer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return causal_lm(module, tmp_path_factory.mktemp("oracle"))


def texts(outcome: Outcome) -> list[list[int]]:
    """Tokens of each choice."""
    found: dict[int, list[int]] = {}
    for event in outcome.events:
        assert event.error is None, event.error
        assert event.token is not None
        found.setdefault(event.choice, []).append(event.token)
    return [found[i] for i in sorted(found)]


def by_transformers(oracle: Any, prompt: list[int], end_bias: float, **options: Any):
    names = {"forced_eos_id": "forced_eos_token_id", "n": "num_return_sequences"}
    names |= {"max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens"}
    given = {names.get(k, k): v for k, v in options.items()}
    bias = [[[EOS], float(end_bias)]] if end_bias else None
    return generated(oracle, prompt, eos_token_id=EOS, sequence_bias=bias, **given)[0]


# A bias on the end token makes texts of different lengths finish, so that the rules differ.
SETTINGS: list[dict[str, Any]] = [
    {"num_beams": 2},
    {"num_beams": 4, "n": 4},
    {"num_beams": 3, "n": 3, "early_stopping": True},
    {"num_beams": 3, "n": 2, "early_stopping": "never"},
    {"num_beams": 4, "n": 4, "length_penalty": 2.0},
    {"num_beams": 4, "n": 4, "length_penalty": 2.0, "early_stopping": "never"},
    {"num_beams": 4, "n": 4, "length_penalty": -1.5},
    {"num_beams": 4, "n": 4, "length_penalty": 0.0, "early_stopping": "never"},
    {"num_beams": 5, "n": 5, "repetition_penalty": 1.4},
    {"num_beams": 5, "n": 5, "no_repeat_ngram_size": 2},
    {"num_beams": 3, "n": 3, "min_tokens": 5},
    {"num_beams": 3, "n": 3, "forced_eos_id": EOS},
    {"num_beams": 8, "n": 8, "max_tokens": 3},
]


@pytest.mark.parametrize("end_bias", [pytest.param(0, marks=pytest.mark.long), 4.0, 6.0])
@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_beam_search_equals_transformers(
    make_engine: MakeEngine, oracle: Any, options: dict[str, Any], end_bias: float
) -> None:
    options = {"max_tokens": 10} | options
    for prompt in PROMPTS:
        bias = {"logit_bias": {EOS: end_bias}} if end_bias else {}
        got = texts(generate(make_engine(num_blocks=128), prompt, **options, **bias))
        assert got == by_transformers(oracle, prompt, end_bias, **options)


def test_the_settings_above_make_a_difference(make_engine: MakeEngine) -> None:
    """Equality means something only if lengths, ends and orders really vary."""
    bias = {"logit_bias": {EOS: 6.0}}
    found = []
    for options in SETTINGS:
        options = {"max_tokens": 10} | options | bias
        found.append(texts(generate(make_engine(), [1, 2, 3], **options)))
    assert len({len(t) for many in found for t in many}) > 4
    assert any(many[0][-1] == EOS and len(many[0]) < 10 for many in found)
    assert len({str(many) for many in found}) > 6


def test_beams_keep_to_a_grammar(make_engine: MakeEngine) -> None:
    grammar = Grammar("regex", "[ab]{2}(c|dd)")
    outcome = generate(make_engine(), [1], num_beams=4, n=4, grammar=grammar, max_tokens=9)
    data = byte_vocabulary().token_bytes
    assert len(set(map(tuple, texts(outcome)))) == 4
    found = [b"".join(data[t] for t in text).decode() for text in texts(outcome)]
    assert all(re.fullmatch("[ab]{2}(c|dd)", text) for text in found)


def test_more_texts_than_a_grammar_has_are_refused(make_engine: MakeEngine) -> None:
    outcome = generate(make_engine(), [1], num_beams=3, n=3, grammar=Grammar("regex", "a|b"))
    assert isinstance(outcome.last.error, InputError)
    assert outcome.last.error.param == "n"


def test_prefix_function_equals_that_of_transformers(make_engine: MakeEngine, oracle: Any) -> None:
    def allowed(tokens: Any) -> list[int]:
        return [(int(tokens[-1]) * 7 + i) % 250 for i in range(5)]

    outcome = Outcome()
    engine = make_engine()
    asked = request([1, 2, 3], outcome, num_beams=3, n=3, max_tokens=8)
    engine.submit(dataclasses.replace(asked, allowed_tokens=allowed))
    drive(engine)
    expected = generated(
        oracle,
        [1, 2, 3],
        num_beams=3,
        num_return_sequences=3,
        max_new_tokens=8,
        eos_token_id=EOS,
        prefix_allowed_tokens_fn=lambda _, ids: allowed(ids),
    )[0]
    assert texts(outcome) == expected


def test_logprobs_of_each_token_are_those_of_the_forward_pass(
    module: Transformer, make_engine: MakeEngine
) -> None:
    prompt = [1, 2, 3]
    outcome = generate(make_engine(), prompt, num_beams=3, n=2, max_tokens=6, logprobs=2)
    for text, events in zip(texts(outcome), by_choice(outcome), strict=True):
        with torch.no_grad():
            logits = module(torch.tensor([prompt + text[:-1]])).logits
        assert logits is not None
        rows = logits[0, len(prompt) - 1 :].log_softmax(-1)
        for row, token, event in zip(rows, text, events, strict=True):
            assert event.score is not None
            assert event.score.logprob == pytest.approx(float(row[token]), abs=1e-4)
            assert [t for t, _ in event.score.top] == row.topk(2).indices.tolist()


def by_choice(outcome: Outcome) -> list[list[TokenEvent]]:
    count = max(e.choice for e in outcome.events) + 1
    return [[e for e in outcome.events if e.choice == i] for i in range(count)]


def test_beams_share_the_blocks_of_what_they_have_in_common(make_engine: MakeEngine) -> None:
    engine = make_engine(block_size=4, num_blocks=64)
    engine.submit(request(range(40), num_beams=4, max_tokens=8))
    for _ in range(3):
        engine.step()
    # Ten blocks of prompt once, and one of its own for each beam.
    assert engine.stats().num_blocks_used == 14
    drive(engine)
    assert engine.stats().num_blocks_used == 0


def test_searches_that_hold_all_places_do_not_keep_another_key_waiting(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(max_sequences=8, num_blocks=600)
    wanted = generate(make_engine(), [1, 2, 3], max_tokens=4)
    for number in range(2):
        engine.submit(request([number, 9], id=f"s{number}", client="a", max_tokens=99, num_beams=4))
    for _ in range(12):
        engine.step()
    outcome = Outcome()
    engine.submit(request([1, 2, 3], outcome, id="short", client="b", max_tokens=4))
    for _ in range(6):
        engine.step()
    assert outcome.tokens == wanted.tokens
    assert engine.stats().num_running >= 8


def test_search_of_another_key_gets_its_places_and_no_text_changes(
    make_engine: MakeEngine,
) -> None:
    """One of the searches that hold all places makes room as a whole, and goes on later."""
    asked = {
        name: ([number, 9], client)
        for number, (name, client) in enumerate({"a0": "a", "a1": "a", "b": "b"}.items())
    }
    options: dict[str, Any] = {"max_tokens": 60, "num_beams": 4, "ignore_eos": True}
    alone = {n: texts(generate(make_engine(), p, **options)) for n, (p, _) in asked.items()}
    engine = make_engine(max_sequences=8, num_blocks=600)
    outcomes = {name: Outcome() for name in asked}
    begun: list[str] = []

    def submit(name: str) -> None:
        prompt, client = asked[name]
        engine.submit(request(prompt, outcomes[name], id=name, client=client, **options))

    submit("a0")
    submit("a1")
    for _ in range(5):
        engine.step()
    submit("b")
    while engine.step():
        begun += [n for n, o in outcomes.items() if o.done and n not in begun]
    begun += [n for n, o in outcomes.items() if o.done and n not in begun]
    assert engine.stats().num_preemptions >= 4
    assert begun.index("b") < begun.index("a1")
    assert {name: texts(outcome) for name, outcome in outcomes.items()} == alone


@pytest.mark.parametrize("steps", range(1, 7))
def test_cancelling_beams_at_any_stage_frees_their_blocks(
    make_engine: MakeEngine, steps: int
) -> None:
    engine = make_engine(max_batch_tokens=8, max_sequences=8)
    engine.submit(request(range(20), id="a", num_beams=4, max_tokens=30))
    for _ in range(steps):
        engine.step()
    engine.cancel("a")
    assert not engine.step()
    assert engine.stats().num_blocks_used == 0
    assert engine.stats().num_finished == {"cancelled": 1}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_beams": 9}, "num_beams 9 is more than the 8 streams"),
        ({"num_beams": 8, "max_tokens": 60}, "each text of this search may have 32"),
    ],
)
def test_searches_that_can_never_fit_are_refused(
    make_engine: MakeEngine, options: dict[str, Any], says: str
) -> None:
    engine = make_engine(max_sequences=8, num_blocks=64, block_size=4)
    with pytest.raises(InputError, match=says) as caught:
        engine.submit(request([1] * 10, **options))
    assert isinstance(caught.value, ContextLengthError) == ("max_tokens" in options)
