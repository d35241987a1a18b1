"""A recipe to a model in the registry, on a tiny fresh model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from tests.errors import about

from lmstack.core import InputError
from lmstack.registry import Store, load
from lmstack.text import VocabularyConfig, train_tokenizer
from lmstack.train import Recipe, read_recipe, train
from lmstack.train.loop import Watch

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


def test_a_fresh_model_learns_and_is_served_as_it_was_trained(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("lmstack.train.run.matrix_rate", lambda kind, device: 5.0)
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
    training = Store().resolve(str(result.folder)).card.training
    assert training.steps == result.steps == 30
    assert (training.objective, training.base, training.models) == ("causal", None, {})
    assert (training.tokens, training.trainable) == (result.tokens, result.trainable)
    held = [{k: line.get(f"validation_{k}") for k in result.values} for line in lines]
    assert training.metrics == result.values
    at = [line["step"] for line in lines]
    assert (result.kept_step, result.values) in [*zip(at, held, strict=True)]
    assert result.start == held[0]
    assert Recipe.from_mapping(training.recipe) == read_recipe(recipe)
    assert [each["name"] for each in training.data] == ["data.jsonl"]
    assert 0 < training.seconds < 600
    assert training.seconds == round(training.seconds, 3)
    assert training.code.startswith("lmstack ")
    assert (result.name, result.metric) == (str(result.folder), "loss")
    assert result.trainable == result.parameters
    assert not result.has_diverged
    steps = [line for line in lines if "flops_per_second" in line]
    before = [0.0, *(line["seconds"] for line in steps)]
    flops = sum(
        x["flops_per_second"] * (x["seconds"] - t) for x, t in zip(steps, before, strict=False)
    )
    assert result.flops_per_second == pytest.approx(flops / before[-1], rel=1e-3)
    assert result.matrix_rate == 5.0
    folder = recipe.parent / "run"
    for name in ("recipe", "run", "data"):
        text = (folder / f"{name}.json").read_text()
        assert text == json.dumps(json.loads(text), indent=2) + "\n"
    facts = json.loads((folder / "run.json").read_text())
    assert facts == {"parameters": result.parameters, "trainable": result.trainable}
    (report,) = (folder / "examples").glob("*/report.json")
    text = report.read_text()
    assert text == json.dumps(json.loads(text), indent=2) + "\n"


def test_a_step_says_what_it_was(recipe: Path) -> None:
    seen: list[tuple[int, int, Mapping[str, float]]] = []

    class Seen(Watch):
        def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
            seen.append((done, total, values))

    changes = ["steps=3", "warmup=0", "schedule=linear", "final_lr=0", "validation=0"]
    result = train(read_recipe(recipe, changes), watch=Seen())
    assert [(done, total) for done, total, _ in seen] == [(1, 3), (2, 3), (3, 3)]
    path = recipe.parent / "run/metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    spent = tokens = 0.0
    for number, (line, (done, _, values)) in enumerate(zip(lines, seen, strict=True)):
        assert line == {"step": done, "epoch": 0, **line}
        assert values == pytest.approx({key: line[key] for key in values}, rel=1e-6)
        assert line.keys() - values.keys() <= {"step", "epoch", "time"}
        assert values["lr"] == pytest.approx(0.01 * (1 - number / 3))
        assert values["tokens"] > tokens
        seconds = values["seconds"] - spent
        assert values["tokens_per_second"] == pytest.approx((values["tokens"] - tokens) / seconds)
        assert values["flops_per_second"] * seconds > values["tokens"] - tokens
        assert 0 < values["seconds_forward"] + values["seconds_backward"] < seconds
        assert values["gradient"] > 0
        spent, tokens = values["seconds"], values["tokens"]
    assert result.tokens == tokens


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
