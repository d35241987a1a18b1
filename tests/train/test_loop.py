"""The loop's edges: signals, updates that must not be made, what a pass is given."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.errors import about
from tests.train import tiny

from lmstack.core import InputError
from lmstack.model import ForwardContext
from lmstack.train.data.examples import Batch
from lmstack.train.loop import Trainer
from lmstack.train.objectives.causal import CausalLM
from lmstack.train.objectives.objective import Embed, Gather
from lmstack.train.parallel import Parallel

FOUND = tiny.examples(9)


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    torch.set_num_threads(1)
    return tiny.trainer(tiny.model("llama"), tmp_path, FOUND)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_the_step_end_and_the_second_stops(
    trainer: Trainer, number: signal.Signals
) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with trainer._until_told():
        assert trainer._told_at is None
        signal.raise_signal(number)
        assert trainer._told_at is not None
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_of_several_processes_two_signals_at_once_are_one(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal's, and torchrun's."""
    trainer.parallel = Parallel(0, 2)
    now = iter([10.0, 11.9, 13.9])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    with trainer._until_told():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_outside_of_the_main_thread_signals_are_left_alone(trainer: Trainer) -> None:
    seen: list[object] = []

    def look() -> None:
        with trainer._until_told():
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (1.0, math.inf), (-math.inf, 1.0)])
def test_an_update_of_what_is_no_number_is_not_made(
    trainer: Trainer, loss: float, norm: float
) -> None:
    trainer._check(1.0, 1.0)
    said = f"step 1 gave a loss of {loss:g} and a gradient of {norm:g}; the weights were not"
    with pytest.raises(InputError, match=said, check=about("lr")) as error:
        trainer._check(loss, norm)
    assert error.value.hint == "a lower lr, or other rows"
    for _ in range(2):
        trainer.step()
        trainer.save()
    with pytest.raises(InputError, match="step 3 gave") as error:
        trainer._check(loss, norm)
    assert str(error.value.hint).endswith("; --resume goes on from the checkpoint at step 2")


def test_gradients_are_clipped_to_the_recipes_norm(tmp_path: Path) -> None:
    norms = []
    for clip in (0.5, 1e6):
        made = tiny.trainer(tiny.model("llama"), tmp_path, FOUND, clip=clip)
        for weight in made.trained.weights.values():
            weight.grad = torch.ones_like(weight)
        longest = made.trained.clipped()
        total = sum(float(w.grad.square().sum()) for w in made.trained.weights.values()) ** 0.5
        norms.append((longest, total))
    assert norms[0][0] == norms[1][0] == pytest.approx(norms[1][1])
    assert norms[0][1] == pytest.approx(0.5)


def test_a_pass_is_given_the_recipes_dropout_and_a_seed_of_its_own(tmp_path: Path) -> None:
    plain = tiny.trainer(tiny.model("llama"), tmp_path, FOUND)
    context = plain.trained.context(0, 0)
    assert (context.ops, context.dropout, context.checkpoint) == (plain.trained.ops, None, False)
    made = tiny.trainer(tiny.model("llama"), tmp_path, FOUND, dropout=0.25, checkpointing=True)
    places = [(0, 0), (0, 1), (1, 0)]
    seeds = [made.trained.context(*place).dropout.seed for place in places]  # type: ignore[union-attr]
    other = tiny.trainer(tiny.model("llama"), tmp_path, FOUND, dropout=0.25, seed=1)
    seeds.append(other.trained.context(0, 0).dropout.seed)  # type: ignore[union-attr]
    other.trained.parallel = Parallel(1, 2)
    seeds.append(other.trained.context(0, 0).dropout.seed)  # type: ignore[union-attr]
    assert len({*seeds}) == 5
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    context = made.trained.context(0, 0)
    assert context.dropout is not None
    assert (context.dropout.rate, context.dropout.seed) == (0.25, seeds[0])
    assert context.checkpoint
    drawn = [(made.trained.context(*place), torch.rand(1))[1] for place in ((0, 0), (0, 1), (0, 0))]
    assert drawn[0] == drawn[2] != drawn[1]


def test_how_often_it_evaluates_and_saves_follows_from_the_steps(tmp_path: Path) -> None:
    def every(**changes: int | float) -> tuple[int, int, int]:
        made = tiny.trainer(tiny.model("llama"), tmp_path, FOUND, **changes)
        return made.steps, made._eval_every, made._save_every

    assert every(steps=59) == (59, 5, 5)
    assert every(steps=9) == (9, 1, 1)
    assert every(steps=59, eval_every=7) == (59, 7, 5)
    assert every(steps=59, save_every=8) == (59, 5, 8)
    assert every(steps=None, epochs=3.0, batch=4, pack=False)[0] == 9


def test_what_is_linked_sees_each_pass_as_its_loss_will(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its dropout while it trains, and without any in an evaluation; by the run's ops."""
    seen: list[ForwardContext] = []

    def linked(_: CausalLM, batches: Sequence[Batch], embed: Embed, gather: Gather) -> Any:
        for place in range(len(batches)):
            embed(place, lambda model, batch, context: seen.append(context) or torch.zeros(0))
        assert [part.tolist() for part in gather(torch.ones(2))] == [[1.0, 1.0]]
        return batches

    monkeypatch.setattr(CausalLM, "linked", linked)
    trainer = tiny.trainer(tiny.model("llama"), tmp_path, FOUND, dropout=0.5)
    batches = trainer.source.train.batches(0) * 2
    for is_training in (True, False):
        trainer.trained.module.train(is_training)
        trainer.source._linked(batches, 3)
    count = len(batches)
    assert [each.ops for each in seen] == [trainer.trained.ops] * 2 * count
    wanted = [trainer.trained.context(3, place).dropout for place in range(count)]
    assert [each.dropout.seed for each in seen[:count]] == [each.seed for each in wanted]
    assert len({each.seed for each in wanted}) == count
    assert [each.dropout for each in seen[count:]] == [None] * count


def test_an_epoch_of_nothing_whole_is_a_step(tmp_path: Path) -> None:
    found = tiny.trainer(tiny.model("llama"), tmp_path, FOUND, steps=None, epochs=0.01)
    assert found.steps == 1
