"""Which weights are kept: those of the best evaluation, averaged if they are; and when it stops."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.errors import about
from tests.train import tiny

from lmstack.core import InputError
from lmstack.train.checkpoint import Checkpoints
from lmstack.train.loop import Trainer, Watch
from lmstack.train.metric import TrainingMetric, falling
from lmstack.train.metrics import read_metrics
from lmstack.train.objectives.causal import CausalLM

FOUND, HELD = tiny.examples(40), tiny.examples(9, seed=5)


class Weights(Watch):
    """The weights at each evaluation, and what was saved."""

    def __init__(self) -> None:
        self.at: dict[int, dict[str, torch.Tensor]] = {}
        self.saves: list[int] = []
        self.trainer: Trainer | None = None

    def evaluated(self, step: int, values: Mapping[str, float]) -> None:
        assert self.trainer is not None
        self.at[step] = tiny.weights(self.trainer.trained.module)

    def saved(self, step: int) -> None:
        self.saves.append(step)


def scripted(
    folder: Path, values: list[float], start: float = -1e9, **changes: Any
) -> tuple[Trainer, Weights]:
    """A run whose evaluations give ``values``, a step each, and ``start`` before the first."""
    trainer = tiny.trainer(tiny.model("llama"), folder, FOUND, HELD, eval_every=1, **changes)
    watch = Weights()
    trainer.watch, watch.trainer = watch, trainer
    drawn = iter([start, *values])
    trainer.source.evaluate = lambda: {"loss": (value := next(drawn)), "accuracy": -value}  # type: ignore[method-assign]
    return trainer, watch


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_the_weights_of_the_best_evaluation_are_kept(tmp_path: Path, metric: str) -> None:
    """The least loss, the greatest accuracy."""
    values = [3.0, 1.0, 2.0, 1.0, 4.0]
    trainer, watch = scripted(tmp_path, values, steps=5, metric=metric, save_every=100)
    kept = trainer.run()
    assert kept == {"loss": 1.0, "accuracy": -1.0}
    for name, weight in tiny.weights(trainer.trained.module).items():
        assert torch.equal(weight, watch.at[2][name])
        assert not torch.equal(weight, watch.at[4][name])
    assert watch.saves == [1, 2, 5]


def test_a_step_that_is_best_and_due_is_saved_once(tmp_path: Path) -> None:
    trainer, watch = scripted(tmp_path, [5.0, 4.0, 3.0, 2.0], steps=4, save_every=2)
    trainer.run()
    assert watch.saves == [1, 2, 3, 4]


def test_the_best_is_not_forgotten_with_older_checkpoints(tmp_path: Path) -> None:
    trainer, _ = scripted(tmp_path, [1.0, 2.0, 3.0, 4.0, 5.0], steps=5, save_every=1, keep=2)
    trainer.run()
    assert Checkpoints(tmp_path, 2).steps() == [1, 4, 5]


@pytest.mark.parametrize(
    ("values", "patience", "stops"),
    [
        ([3.0, 2.0, 2.5, 2.4, 1.0], 2, 4),  # no better than the best, though better than before
        ([3.0, 3.0, 3.0], 2, 3),  # equal is not better
        ([3.0, 4.0, 2.0, 3.0, 1.0], 2, 5),  # a better one starts the count anew
        ([3.0, 4.0], 1, 2),
    ],
)
@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_patience_counts_evaluations_since_the_best(
    tmp_path: Path, values: list[float], patience: int, stops: int, metric: str
) -> None:
    settings = {"steps": 5, "patience": patience, "metric": metric, "save_every": 100}
    trainer, watch = scripted(tmp_path, values, **settings)
    trainer.run()
    assert trainer.progress.step == stops
    assert watch.saves[-1] == stops
    again = tiny.trainer(tiny.model("llama"), tmp_path, FOUND, HELD, eval_every=1, **settings)
    if stops < 5:
        assert again.resume() == stops
        again.run()
        assert again.progress.step == stops  # it had come to its end


def test_an_evaluation_that_is_no_number_is_never_best(tmp_path: Path) -> None:
    trainer, _ = scripted(tmp_path, [float("nan"), 2.0, float("inf")], steps=3)
    assert trainer.run()["loss"] == 2.0
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["validation_loss"] for line in lines if "validation_loss" in line] == [
        -1e9,
        None,
        2.0,
        None,
    ]


def test_a_metric_that_the_objective_has_not_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="metric is 'f1'; the objective has loss, accuracy", check=about("metric")
    ):
        tiny.trainer(tiny.model("llama"), tmp_path, FOUND, HELD, metric="f1")


def test_evaluation_is_the_mean_over_all_predictions_however_they_are_cut(tmp_path: Path) -> None:
    module = tiny.model("llama")
    values = []
    for micro_tokens, pack in ((10_000, True), (25, False), (1, False)):
        found = tiny.trainer(
            module, tmp_path, FOUND, HELD, micro_tokens=micro_tokens, pack=pack, dropout=0.4
        )
        values.append(found.source.evaluate())
    for found in values[1:]:
        assert found == pytest.approx(values[0], rel=1e-10)


def test_the_average_follows_the_weights_and_is_what_is_kept(tmp_path: Path) -> None:
    """w_avg = d w_avg + (1 - d) w with d = min(ema, (1 + n) / (10 + n)) after step n, as
    TensorFlow's ExponentialMovingAverage with its count of updates."""
    module = tiny.model("llama")
    trainer = tiny.trainer(module, tmp_path, FOUND, ema=0.3, steps=6)
    average = tiny.weights(module)
    for n in range(1, 7):
        trainer.step()
        decay = min(0.3, (1 + n) / (10 + n))
        for name, weight in tiny.weights(module).items():
            average[name] = decay * average[name] + (1 - decay) * weight
    trainer.run()
    for name, weight in tiny.weights(module).items():
        torch.testing.assert_close(weight, average[name], rtol=1e-12, atol=1e-12)


