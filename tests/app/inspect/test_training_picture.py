"""The curves of a run, against the lines that they are drawn from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmstack.app.inspect.training_picture import draw_training
from lmstack.core import StoreError


def write(path: Path, steps: int) -> None:
    lines = []
    for step in range(1, steps + 1):
        lines.append({"step": step, "loss": 5 / step, "lr": 1e-3 / step, "gradient": 0.5})
        if step % 5 == 0:
            lines.append({"step": step, "validation_loss": 6 / step})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("steps", [0, 1, 12, 1000])
def test_a_run_of_any_length_is_drawn_and_drawn_alike(tmp_path: Path, steps: int) -> None:
    metrics = tmp_path / "metrics.jsonl"
    write(metrics, steps)
    for name in ("a.svg", "b.svg"):
        draw_training(metrics, tmp_path / name, "made & $x$")
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    for words in ("made &amp; $x$", f"{steps:,} steps", "Loss", "Learning rate"):
        assert words in text
    assert ("validation" in text) == (steps >= 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "b.svg", "metrics.jsonl"]


def test_a_run_by_rewards_shows_them_first(tmp_path: Path) -> None:
    """A reward model reports the mean of its scores by that name too: its loss is shown."""
    rewards = [{"step": n, "reward": n / 9, "validation_reward": n / 8} for n in range(1, 9)]
    for name, more in (("samples", {"reward_spread": 0.5, "loss": 0.1}), ("scores", {"loss": 0.1})):
        metrics = tmp_path / f"{name}.jsonl"
        metrics.write_text("".join(json.dumps(line | more) + "\n" for line in rewards))
        draw_training(metrics, tmp_path / f"{name}.svg", "made")
    samples, scores = ((tmp_path / f"{name}.svg").read_text() for name in ("samples", "scores"))
    assert samples.index("Reward") < samples.index("Loss") < samples.index("Learning rate")
    assert "validation" in samples
    assert "Reward" not in scores
    assert "Loss" in scores


def test_values_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 1, "loss": null}\n{"step": 2, "loss": 3.0}\n{"step": 3, "lo')
    draw_training(metrics, tmp_path / "a.png", "made")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    write(metrics, 3)
    (tmp_path / "a.png").mkdir()
    with pytest.raises(StoreError, match="writing"):
        draw_training(metrics, tmp_path / "a.png", "made")
    assert not (tmp_path / ".a.png").exists()
