"""metrics.jsonl and TensorBoard's events."""

from __future__ import annotations

import itertools
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from tests.train import runs

from lmstack.app.cli import main
from lmstack.core import ExtraMissingError, StoreError
from lmstack.train import train
from lmstack.train.metrics import MetricsLog, read_metrics


def test_lines_are_json_whatever_the_values(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "run" / "metrics.jsonl")
    log.add({"step": 1, "loss": float("inf"), "accuracy": float("nan"), "epoch": 0})
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert text == '{"step": 1, "loss": null, "accuracy": null, "epoch": 0}\n'


def test_cut_leaves_the_lines_up_to_a_step(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(1, 6):
        log.add({"step": step, "loss": 1.0})
    log.add({"step": 5, "validation_loss": 2.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # killed in the middle of it
    log.cut(5)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 5]
    log.add({"step": 6, "loss": 1.0})
    assert read_metrics(tmp_path / "metrics.jsonl")[-1] == {"step": 6, "loss": 1.0}
    log.cut(0)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(StoreError, match=r"writing .*metrics.jsonl failed"):
        MetricsLog(tmp_path / "metrics.jsonl").add({"step": 1})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    runs.prepare_folder(tmp_path)
    return tmp_path


def test_a_line_says_what_a_step_was(folder: Path) -> None:
    train(runs.recipe(folder, steps=6, eval_every=3))
    lines = read_metrics(folder / "run" / "metrics.jsonl")
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if "validation_loss" in line] == [0, 3, 6]
    known = {"step", "epoch", "loss", "accuracy", "lr", "gradient", "seconds"}
    assert known | {"tokens", "tokens_per_second"} <= set(steps[0])
    for before, after in itertools.pairwise(steps):
        assert before["tokens"] < after["tokens"]
        assert before["seconds"] < after["seconds"]
        rate = (after["tokens"] - before["tokens"]) / (after["seconds"] - before["seconds"])
        assert after["tokens_per_second"] == pytest.approx(rate)


def test_events_are_those_of_metrics(folder: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator
    with pytest.raises(runs.Killed):
        train(runs.recipe(folder, tensorboard=True, steps=8), watch=runs.Stop(5))
    train(runs.recipe(folder, tensorboard=True, steps=8), resume=True)
    events = accumulator(str(folder / "run" / "tensorboard")).Reload()
    lines = read_metrics(folder / "run" / "metrics.jsonl")
    for tag, name in (("train/loss", "loss"), ("validation/loss", "validation_loss")):
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        wanted = [(line["step"], line[name]) for line in lines if name in line]
        assert [step for step, _ in found] == [step for step, _ in wanted]
        assert [value for _, value in found] == pytest.approx([value for _, value in wanted])


def test_events_are_in_groups_and_the_step_is_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[Any, ...]] = []

    class Writer:
        def __init__(self, folder: str, *, purge_step: int) -> None:
            told.append((folder, purge_step))

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            told.append((tag, value, step))

        def flush(self) -> None:
            told.append(("flush",))

    for name in ("tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(SummaryWriter=Writer))
    log = MetricsLog(tmp_path / "metrics.jsonl", tensorboard=True)
    log.add({"step": 3, "loss": 2.0})
    log.add({"step": 4, "validation_loss": 1.0})
    assert told == [
        (str(tmp_path / "tensorboard"), 3),
        ("train/loss", 2.0, 3),
        ("flush",),
        ("validation/loss", 1.0, 4),
        ("flush",),
    ]
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [3, 4]


def test_without_tensorboard_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ExtraMissingError) as error:
        MetricsLog(Path("metrics.jsonl"), tensorboard=True)
    assert error.value.hint == "pip install 'lmstack[tensorboard]'"


def test_a_run_through_the_command_draws_its_curves(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = runs.recipe_file(folder, steps=4)
    assert main(["train", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 4
    assert (folder / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_a_note_says_which_extra_draws(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["train", str(runs.recipe_file(folder, steps=4, eval_every=2))]) == 0
    said = capsys.readouterr().err
    assert said.count("pip install 'lmstack[pictures]'") == 1
    assert not (folder / "run" / "curves.png").exists()