def test_evaluating_an_average_leaves_the_weights_alone(tmp_path: Path) -> None:
    one, two = tiny.model("llama"), tiny.model("llama")
    tiny_steps: dict[str, Any] = {"ema": 0.9, "steps": 4}
    with_it = tiny.trainer(one, tmp_path, FOUND, HELD, **tiny_steps)
    without = tiny.trainer(two, tmp_path, FOUND, HELD, **tiny_steps)
    for _ in range(3):
        with_it.step()
        without.step()
        assert with_it.source.evaluate()["loss"] > 0
    for name, weight in tiny.weights(one).items():
        assert torch.equal(weight, two.get_parameter(name))


class Error(CausalLM):
    """Whose accuracy is the share of errors."""

    def metrics(self) -> tuple[TrainingMetric, ...]:
        return falling("loss", "accuracy")


def test_the_objective_says_which_metrics_rise(tmp_path: Path) -> None:
    trainer, _ = scripted(tmp_path, [1.0, 2.0], steps=2, metric="accuracy", objective=Error())
    assert trainer.run() == {"loss": 2.0, "accuracy": -2.0}


def test_an_evaluation_is_of_the_averaged_weights(tmp_path: Path) -> None:
    """Whose loss a module has that is given them by hand."""
    module, by_hand = tiny.model("llama"), tiny.model("llama")
    trainer = tiny.trainer(module, tmp_path, FOUND, HELD, ema=0.9, steps=4, lr=0.1)
    average = tiny.weights(module)
    for n in range(1, 4):
        trainer.step()
        decay = min(0.9, (1 + n) / (10 + n))
        for name, weight in tiny.weights(module).items():
            average[name] = decay * average[name] + (1 - decay) * weight
    by_hand.load_state_dict(average, strict=False)
    found = trainer.source.evaluate()["loss"]
    wanted, raw = (
        tiny.trainer(each, tmp_path, FOUND, HELD).source.evaluate()["loss"]
        for each in (by_hand, module)
    )
    assert found == pytest.approx(wanted, rel=1e-9)
    assert abs(found - raw) > 1e-3


@pytest.mark.parametrize(
    ("values", "has_diverged"),
    [
        ([9.0, 5.0], False),
        ([11.0, 11.0], False),  # overfitted, or a step too far: no use, but no divergence
        ([11.1, 12.0], True),
        ([12.0, 4.0], False),  # what is kept is good
        ([float("nan"), float("inf")], True),  # no evaluation was a number
    ],
)
def test_a_run_has_diverged_if_what_it_keeps_is_far_above_the_start(
    tmp_path: Path, values: list[float], has_diverged: bool
) -> None:
    trainer, _ = scripted(tmp_path, values, start=5.0, steps=2)
    assert trainer.has_diverged(trainer.run()) == has_diverged
    assert trainer.progress.start["loss"] == 5.0


def test_without_a_validation_the_first_step_is_the_start(tmp_path: Path) -> None:
    calm, wild = (
        tiny.trainer(tiny.model("llama"), tmp_path / name, FOUND, steps=8, lr=lr, warmup=0.0)
        for name, lr in (("calm", 1e-3), ("wild", 5.0))
    )
    for trainer, has_diverged in ((calm, False), (wild, True)):
        notes: list[str] = []
        trainer.watch.note = notes.append  # type: ignore[method-assign]
        values = trainer.run()
        first = read_metrics(tmp_path / ("wild" if has_diverged else "calm") / "metrics.jsonl")[0]
        assert trainer.progress.start["loss"] == trainer.progress.first_loss == first["loss"]
        assert trainer.has_diverged(values) == has_diverged
        assert len(notes) == has_diverged
        assert all("training diverges" in note for note in notes)


def test_the_evaluation_before_the_first_step_is_that_of_the_base(tmp_path: Path) -> None:
    module = tiny.model("llama")
    wanted = tiny.trainer(module, tmp_path, FOUND, HELD).source.evaluate()
    trainer = tiny.trainer(module, tmp_path, FOUND, HELD, steps=1)
    trainer.run()
    assert trainer.progress.start == wanted
    assert trainer.progress.best_step == 1  # the base is not what training keeps
    first = read_metrics(tmp_path / "metrics.jsonl")[0]
    assert (first["step"], first["validation_loss"]) == (0, wanted["loss"])
    again = tiny.trainer(tiny.model("llama"), tmp_path, FOUND, HELD, steps=2)
    assert again.resume() == 1
    again.run()
    assert again.progress.start == wanted
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines if "validation_loss" in line] == [0, 1, 2]
