"""Adapters by the request: each answer is that of its adapter alone, whatever is beside it."""

from __future__ import annotations

import copy
import functools
import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.adapters import write_drawn
from tests.engine.conftest import Outcome, byte_vocabulary, drive, request, tiny_config
from tests.engine.cpu.quantized_models import quantized
from torch.testing import assert_close

from lmstack.core import EngineError, InputError
from lmstack.engine import Engine, EngineAdapter, EngineConfig
from lmstack.engine.cpu.executor import NativeExecutor
from lmstack.engine.cpu.library import problem
from lmstack.engine.torch.executor import TorchExecutor
from lmstack.model import Transformer, load_adapter, merge_adapter

WAYS = ["reference"] if problem() else ["reference", "native"]
SYSTEM = tuple(range(40, 75))


@functools.cache
def module_of(way: str) -> Transformer:
    torch.manual_seed(7)
    module = Transformer(tiny_config())
    module.reset_parameters(std=0.35)
    return quantized(module, "int8") if way == "native" else module.eval()


@pytest.fixture(scope="module")
def folders() -> Iterator[list[Path]]:
    with tempfile.TemporaryDirectory() as root:
        module = module_of("reference")
        yield [write_drawn(module, Path(root) / str(seed), seed) for seed in range(16)]


def engine_of(way: str, module: Transformer | None = None, **changes: object) -> Engine:
    values = {"block_size": 16, "num_blocks": 96, "max_batch_tokens": 64} | changes
    engine = Engine(module or module_of(way), byte_vocabulary(), EngineConfig.from_mapping(values))
    wanted = NativeExecutor if way == "native" else TorchExecutor
    assert isinstance(engine._runner._executor, wanted)
    return engine


def ask(
    engine: Engine, prompt: tuple[int, ...], adapter: EngineAdapter | None, name: str = "r"
) -> Outcome:
    outcome = Outcome()
    engine.submit(request(prompt, outcome, id=name, adapter=adapter, logprobs=3, max_tokens=24))
    return outcome


def alone(way: str, prompt: tuple[int, ...], folder: Path | None) -> Outcome:
    engine = engine_of(way)
    outcome = ask(engine, prompt, None if folder is None else engine.open_adapter(folder))
    drive(engine)
    return outcome


