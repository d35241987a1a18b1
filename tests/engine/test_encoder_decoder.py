"""Encoder-decoders: the tokens of transformers, and as indifferent to their company as decoders."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.conftest import Outcome, drive, request, tiny_config
from tests.engine.oracles import new_tokens

from lmstack.core import ContextLengthError, InputError, UnsupportedError
from lmstack.engine import Engine, EngineConfig, EngineRequest, GrammarVocabulary
from lmstack.engine.inbox import members_of
from lmstack.engine.speculative.ngram import PromptLookup
from lmstack.model import REFERENCE_OPS, DenseAttention, ForwardContext, Transformer, load_module

V, START, EOS = 260, 0, 1
SIZES: dict[str, Any] = {
    "vocab_size": V,
    "pad_token_id": 0,
    "eos_token_id": EOS,
    "decoder_start_token_id": START,
}
T5: dict[str, Any] = {
    **SIZES,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
}
BART: dict[str, Any] = {
    **SIZES,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
    "bos_token_id": 2,
    "forced_eos_token_id": None,
}


def made(kind: str) -> Any:
    if kind == "t5":
        config = transformers.T5Config(**T5)
        return transformers.T5ForConditionalGeneration(config)
    if kind == "flan":
        config = transformers.T5Config(
            **T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False
        )
        return transformers.T5ForConditionalGeneration(config)
    return transformers.BartForConditionalGeneration(transformers.BartConfig(**BART))


@pytest.fixture(scope="module", params=["t5", "flan", "bart"])
def pair(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Transformer, Any]:
    """Ours and theirs, with weights wide enough that every token depends on the input."""
    torch.manual_seed(5)
    oracle = made(request.param).eval()
    with torch.no_grad():
        for parameter in oracle.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.4)
    folder = tmp_path_factory.mktemp(request.param)
    oracle.save_pretrained(folder)
    return load_module(folder), oracle


def vocabulary() -> GrammarVocabulary:
    tokens = [b"", b"", *(bytes([i % 256]) for i in range(V - 2))]
    return GrammarVocabulary(tokens, frozenset({EOS}), frozenset({START, EOS}))


def engine_of(module: Transformer, **settings: Any) -> Engine:
    values = {"block_size": 4, "num_blocks": 128, "max_batch_tokens": 64} | settings
    return Engine(module, vocabulary(), EngineConfig.from_mapping(values))


def asked(prompt: Iterable[int], outcome: Outcome, **options: Any) -> EngineRequest:
    return dataclasses.replace(request(prompt, outcome, **options), decoder_ids=(START,))


def generate(engine: Engine, prompt: Iterable[int], **options: Any) -> Outcome:
    outcome = Outcome()
    engine.submit(asked(prompt, outcome, **options))
    drive(engine)
    assert outcome.last.error is None, outcome.last.error
    return outcome


PROMPTS = [[7], [9, 8, 7, 6, 5, EOS], [*range(40, 73), EOS]]
SETTINGS: list[dict[str, Any]] = [
    {"max_tokens": 16},
    {"max_tokens": 16, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
    {"max_tokens": 8, "forced_bos_id": 33, "forced_eos_id": EOS},
    {"max_tokens": 10, "num_beams": 4, "n": 4},
    {"max_tokens": 10, "num_beams": 4, "n": 3, "length_penalty": 2.0, "early_stopping": True},
    {"max_tokens": 10, "num_beams": 3, "n": 3, "early_stopping": "never", "min_tokens": 4},
    {"max_tokens": 8, "num_beams": 3, "forced_bos_id": 33, "forced_eos_id": EOS},
]


@pytest.mark.parametrize(
    ("options", "end_bias"),
    [
        # Without a bias hardly a beam ends, and most of the rules make no difference.
        pytest.param(options, bias, marks=pytest.mark.long if bias == 0 and "n" in options else ())
        for options in SETTINGS
        for bias in (0.0, 4.0)
    ],
    ids=str,
)
def test_tokens_equal_those_of_transformers(
    pair: tuple[Transformer, Any], options: dict[str, Any], end_bias: float
) -> None:
    module, oracle = pair
    bias = {"logit_bias": {EOS: end_bias}} if end_bias else {}
    for prompt in PROMPTS:
        outcome = generate(engine_of(module), prompt, **options, **bias)
        texts = [
            [e.token for e in outcome.events if e.choice == i] for i in range(options.get("n", 1))
        ]
        theirs = {"sequence_bias": [[[EOS], end_bias]]} if end_bias else {}
        assert texts == new_tokens(oracle, prompt, eos_token_id=EOS, **options, **theirs)


def test_drafts_from_the_input_and_the_output_change_no_token(
    pair: tuple[Transformer, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right ones and wrong ones, verified in chunks that look at the encoder's states."""
    module, prompt = pair[0], PROMPTS[2]
    options = {"max_tokens": 40, "ignore_eos": True}
    expected = generate(engine_of(module, speculation="off"), prompt, **options).tokens

    def mentored(self: PromptLookup, count: int) -> tuple[int, ...]:
        place = len(self._text) - len(prompt) - 1
        return (*expected[place : place + count - 1], 99)[: count if place % 3 else 1]

    monkeypatch.setattr(PromptLookup, "follows", mentored)
    engine = engine_of(module, speculation="always", draft_tokens=4)
    assert generate(engine, prompt, **options).tokens == expected
    assert 0 < engine.stats().num_accepted_tokens < engine.stats().num_draft_tokens


