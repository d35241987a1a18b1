"""THE property: a request's tokens are its own, whatever else the engine is doing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.conftest import (
    Outcome,
    byte_vocabulary,
    drive,
    generate,
    request,
    tiny_config,
)

from lmstack.engine import Engine, EngineConfig
from lmstack.engine.inbox import members_of
from lmstack.model import (
    REFERENCE_OPS,
    DenseAttention,
    ForwardContext,
    LayerKind,
    RopeSpec,
    Transformer,
)


@dataclass(frozen=True)
class Job:
    prompt: tuple[int, ...]
    max_tokens: int
    options: tuple[tuple[str, object], ...]
    delay: int  # steps before it is submitted
    client: str = ""
    priority: int = 0
    decoder_ids: tuple[int, ...] = ()


def options() -> st.SearchStrategy[tuple[tuple[str, object], ...]]:
    greedy = st.just((("temperature", 0.0),))
    penalised = st.just((("temperature", 0.0), ("frequency_penalty", 1.5)))
    sampled = st.integers(0, 5).map(
        lambda seed: (("temperature", 0.9), ("top_p", 0.95), ("seed", seed))
    )
    beams = st.sampled_from([(2, 1), (3, 2)]).map(
        lambda x: (("num_beams", x[0]), ("n", x[1]), ("logit_bias", {256: 4.0}))
    )
    return st.one_of(greedy, penalised, sampled, beams)


# Beginnings repeat, so that prefix hits happen; ends differ.
prompts = st.tuples(
    st.sampled_from([(), (1,) * 8, tuple(range(40, 57)), (1,) * 8 + tuple(range(9))]),
    st.lists(st.integers(0, 255), min_size=1, max_size=10).map(tuple),
).map(lambda x: x[0] + x[1])
jobs = st.builds(
    Job,
    prompts,
    st.integers(1, 12),
    options(),
    st.integers(0, 6),
    st.sampled_from("ab"),
    st.integers(-1, 1),
)
configs = st.builds(
    EngineConfig,
    block_size=st.sampled_from([1, 3, 4, 16]),
    # 48 tokens is what the longest text needs, and there are up to three at once: with little
    # more, preemption is certain.
    num_blocks=st.sampled_from([9, 10, 14]),
    max_batch_tokens=st.sampled_from([6, 7, 16, 64]),
    max_sequences=st.sampled_from([3, 6]),
    prefix_cache=st.booleans(),
).map(lambda c: c.replace(num_blocks=3 * (c.num_blocks * 16 // 3 // c.block_size + 1)))


KINDS: dict[str, dict[str, object]] = {
    "window": {"kinds": (LayerKind(window=5),)},
    "gemma": {
        "kinds": (LayerKind(window=7), LayerKind(RopeSpec(theta=1e6))),
        "pattern": (0, 1),
        "norm": "rms1p",
        "norm_place": "sandwich",
        "qk_norm": "head",
        "attention_softcap": 2.0,
        "logit_softcap": 5.0,
    },
    "no rope": {"kinds": (LayerKind(), LayerKind(rope=None)), "pattern": (0, 1)},
    "partial rope": {"kinds": (LayerKind(RopeSpec(fraction=0.5)),), "parallel": True},
    "alibi": {"bias": "alibi", "kinds": (LayerKind(rope=None),), "norm": "ln"},
    "experts": {"num_experts": 4, "experts_per_token": 2},
}


def model_of(kind: str) -> Transformer:
    torch.manual_seed(11)
    model = Transformer(tiny_config(**KINDS[kind]))
    model.reset_parameters(std=0.35)
    return model.eval()


def run_alone(module: Transformer, job: Job) -> list[int]:
    config = EngineConfig(num_blocks=64, prefix_cache=False)
    engine = Engine(module, byte_vocabulary(), config)
    values = {"max_tokens": job.max_tokens} | dict(job.options)
    return generate(engine, job.prompt, **values).tokens


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(jobs, min_size=1, max_size=7), configs)
def test_tokens_do_not_depend_on_mates_prefix_hits_chunks_preemption_or_order(
    module: Transformer, jobs: list[Job], config: EngineConfig
) -> None:
    check(module, jobs, config)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(jobs, min_size=1, max_size=6), configs)
def test_nor_in_a_model_of_any_other_kind(kind: str, jobs: list[Job], config: EngineConfig) -> None:
    check(MODELS.setdefault(kind, model_of(kind)), jobs, config)


MODELS: dict[str, Transformer] = {}


def check(module: Transformer, jobs: list[Job], config: EngineConfig) -> None:
    engine = Engine(module, byte_vocabulary(), config)
    outcomes = [Outcome() for _ in jobs]
    step = 0
    while step <= 6 or not all(o.done for o in outcomes):
        for i, job in enumerate(jobs):
            if job.delay == step:
                values = {"max_tokens": job.max_tokens, "priority": job.priority}
                values |= dict(job.options)
                asked = request(job.prompt, outcomes[i], id=str(i), **values)
                engine.submit(replace(asked, client=job.client))
        engine.step()
        step += 1
        assert step < 4000, engine.stats()
    drive(engine)
    assert [o.tokens for o in outcomes] == [run_alone(module, job) for job in jobs]
    assert engine.stats().num_finished.get("error", 0) == 0
    assert engine.stats().num_blocks_used == 0


def test_the_property_is_tested_under_preemption_and_prefix_hits(module: Transformer) -> None:
    """The test above means something only if such runs really preempt and really hit."""
    config = EngineConfig(block_size=4, num_blocks=13, max_batch_tokens=16, max_sequences=6)
    engine = Engine(module, byte_vocabulary(), config)
    outcomes = [Outcome() for _ in range(6)]
    jobs = [Job((1,) * 8 + (i,), 20, (("temperature", 0.0),), 0) for i in range(6)]
    for i, job in enumerate(jobs):
        engine.submit(request(job.prompt, outcomes[i], id=str(i), max_tokens=job.max_tokens))
    drive(engine)
    stats = engine.stats()
    assert stats.num_preemptions > 0
    assert stats.num_prefix_hits > 0
    assert [o.tokens for o in outcomes] == [run_alone(module, job) for job in jobs]


def test_a_stream_makes_room_only_for_who_has_the_next_turn(module: Transformer) -> None:
    """One that had its turn before who waits would be taken back at once, compute nothing new in
    a step so small, and make room again for ever."""
    beams, search = (("num_beams", 2),), (("num_beams", 3),)
    stream = (("temperature", 0.0),)
    jobs = [
        Job((*(1,) * 16, 0), 1, beams, 0, "a"),
        Job((0, 0), 1, search, 1, "b"),
        Job((0, 0), 2, stream, 1, "a"),
    ]
    jobs += [replace(jobs[i % 3], prompt=(*jobs[i % 3].prompt, i)) for i in range(14)]
    config = EngineConfig(
        block_size=16, num_blocks=16, max_batch_tokens=3, max_sequences=3, prefix_cache=False
    )
    check(module, jobs, config)


@pytest.mark.parametrize("place", range(9, 16))
def test_a_copied_part_of_a_block_changes_no_token_of_either_side(
    module: Transformer, place: int
) -> None:
    """What differs begins in the middle of a block, while who is copied from is still there."""
    config = EngineConfig(block_size=8, num_blocks=32, max_batch_tokens=64, max_sequences=4)
    first = tuple(range(100, 116))
    jobs = [
        Job(first, 20, (("temperature", 0.0),), 0),
        Job((*first[:place], 7, 8, 9), 20, (("temperature", 0.0),), 2),
    ]
    engine = Engine(module, byte_vocabulary(), config)
    outcomes = [Outcome(), Outcome()]
    for i, job in enumerate(jobs):
        for _ in range(job.delay):
            engine.step()
        engine.submit(request(job.prompt, outcomes[i], id=str(i), max_tokens=job.max_tokens))
    drive(engine)
    # Copying one token of eight would cost more than computing it.
    assert outcomes[1].last.cached_tokens == (place if place >= 10 else 8)
    assert [o.tokens for o in outcomes] == [run_alone(module, job) for job in jobs]


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.integers(0, 24), st.integers(0, 3)), min_size=2, max_size=8),
    st.sampled_from([2, 5, 8, 16]),
    st.sampled_from([5, 9, 20]),
)
def test_prompts_that_part_anywhere_keep_their_tokens(
    module: Transformer, parts: list[tuple[int, int]], block_size: int, num_blocks: int
) -> None:
    """One after another through a small cache, so that sources are evicted and copied over."""
    num_blocks = max(num_blocks, 48 // block_size + 1)
    config = EngineConfig(block_size=block_size, num_blocks=num_blocks, max_batch_tokens=64)
    engine = Engine(module, byte_vocabulary(), config)
    for place, end in parts:
        job = Job((*range(60, 60 + place), end, end), 6, (("temperature", 0.0),), 0)
        got = generate(engine, job.prompt, max_tokens=6).tokens
        engine._blocks.check([])
        assert got == run_alone(module, job)


def test_searches_are_tested_under_preemption_and_prefix_hits(module: Transformer) -> None:
    options = (("num_beams", 3), ("n", 3), ("ignore_eos", True))
    config = EngineConfig(block_size=4, num_blocks=24, max_batch_tokens=16, max_sequences=9)
    engine = Engine(module, byte_vocabulary(), config)
    outcomes = [Outcome() for _ in range(4)]
    jobs = [Job((1,) * 4 + (i,) * 5, 23, options, 0) for i in range(4)]
    for i, job in enumerate(jobs):
        values = {"max_tokens": job.max_tokens} | dict(job.options)
        engine.submit(request(job.prompt, outcomes[i], id=str(i), **values))
    most = 0
    while engine.step():
        most = max(most, engine.stats().num_running)
        live = [m for s in engine._live.values() for m in members_of(s)]
        engine._blocks.check([m.table for m in live])
    stats = engine.stats()
    assert stats.num_preemptions > 0
    assert most > 3, "searches never ran side by side"
    assert [o.tokens for o in outcomes] == [run_alone(module, job) for job in jobs]


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_of_every_kind_equal_those_of_the_plain_forward_pass(kind: str) -> None:
    test_greedy_tokens_equal_those_of_the_plain_forward_pass(model_of(kind))


def test_greedy_tokens_equal_those_of_the_plain_forward_pass(module: Transformer) -> None:
    config = EngineConfig(block_size=4, num_blocks=32, max_batch_tokens=8, max_sequences=8)
    ids = list(range(30, 50))
    got = generate(Engine(module, byte_vocabulary(), config), ids, max_tokens=30).tokens
    for _ in range(30):
        with torch.no_grad():
            logits = module(torch.tensor([ids])).logits
        assert logits is not None
        ids.append(int(logits[0, -1].argmax()))
    assert got == ids[20:]


ROPES = {
    "dynamic": RopeSpec(scaling="dynamic", factor=4.0, original_positions=24),
    "longrope": RopeSpec(
        scaling="longrope",
        factor=4.0,
        original_positions=24,
        short_factors=(1.0, 1.5, 2.0, 2.5),
        long_factors=(2.0, 3.0, 5.0, 9.0),
    ),
}


@pytest.mark.parametrize("scaling", ROPES)
def test_rotations_keep_one_length_from_the_first_token_of_a_request_to_its_last(
    scaling: str,
) -> None:
    """Those who stay within the original length and those who may not, in one batch: each as if
    its whole text were computed at once, with the length that was settled at the start."""
    torch.manual_seed(13)
    module = Transformer(tiny_config(kinds=(LayerKind(ROPES[scaling]),)))
    module.reset_parameters(std=0.35)
    config = EngineConfig(block_size=4, num_blocks=50, max_batch_tokens=8, max_sequences=8)
    engine = Engine(module.eval(), byte_vocabulary(), config)
    prompts = [list(range(40, 60)), list(range(40, 60)), list(range(10))]
    counts = [4, 40, 14]
    outcomes = [Outcome() for _ in prompts]
    for i, (prompt, count) in enumerate(zip(prompts, counts, strict=True)):
        options = {"max_tokens": count, "ignore_eos": True}
        engine.submit(request(prompt, outcomes[i], id=str(i), **options))
    drive(engine)
    for prompt, count, outcome in zip(prompts, counts, outcomes, strict=True):
        length = 24 if len(prompt) + count <= 24 else engine.context_length
        ids = list(prompt)
        for _ in range(count):
            context = ForwardContext(attend=DenseAttention(module.config, REFERENCE_OPS))
            with torch.no_grad():
                hidden = module.hidden(
                    torch.tensor([ids]), torch.arange(len(ids)), context, length=length
                )
                ids.append(int(module.logits(hidden[0, -1]).argmax()))
        assert outcome.tokens == ids[len(prompt) :]
    assert outcomes[0].tokens != outcomes[1].tokens[:4], "the length made no difference"
