"""Other weights for a running engine: no request sees half of a change, no block outlives one."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

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
from tests.engine.cpu.quantized_models import quantized

from lmstack.core import EngineError, InputError, SamplingParams
from lmstack.engine import Engine, EngineConfig, TokenEvent
from lmstack.engine.cpu.executor import NativeExecutor
from lmstack.engine.torch.executor import TorchExecutor
from lmstack.model import LayerKind, Transformer
from lmstack.model.quant.matrix import QuantizedMatrix, held_weights

FORMS = ("float32", "bfloat16", "int8", "q4", "file8")
PROMPTS = [tuple(range(40 + i, 60 + 2 * i)) for i in range(6)]
CONFIG = EngineConfig(block_size=16, num_blocks=24, max_batch_tokens=32, max_sequences=3)


def made(seed: int, form: str) -> Transformer:
    torch.manual_seed(seed)
    module = Transformer(tiny_config())
    module.reset_parameters(std=0.35)
    module.eval()
    if form in ("int8", "q4", "file8"):
        return quantized(module, form)  # type: ignore[arg-type]
    return module.to(getattr(torch, form))


def weights_of(module: Transformer) -> dict[str, torch.Tensor | QuantizedMatrix]:
    return copy.deepcopy(held_weights(module))


def engine_of(module: Transformer) -> Engine:
    return Engine(module, byte_vocabulary(), CONFIG)


def answers(module: Transformer, count: int = 8) -> list[list[int]]:
    engine = engine_of(module)
    found = [generate(engine, p, id=str(i), max_tokens=count) for i, p in enumerate(PROMPTS)]
    return [outcome.tokens for outcome in found]


@pytest.fixture(scope="module", params=FORMS)
def pair(request: pytest.FixtureRequest) -> tuple[str, list[list[int]], list[list[int]]]:
    """A form, and what the prompts are answered by two models in it."""
    old, new = (answers(made(seed, request.param)) for seed in (1, 2))
    assert all(a != b for a, b in zip(old, new, strict=True))
    return request.param, old, new


def test_after_an_update_everything_is_computed_by_the_new_weights(
    pair: tuple[str, list[list[int]], list[list[int]]],
) -> None:
    form, old, new = pair
    engine = engine_of(made(1, form))
    kind = NativeExecutor if form in ("int8", "q4", "file8") else TorchExecutor
    assert isinstance(engine._runner._executor, kind)
    for expected, seed in ((old, 2), (new, 1), (old, 2), (new, 1)):
        found = [generate(engine, p, id=str(i)).tokens for i, p in enumerate(PROMPTS)]
        assert found == expected
        assert engine.stats().num_blocks_cached > 0
        engine.update_weights(weights_of(made(seed, form)))
        assert engine.stats().num_blocks_cached == 0
    assert engine.stats().num_weight_updates == 4


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.integers(0, 12), min_size=6, max_size=6),
    st.integers(0, 12),
    st.sampled_from(["float32", "int8"]),
)
def test_each_request_is_of_one_set_of_weights_whenever_they_change(
    delays: list[int], when: int, form: str
) -> None:
    """More requests than places, few blocks: some wait or are preempted as weights change."""
    old, new = old_and_new(form)
    engine, outcomes = engine_of(made(1, form)), [Outcome() for _ in PROMPTS]
    begun_before: set[int] = set()
    for step in range(400):
        for number, delay in enumerate(delays):
            if delay == step:
                engine.submit(request(PROMPTS[number], outcomes[number], id=str(number)))
        if step == when:
            begun_before = {int(s.request.id) for s in engine._live.values() if s.has_begun}
            begun_before |= {n for n, o in enumerate(outcomes) if o.done}
            engine.update_weights(weights_of(made(2, form)))
        if not engine.step() and step > max([*delays, when]):
            break
    for number, outcome in enumerate(outcomes):
        assert outcome.tokens == (old if number in begun_before else new)[number], number


_KNOWN: dict[str, tuple[list[list[int]], list[list[int]]]] = {}


def old_and_new(form: str) -> tuple[list[list[int]], list[list[int]]]:
    if form not in _KNOWN:
        _KNOWN[form] = answers(made(1, form)), answers(made(2, form))
    return _KNOWN[form]


def test_streams_of_a_running_engine_are_old_or_new_and_never_both() -> None:
    old, new = old_and_new("int8")
    engine = engine_of(made(1, "int8"))
    engine.start()
    try:
        for change in range(6):
            outcomes = [Outcome() for _ in PROMPTS]
            left = threading.Semaphore(0)
            for number, prompt in enumerate(PROMPTS):
                engine.submit(
                    request(
                        prompt,
                        id=f"{change} {number}",
                        on_event=_noted(outcomes[number], left),
                    )
                )
            engine.update_weights(weights_of(made(1 + (change + 1) % 2, "int8")))
            for _ in PROMPTS:
                assert left.acquire(timeout=60)
            for number, outcome in enumerate(outcomes):
                assert outcome.tokens in (old[number], new[number])
    finally:
        engine.close()
    assert engine.stats().num_weight_updates == 6


def _noted(outcome: Outcome, left: threading.Semaphore) -> Callable[..., None]:
    def note(event: object) -> None:
        outcome.events.append(event)  # type: ignore[arg-type]
        if outcome.done:
            left.release()

    return note


def test_a_beam_search_ends_under_the_weights_that_it_began_with() -> None:
    options = {"num_beams": 3, "temperature": 0.0, "max_tokens": 6}
    alone = generate(engine_of(made(1, "float32")), PROMPTS[0], **options).tokens
    engine, outcome = engine_of(made(1, "float32")), Outcome()
    assert SamplingParams.from_mapping(options).num_beams == 3
    engine.submit(request(PROMPTS[0], outcome, **options))
    engine.step()
    engine.step()
    engine.update_weights(weights_of(made(2, "float32")))
    assert outcome.tokens == alone
    drive(engine)


BAD = {
    "no such weight": lambda w: {"blocks.9.mlp.up.weight": w["blocks.0.mlp.up.weight"]},
    "another shape": lambda w: {"final_norm.weight": torch.ones(7)},
    "another dtype": lambda w: {"final_norm.weight": w["final_norm.weight"].double()},
    "another form": lambda w: {"blocks.0.mlp.up.weight": torch.zeros(96, 32)},
}


@pytest.mark.parametrize("what", BAD)
def test_weights_that_do_not_fit_change_nothing(what: str) -> None:
    old, _ = old_and_new("int8")
    engine, other = engine_of(made(1, "int8")), weights_of(made(2, "int8"))
    with pytest.raises(InputError, match=r"weight|holds"):
        engine.update_weights(other | BAD[what](other))
    assert [generate(engine, p, id=str(i)).tokens for i, p in enumerate(PROMPTS)] == old
    assert engine.stats().num_weight_updates == 0


def test_a_part_of_the_weights_may_be_replaced() -> None:
    module, other = made(1, "int8"), weights_of(made(2, "int8"))
    engine = engine_of(module)
    engine.update_weights({"blocks.1.attention.out.weight": other["blocks.1.attention.out.weight"]})
    fresh = made(1, "int8")
    fresh.blocks[1].attention.out = made(2, "int8").blocks[1].attention.out  # type: ignore[union-attr]
    assert [generate(engine, p, id=str(i)).tokens for i, p in enumerate(PROMPTS)] == answers(fresh)


def test_an_engine_that_closes_says_so_to_who_waits_for_an_update() -> None:
    engine = engine_of(made(1, "float32"))
    seen: list[Exception] = []

    def update() -> None:
        try:
            engine.update_weights({})
        except EngineError as error:
            seen.append(error)

    engine._thread = threading.Thread(target=lambda: None)  # one that takes no step
    engine._thread.start()
    waiting = threading.Thread(target=update)
    waiting.start()
    while engine._inbox.update is None:
        pass
    engine.close()
    waiting.join(30)
    assert "closed before the weights changed" in str(seen[0])
    with pytest.raises(EngineError, match="closed"):
        engine.update_weights({})


def test_tables_that_a_program_made_of_old_weights_are_made_again() -> None:
    config = tiny_config(bias="t5", kinds=(LayerKind(rope=None),), pattern=(0, 0))
    torch.manual_seed(1)
    module = Transformer(config)
    module.reset_parameters(std=0.35)
    narrow = quantized(module, "int8")
    bias = torch.randn_like(module.relative_bias.weight) * 5  # type: ignore[union-attr]
    engine = engine_of(narrow)
    assert isinstance(engine._runner._executor, NativeExecutor)
    before = [generate(engine, p, id=str(i)).tokens for i, p in enumerate(PROMPTS)]
    engine.update_weights({"relative_bias.weight": bias})
    found = [generate(engine, p, id=str(i)).tokens for i, p in enumerate(PROMPTS)]
    assert found == answers(narrow) != before


@pytest.mark.parametrize("error", [RuntimeError("boom"), InputError("boom")])
@pytest.mark.parametrize("runs", [False, True], ids=["by hand", "thread"])
def test_an_engine_whose_change_fails_half_way_refuses_everything_afterwards(
    monkeypatch: pytest.MonkeyPatch, error: Exception, runs: bool
) -> None:
    """Codes are new then, and copies, tables and programs that were made of the old ones old."""
    engine, outcome = engine_of(made(1, "int8")), Outcome()
    generate(engine, PROMPTS[0], id="before")
    assert engine.stats().num_blocks_cached > 0

    def fails() -> None:
        engine.submit(request(PROMPTS[1], outcome, id="waits"))
        raise error

    monkeypatch.setattr(engine._executor, "reload", fails)
    if runs:
        engine.start()
    refusal = "failed half way, so the engine stopped: boom"
    with pytest.raises(EngineError, match=refusal):
        engine.update_weights(weights_of(made(2, "int8")))
    assert engine.stats().num_blocks_cached == 0
    assert outcome.done
    assert not outcome.tokens
    assert refusal in str(outcome.last.error)
    for ask in (lambda: engine.submit(request(PROMPTS[2])), lambda: engine.update_weights({})):
        with pytest.raises(EngineError, match=refusal) as caught:
            ask()
        assert caught.value.hint == "load the model again"
    engine.close()
    with pytest.raises(EngineError, match=refusal):
        engine.submit(request(PROMPTS[2]))


def test_events_are_of_the_version_of_the_weights_that_computed_them() -> None:
    engine = engine_of(made(1, "float32"))
    seen: dict[str, list[str]] = {"old": [], "new": []}

    def note(event: TokenEvent) -> None:
        seen[event.request_id].append(engine.weight_version)

    engine.submit(request(PROMPTS[0], id="old", on_event=note))
    engine.step()
    engine.submit(request(PROMPTS[1], id="new", on_event=note))
    engine.update_weights(weights_of(made(2, "float32")), "second")
    drive(engine)
    assert set(seen["old"]) == {""}
    assert set(seen["new"]) == {"second"}
