"""Each metric has a direction and a stage, of every objective that there is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.errors import about
from tests.train import runs
from tests.train.rollouts import letters

from lmstack.core import InputError
from lmstack.model import Transformer
from lmstack.text import VocabularyConfig, train_tokenizer
from lmstack.train import Recipe, train
from lmstack.train.assembly import check_recipe
from lmstack.train.loop import Trainer
from lmstack.train.metric import TrainingMetric, falling, rising
from lmstack.train.objectives import OBJECTIVES

SPECIAL = ("<mask>", "<pad>", "<sep>", "<extra_id_0>", "<extra_id_1>", "<extra_id_2>")
ROLES = {"mask_token": "<mask>", "pad_token": "<pad>", "sep_token": "<sep>"}
SIZES = {
    **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1},
    **{"num_attention_heads": 2, "max_position_embeddings": 64},
}
BERT = {"model_type": "bert", "architectures": ["BertForMaskedLM"], **SIZES}
T5 = runs.KINDS["translation"]["model"]
N = range(40)
TEXT = [{"text": text} for text in runs.TEXTS]
PAIRS = [{"query": f"cat {n}", "positive": f"dog {n}", "negatives": [f"mat {n}"]} for n in N]
SCORED = [{"sentence1": f"cat {n}", "sentence2": f"dog {n}", "score": n % 5 / 4} for n in N]
LABELLED = [{"sentence1": f"cat {n}", "sentence2": f"dog {n}", "label": n % 2} for n in N]
PREFERENCES = [{"prompt": f"cat {n}?", "chosen": f"dog {n}.", "rejected": "the mat"} for n in N]
RATED = [{"prompt": f"cat {n}?", "completion": f"dog {n}", "rating": n % 5} for n in N]
CHOICES = [{"query": f"cat {n}", "positives": [f"cat {n}"], "negatives": ["mat"]} for n in N]
PROMPTS = [{"prompt": f"cat {n}", "letters": "abcdefghijklm"} for n in N]
TARGETS = [{"source": f"cat {n}", "target": f"dog {n}"} for n in N]
CHATS = [
    {"messages": [{"role": r, "content": f"{r} {n}"} for r in ("user", "assistant")]} for n in N
]


def tagged(*tags: str) -> list[dict[str, Any]]:
    return [{"tokens": [f"cat{n}", "dog"], "tags": [tags[n % 2], tags[1 - n % 2]]} for n in N]


def labelled(*labels: Any, column: str = "label") -> list[dict[str, Any]]:
    return [{"text": f"cat {n}", column: labels[n % len(labels)]} for n in N]


ANSWERS = {"rewards": ["letters", "letters"], "samples": 2, "max_tokens": 4}
# Of each objective what it makes other metrics of: its settings, rows and model.
CASES: Mapping[str, tuple[str, Mapping[str, Any], list[dict[str, Any]], Mapping[str, Any]]] = {
    "causal": ("causal", {}, TEXT, runs.MODEL),
    "contrastive, pairs": ("contrastive", {}, PAIRS, BERT),
    "contrastive, scored": ("contrastive", {}, SCORED, BERT),
    "reader": ("reader", {}, CHOICES, BERT),
    "grpo": ("grpo", {**ANSWERS, "kl": 0.1}, PROMPTS, runs.MODEL),
    "masked": ("masked", {}, TEXT, BERT),
    "ppo": ("ppo", {**ANSWERS, "epochs": 1}, PROMPTS, runs.MODEL),
    "reranking, labelled": ("reranking", {}, LABELLED, BERT),
    "reranking, lists": ("reranking", {}, PAIRS, BERT),
    "reward, pairs": ("reward", {}, PREFERENCES, runs.MODEL),
    "reward, ratings": ("reward", {}, RATED, runs.MODEL),
    "classes": ("sequence-classification", {}, labelled("a", "b"), BERT),
    "several": ("sequence-classification", {}, labelled(["a"], ["a", "b"], column="labels"), BERT),
    "scores": ("sequence-classification", {}, labelled(0.5, 1.25), BERT),
    "span-corruption": ("span-corruption", {}, TEXT, T5),
    "denoising": ("denoising", {}, TEXT, T5),
    "translation": ("translation", {}, TARGETS, T5),
    "distillation": ("distillation", {"teacher": "teacher"}, TEXT, runs.MODEL),
    "sft": ("sft", {}, CHATS, runs.MODEL),
    "tags": ("token-classification", {}, tagged("a", "b"), BERT),
    "entities": ("token-classification", {}, tagged("B-x", "O"), BERT),
    **{
        name: (name, {}, PREFERENCES, runs.MODEL) for name in ("dpo", "ipo", "kto", "orpo", "simpo")
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    found = tmp_path_factory.mktemp("metrics")
    config = VocabularyConfig(vocab_size=300, special_tokens=SPECIAL)
    train_tokenizer(runs.TEXTS, config, roles=ROLES).save(found / "tokenizer")
    (found / "tokenizer" / "chat_template.jinja").write_text(runs.TEMPLATE)
    return found


@pytest.fixture(autouse=True)
def _home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(folder / "home"))


@pytest.fixture(autouse=True)
def _no_pass_keeps_the_states_of_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would take many times the memory of the last ones."""
    forward = Transformer.forward

    def watched(self: Transformer, *given: Any, **named: Any) -> Any:
        assert named["output_hidden_states"] is False
        return forward(self, *given, **named)

    monkeypatch.setattr(Transformer, "forward", watched)