jobs = st.lists(
    st.tuples(
        st.sampled_from([(5, 6, 7), (5, 6, 7, 8), tuple(range(20, 45)), (9,)]),
        st.integers(1, 10),
        st.sampled_from(
            [
                {},
                {"temperature": 0.9, "seed": 3},
                {"num_beams": 3, "n": 2},
            ]
        ),
        st.integers(0, 4),
    ),
    min_size=1,
    max_size=6,
)
configs = st.builds(
    EngineConfig,
    block_size=st.sampled_from([1, 4, 16]),
    num_blocks=st.sampled_from([80, 90, 128]),
    max_batch_tokens=st.sampled_from([6, 20, 64]),
    max_sequences=st.sampled_from([3, 6]),
    prefix_cache=st.booleans(),
).map(lambda c: c.replace(num_blocks=c.num_blocks // c.block_size + 5))


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(jobs, configs)
def test_tokens_do_not_depend_on_mates_shared_inputs_preemption_or_order(
    pair: tuple[Transformer, Any], jobs: list[Any], config: EngineConfig
) -> None:
    module = pair[0]
    engine = Engine(module, vocabulary(), config)
    outcomes = [Outcome() for _ in jobs]
    step = 0
    while step <= 4 or not all(o.done for o in outcomes):
        for i, (prompt, count, options, delay) in enumerate(jobs):
            if delay == step:
                engine.submit(asked(prompt, outcomes[i], id=str(i), max_tokens=count, **options))
        engine.step()
        live = [m for s in engine._live.values() for m in members_of(s)]
        engine._blocks.check([t for m in live for t in (m.table, m.cross_table)])
        step += 1
        assert step < 2000, engine.stats()
    alone = [
        generate(engine_of(module, prefix_cache=False), p, max_tokens=n, **o).tokens
        for p, n, o, _ in jobs
    ]
    assert [o.tokens for o in outcomes] == alone
    assert engine.stats().num_blocks_used == 0


def test_preemption_gives_the_encoders_blocks_back_and_reads_the_input_again(
    pair: tuple[Transformer, Any],
) -> None:
    engine = engine_of(pair[0], num_blocks=20, prefix_cache=False)
    outcomes = [Outcome() for _ in range(3)]
    for i, outcome in enumerate(outcomes):
        prompt = range(30 + i, 46 + i)
        engine.submit(asked(prompt, outcome, id=str(i), max_tokens=24, ignore_eos=True))
    drive(engine)
    assert engine.stats().num_preemptions > 0
    alone = [
        generate(engine_of(pair[0]), range(30 + i, 46 + i), max_tokens=24, ignore_eos=True).tokens
        for i in range(3)
    ]
    assert [o.tokens for o in outcomes] == alone


@pytest.fixture
def encoded(pair: tuple[Transformer, Any], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each input that the encoder reads from now on."""
    seen: list[int] = []
    encoder = pair[0].encoder
    assert encoder is not None
    varlen = encoder.varlen_hidden

    def counting(ids: torch.Tensor, lengths: list[int], **rest: Any) -> torch.Tensor:
        seen.extend(lengths)
        return varlen(ids, lengths, **rest)

    monkeypatch.setattr(encoder, "varlen_hidden", counting)
    return seen


@pytest.mark.parametrize("prefix_cache", [True, False])
def test_choices_and_beams_read_their_input_once(
    pair: tuple[Transformer, Any], encoded: list[int], prefix_cache: bool
) -> None:
    engine = engine_of(pair[0], prefix_cache=prefix_cache)
    options = {"max_tokens": 9, "ignore_eos": True}
    for i in range(4):
        engine.submit(asked(range(30, 50), Outcome(), id=str(i), temperature=1.0, **options))
    engine.submit(asked(range(30, 50), Outcome(), id="b", num_beams=4, **options))
    engine.step()
    # Five blocks of input, and one of output for each of four choices and four beams.
    assert engine.stats().num_blocks_used == 13
    drive(engine)
    assert encoded == [20]


def test_an_input_that_was_read_before_is_not_read_again(
    pair: tuple[Transformer, Any], encoded: list[int]
) -> None:
    engine = engine_of(pair[0])
    first = generate(engine, range(30, 50))
    again = generate(engine, range(30, 50))
    assert encoded == [20]
    assert again.tokens == first.tokens
    assert (first.last.cached_tokens, again.last.cached_tokens) == (0, 20)
    assert generate(engine, range(30, 49)).last.cached_tokens == 0


def test_what_was_made_of_an_input_for_a_request_that_failed_is_not_used_again(
    pair: tuple[Transformer, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a part of the output was computed from it before anything was drawn."""
    module, encoder = pair[0], pair[0].encoder
    assert encoder is not None
    varlen = encoder.varlen_hidden

    def outcome_of(engine: Engine) -> Outcome:
        outcome = Outcome()
        begun = dataclasses.replace(asked(range(30, 36), outcome), decoder_ids=(START, *range(20)))
        engine.submit(begun)
        drive(engine)
        return outcome

    expected = outcome_of(engine_of(module)).tokens
    engine = engine_of(module, max_batch_tokens=8, max_sequences=8)
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "varlen_hidden", lambda *a, **k: varlen(*a, **k) * torch.nan)
        assert outcome_of(engine).last.error is not None
    again = outcome_of(engine)
    assert (again.tokens, again.last.cached_tokens) == (expected, 0)


def test_equal_outputs_of_different_inputs_do_not_share_keys(
    pair: tuple[Transformer, Any],
) -> None:
    engine = engine_of(pair[0], block_size=1)
    forced = {"logit_bias": {9: 100}, "max_tokens": 6, "logprobs": 0}
    generate(engine, [5, 6], **forced)
    other = generate(engine, [7, 8], **forced)
    alone = generate(engine_of(pair[0]), [7, 8], **forced)
    ours, theirs = ([e.score.logprob for e in o.events if e.score] for o in (other, alone))
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("steps", range(4))
def test_cancelling_frees_input_and_output_at_once(
    pair: tuple[Transformer, Any], steps: int
) -> None:
    engine = engine_of(pair[0])
    engine.submit(asked(range(30, 50), Outcome(), id="a", num_beams=3, max_tokens=30))
    for _ in range(steps):
        engine.step()
    engine.cancel("a")
    assert not engine.step()
    assert engine.stats().num_blocks_used == 0


def test_an_input_longer_than_the_budget_is_read_in_a_step_of_its_own(
    pair: tuple[Transformer, Any],
) -> None:
    engine, stream = engine_of(pair[0], max_batch_tokens=8, max_sequences=8), Outcome()
    engine.submit(asked([5, 6], stream, id="s", max_tokens=12, ignore_eos=True))
    engine.step()
    long = [Outcome(), Outcome()]
    for i, outcome in enumerate(long):
        engine.submit(asked(range(30 + i, 60 + i), outcome, id=str(i), max_tokens=4))
    engine.step()
    assert (len(stream.events), len(long[0].events), len(long[1].events)) == (2, 1, 0)
    engine.step()
    assert (len(stream.events), len(long[1].events)) == (3, 1)
    drive(engine)


@pytest.mark.parametrize(
    ("prompt", "changes", "error", "says"),
    [
        (range(4, 600), {}, ContextLengthError, "the encoder reads"),
        ([4], {"echo": True}, UnsupportedError, "echo"),
        ([4], {"decoder_ids": ()}, InputError, "do not say what its output begins with"),
        ([4], {"decoder_ids": (V,)}, InputError, "decoder's beginning has token"),
        (range(4, 60), {}, ContextLengthError, "KV pool"),
    ],
)
def test_what_cannot_be_served_is_refused(
    pair: tuple[Transformer, Any],
    prompt: Iterable[int],
    changes: dict[str, Any],
    error: type[InputError],
    says: str,
) -> None:
    prompt = [4 + t % 200 for t in prompt]
    engine = engine_of(pair[0], num_blocks=14)
    with pytest.raises(error, match=says):
        engine.submit(dataclasses.replace(asked(prompt, Outcome()), **changes))


@pytest.mark.parametrize("wide", [True, False], ids=["wider", "narrower"])
def test_what_an_encoder_reads_is_of_its_own_vocabulary(wide: bool) -> None:
    """As Marian has it for two languages with an alphabet each."""
    torch.manual_seed(2)
    count = V + 30 if wide else V - 30
    inner = tiny_config(vocab_size=count, causal=False, head="none")
    module = Transformer(tiny_config(vocab_size=V, encoder=inner, share_embeddings=False)).eval()
    module.reset_parameters(0.35)
    engine = engine_of(module)
    found = generate(engine, [5, count - 1], max_tokens=6)
    encoded = module.encode(torch.tensor([[5, count - 1]]))
    ids = [START]
    for _ in found.tokens:
        attend = DenseAttention(module.config, REFERENCE_OPS, None, module.cross_states(encoded))
        rows = torch.tensor([ids])
        context = ForwardContext(attend=attend)
        with torch.no_grad():
            hidden = module.hidden(rows, module.positions_of(rows), context)
            ids.append(int(module.logits(hidden[0, -1]).argmax()))
    assert found.tokens == ids[1:]
    with pytest.raises(InputError, match=f"the prompt has token {count}, outside"):
        engine.submit(asked([5, count], Outcome()))
