"""Drafts change the speed of a text and nothing else about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import scipy.stats
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.conftest import Outcome, byte_vocabulary, drive, generate, request, tiny_config
from tests.engine.cpu.quantized_models import Form, quantized

from lmstack.core import Grammar, InputError
from lmstack.engine import Engine, EngineConfig, TokenEvent
from lmstack.engine.constraints.grammar import GrammarMatcher
from lmstack.engine.cpu.executor import NativeExecutor
from lmstack.engine.cpu.library import problem
from lmstack.engine.sequence import SequenceChunk
from lmstack.engine.speculative.ngram import PromptLookup
from lmstack.model import Transformer

ROUND = (11, 12, 13, 14, 15)
TEXT = tuple(b"abcab" * 4)


@pytest.fixture(scope="module", autouse=True)
def sometimes_wrong() -> Iterator[None]:
    """Drafts for random models are hardly ever right, so look-up is told by a mentor what comes,
    and errs at some places of some texts: right runs of every length occur."""
    follows = PromptLookup.follows

    def mentored(self: PromptLookup, count: int) -> tuple[int, ...]:
        known = MENTOR.get(tuple(self._text))
        return follows(self, count) if known is None else known[:count]

    patch = pytest.MonkeyPatch()
    patch.setattr(PromptLookup, "follows", mentored)
    yield
    patch.undo()


# What is said to follow a text.
MENTOR: dict[tuple[int, ...], tuple[int, ...]] = {}


def teach(prompt: tuple[int, ...], output: list[int]) -> None:
    for i in range(1, len(output)):
        follows = tuple(output[i:])
        right = hash((prompt, i)) % 6
        wrong = ((follows[right] + 1) % 250,) if right < len(follows) else ()
        MENTOR[*prompt, *output[:i]] = (*follows[:right], *wrong, *follows[right + 1 :])


def seen(outcome: Outcome) -> list[tuple[object, ...]]:
    """All that a client sees of each event."""
    return [
        (e.token, e.safe_bytes, e.finish_reason, e.cached_tokens, e.score and e.score.token)
        for e in outcome.events
    ]


def rules() -> st.SearchStrategy[dict[str, object]]:
    drawn = st.fixed_dictionaries(
        {"temperature": st.sampled_from([0.5, 0.9, 1.3]), "seed": st.integers(0, 4)},
        optional={
            "top_k": st.sampled_from([2, 5]),
            "top_p": st.sampled_from([0.5, 0.9]),
            "min_p": st.just(0.05),
            "typical_p": st.just(0.8),
        },
    )
    constrained = st.fixed_dictionaries(
        {},
        optional={
            "repetition_penalty": st.just(1.3),
            "presence_penalty": st.just(0.7),
            "frequency_penalty": st.just(0.9),
            "no_repeat_ngram_size": st.sampled_from([1, 2]),
            "logit_bias": st.just({100: 5.0, 256: 2.0}),
            "min_tokens": st.just(4),
            "stop": st.sampled_from([("ab",), ("\x0c\r", "z")]),
            "stop_regex": st.just((r"[a-c]+[0-9]",)),
            "logprobs": st.sampled_from([0, 2]),
            "ignore_eos": st.booleans(),
            "forced_eos_id": st.just(7),
            "forced_bos_id": st.just(9),
            "grammar": st.just(Grammar("regex", "[a-z]{3}[0-9a-d]*")),
        },
    )
    return st.builds(lambda a, b: a | b, st.one_of(st.just({}), drawn), constrained)


jobs = st.tuples(
    st.sampled_from([TEXT, ROUND * 4, (1, 2, 3), tuple(range(40, 57)) * 2]),
    st.integers(4, 24),
    rules(),
    st.integers(0, 5),
)
configs = st.builds(
    EngineConfig,
    block_size=st.sampled_from([1, 3, 4, 16]),
    num_blocks=st.sampled_from([64, 80, 140]),
    max_batch_tokens=st.sampled_from([6, 16, 64]),
    max_sequences=st.sampled_from([3, 6]),
    prefix_cache=st.booleans(),
    draft_tokens=st.sampled_from([1, 3, 8]),
    speculation=st.just("always"),
).map(lambda c: c.replace(num_blocks=c.num_blocks // c.block_size + 1))


def alone(module: Transformer, prompt: tuple[int, ...], options: dict[str, Any]) -> Outcome:
    config = EngineConfig(num_blocks=64, speculation="off", prefix_cache=False)
    outcome = generate(Engine(module, byte_vocabulary(), config), prompt, **options)
    teach(prompt, outcome.tokens)
    return outcome


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(jobs, min_size=1, max_size=5), configs)
def test_every_event_is_what_it_would_be_without_drafts(
    module: Transformer, jobs: list[Any], config: EngineConfig
) -> None:
    expected = [alone(module, p, {"max_tokens": n} | options) for p, n, options, _ in jobs]
    engine = Engine(module, byte_vocabulary(), config)
    outcomes = [Outcome() for _ in jobs]
    step = 0
    while step <= 5 or not all(o.done for o in outcomes):
        for i, (prompt, count, options, delay) in enumerate(jobs):
            if delay == step:
                values = {"max_tokens": count} | options
                engine.submit(request(prompt, outcomes[i], id=str(i), **values))
        engine.step()
        engine._blocks.check([s.table for s in engine._live.values()])
        step += 1
        assert step < 3000, engine.stats()
    drive(engine)
    for outcome, without in zip(outcomes, expected, strict=True):
        same = [(*a[:3], a[4]) for a in seen(outcome)]
        assert same == [(*a[:3], a[4]) for a in seen(without)]
        for ours, theirs in zip(outcome.events, without.events, strict=True):
            if theirs.score is not None:
                assert ours.score is not None
                assert ours.score.logprob == pytest.approx(theirs.score.logprob, abs=1e-3)
    assert engine.stats().num_blocks_used == 0
    assert engine.stats().num_invariant_failures == 0


@pytest.mark.parametrize("draft_tokens", [1, 4, 8])
def test_the_properties_are_tested_with_drafts_that_are_right_and_that_are_wrong(
    module: Transformer, draft_tokens: int
) -> None:
    """The test above means something only if runs of every length are accepted."""
    expected = alone(module, TEXT, {"max_tokens": 60, "ignore_eos": True})
    settings = {"speculation": "always", "draft_tokens": draft_tokens, "num_blocks": 64}
    engine = Engine(module, byte_vocabulary(), EngineConfig.from_mapping(settings))
    outcome = Outcome()
    engine.submit(request(TEXT, outcome, max_tokens=60, ignore_eos=True))
    runs = Counter()
    while True:
        before = len(outcome.events)
        if not engine.step():
            break
        runs[len(outcome.events) - before] += 1
    assert outcome.tokens == expected.tokens
    assert set(range(1, min(draft_tokens + 1, 5))) <= set(runs), runs
    stats = engine.stats()
    assert 0 < stats.num_accepted_tokens < stats.num_draft_tokens
    assert outcome.last.drafted_tokens == stats.num_draft_tokens
    assert outcome.last.accepted_tokens == stats.num_accepted_tokens
    assert stats.draft_acceptance_rate == stats.num_accepted_tokens / stats.num_draft_tokens


def test_draws_with_drafts_follow_the_softmax_of_the_model(module: Transformer) -> None:
    """Chi-squared, of pairs of drawn tokens that were drafted before: by far the likeliest pair
    is drafted always, so a bias towards drafts would show."""
    prompt, top_k, num_draws = ROUND * 2, 3, 1500
    probabilities: dict[tuple[int, ...], float] = {}
    for token, p in _next(module, prompt, top_k):
        for second, q in _next(module, (*prompt, token), top_k):
            for third, r in _next(module, (*prompt, token, second), top_k):
                probabilities[token, second, third] = p * q * r
        second = _next(module, (*prompt, token), 1)[0][0]
        MENTOR[*prompt, token] = second, _next(module, (*prompt, token, second), 1)[0][0]
    engine = Engine(
        module,
        byte_vocabulary(),
        EngineConfig(num_blocks=2000, speculation="always", max_batch_tokens=4096),
    )
    outcomes = [Outcome() for _ in range(num_draws)]
    options = {"temperature": 1.0, "top_k": top_k, "max_tokens": 4, "ignore_eos": True}
    for seed, outcome in enumerate(outcomes):
        engine.submit(request(prompt, outcome, id=str(seed), seed=seed, **options))
        if seed % 60 == 59:  # all at once, since steps with prompts have no drafts
            drive(engine)
    assert engine.stats().num_draft_tokens > num_draws
    assert 0.1 < engine.stats().draft_acceptance_rate < 0.9
    counts = Counter(tuple(o.tokens[:3]) for o in outcomes)
    assert set(counts) <= set(probabilities)
    likely = sorted(probabilities, key=lambda k: -probabilities[k])
    common = [k for k in likely if probabilities[k] * num_draws >= 8]
    observed = [counts[k] for k in common]
    expected = [probabilities[k] * num_draws for k in common]
    observed.append(num_draws - sum(observed))
    expected.append(num_draws - sum(expected))
    assert len(common) > 5
    assert scipy.stats.chisquare(observed, expected).pvalue > 0.001


def _next(module: Transformer, ids: tuple[int, ...], top_k: int) -> list[tuple[int, float]]:
    with torch.no_grad():
        logits = module(torch.tensor([ids])).logits
    assert logits is not None
    best = logits[0, -1].topk(top_k)
    return list(zip(best.indices.tolist(), best.values.softmax(-1).tolist(), strict=True))


@pytest.mark.parametrize("form", ["int8", "q4"])
@pytest.mark.parametrize("kv", ["bfloat16", "int8"])
def test_on_native_ops_log_probabilities_are_the_same_to_the_last_bit(
    module: Transformer, form: Form, kv: str
) -> None:
    """A token that is verified among others has the very logits that it has alone."""
    if problem():
        pytest.skip(f"no native ops: {problem()}")
    native = quantized(module, form)
    options = {"max_tokens": 60, "ignore_eos": True, "logprobs": 5}
    settings = {"num_blocks": 40, "kv_dtype": kv}
    prompts = [TEXT, (3, *TEXT, *ROUND), ROUND * 3]
    expected = []
    for prompt in prompts:
        config = EngineConfig.from_mapping(settings | {"speculation": "off"})
        engine = Engine(native, byte_vocabulary(), config)
        assert isinstance(engine._runner._executor, NativeExecutor)
        expected.append(generate(engine, prompt, **options))
        teach(prompt, expected[-1].tokens)
    engine = Engine(
        native, byte_vocabulary(), EngineConfig.from_mapping(settings | {"speculation": "always"})
    )
    outcomes = [Outcome() for _ in prompts]
    for i, prompt in enumerate(prompts):
        engine.submit(request(prompt, outcomes[i], id=str(i), **options))
    drive(engine)
    for ours, theirs in zip(outcomes, expected, strict=True):
        assert [e.score for e in ours.events] == [e.score for e in theirs.events]
    assert engine.stats().num_accepted_tokens > 40


# -- blocks and the cache -----------------------------------------------------------------------


def engine_of(module: Transformer, **settings: object) -> Engine:
    values = {"block_size": 4, "num_blocks": 64, "speculation": "always"} | settings
    return Engine(module, byte_vocabulary(), EngineConfig.from_mapping(values))


def test_keys_of_wrong_drafts_are_never_found_by_others(module: Transformer) -> None:
    """A prompt that goes on as the draft did: only what was really the text may be cached."""
    options = {"max_tokens": 16, "ignore_eos": True}
    expected = alone(module, TEXT, options)
    garbage = (99, 98, 97, 96, 95, 94, 93, 92)
    for i in range(1, 16):
        MENTOR[*TEXT, *expected.tokens[:i]] = garbage
    engine = engine_of(module)
    assert generate(engine, TEXT, **options).tokens == expected.tokens
    assert engine.stats().num_draft_tokens > 0
    prompt = (*TEXT, *expected.tokens[:1], *garbage)
    got = generate(engine, prompt, **options)
    assert got.tokens == alone(module, prompt, options).tokens
    assert got.last.cached_tokens == len(TEXT) + 1


def test_accepted_tokens_are_found_by_others(module: Transformer) -> None:
    options = {"max_tokens": 16, "ignore_eos": True}
    expected = alone(module, TEXT, options)
    engine = engine_of(module)
    generate(engine, TEXT, **options)
    prompt = (*TEXT, *expected.tokens)
    got = generate(engine, prompt, **options)
    assert got.last.cached_tokens >= (len(prompt) - 1) // 4 * 4 - 4
    assert got.tokens == alone(module, prompt, options).tokens


def test_drafts_preempt_nobody_and_hold_nothing_between_steps(module: Transformer) -> None:
    """A pool that is just large enough: not one block more than without drafts."""
    options = {"max_tokens": 12, "ignore_eos": True}
    prompts = [(i, *TEXT[:7]) for i in range(3)]
    for prompt in prompts:
        alone(module, prompt, options)
    engine = engine_of(module, num_blocks=15, max_sequences=3)
    for i, prompt in enumerate(prompts):
        engine.submit(request(prompt, id=str(i), **options))
    while engine.step():
        for sequence in engine._live.values():
            assert len(sequence.table) <= -(-sequence.num_computed // 4)
    assert engine.stats().num_preemptions == 0
    assert engine.stats().num_draft_tokens > 0


def test_a_full_pool_leaves_drafts_no_room_and_texts_their_tokens(module: Transformer) -> None:
    options = {"max_tokens": 20, "ignore_eos": True}
    prompts = [(i, *TEXT[:7]) for i in range(4)]
    expected = [alone(module, prompt, options).tokens for prompt in prompts]
    engine = engine_of(module, num_blocks=12, max_sequences=4)
    outcomes = [Outcome() for _ in prompts]
    for i, prompt in enumerate(prompts):
        engine.submit(request(prompt, outcomes[i], id=str(i), **options))
    drive(engine)
    assert engine.stats().num_preemptions > 0
    assert [o.tokens for o in outcomes] == expected


# -- what may end a request in the middle of a run ------------------------------------------------


@pytest.mark.parametrize("last", range(1, 9))
def test_a_request_that_is_cancelled_in_a_run_hears_no_more(module: Transformer, last: int) -> None:
    options = {"max_tokens": 20, "ignore_eos": True}
    expected = alone(module, TEXT, options)
    for i in range(1, 20):
        MENTOR[*TEXT, *expected.tokens[:i]] = tuple(expected.tokens[i:])
    engine = engine_of(module)
    events: list[TokenEvent] = []

    def listen(event: TokenEvent) -> None:
        events.append(event)
        if len(events) == last:
            engine.cancel("r")

    engine.submit(request(TEXT, on_event=listen, **options))
    drive(engine)
    assert [e.token for e in events] == expected.tokens[:last]
    assert engine.stats().num_blocks_used == 0
    assert engine.stats().num_finished == {"cancelled": 1}


def test_a_callback_that_fails_in_a_run_ends_its_request_alone(module: Transformer) -> None:
    options = {"max_tokens": 12, "ignore_eos": True}
    others = (5, *TEXT)
    expected = alone(module, others, options)
    alone(module, TEXT, options)
    engine = engine_of(module)
    events: list[TokenEvent] = []

    def listen(event: TokenEvent) -> None:
        events.append(event)
        if len(events) == 4:
            raise RuntimeError("a client's own")

    outcome = Outcome()
    engine.submit(request(TEXT, on_event=listen, id="bad", **options))
    engine.submit(request(others, outcome, id="good", **options))
    drive(engine)
    assert events[-1].error is not None
    assert outcome.tokens == expected.tokens
    assert engine.stats().num_blocks_used == 0


def test_a_stop_string_within_a_run_cuts_it_where_it_would_be_cut(module: Transformer) -> None:
    options = {"max_tokens": 30, "ignore_eos": True, "logit_bias": dict.fromkeys(b"xyz", 100.0)}
    plain = alone(module, TEXT, options)
    text = bytes(plain.tokens).decode()
    for start in range(2, 20, 3):
        stop = (text[start : start + 3],)
        without = alone(module, TEXT, options | {"stop": stop})
        with_drafts = generate(engine_of(module), TEXT, **options, stop=stop)
        assert seen(with_drafts) == seen(without)
        assert with_drafts.last.finish_reason == "stop"


def test_logits_that_are_no_numbers_after_a_wrong_draft_spoil_nothing(
    module: Transformer,
) -> None:
    """A token that the model cannot compute, drafted before every token: its keys lie in the
    blocks of the text that goes on, and must be gone by then."""
    torch.manual_seed(7)
    broken = Transformer(tiny_config())
    broken.reset_parameters(std=0.35)
    broken.eval()
    options = {"max_tokens": 14, "ignore_eos": True}
    expected = alone(broken, TEXT, options)
    assert 201 not in expected.tokens
    with torch.no_grad():
        broken.embed.weight[201] = torch.nan
    for i in range(1, 14):
        MENTOR[*TEXT, *expected.tokens[:i]] = (201, 201)
    engine = engine_of(broken)
    outcome = Outcome()
    engine.submit(request(TEXT, outcome, **options))
    drive(engine)
    assert outcome.last.error is None, outcome.last.error
    assert outcome.tokens == expected.tokens
    assert engine.stats().num_draft_tokens > 0


def test_a_model_that_fails_on_drafts_computes_the_text_without(
    module: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"max_tokens": 14, "ignore_eos": True}
    expected = alone(module, TEXT, options)
    engine = engine_of(module)
    run = engine._runner.run

    def fails(chunks: list[SequenceChunk], *rest: Any) -> Any:
        if any(c.draft for c in chunks):
            raise RuntimeError("no memory for drafts")
        return run(chunks, *rest)

    monkeypatch.setattr(engine._runner, "run", fails)
    outcome = Outcome()
    engine.submit(request(TEXT, outcome, **options))
    drive(engine)
    assert outcome.tokens == expected.tokens
    assert engine.stats().num_blocks_used == 0


# -- who gets drafts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"num_beams": 3}, {"echo": True, "logprobs": 1}],
    ids=["beams", "echo"],
)
def test_searches_get_no_drafts_and_echoed_texts_right_ones(
    module: Transformer, options: dict[str, object]
) -> None:
    values = {"max_tokens": 10} | options
    without = generate(engine_of(module, speculation="off"), TEXT, **values)
    engine = engine_of(module)
    with_drafts = generate(engine, TEXT, **values)
    assert with_drafts.tokens == without.tokens
    if "echo" not in options:
        assert engine.stats().num_draft_tokens == 0


def test_a_draft_that_leaves_the_grammar_is_cut_there(
    module: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    grammar, prompt = Grammar("regex", "(xyz){4}!"), b"xyzxyz!xyzxyz!"
    monkeypatch.setattr(GrammarMatcher, "forced", lambda _: ())
    engine = engine_of(module)
    drafts = []
    run = engine._runner.run

    def spied(chunks: list[SequenceChunk], *rest: Any) -> Any:
        drafts.extend(bytes(c.draft) for c in chunks if c.draft)
        return run(chunks, *rest)

    monkeypatch.setattr(engine._runner, "run", spied)
    outcome = generate(engine, prompt, grammar=grammar, max_tokens=20)
    assert bytes(outcome.tokens[:13]) == b"xyzxyzxyzxyz!"
    assert any(len(draft) > 1 for draft in drafts)
    assert not any(b"!" in draft for draft in drafts[:2])


def test_what_a_grammar_forces_is_drafted_and_changes_nothing(module: Transformer) -> None:
    grammar = Grammar("regex", '(a|b){2}"forced text":(a|b){2}"more of it"')
    values = {"grammar": grammar, "max_tokens": 60, "temperature": 1.5}
    for seed in range(4):
        without = generate(engine_of(module, speculation="off"), b"x", seed=seed, **values)
        engine = engine_of(module)
        assert generate(engine, b"x", seed=seed, **values).tokens == without.tokens
        stats = engine.stats()
        # Every forced token but the first of each run, which follows from what stands before it.
        assert stats.num_accepted_tokens >= len("forced text more of it") - 4
        assert stats.num_steps < len(without.tokens) - 15


@pytest.mark.parametrize("wrong", [{"speculation": "sometimes"}, {"draft_tokens": 0}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        EngineConfig(**wrong)
