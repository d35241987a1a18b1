"""`lmstack train` with a constitutional recipe as a user types it: a tiny base does all of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.train import runs

from lmstack.registry import Store
from lmstack.train import train

if TYPE_CHECKING:
    from tests.app.conftest import Run

TRAINING = {"steps": 2, "batch": 4, "validation": 0.0, "lr": 1e-3}
RECIPE = {
    "pipeline": "constitutional",
    "base": "base",
    "data": "prompts.jsonl",
    "output": "mine",
    "labels": 1,
    "answer_tokens": 24,
    "critique_tokens": 8,
    "weights": "float32",
    "sft": TRAINING,
    "dpo": {**TRAINING, "max_length": 512, "lora": {"r": 2}, "report": False},
}


@pytest.fixture
def folder(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base that has learned to end what it says."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    runs.prepare_folder(tmp_path)
    model = {**runs.MODEL, "max_position_embeddings": 1024}
    settings: dict[str, Any] = {"objective": "sft", "data": "chat.jsonl", "output": "base"}
    train(runs.recipe(tmp_path, "base", model=model, validation=0.0, **settings, steps=60))
    rows = [json.dumps({"prompt": f"cat {n}?"}) for n in range(6)]
    Path("prompts.jsonl").write_text("\n".join(rows))
    Path("recipe.yaml").write_text(json.dumps(RECIPE))  # JSON is YAML
    return tmp_path


def test_a_plan_counts_requests_and_neither_it_nor_a_mistake_writes_anything(
    run: Run, folder: Path
) -> None:
    plan = run("train", "recipe.yaml", "rounds=2", "labels=3", "--dry-run", "--json").json
    assert plan["prompts"] == 6
    counts = {stage: values["requests"] for stage, values in plan["stages"].items()}
    assert counts == {
        "drafts": 6,
        "critiques": 12,
        "revisions": 12,
        "answers": 12,
        "labels": 36,
    }
    assert "mine-sft" in run("train", "recipe.yaml", "--dry-run").out
    for setting, message in (
        ("writter=base", "did you mean 'writer'?"),
        ("judge=nobody", "nobody"),
        ("dpo.report={sampels: 3}", "did you mean 'samples'?"),
        ("principles=gone.yaml", "there is no file of principles gone.yaml"),
        ("data=gone.jsonl", "gone.jsonl"),
    ):
        done = run("train", "recipe.yaml", setting)
        assert done.code == 1
        assert message in done.err
        assert "Traceback" not in done.err
        assert not Path("runs").exists()


def test_the_whole_run_says_where_everything_is_and_goes_on_for_free(
    run: Run, folder: Path
) -> None:
    done = run("train", "recipe.yaml")
    assert done.code == 0, done.err
    for stage in ("Drafting", "Criticizing", "Revising", "Answering twice", "Comparing by"):
        assert stage in done.err
    assert "runs/mine/page.html" in done.out
    assert "lmstack up --model mine-sft --adapter mine" in done.out
    page = Path("runs/mine/page.html").read_text()
    assert page.count('class="entry"') == 6
    assert (Store().folder / "mine/training.json").is_file()
    before = {path: path.read_bytes() for path in Path("runs/mine").glob("*.jsonl")}
    again = run("train", "recipe.yaml")
    assert again.code == 1
    assert "try:   lmstack train recipe.yaml --resume, or run=" in again.err
    assert run("train", "recipe.yaml", "--resume").code == 0
    assert before == {path: path.read_bytes() for path in Path("runs/mine").glob("*.jsonl")}