def recipe_of(folder: Path, name: str, **changes: Any) -> Recipe:
    objective, settings, rows, model = CASES[name]
    data = folder / f"{name}.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    return Recipe.from_mapping(
        {
            "objective": {"name": objective, **settings},
            "model": model,
            "tokenizer": str(folder / "tokenizer"),
            "data": [str(data)],
            "validation": 0.3,
            "output": str(folder / f"{name} made"),
            "run": str(folder / f"run of {name}"),
            "max_length": 32,
            "batch": 4,
            "steps": 1,
            **changes,
        }
    )


def test_no_objective_is_left_out() -> None:
    assert {objective for objective, *_ in CASES.values()} == set(OBJECTIVES)


@pytest.mark.parametrize("name", CASES)
def test_all_that_is_reported_is_declared_with_its_stage_and_direction(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing else is, once the objective knows its data."""
    if name == "distillation":
        train(recipe_of(folder, "causal", output="teacher", run=str(folder / "teaches")))
    declared: list[TrainingMetric] = []
    seen: dict[str, set[str]] = {"step": set(), "evaluation": set()}
    made = Trainer.__post_init__

    def noted(trainer: Trainer) -> None:
        made(trainer)
        declared.extend(trainer.objective.metrics())

    monkeypatch.setattr(Trainer, "__post_init__", noted)
    letters.run(recipe_of(folder, name))
    of_the_loop = ("step", "epoch", "lr", "gradient", "tokens", "seconds", "flops")
    for line in runs.lines(folder, f"run of {name}"):
        for key in line:
            if key.startswith("validation_"):
                seen["evaluation"].add(key.removeprefix("validation_"))
            elif not key.startswith(of_the_loop):
                seen["step"].add(key)
    by_name = {metric.name: metric for metric in declared}
    assert len(by_name) == len(declared)
    for stage, names in seen.items():
        wanted = {m.name for m in declared if m.stage in (stage, "both")}
        assert names == wanted, stage
    compared = {m.name for m in declared if m.stage != "step" and m.higher_is_better is not None}
    # A mean of scores that may lie anywhere, and a length, are better neither high nor low.
    assert seen["evaluation"] - compared <= {"reward", "answer_tokens"}


@pytest.mark.parametrize(
    ("metric", "value", "than", "is_better"),
    [
        (rising("f1")[0], 0.2, 0.1, True),
        (rising("f1")[0], 0.1, 0.1, False),
        (falling("kl")[0], 0.2, 0.1, False),
        (falling("kl")[0], -0.1, 0.1, True),
        (falling("kl")[0], 5.0, None, True),
        (falling("kl")[0], float("nan"), None, False),
        (falling("kl")[0], float("-inf"), 0.1, False),
        (rising("f1")[0], 0.1, float("nan"), True),
        (TrainingMetric("length", None), 0.1, None, False),
    ],
)
def test_the_better_value_is_that_in_the_direction_of_the_metric(
    metric: TrainingMetric, value: float, than: float | None, is_better: bool
) -> None:
    assert metric.is_better(value, than) == is_better


@pytest.mark.parametrize(
    ("name", "metric", "said", "hint"),
    [
        ("sft", "acuracy", "the objective has loss, accuracy", "did you mean 'accuracy'?"),
        ("sft", "f1", "the objective has loss, accuracy", "metric=loss"),
        ("sft", "lr", "the objective has loss, accuracy", "metric=loss"),
        ("grpo", "loss", "grpo reports it of steps", "one of reward, reward_letters"),
        ("ppo", "loss", "ppo reports it of steps", "one of reward, reward_letters"),
        ("grpo", "entropy", "grpo reports it of steps", "reward_letters-2, cut"),
        ("grpo", "reward_leters", "the objective has reward", "did you mean 'reward_letters'?"),
        ("reward, pairs", "reward", "neither more nor less", "margin"),
        ("orpo", "kl", "the objective has loss", "metric=loss"),
    ],
)
def test_a_metric_that_cannot_be_compared_by_is_refused_before_data_is_read(
    folder: Path, name: str, metric: str, said: str, hint: str
) -> None:
    recipe = recipe_of(folder, name, metric=metric, data=["nowhere.jsonl"])
    with pytest.raises(InputError, match=f"metric is '{metric}'; .*{said}") as caught:
        check_recipe(recipe)
    assert hint in (caught.value.hint or "")
    assert caught.value.param == "metric"


@pytest.mark.parametrize(
    ("name", "settings", "metric"),
    [
        ("tags", {"tags": ["a", "b"]}, "f1"),  # of entities, and there are none
        ("classes", {}, "pearson"),
        ("scores", {}, "f1"),
        ("contrastive, pairs", {}, "pearson"),
        ("reranking, labelled", {}, "mrr"),
        ("reward, ratings", {}, "margin"),
    ],
)
def test_a_metric_that_the_data_rules_out_is_refused_before_the_first_step(
    folder: Path, name: str, settings: Mapping[str, Any], metric: str
) -> None:
    objective = {"name": CASES[name][0], **settings}
    recipe = recipe_of(folder, name, metric=metric, objective=objective, run=str(folder / "none"))
    with pytest.raises(
        InputError, match=f"metric is '{metric}'; the objective has", check=about("metric")
    ):
        train(recipe)
    assert not (folder / "none" / "metrics.jsonl").exists()


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_a_run_by_rewards_keeps_the_best_by_the_reward_that_is_asked_for(
    folder: Path, weight: float
) -> None:
    """The highest, or of one with a negative weight the lowest."""
    rewards = [{"name": "letters", "weight": weight}]
    objective = {"name": "grpo", **ANSWERS, "rewards": rewards, "samples": 4, "max_tokens": 8}
    name = f"kept {weight}"
    recipe = recipe_of(
        folder, "grpo", objective=objective, metric="reward_letters", run=str(folder / name),
        **{"steps": 6, "eval_every": 1, "lr": 0.03, "output": str(folder / f"{name} made")},
    )  # fmt: skip
    result = letters.run(recipe)
    seen = [
        line["validation_reward_letters"]
        for line in runs.lines(folder, name)
        if "validation_reward" in line and line["step"]
    ]
    assert len(set(seen)) > 2
    assert result.values["reward_letters"] == (max(seen) if weight > 0 else min(seen))
    assert result.metric == "reward_letters"
    assert seen[result.kept_step - 1] == result.values["reward_letters"]