def scores(outcome: Outcome) -> list[float]:
    return [value for e in outcome.events if e.score for _, value in e.score.top]


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=4, deadline=None)
@given(
    chosen=st.lists(
        st.tuples(st.integers(-1, 15), st.lists(st.integers(0, 255), min_size=1, max_size=5)),
        min_size=2,
        max_size=10,
    )
)
def test_each_of_a_mixed_batch_is_answered_as_alone(
    way: str, folders: list[Path], chosen: list[tuple[int, list[int]]]
) -> None:
    engine = engine_of(way)
    adapters = [engine.open_adapter(folder) for folder in folders]
    asked = []
    for number, (which, tail) in enumerate(chosen):
        prompt = SYSTEM + tuple(tail)
        adapter = None if which < 0 else adapters[which]
        asked.append((ask(engine, prompt, adapter, str(number)), prompt, which))
    drive(engine)
    for outcome, prompt, which in asked:
        expected = alone(way, prompt, None if which < 0 else folders[which])
        assert outcome.tokens == expected.tokens
        if way == "native":
            assert scores(outcome) == scores(expected)
        else:  # whose sums depend on the batch, as those of the base do
            assert_close(scores(outcome), scores(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_sixteen_adapters_in_one_batch_are_sixteen_models(way: str, folders: list[Path]) -> None:
    engine = engine_of(way)
    adapters = [engine.open_adapter(folder) for folder in folders]
    prompt = SYSTEM[:4]
    asked = [ask(engine, prompt, adapter, str(i)) for i, adapter in enumerate(adapters)]
    engine.step()
    assert engine.stats().num_running == 16
    drive(engine)
    assert len({tuple(outcome.tokens) for outcome in asked}) > 12
    for outcome, folder in zip(asked, folders, strict=True):
        assert outcome.tokens == alone(way, prompt, folder).tokens


def test_an_adapter_answers_as_the_merged_model(folders: list[Path]) -> None:
    for folder in folders[:4]:
        merged = copy.deepcopy(module_of("reference"))
        load_adapter(merged, folder)
        merge_adapter(merged, keep=False)
        engine = engine_of("reference", merged)
        expected = ask(engine, SYSTEM, None)
        drive(engine)
        found = alone("reference", SYSTEM, folder)
        assert found.tokens == expected.tokens
        assert_close(scores(found), scores(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_keys_of_one_adapter_are_never_found_under_another(way: str, folders: list[Path]) -> None:
    engine = engine_of(way)
    one, other = engine.open_adapter(folders[0]), engine.open_adapter(folders[1])
    again = engine.open_adapter(folders[0])
    cached = []
    for adapter in (None, one, other, None, again, other):
        outcome = ask(engine, SYSTEM, adapter)
        drive(engine)
        cached.append(outcome.events[0].cached_tokens)
    assert cached[:3] == [0, 0, 0]
    # Of equal contents, whichever object they came in.
    assert min(cached[3:]) >= 32


@pytest.mark.parametrize("way", WAYS)
def test_opening_one_while_others_stream_disturbs_no_stream(way: str, folders: list[Path]) -> None:
    engine = engine_of(way)
    first = engine.open_adapter(folders[3])
    streams = [ask(engine, SYSTEM, None, "base"), ask(engine, SYSTEM, first, "adapted")]
    for _ in range(3):
        engine.step()
    late = ask(engine, SYSTEM, engine.open_adapter(folders[5]), "late")
    del first  # nobody but its request holds it now
    drive(engine)
    expected = [alone(way, SYSTEM, folder) for folder in (None, folders[3], folders[5])]
    assert [o.tokens for o in (*streams, late)] == [o.tokens for o in expected]


def test_an_adapter_of_another_engine_is_refused(folders: list[Path]) -> None:
    engine, other = engine_of("reference"), engine_of("reference")
    with pytest.raises(InputError, match="another engine"):
        ask(engine, SYSTEM, other.open_adapter(folders[0]))


@pytest.mark.parametrize("way", WAYS)
def test_other_weights_end_an_adapter_that_was_opened_before(way: str, folders: list[Path]) -> None:
    engine = engine_of(way, copy.deepcopy(module_of(way)), max_sequences=1)
    adapter = engine.open_adapter(folders[0])
    begun, waiting = (ask(engine, SYSTEM, adapter, name) for name in ("begun", "waiting"))
    engine.step()
    engine.update_weights({})
    drive(engine)
    assert begun.last.finish_reason == "length"
    assert isinstance(waiting.last.error, InputError | EngineError)
    with pytest.raises(InputError, match="opened"):
        ask(engine, SYSTEM, adapter)
    engine.submit(request(SYSTEM, begun, id="again", adapter=engine.open_adapter(folders[0])))
    drive(engine)


@pytest.mark.parametrize("way", WAYS)
def test_drafts_of_an_adapter_are_checked_by_the_adapter(way: str, folders: list[Path]) -> None:
    prompt = (1, 2, 3, 4) * 6
    found = []
    for speculation in ("off", "always"):
        engine = engine_of(way, speculation=speculation)
        outcome = Outcome()
        adapter = engine.open_adapter(folders[2])
        engine.submit(request(prompt, outcome, adapter=adapter, max_tokens=40))
        drive(engine)
        found.append(outcome.tokens)
    assert found[0] == found[1]


@pytest.mark.parametrize("way", WAYS)
def test_adapters_have_a_memory_of_their_own(way: str, folders: list[Path]) -> None:
    one = engine_of(way).open_adapter(folders[8]).nbytes
    assert one > module_of("reference").config.hidden_size ** 2
    engine = engine_of(way, adapter_memory_bytes=2 * one)
    held = [engine.open_adapter(folders[8]) for _ in range(2)]
    assert (engine.stats().num_adapters, engine.stats().num_adapter_bytes) == (2, 2 * one)
    with pytest.raises(InputError, match=f"takes {one:,} bytes"):
        engine.open_adapter(folders[8])
    streaming = ask(engine, SYSTEM, held.pop())
    engine.step()
    with pytest.raises(InputError, match="adapters are taken"):
        engine.open_adapter(folders[8])  # the request has it
    drive(engine)
    del streaming
    gc.collect()
    held.append(engine.open_adapter(folders[8]))
