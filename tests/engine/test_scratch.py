"""Memory that one call lends to the next: who owns it, and what a result that is kept too long
becomes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.engine.conftest import Outcome, drive, request
from tests.engine.cpu.quantized_models import quantized

from lmstack.engine import Engine, native_problem
from lmstack.engine.cpu.executor import NativeEncoder, NativeExecutor
from lmstack.engine.executor import Executor, SequenceSpan
from lmstack.engine.scratch import Scratch
from lmstack.engine.torch.executor import TorchEncoder, TorchExecutor
from lmstack.model import Transformer

needs_native = pytest.mark.skipif(bool(native_problem()), reason="no native ops here")
Make = Callable[[Transformer], Executor]
EXECUTORS = [
    pytest.param(lambda module: TorchExecutor(module, 4, 16), id="reference"),
    pytest.param(
        lambda module: NativeExecutor(quantized(module, "int8"), 4, 16),
        id="native",
        marks=needs_native,
    ),
]


@pytest.mark.parametrize("make", EXECUTORS)
@torch.inference_mode()
def test_a_later_call_leaves_earlier_hidden_states_and_logits_alone(
    module: Transformer, make: Make
) -> None:
    executor = make(module)

    def computed(ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        span = SequenceSpan([2, 0, 1], 0, len(ids))
        hidden = executor.hidden(ids, range(len(ids)), [span], None)
        return hidden, executor.logits(hidden)

    first = computed([5, 6, 7, 8])
    kept = [each.clone() for each in first]
    computed([200, 100, 50, 25])
    computed([9, 9])
    assert all(each.equal(copy) for each, copy in zip(first, kept, strict=True))


@pytest.mark.parametrize("make", EXECUTORS)
@torch.inference_mode()
def test_logits_in_a_scratch_are_those_without_until_the_next_call(
    module: Transformer, make: Make
) -> None:
    executor, scratch = make(module), Scratch()
    torch.manual_seed(1)
    first, second = torch.randn(2, 3, module.config.hidden_size)
    held = executor.logits(first, scratch)
    assert held.equal(executor.logits(first))
    later = executor.logits(second, scratch)
    assert later.equal(executor.logits(second))
    assert held.isnan().all(), "a result that was kept too long still looks right"


@needs_native
def test_encoders_give_hidden_states_of_their_own(module: Transformer) -> None:
    for encoder in (TorchEncoder(module), NativeEncoder(quantized(module, "int8"))):
        first = encoder.varlen_hidden([1, 2, 3, 4], [4])
        kept = first.clone()
        encoder.varlen_hidden([9, 8, 7, 6], [2, 2])
        assert first.equal(kept)


def test_unchecked_memory_is_used_again_and_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scratch, "checked", False)
    scratch = Scratch()
    first = scratch.rows(4, 10)
    assert scratch.rows(2, 20).data_ptr() == first.data_ptr()
    larger = scratch.rows(8, 10)
    assert larger.shape == (8, 10)
    assert scratch.rows(1, 3).data_ptr() == larger.data_ptr()


def test_memory_from_inference_may_be_changed_outside_of_it() -> None:
    scratch = Scratch()
    with torch.inference_mode():
        rows = scratch.rows(2, 3)
    rows.zero_()
    scratch.rows(2, 3)
    assert rows.isnan().all()


def test_an_engine_step_ends_the_logits_of_the_step_before(
    make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searches, drafts and samplers that kept some would fail in this suite."""
    engine = make_engine()
    run, seen = engine._runner.run, []

    def spied(*arguments: object) -> object:
        computed = run(*arguments)  # type: ignore[arg-type]
        seen.append(computed.logits)
        return computed

    monkeypatch.setattr(engine._runner, "run", spied)
    engine.submit(request([1, 2, 3], Outcome(), max_tokens=4, ignore_eos=True))
    drive(engine)
    assert len(seen) == 4
    assert all(logits.isnan().all() for logits in seen[:-1])
    assert not seen[-1].isnan().any()
