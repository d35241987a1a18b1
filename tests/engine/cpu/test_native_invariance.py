"""THE property, bit by bit: what a native model says after a text is a function of that text.

Whatever is computed beside it, in whichever order, chunk, block, step or number of threads; with
its beginning found in the cache or computed again after a preemption. Every row of logits that
an engine computes is kept by the text that it follows, and every other row after the same text,
of any engine of any example, must have the same bits.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.conftest import Outcome, byte_vocabulary, request, tiny_config
from tests.engine.cpu.calls import on_path
from tests.engine.cpu.quantized_models import Form, Kv, quantized
from tests.engine.test_invariance import KINDS, ROPES, Job, options

from lmstack.engine import Engine, EngineConfig
from lmstack.engine.cpu.executor import NativeExecutor
from lmstack.engine.cpu.library import available_paths
from lmstack.engine.runner import Computed
from lmstack.engine.scratch import Scratch
from lmstack.engine.sequence import SequenceChunk
from lmstack.model import LayerKind, Transformer

Text = tuple[Any, ...]
MODELS: dict[tuple[str, Form], Transformer] = {}
SETTINGS: dict[str, dict[str, object]] = {
    "plain": {},
    **{kind: KINDS[kind] for kind in ("window", "gemma", "partial rope", "alibi")},
    # Sizes of which no group, panel or tile is full.
    "odd": {"hidden_size": 40, "intermediate_size": 72, "head_dim": 12, "num_kv_heads": 1}
    | {"qkv_bias": True, "out_bias": True, "mlp_bias": True, "tie_embeddings": False},
    "dynamic": {"kinds": (LayerKind(ROPES["dynamic"]),)},
    "encoder": {
        "kinds": (LayerKind(None),),
        "bias": "t5",
        "encoder": tiny_config(
            causal=False, head="none", kinds=(LayerKind(None),), bias="t5", hidden_size=32
        ),
        "share_embeddings": True,
    },
}


def model_of(kind: str, form: Form) -> Transformer:
    if (kind, form) not in MODELS:
        torch.manual_seed(17)
        module = Transformer(tiny_config(**SETTINGS[kind]))
        module.reset_parameters(std=0.35)
        MODELS[kind, form] = quantized(module, form)
    return MODELS[kind, form]


@dataclass
class Book:
    """``rows``: bits of logits by the text that they follow. ``again``: rows that were computed
    before. ``changed``: texts after which they were others then. ``most``: rows of one step."""

    rows: dict[Text, bytes] = field(default_factory=dict)
    again: int = 0
    most: int = 0
    changed: list[Text] = field(default_factory=list)

    def see(self, chunks: Sequence[SequenceChunk], computed: Computed) -> None:
        ends = [c.sequence for c in chunks if c.samples]
        self.most = max(self.most, len(ends))
        for sequence, row in zip(ends, computed.logits, strict=True):
            text = (sequence.encoder_ids, sequence.rope_length, *sequence.tokens)
            bits = row.numpy().tobytes()
            known = self.rows.setdefault(text, bits)
            self.again += known is not bits
            if known != bits:  # an engine would take an error for that of a request
                self.changed.append(text)


def watched(engine: Engine, book: Book) -> Engine:
    """``engine``, each of whose rows of logits goes into ``book``."""
    runner = engine._runner
    assert isinstance(runner._executor, NativeExecutor)
    compute = runner.run

    def run(chunks: Sequence[SequenceChunk], num_tokens: int, scratch: Scratch) -> Computed:
        computed = compute(chunks, num_tokens, scratch)
        book.see(chunks, computed)
        return computed

    runner.run = run  # type: ignore[method-assign]
    return engine


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# Beginnings of more than a block, which repeat.
prompts = st.tuples(
    st.sampled_from([(), (1,) * 16, tuple(range(40, 75)), (1,) * 16 + tuple(range(18))]),
    st.lists(st.integers(0, 255), min_size=1, max_size=6).map(tuple),
).map(lambda parts: parts[0] + parts[1])
jobs = st.builds(
    Job,
    prompts,
    st.integers(1, 8),
    options(),
    st.integers(0, 6),
    st.sampled_from("ab"),
    st.integers(-1, 1),
)


@st.composite
def crowds(draw: st.DrawFn, most: int = 64) -> list[Job]:
    """1 to ``most``; hypothesis alone would hardly ever draw a long list."""
    count = draw(st.sampled_from([n for n in (1, 2, 3, 5, 8, 17, 33, 64) if n <= most]))
    few = draw(st.lists(jobs, min_size=1, max_size=min(count, 6)))
    more = itertools.islice(itertools.cycle(few), count - len(few))
    ends = [replace(job, prompt=(*job.prompt, i)) for i, job in enumerate(more)]
    return [*few, *ends]


@st.composite
def configs(draw: st.DrawFn) -> EngineConfig:
    sequences = draw(st.sampled_from([3, 9, 64]))
    return EngineConfig(
        block_size=draw(st.sampled_from([16, 32])),
        # Few enough for preemptions, enough for a whole window, on which some rotations depend.
        num_blocks=draw(st.sampled_from([16, 20, 64, 300])),
        max_batch_tokens=draw(st.sampled_from([sequences, 16 + sequences, 100, 512])),
        max_sequences=sequences,
        prefix_cache=draw(st.booleans()),
    )


def play(engine: Engine, crowd: Sequence[Job], counts: Sequence[int] = (1,)) -> list[Outcome]:
    """Submit each job at its time; steps have ``counts`` of threads by turns."""
    outcomes = [Outcome() for _ in crowd]
    for step in range(5000):
        for number, job in enumerate(crowd):
            if job.delay == step:
                values = {"max_tokens": job.max_tokens, "priority": job.priority}
                asked = request(
                    job.prompt, outcomes[number], id=str(number), **values | dict(job.options)
                )
                engine.submit(replace(asked, client=job.client, decoder_ids=job.decoder_ids))
        with threads(counts[step % len(counts)]):
            goes_on = engine.step()
        if not goes_on and step > max(job.delay for job in crowd):
            return outcomes
    raise AssertionError(engine.stats())


def native_engine(module: Transformer, config: EngineConfig, book: Book) -> Engine:
    return watched(Engine(module, byte_vocabulary(), config), book)


def alone(module: Transformer, job: Job, kv: Kv, book: Book) -> list[int]:
    config = EngineConfig(num_blocks=64, prefix_cache=False, kv_dtype=kv)
    (outcome,) = play(native_engine(module, config, book), [replace(job, delay=0)])
    return outcome.tokens


def check(
    book: Book,
    module: Transformer,
    kv: Kv,
    crowd: Sequence[Job],
    config: EngineConfig,
    counts: Sequence[int],
) -> Engine:
    engine = native_engine(module, config.replace(kv_dtype=kv), book)
    if module.encoder is not None:
        crowd = [replace(job, decoder_ids=(3,)) for job in crowd]
    outcomes = play(engine, crowd, counts)
    assert not book.changed
    # Those of the beginning stand for all: the rest share their book of logits.
    for job, outcome in list(zip(crowd, outcomes, strict=True))[:6]:
        assert outcome.tokens == alone(module, job, kv, book)
    assert not book.changed
    assert engine.stats().num_finished.get("error", 0) == 0
    assert engine.stats().num_blocks_used == 0
    return engine


# Which codes on lines are multiplied depends on how many rows there are: every kind, once.
LINES = [
    pytest.param(path, kind, "file8", "int8", id=f"{path}-{kind}-file8-int8", marks=marks)
    for path in available_paths()
    for kind in SETTINGS
    for best in [path == available_paths()[0]]
    for marks in [() if best and kind in ("plain", "odd") else pytest.mark.long]
]
COMBINATIONS = [
    *LINES,
    *(
        pytest.param(path, kind, form, kv, id=f"{path}-{kind}-{form}-{kv}", marks=marks)
        for path in available_paths()
        for number, kind in enumerate(SETTINGS)
        for form, kv in itertools.product(("int8", "q4"), ("bfloat16", "int8"))
        for marks in [
            ()
            if path == available_paths()[0]
            and (form == "q4", kv == "int8") == divmod(number % 4, 2)
            else pytest.mark.long
        ]
    ),
]


@pytest.mark.parametrize(("name", "kind", "form", "kv"), COMBINATIONS)
def test_logits_have_the_same_bits_whatever_else_is_computed(
    name: str, kind: str, form: Form, kv: Kv, request: pytest.FixtureRequest
) -> None:
    many = request.node.get_closest_marker("long") is not None
    book = Book()
    module = model_of(kind, form)

    @settings(
        max_examples=30 if many else 5,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=not many,
    )
    @given(crowds(64 if many else 8), configs(), st.sampled_from([(1,), (2,), (1, 1, 2)]))
    def hold(crowd: list[Job], config: EngineConfig, counts: tuple[int, ...]) -> None:
        check(book, module, kv, crowd, config, counts)

    with on_path(name), torch.inference_mode():
        hold()
    assert book.again > len(book.rows) // 8, "nearly nothing was computed twice"


def greedy(prompt: Sequence[int], count: int, delay: int = 0) -> Job:
    return Job(tuple(prompt), count, (("temperature", 0.0), ("ignore_eos", True)), delay)


def test_the_property_is_tested_in_crowds_under_preemption_and_hits(
    paths: list[str],
) -> None:
    del paths
    book = Book()
    config = EngineConfig(num_blocks=120, max_batch_tokens=100, max_sequences=64)
    crowd = [greedy((*(1,) * 16, i), 24, delay=i % 3) for i in range(64)]
    engine = check(book, model_of("plain", "q4"), "int8", crowd, config, (1, 2))
    stats = engine.stats()
    assert stats.num_preemptions > 0
    assert stats.num_prefix_hits > 0
    assert book.most == 64


def test_a_bit_that_is_another_would_be_seen(paths: list[str]) -> None:
    del paths
    book = Book()
    job, config = greedy((5, 6, 7), 4), EngineConfig(num_blocks=16)
    check(book, model_of("plain", "int8"), "bfloat16", [job], config, (1,))
    text, bits = next(iter(book.rows.items()))
    book.rows[text] = bytes([bits[0] ^ 1]) + bits[1:]
    with pytest.raises(AssertionError):
        check(book, model_of("plain", "int8"), "bfloat16", [job], config, (1,))
    assert set(book.changed) == {text}


@pytest.mark.parametrize("kv", ["bfloat16", "int8"])
def test_scores_of_a_prompt_do_not_depend_on_its_chunks(paths: list[str], kv: Kv) -> None:
    """Of an echoed prompt, which no row of the book holds."""
    del paths
    prompt = [i * 7 % 250 for i in range(50)]
    found = []
    for size, count in ((9, 1), (16, 2), (512, 2)):
        config = EngineConfig(
            num_blocks=16, max_batch_tokens=size, max_sequences=4, kv_dtype=kv, prefix_cache=False
        )
        engine = native_engine(model_of("gemma", "q4"), config, Book())
        outcome = Outcome()
        asked = {"max_tokens": 1, "logprobs": 2}
        engine.submit(request(prompt, outcome, echo=True, **asked))
        with threads(count):
            while engine.step():
                pass
        found.append([event.prompt for event in outcome.events])
    assert found[0][0]
    assert found[1:] == found[:1] * 2
