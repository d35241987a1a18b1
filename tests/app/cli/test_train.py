"""`lmstack train` as a user types it, on a tiny fresh model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from lmstack.text import VocabularyConfig, train_tokenizer

if TYPE_CHECKING:
    from tests.app.conftest import Run

TEXTS = [f"the cat number {n} sat on the mat and saw dog number {n + 1}" for n in range(40)]
RECIPE = """\
objective: causal
model:
  model_type: llama
  architectures: [LlamaForCausalLM]
  hidden_size: 16
  intermediate_size: 32
  num_hidden_layers: 1
  num_attention_heads: 2
  num_key_value_heads: 1
  max_position_embeddings: 64
  tie_word_embeddings: true
tokenizer: tokenizer
data: data.jsonl
output: made
max_length: 32
batch: 8
steps: 6
lr: 1e-3
"""


@pytest.fixture
def folder(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    train_tokenizer(TEXTS, VocabularyConfig(vocab_size=280)).save(Path("tokenizer"))
    Path("data.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    Path("recipe.yaml").write_text(RECIPE)
    return tmp_path


def test_a_dry_run_prints_the_plan_and_starts_nothing(run: Run, folder: Path) -> None:
    done = run("train", "recipe.yaml", "--dry-run", "--price", "3")
    assert done.code == 0, done.err
    for text in ("6 of 8 rows", "% full", "optimizer", "feed-forward", "measured here", "3.00 an"):
        assert text in done.out
    assert not Path("runs/made/checkpoints").exists()
    plan = run("train", "recipe.yaml", "--dry-run", "--json").json
    assert plan["steps"] == 6
    assert plan["trainable"] == plan["parameters"]
    assert plan["memory"]["total"] > plan["memory"]["weights"]
    assert plan["cost"] is None
    assert run("train", "recipe.yaml", "--json").json["steps"] == 6


def test_the_end_says_where_the_result_is_what_it_reached_and_how_to_use_it(
    run: Run, folder: Path
) -> None:
    done = run("train", "recipe.yaml", "validation=0.2")
    assert done.code == 0, done.err
    assert "loss" in done.out
    assert "runs/made/metrics.jsonl" in done.out
    (use,) = [line for line in done.out.splitlines() if line.startswith("use it")]
    assert use.endswith('lmstack run generate "TEXT" --model made')
    written = run("run", "generate", "the cat", "--model", "made", "--max-tokens", "3")
    assert written.code == 0, written.err


def test_an_adapter_says_how_to_serve_it(run: Run, folder: Path) -> None:
    assert run("train", "recipe.yaml", "--quiet").err == ""
    settings = ("base=made", "model=null", "tokenizer=null", "lora.r=2", "output=my adapter")
    done = run("train", "recipe.yaml", *settings)
    assert done.code == 0, done.err
    assert "lmstack up --model made --adapter 'my adapter'" in done.out
    assert Path("my adapter/training.json").is_file()


def test_a_folder_that_holds_a_run_names_the_command_that_goes_on(run: Run, folder: Path) -> None:
    assert run("train", "recipe.yaml", "steps=2", "output=one").code == 0
    again = run("train", "recipe.yaml", "steps=2", "output=one")
    assert again.code == 1
    assert "holds a run already" in again.err
    assert "try:   lmstack train recipe.yaml steps=2 output=one --resume, or run=" in again.err


def test_what_is_unusual_is_noted_and_quiet_says_nothing_of_it(run: Run, folder: Path) -> None:
    done = run("train", "recipe.yaml", "steps=1")
    assert "note: batch is 8; usual is 16 to 256" in done.err
    assert "Training made" in done.err
    quiet = run("train", "recipe.yaml", "steps=1", "output=two", "--quiet")
    assert quiet.err == ""
    assert "use it" in quiet.out


def test_the_result_as_json_is_one_object(run: Run, folder: Path) -> None:
    values = run("train", "recipe.yaml", "--json").json
    assert values["steps"] == 6
    assert values["parameters"] == values["trainable"]
    assert values["digest"].startswith("sha256:")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("lora.alpa=3",), "lora: LoraConfig has no setting 'alpa'", "did you mean 'alpha'?"),
        (("lr=fast",), "recipe.yaml: lr is 'fast', not a number", ""),
        (("data=gone.jsonl",), "gone.jsonl", ""),
        (("tokenizer=gone",), "gone", ""),
    ],
)
def test_mistakes_end_in_words_and_leave_no_run(
    run: Run, folder: Path, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    done = run("train", "recipe.yaml", *arguments)
    assert done.code == 1
    assert message in done.err
    assert hint in done.err
    assert not Path("runs/made/checkpoints").exists()


def test_a_recipe_that_is_not_there_names_the_nearest(run: Run, folder: Path) -> None:
    done = run("train", "recipes.yaml")
    assert done.code == 1
    assert "did you mean recipe.yaml?" in done.err


def test_recipes_are_listed_with_what_they_do(run: Run, folder: Path) -> None:
    found = run("train", "--list", "--json").json
    assert {each["name"]: Path(each["path"]).is_file() for each in found}["sft-lora"]
    line = next(line for line in run("train", "--list").out.splitlines() if "sft-lora" in line)
    assert line.endswith("   Fine-tune the default chat model on your own conversations with LoRA")
    nothing = run("train")
    assert (nothing.code, nothing.err.splitlines()[1]) == (2, "try:   lmstack train --list")
