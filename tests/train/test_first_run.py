"""A recipe to a model in the registry, on a tiny fresh model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tests.errors import about

from lmstack.core import InputError
from lmstack.registry import Store, load
from lmstack.text import VocabularyConfig, train_tokenizer
from lmstack.train import read_recipe, train

TEXTS = [f"the cat number {n} sat on the mat and saw dog number {n + 1}" for n in range(60)]
MODEL = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    tokenizer = train_tokenizer(TEXTS, VocabularyConfig(vocab_size=300))
    tokenizer.save(tmp_path / "tokenizer")
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join([*(json.dumps({"text": text}) for text in TEXTS), "{broken"]))
    settings = {
        "objective": "causal",
        "model": MODEL,
        "tokenizer": str(tmp_path / "tokenizer"),
        "data": str(data),
        "output": str(tmp_path / "made"),
        "run": str(tmp_path / "run"),
        "max_length": 32,
        "batch": 8,
        "steps": 30,
        "lr": 0.01,
        "weight_decay": 0.01,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(settings))  # JSON is YAML
    return path


def test_a_fresh_model_learns_and_is_served_as_it_was_trained(recipe: Path) -> None:
    torch.set_num_threads(1)
    result = train(read_recipe(recipe))
    lines = [json.loads(x) for x in (recipe.parent / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] / 2
    bytes_of_all = sum(len(text.encode()) for text in TEXTS)
    tokenizer = load(str(result.folder)).tokenizer
    predictions = sum(len(tokenizer.encode(text)) for text in TEXTS)  # one more for the end
    for line in (line for line in lines if "loss" in line):
        expected = line["loss"] / math.log(2) * predictions / bytes_of_all
        assert line["bits_per_byte"] == pytest.approx(expected, rel=0.1)
    assert result.report.bad_rows == 1
    assert result.report.bad[0].place.endswith("data.jsonl:61")
    loaded = load(str(result.folder))
    assert loaded.digest == result.digest
    assert Store().resolve(str(result.folder)).card.training.steps == 30


def test_a_folder_that_holds_a_run_is_not_run_over(recipe: Path) -> None:
    train(read_recipe(recipe, ["steps=2"]))
    with pytest.raises(InputError, match="holds a run already", check=about("run")):
        train(read_recipe(recipe, ["steps=2"]))


def test_an_unknown_key_names_the_nearest(recipe: Path) -> None:
    with pytest.raises(InputError, match="no setting 'warmpu'", check=about("warmpu")) as error:
        read_recipe(recipe, ["warmpu=0.1"])
    assert error.value.hint == "did you mean 'warmup'?"


def test_numbers_are_written_as_everywhere(recipe: Path) -> None:
    assert read_recipe(recipe, ["lr=1e-4"]).lr == 1e-4
