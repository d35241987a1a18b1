"""`lmstack train` as a user types it, on a tiny fresh model."""

from __future__ import annotations

import json
import re
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
    words = ("validation=0.2", "max_length=2048", "--dry-run")
    done = run("train", "recipe.yaml", *words, "--price", "3")
    assert done.code == 0, done.err
    for text in ("6 of 8 rows", "% full", "optimizer", "feed-forward", "measured here", "3.00 an"):
        assert text in done.out
    for text in ("held out, of", "rows of 64 tokens", "in float32"):
        assert text in done.out
    assert "note: a run of 6 updates learns little" in done.err
    assert not Path("runs/made/checkpoints").exists()
    plan = run("train", "recipe.yaml", "--dry-run", "--json").json
    assert plan["steps"] == plan["outlook"]["updates"] == 6
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
    values = run("train", "recipe.yaml", "--json", "validation=0.2", "epochs=null").json
    assert values["steps"] == values["kept_step"] == 6
    assert values["before"]["loss"] > values["values"]["loss"]
    assert values["values_of"] == "validation"
    assert values["metric"] == "loss"
    assert values["rewards"] == []
    assert not values["diverged"]
    assert values["outlook"]["held_out"] > 1
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


def test_before_a_run_its_size_and_what_is_too_small_is_said(run: Run, folder: Path) -> None:
    done = run("train", "recipe.yaml", "validation=0.2", "max_length=2048", "precision=float32")
    assert done.code == 0, done.err
    (held,) = [line for line in done.err.splitlines() if "held out" in line]
    assert "6 updates, of 8 rows a step; products in float32" in held
    assert "packed rows of 64 tokens" in held
    assert "note: max_length is 2,048 and the model has 64 positions; 64 is used" in done.err
    assert "note: a run of 6 updates learns little" in done.err
    assert "to validate with: what fewer than 20 say of a model is mostly chance" in done.err


def test_the_end_has_the_loss_before_and_after_and_the_step_that_was_kept(
    run: Run, folder: Path
) -> None:
    done = run("train", "recipe.yaml", "validation=0.2", "eval_every=1")
    assert "step 6 of 6, the best by loss of the validation" in done.out
    (loss,) = re.findall(r"^loss +(\S+), (\S+) before$", done.out, re.MULTILINE)
    assert float(loss[0]) < float(loss[1])


def test_without_a_validation_the_loss_is_said_to_be_that_of_training(
    run: Run, folder: Path
) -> None:
    done = run("train", "recipe.yaml", "validation=0.001")
    assert done.code == 0, done.err
    assert "none held out" in done.err
    assert "no example fell to the validation" in done.err
    assert re.search(r"^loss of training +\S+, \S+ before$", done.out, re.MULTILINE)
    assert "step 6 of 6, the last" in done.out


@pytest.mark.parametrize("setting", ["patience=1", "metric=accuracy"])
@pytest.mark.parametrize(
    ("validation", "held"), [("0", "no"), ("0.001", "no"), ("held.jsonl", "1")]
)
def test_what_compares_evaluations_is_refused_where_there_is_nothing_to_compare(
    run: Run, folder: Path, setting: str, validation: str, held: str
) -> None:
    """The share may come to nothing, and a file may hold a single row."""
    Path("held.jsonl").write_text(json.dumps({"text": TEXTS[0]}))
    done = run("train", "recipe.yaml", setting, f"validation={validation}")
    assert done.code == 1
    name = setting.partition("=")[0]
    assert f"{held} example is held out" in done.err
    assert f"{name}=null" in done.err
    assert not Path("runs/made/metrics.jsonl").exists()


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_metric_that_there_is_not_is_refused_before_data_is_read(
    run: Run, folder: Path, dry: tuple[str, ...]
) -> None:
    done = run("train", "recipe.yaml", "metric=acuracy", "data=gone.jsonl", *dry)
    assert done.code == 1
    assert "metric is 'acuracy'; the objective has loss, accuracy, bits_per_byte" in done.err
    assert "did you mean 'accuracy'?" in done.err


ONLINE = ("objective.name=grpo", "objective.samples=2", "objective.max_tokens=4", "dropout=0")


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_reward_that_there_is_not_is_refused_before_data_is_read(
    run: Run, folder: Path, dry: tuple[str, ...]
) -> None:
    done = run("train", "recipe.yaml", *ONLINE, "objective.rewards=[arithmatic]", "data=gone", *dry)
    assert done.code == 1
    assert "there is no reward 'arithmatic'" in done.err
    assert "did you mean 'arithmetic'?" in done.err


def test_a_dry_run_by_rewards_says_that_there_is_no_plan_before_it_reads_data(
    run: Run, folder: Path
) -> None:
    done = run("train", "recipe.yaml", *ONLINE, "objective.rewards=[finished]", "data=gone",
               "--dry-run")  # fmt: skip
    assert "a run of grpo has no plan" in done.err


def test_a_run_by_rewards_ends_in_their_curve(run: Run, folder: Path) -> None:
    Path("prompts.jsonl").write_text("\n".join(json.dumps({"prompt": text}) for text in TEXTS))
    words = ("objective.rewards=[finished]", "data=prompts.jsonl", "validation=0.1", "report=false")
    done = run("train", "recipe.yaml", *ONLINE, *words)
    assert done.code == 0, done.err
    (curve,) = [line for line in done.out.splitlines() if line.startswith("rewards ")]
    assert curve.endswith(": a step each")
    assert curve.count(",") == 5
    (reward,) = [line for line in done.out.splitlines() if line.startswith("reward ")]
    assert reward.endswith(" before")
    assert "reward_finished" in done.out


def test_a_run_that_diverges_is_not_said_to_be_of_use(run: Run, folder: Path) -> None:
    done = run("train", "recipe.yaml", "validation=0.2", "lr=5", "warmup=0", "clip=1000")
    assert done.code == 0, done.err
    assert "note: the loss is" in done.err
    assert "training diverges; a lower lr" in done.err
    assert done.err.count("training diverges") == 1
    assert "use it" not in done.out
    assert "diverged" in done.out


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("beta2=1",), "beta2 is 1, outside [0, 1)", ""),
        (("beta1=1.0",), "beta1 is 1.0, outside [0, 1)", ""),
        (("data=empty.jsonl",), "there is no row in empty.jsonl", "the objective reads text"),
        (("model.max_position_embeddings=null",), "max_position_embeddings", "under model:"),
        (("steps=null", "epochs=null"), "epochs is None", ""),
    ],
)
def test_mistakes_name_what_is_wrong_and_what_to_do(
    run: Run, folder: Path, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    Path("empty.jsonl").write_text("")
    done = run("train", "recipe.yaml", *arguments)
    assert done.code == 1
    assert message in done.err
    assert hint in done.err
    assert "fetch the model again" not in done.err
