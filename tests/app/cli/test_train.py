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
