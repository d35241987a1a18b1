"""Requests that generate nothing: scores of given tokens, and of those that might follow them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.conftest import NUM_TOKENS, Outcome, byte_vocabulary, drive, request, tiny_config
from tests.engine.cpu.quantized_models import quantized

from lmstack.core import ContextLengthError, Grammar, InputError
from lmstack.engine import Engine, EngineConfig, EngineRequest, TokenScore, native_problem
from lmstack.engine.decoding.sampler import score_targets
from lmstack.model import Transformer

MakeEngine = Callable[..., Engine]
Scores = list[tuple[int, float | None, tuple[tuple[int, float], ...]]]


def reading(
    prompt: Sequence[int],
    start: int,
    targets: Sequence[int],
    outcome: Outcome | None = None,
    **options: object,
) -> EngineRequest:
    values = {"echo": True, "logprobs": 1} | options
    made = request(prompt, outcome, score_from=start, **values)  # type: ignore[arg-type]
    return replace(made, targets=tuple(targets))


def read(engine: Engine, *asked: tuple[Sequence[int], int, Sequence[int]]) -> list[Outcome]:
    """Each prompt, where its scores begin, and targets, all at once."""
    outcomes = [Outcome() for _ in asked]
    made = [reading(*each, outcome) for each, outcome in zip(asked, outcomes, strict=True)]
    engine.submit(*(replace(one, id=str(n)) for n, one in enumerate(made)))
    drive(engine)
    return outcomes


def plain(scores: Sequence[TokenScore]) -> Scores:
    return [(s.token, s.logprob, s.top) for s in scores]


def scored(outcome: Outcome) -> tuple[Scores, Scores]:
    return plain(outcome.last.prompt), plain(outcome.last.targets)


def test_targets_are_scored_as_the_forward_pass_does_and_nothing_is_generated(
    module: Transformer, make_engine: MakeEngine
) -> None:
    prompt, targets = [int(x) for x in torch.randint(0, 250, (23,))], [5, 9, 5, 200]
    engine = make_engine(max_batch_tokens=8, max_sequences=4)
    [outcome] = read(engine, (prompt, 20, targets))
    with torch.no_grad():
        logits = module(torch.tensor([prompt])).logits
    assert logits is not None
    expected = logits[0, :, :NUM_TOKENS].log_softmax(-1)
    [event] = outcome.events
    assert (event.token, event.finish_reason) == (None, "length")
    assert [s.token for s in event.targets] == targets
    for score in event.targets:
        assert score.logprob == pytest.approx(float(expected[-1, score.token]), abs=1e-4)
        assert score.top[0][0] == int(expected[-1].argmax())
    assert [s.logprob for s in event.prompt[:20]] == [None] * 20
    for place, score in enumerate(event.prompt[20:], 20):
        assert score.logprob == pytest.approx(float(expected[place - 1, score.token]), abs=1e-4)
    assert engine.stats().num_generated_tokens == 0
    assert engine.stats().num_prompt_tokens == 23
    assert engine.stats().num_finished == {"length": 1}


def test_only_rows_that_score_something_become_logits(make_engine: MakeEngine) -> None:
    engine = make_engine()
    rows: list[int] = []
    compute = engine._executor.logits

    def counted(hidden, scratch=None):  # type: ignore[no-untyped-def]
        rows.append(len(hidden))
        return compute(hidden, scratch)

    engine._executor.logits = counted  # type: ignore[method-assign]
    read(engine, (range(30), 24, [1, 2, 3]), (range(40), 40, [7]))
    assert sum(rows) == (30 - 24 + 1) + 1


def test_continuations_of_one_context_compute_it_once(make_engine: MakeEngine) -> None:
    context = list(range(41))
    asked = [([*context, 100 + n, 7, n], 41, [n]) for n in range(5)]
    engine = make_engine(max_batch_tokens=256)
    shared = read(engine, *asked)
    apart = [read(make_engine(prefix_cache=False), each)[0] for each in asked]
    for one, other in zip(shared, apart, strict=True):
        for ours, theirs in zip(scored(one), scored(other), strict=True):
            for (token, logprob, _), (token_too, expected, _) in zip(ours, theirs, strict=True):
                assert token == token_too
                assert logprob == (expected and pytest.approx(expected, abs=1e-5))
    # The row of the context's last token is computed for each, from whole blocks and a part on.
    assert [o.last.cached_tokens for o in shared] == [0, 40, 40, 40, 40]


def test_targets_survive_preemption(make_engine: MakeEngine) -> None:
    def scores(num_blocks: int) -> tuple[list[object], int]:
        engine = make_engine(
            num_blocks=num_blocks, max_batch_tokens=6, max_sequences=6, prefix_cache=False
        )
        asked = [(range(n, n + 20), 4, [n, 3]) for n in range(5)]
        writers = [Outcome(), Outcome()]
        for n, writer in enumerate(writers):
            engine.submit(request([n], writer, id=f"w{n}", max_tokens=24))
        outcomes = read(engine, *asked)
        kept = [
            [round(s.logprob or 0, 3) for s in (*o.last.prompt, *o.last.targets)] for o in outcomes
        ]
        return kept, engine.stats().num_preemptions

    calm, none = scores(64)
    pressed, some = scores(14)
    assert (none, some > 0) == (0, True)
    assert pressed == calm


def test_the_window_bounds_what_is_read_and_not_what_is_scored(make_engine: MakeEngine) -> None:
    engine = make_engine(num_blocks=8)  # of 4 tokens
    [outcome] = read(engine, ([1] * 32, 30, [2]))
    assert outcome.last.targets
    with pytest.raises(ContextLengthError, match="33 tokens, the KV pool holds 32"):
        engine.submit(reading([1] * 33, 30, [2]))


@pytest.mark.parametrize("options", [{"num_beams": 2}, {"grammar": True}])
def test_what_searches_or_follows_a_grammar_has_no_targets(
    make_engine: MakeEngine, options: dict[str, object]
) -> None:
    made = reading([1], 1, [2], **{k: v for k, v in options.items() if k != "grammar"})
    if "grammar" in options:
        made = replace(made, grammar=Grammar("json_object"))
    with pytest.raises(InputError, match="targets generates nothing"):
        make_engine().submit(made)


def test_a_target_outside_the_vocabulary_is_refused(make_engine: MakeEngine) -> None:
    with pytest.raises(InputError, match=f"targets has token {NUM_TOKENS}"):
        make_engine().submit(reading([1], 1, [NUM_TOKENS]))


def test_a_cancelled_reading_frees_its_blocks(make_engine: MakeEngine) -> None:
    engine, outcome = make_engine(max_batch_tokens=4, max_sequences=4), Outcome()
    engine.submit(reading(range(20), 10, [1], outcome))
    engine.step()
    engine.cancel("r")
    drive(engine)
    assert outcome.events == []
    assert engine.stats().num_blocks_used == 0


@given(st.integers(1, 9), st.integers(0, 5), st.randoms(use_true_random=False))
def test_scores_of_a_row_do_not_depend_on_those_beside_it(count, most, random) -> None:
    # Of a size at which torch adds a row up in several threads.
    logits = 4 * torch.randn(count, 49152, generator=torch.Generator().manual_seed(count))
    targets = [[random.randrange(49152) for _ in range(random.randint(1, 4))] for _ in logits]
    tops = [random.randint(0, most) for _ in logits]
    together = score_targets(logits.clone(), targets, tops)
    for n, row in enumerate(logits):
        [alone] = score_targets(row[None].clone(), targets[n : n + 1], tops[n : n + 1])
        assert alone == together[n]


def test_of_equal_logits_the_first_is_the_best() -> None:
    [[score]] = score_targets(torch.tensor([[0.0, 3.0, 3.0, 1.0]]), [[2]], [1])
    assert score.top[0][0] == 1
    assert score.logprob == score.top[0][1]


readings = st.tuples(
    st.sampled_from([(), (1,) * 20, tuple(range(40, 75))]),
    st.lists(st.integers(0, 255), min_size=1, max_size=6).map(tuple),
    st.lists(st.integers(0, 255), min_size=1, max_size=3).map(tuple),
)


@pytest.mark.skipif(bool(native_problem()), reason="no native ops")
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(readings, min_size=1, max_size=8),
    st.sampled_from([(16, 16), (64, 64), (512, 64)]),
    st.booleans(),
)
def test_native_scores_are_the_same_bits_beside_any_others(
    native_module: Transformer,
    asked: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]],
    sizes: tuple[int, int],
    prefix_cache: bool,
) -> None:
    def made(**values: object) -> Engine:
        config = EngineConfig.from_mapping({"num_blocks": 64, "block_size": 16, **values})
        return Engine(native_module, byte_vocabulary(), config)

    jobs = [(context + rest, max(1, len(context)), ends) for context, rest, ends in asked]
    engine = made(max_batch_tokens=sizes[0], max_sequences=min(sizes), prefix_cache=prefix_cache)
    together = read(engine, *jobs, *jobs)
    alone = [scored(read(made(prefix_cache=False), job)[0]) for job in jobs]
    assert [scored(outcome) for outcome in together] == alone * 2


@pytest.fixture(scope="module")
def native_module() -> Transformer:
    torch.manual_seed(17)
    module = Transformer(tiny_config())
    module.reset_parameters(std=0.35)
    return quantized(module, "int8")
