"""A second model that drafts: right or wrong, short of blocks or broken, no token changes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.conftest import Outcome, byte_vocabulary, drive, generate, request, tiny_config

from lmstack.core import InputError
from lmstack.engine import Engine, EngineConfig, GrammarVocabulary
from lmstack.engine.speculative.draft_model import CATCH_UP, check_vocabularies
from lmstack.model import Transformer

PROMPT = tuple(range(60, 80))


def made(seed: int, **changes: object) -> Transformer:
    torch.manual_seed(seed)
    module = Transformer(tiny_config(**changes))
    module.reset_parameters(std=0.35)
    return module.eval()


@pytest.fixture(scope="module")
def stranger() -> Transformer:
    """Says something else nearly always."""
    return made(8, num_layers=1)


def engine_of(module: Transformer, draft: Transformer | None, **settings: object) -> Engine:
    values = {"block_size": 4, "num_blocks": 200, "speculation": "always"} | settings
    config = EngineConfig.from_mapping(values)
    return Engine(module, byte_vocabulary(), config, draft=draft)


def drafting(engine: Engine) -> Any:
    return engine._speculation._model


def alone(module: Transformer, prompt: tuple[int, ...], options: dict[str, Any]) -> list[int]:
    return generate(engine_of(module, None, speculation="off"), prompt, **options).tokens


rules = st.one_of(
    st.just({"temperature": 0.0}),
    st.just({"temperature": 0.0, "frequency_penalty": 1.2, "no_repeat_ngram_size": 2}),
    st.integers(0, 4).map(lambda s: {"temperature": 0.8, "top_p": 0.9, "seed": s}),
)
jobs = st.tuples(
    st.tuples(st.sampled_from([(), PROMPT]), st.integers(0, 250)).map(lambda x: (*x[0], x[1])),
    st.integers(1, 20),
    rules,
    st.integers(0, 5),
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(jobs, min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from([1, 3, 8]),
    st.sampled_from([16, 22, 60]),
)
def test_every_token_is_what_it_would_be_without_a_draft_model(
    module: Transformer,
    stranger: Transformer,
    jobs: list[Any],
    same: bool,
    draft_tokens: int,
    num_blocks: int,
) -> None:
    engine = engine_of(
        module,
        module if same else stranger,
        draft_tokens=draft_tokens,
        num_blocks=num_blocks,
        max_sequences=4,
        max_batch_tokens=16,
    )
    outcomes = [Outcome() for _ in jobs]
    step = 0
    while step <= 5 or not all(o.done for o in outcomes):
        for i, (prompt, count, options, delay) in enumerate(jobs):
            if delay == step:
                values = {"max_tokens": count} | options
                engine.submit(request(prompt, outcomes[i], id=str(i), **values))
        engine.step()
        model = drafting(engine)
        model._blocks.check([r.table for r in model._read.values()])
        step += 1
        assert step < 3000
    drive(engine)
    for outcome, (prompt, count, options, _) in zip(outcomes, jobs, strict=True):
        assert outcome.tokens == alone(module, prompt, {"max_tokens": count} | options)
    assert drafting(engine).num_blocks_used == 0
    assert engine.stats().num_blocks_used == 0


def test_a_model_that_drafts_for_itself_is_always_right(module: Transformer) -> None:
    """So all that it reads, forgets and reads again is where it should be."""
    engine = engine_of(module, module, draft_tokens=4)
    outcome = Outcome()
    engine.submit(request(PROMPT, outcome, max_tokens=41, ignore_eos=True))
    steps = drive(engine)
    stats = engine.stats()
    assert outcome.tokens == alone(module, PROMPT, {"max_tokens": 41, "ignore_eos": True})
    assert stats.num_accepted_tokens == stats.num_draft_tokens > 0
    assert steps <= 1 + 40 / 5 + 2


def test_a_long_prompt_is_read_in_parts_before_there_are_drafts(module: Transformer) -> None:
    long = made(7, max_positions=1024)
    prompt = tuple(i % 250 for i in range(CATCH_UP + CATCH_UP // 2))
    options = {"max_tokens": 8, "ignore_eos": True, "no_repeat_ngram_size": 2}
    engine = engine_of(long, long, max_batch_tokens=512)
    outcome = Outcome()
    engine.submit(request(prompt, outcome, **options))
    engine.step()
    engine.step()
    (read,) = drafting(engine)._read.values()
    assert read.count == CATCH_UP
    drive(engine)
    assert outcome.tokens == alone(long, prompt, options)
    assert outcome.last.accepted_tokens > 0


def test_what_is_longer_than_the_draft_models_window_goes_on_without(module: Transformer) -> None:
    short = made(7, max_positions=32)
    options = {"max_tokens": 40, "ignore_eos": True}
    engine = engine_of(module, short)
    assert generate(engine, PROMPT, **options).tokens == alone(module, PROMPT, options)


def test_a_draft_model_that_fails_is_no_longer_asked(
    module: Transformer, stranger: Transformer, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_of(module, stranger)
    model = drafting(engine)

    def fails(*_: object) -> Any:
        raise RuntimeError("broken weights")

    model._executor.hidden = fails
    options = {"max_tokens": 20, "ignore_eos": True}
    assert generate(engine, PROMPT, **options).tokens == alone(module, PROMPT, options)
    assert drafting(engine) is None
    assert model.num_blocks_used == 0
    assert sum("no longer asked" in r.message for r in caplog.records) == 1


def test_auto_gives_up_on_a_stranger_and_tries_again_ever_later(
    module: Transformer, stranger: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(module, stranger, speculation="auto")
    cost, model = engine._scheduler.budget.cost, drafting(engine)
    monkeypatch.setattr(cost, "_costs", [0.005, 0.05, 0.0, 0.0])
    monkeypatch.setattr(cost, "observe", lambda *_: None)
    asked: list[int] = []
    propose = model.propose

    def spied(sequences: Any, count: int) -> Any:
        asked.append(sequences[0].num_output)
        return propose(sequences, count)

    monkeypatch.setattr(model, "propose", spied)
    generate(engine, PROMPT, max_tokens=220, ignore_eos=True, no_repeat_ngram_size=2)
    gaps = [b - a for a, b in itertools.pairwise(asked)]
    trials = [gap for gap in gaps if gap > 16]
    assert len(asked) < 60
    assert len(trials) >= 2, asked
    assert trials == sorted(trials)


def test_other_tokens_are_refused_with_what_differs() -> None:
    ours = byte_vocabulary()
    check_vocabularies(ours, byte_vocabulary())
    tokens = list(ours.token_bytes)
    tokens[7] = b"?!"
    for theirs, what in (
        (GrammarVocabulary(tokens, ours.eos_ids, ours.special_ids), "the first of them 7"),
        (GrammarVocabulary(tokens[:250], frozenset()), "has 250 tokens, the model has 260"),
        (replace(ours, special_ids=frozenset({5})), "the first of them 5"),
    ):
        with pytest.raises(InputError, match=what) as caught:
            check_vocabularies(ours, theirs)
        assert caught.value.param == "draft"


def test_a_model_that_writes_no_text_cannot_draft(module: Transformer) -> None:
    with pytest.raises(InputError, match="as a decoder"):
        engine_of(module, Transformer(tiny_config(causal=False)))
    with pytest.raises(InputError, match="has 250 tokens"):
        engine_of(module, made(1, vocab_size=250))
