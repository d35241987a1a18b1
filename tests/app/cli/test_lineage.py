"""`lmstack model inspect` on what was trained: the tree of a model, and an adapter's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from lmstack.registry import Store
from lmstack.text import VocabularyConfig, train_tokenizer
from lmstack.train import read_recipe, train

if TYPE_CHECKING:
    from tests.app.conftest import Run

TEXTS = [f"the cat number {n} sat on the mat and saw dog number {n + 1}" for n in range(40)]
MODEL = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


@pytest.fixture
def recipe(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the working folder: data, a tokenizer and a recipe of a fresh model."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    train_tokenizer(TEXTS, VocabularyConfig(vocab_size=280)).save(Path("tokenizer"))
    Path("data.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    settings = {
        "objective": "causal",
        "model": MODEL,
        "tokenizer": "tokenizer",
        "data": "data.jsonl",
        "output": "first",
        "max_length": 32,
        "batch": 8,
        "steps": 2,
    }
    path = Path("recipe.yaml")
    path.write_text(json.dumps(settings))
    return path


def test_a_model_shows_its_own_training_and_its_bases(run: Run, recipe: Path) -> None:
    train(read_recipe(recipe))
    again = {**json.loads(recipe.read_text()), "base": "first", "output": "second"}
    for key in ("model", "tokenizer"):
        del again[key]
    Path("again.yaml").write_text(json.dumps(again))
    train(read_recipe("again.yaml", ["seed=3"]))
    done = run("model", "inspect", "second")
    assert done.code == 0, done.err
    tree = done.out[done.out.index("Lineage") :]
    assert tree.count("data.jsonl") == 2
    assert tree.index("└─ first, sha256") < tree.index("└─ fresh weights")
    values = run("model", "inspect", "second", "--json").json
    assert values["training"]["recipe"]["seed"] == 3
    base = values["training"]["base"]
    assert base["training"]["base"] is None
    assert base["digest"] == run("model", "inspect", "first", "--json").json["digest"]
    assert values["training"]["code"].startswith("lmstack ")


def test_an_adapters_folder_shows_its_settings_and_its_lineage(run: Run, recipe: Path) -> None:
    train(read_recipe(recipe))
    settings = {**json.loads(recipe.read_text()), "base": "first", "output": "adapter"}
    for key in ("model", "tokenizer"):
        del settings[key]
    Path("lora.yaml").write_text(json.dumps({**settings, "lora": {"r": 2}}))
    train(read_recipe("lora.yaml"))
    done = run("model", "inspect", "adapter")
    assert done.code == 0, done.err
    assert "lora_alpha" in done.out
    assert "└─ first, sha256" in done.out
    values = run("model", "inspect", "adapter", "--json").json
    assert values["training"]["base"]["name"] == "first"
    (Store().folder / "adapter/training.json").write_text("{}")
    spoiled = run("model", "inspect", "adapter")
    assert spoiled.code == 1
    assert "no lineage that lmstack wrote" in spoiled.err
