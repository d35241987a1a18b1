"""Reward models: TRL's loss on the same tensors, hand-computed values, and what is read."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about
from tests.oracles import reward_trainer
from tests.train.bases import base_folder, recipe_for, write_rows

import lmstack
from lmstack.core import InputError, Message, UnsupportedError
from lmstack.model import ForwardContext
from lmstack.registry import LoadedModel, Store, load
from lmstack.train import read_recipe, train
from lmstack.train.data.rows import Row
from lmstack.train.objectives.objective import Reading
from lmstack.train.objectives.reward import RewardModelling, bradley_terry

TEMPLATE = (
    "{% for m in messages %}[CLS] {{ m['role'] }} {{ m['content'] }} [SEP]{% endfor %}"
    "{% if add_generation_prompt %}[CLS] assistant{% endif %}"
)
PAIRS: list[dict[str, Any]] = [
    {"prompt": "where is acme corp", "chosen": "acme corp is in paris", "rejected": "no"},
    {"prompt": "who wrote it", "chosen": "ada", "rejected": "he wrote the note", "margin": 0.5},
    {"prompt": "is ada in london", "chosen": "she works in london", "rejected": "ada is"},
]
SCORES = st.floats(-20, 20, width=32)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)


def one_score(name: str, folder: Path) -> transformers.PreTrainedModel:
    """A base of ``name`` in ``folder``, with a one-score head of transformers and a template for
    decoders; and that model."""
    base_folder(name, folder)
    torch.manual_seed(3)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    model.save_pretrained(folder)
    if name == "llama":
        (folder / "chat_template.jinja").write_text(TEMPLATE)
    found: transformers.PreTrainedModel = model.eval()
    return found


def reading_of(base: LoadedModel, length: int) -> Reading:
    segments = base.module.config.token_types > 1
    return Reading(base.tokenizer, base.template, length, segments=segments)


def step(folder: Path, objective: RewardModelling, rows: list[dict[str, Any]]) -> Any:
    """Loss of a batch of ``rows``, the examples, and the gradient of the embedding table."""
    base = load(folder)
    found = [Row(row, "") for row in rows]
    objective = objective.fitted(base, lambda: iter(found))
    reading = reading_of(base, 48)
    examples = [e for row in found for e in objective.encode(row, reading)]
    batch = objective.collate(examples, reading)
    loss = objective.loss(base.module, batch, ForwardContext())
    (loss.total / batch.weight).backward()  # type: ignore[no-untyped-call]
    return loss, examples, base.module.embed.weight.grad, batch


class Alone:
    """What RewardTrainer asks of an accelerator, on one process."""

    gather = staticmethod(lambda x: x)
    gather_for_metrics = staticmethod(lambda x: x)


@pytest.mark.parametrize("center", [0.0, 0.1])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_pairs_equal_trl(center: float, tmp_path: Path) -> None:
    theirs = one_score("llama", tmp_path)
    theirs.config.pad_token_id = 0
    loss, examples, grad, batch = step(tmp_path, RewardModelling(center=center), PAIRS)
    inputs = reward_trainer.DataCollatorForPreference(pad_token_id=0)(
        [
            {
                "chosen_ids": np.concatenate(e.sequences[:2]).tolist(),
                "rejected_ids": np.concatenate(e.sequences[2:]).tolist(),
                "margin": float(e.labels[0]),
            }
            for e in examples
        ]
    )
    names = ("num_tokens", "accuracy", "margin", "min_reward", "mean_reward", "max_reward")
    metrics = {"eval": {name: list[float]() for name in names}}
    trainer = SimpleNamespace(
        model=theirs,
        args=SimpleNamespace(center_rewards_coefficient=center or None),
        accelerator=Alone(),
        _total_train_tokens=0,
        _metrics=metrics,
    )
    expected = reward_trainer.RewardTrainer.compute_loss(trainer, theirs, dict(inputs))
    expected.backward()
    found = float(loss.total.detach()) / batch.weight
    assert found == pytest.approx(float(expected.detach()), rel=1e-5)
    wanted = theirs.get_input_embeddings().weight.grad
    torch.testing.assert_close(grad, wanted, rtol=1e-3, atol=1e-6)
    for ours, name in (("accuracy", "accuracy"), ("margin", "margin"), ("reward", "mean_reward")):
        assert float(loss.sums[ours]) / 3 == pytest.approx(metrics["eval"][name][0], rel=1e-4)


@given(st.lists(st.tuples(SCORES, SCORES, st.floats(0, 5, width=32)), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_the_loss_and_its_gradient_are_those_of_the_formula(
    rows: list[tuple[float, float, float]],
) -> None:
    chosen, rejected, margin = (
        torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True)
    )
    chosen.requires_grad_(True)
    losses = bradley_terry(chosen, rejected, margin, 0.25)
    (grad,) = torch.autograd.grad(losses.sum(), chosen)
    for found, slope, (c, r, m) in zip(losses.tolist(), grad.tolist(), rows, strict=True):
        x = c - r - m
        wanted = max(-x, 0) + math.log1p(math.exp(-abs(x))) + 0.25 * (c + r) ** 2
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)
        assert slope == pytest.approx(-1 / (1 + math.exp(x)) + 0.5 * (c + r), rel=1e-9, abs=1e-9)


def test_ratings_are_learned_in_deviations_from_their_mean(tmp_path: Path) -> None:
    theirs = one_score("llama", tmp_path)
    ratings = [1.0, 2.0, 6.0]
    rows = [
        {"prompt": row["prompt"], "completion": row["chosen"], "rating": y}
        for row, y in zip(PAIRS, ratings, strict=True)
    ]
    loss, examples, _, _ = step(tmp_path, RewardModelling(), rows)
    with torch.no_grad():
        scores = [
            float(theirs(torch.tensor(np.concatenate(e.sequences))[None].long()).logits)
            for e in examples
        ]
    wanted = (np.array(ratings) - 3) / np.std(ratings)
    expected = float(((np.array(scores) - wanted) ** 2).sum())
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-5)
    found = RewardModelling(rows="ratings").reported({"loss": 0.0}, loss.counts)
    assert found["pearson"] == pytest.approx(np.corrcoef(scores, wanted)[0, 1], abs=1e-6)


def test_answers_rated_in_one_row_are_examples_of_their_own(tmp_path: Path) -> None:
    base = load(base_folder("bert", tmp_path))
    row = Row({"prompt": "who", "completions": ["ada", "he"], "ratings": [5, 1]}, "")
    objective = RewardModelling().fitted(base, lambda: iter([row]))
    assert (objective.rows, objective.mean, objective.deviation) == ("ratings", 3.0, 2.0)
    first, second = objective.encode(row, reading_of(base, 32))
    assert [float(e.labels[0]) for e in (first, second) if e.labels is not None] == [5.0, 1.0]
    thumbs = [{"prompt": "who", "completion": "ada", "label": x} for x in (True, False)]
    objective = RewardModelling().fitted(base, lambda: (Row(each, "") for each in thumbs))
    assert (objective.rows, objective.mean, objective.deviation) == ("ratings", 0.5, 0.5)


def planted(count: int, seed: int) -> list[dict[str, Any]]:
    """Pairs by a rule: the answer that names more places is better, whatever else it says."""
    rng = np.random.default_rng(seed)
    places, others = ["paris", "london"], ["ada", "he", "the", "engine", "wrote", "green"]
    rows = []
    for _ in range(count):
        answers = []
        for named in (rng.integers(1, 3), 0):
            words = [*rng.choice(places, named), *rng.choice(others, 5 - named)]
            answers.append(" ".join(rng.permutation(words)))
        prompt = " ".join(rng.choice(others, 3))
        rows.append({"prompt": prompt, "chosen": answers[0], "rejected": answers[1]})
    return rows


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_a_planted_rule_is_learned_to_over_95_percent(name: str, tmp_path: Path) -> None:
    base = base_folder(name, tmp_path / "base", initializer_range=0.1)
    if name == "llama":
        (base / "chat_template.jinja").write_text(TEMPLATE)
    data = write_rows(tmp_path / "pairs.jsonl", planted(300, 0))
    more = {"batch": 16, "steps": 45, "lr": 5e-3, "validation": 0, "save_every": 1000}
    result = train(read_recipe(recipe_for(tmp_path, base, "reward", data, **more)))
    assert Store().resolve(str(result.folder)).kind == "reward"
    score = lmstack.task("reward", str(result.folder))
    held = planted(100, 1)
    better, worse = (
        [each.score for each in score([{"prompt": r["prompt"], "answer": r[k]} for r in held])]
        for k in ("chosen", "rejected")
    )
    assert np.mean(np.array(better) > np.array(worse)) > 0.95


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_what_is_served_is_what_was_trained(name: str, tmp_path: Path) -> None:
    one_score(name, tmp_path)
    base = load(tmp_path)
    task = lmstack.task("reward", replace(base, kind="reward"))
    reading = reading_of(base, 64)
    objective = RewardModelling(rows="pairs")
    examples = [e for row in PAIRS for e in objective.encode(Row(row, ""), reading)]
    batch = objective.collate(examples, reading)
    with torch.no_grad():
        scores = base.module(**batch.inputs).logits[batch.more["places"], 0].tolist()
    asked = [
        {"messages": [Message("user", r["prompt"]), Message("assistant", r[side])]}
        for r in PAIRS
        for side in ("chosen", "rejected")
    ]
    found = [each.score for each in task(asked)]
    assert found == pytest.approx(scores, abs=1e-5)
    assert len(set(found)) == len(found)


def test_a_decoder_is_read_as_transformers_reads_its_template(tmp_path: Path) -> None:
    theirs = one_score("llama", tmp_path)
    assert load(tmp_path).kind == "reward"
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    chat = [{"role": "user", "content": "is ada in london"}, {"role": "assistant", "content": "no"}]
    ids = tokenizer.apply_chat_template(chat, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = float(theirs(ids).logits[0, 0])
    found = lmstack.task("reward", str(tmp_path))({"messages": chat}).score
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["llama", "bert"])
@pytest.mark.parametrize("limit", [9, 14, 20])
def test_what_is_too_long_loses_its_beginning(name: str, limit: int, tmp_path: Path) -> None:
    one_score(name, tmp_path)
    base = load(tmp_path)
    long = {**PAIRS[0], "prompt": "the note and " * 9, "chosen": "acme corp is in paris"}
    objective = RewardModelling(rows="pairs")

    def chosen(length: int) -> tuple[list[int], int]:
        (example,) = objective.encode(Row(long, ""), reading_of(base, length))
        return np.concatenate(example.sequences[:2]).tolist(), example.left_out

    whole, none = chosen(200)
    ids, left_out = chosen(limit)
    assert (len(ids), none) == (limit, 0)
    assert left_out >= len(whole) - limit
    tail = whole[-7:] if name == "llama" else whole[-6:]  # the answer, and what ends it
    assert ids[-len(tail) :] == tail


def test_a_control_token_spelled_in_an_answer_is_text(tmp_path: Path) -> None:
    one_score("bert", tmp_path)
    base = load(tmp_path)
    reading = Reading(base.tokenizer, None, 64, segments=True)
    row = Row({"prompt": "who [SEP]", "chosen": "ada [SEP] he", "rejected": "no"}, "")
    (example,) = RewardModelling(rows="pairs").encode(row, reading)
    ids = np.concatenate(example.sequences[:2]).tolist()
    assert ids.count(base.tokenizer.id_of("[SEP]")) == 2


def test_rows_that_teach_nothing_are_said(tmp_path: Path) -> None:
    base = load(base_folder("bert", tmp_path))
    reading = Reading(base.tokenizer, None, 64, segments=True)
    pairs, ratings = RewardModelling(rows="pairs"), RewardModelling(rows="ratings")
    rated = Row({"prompt": "a", "completion": "b", "rating": 2}, "")
    with pytest.raises(InputError, match="none that was chosen, and the others are pairs"):
        list(pairs.encode(rated, reading))
    with pytest.raises(InputError, match="a chosen answer, and the others are ratings"):
        list(ratings.encode(Row(PAIRS[0], ""), reading))
    with pytest.raises(InputError, match="margin is 'much'"):
        list(pairs.encode(Row({**PAIRS[0], "margin": "much"}, ""), reading))
    with pytest.raises(
        InputError, match="2 answers are rated, with 1 different ratings", check=about("data")
    ):
        RewardModelling().fitted(base, lambda: iter([rated, rated]))


def test_a_decoder_without_a_template_is_refused(tmp_path: Path) -> None:
    base = load(base_folder("llama", tmp_path))
    with pytest.raises(UnsupportedError, match="has no chat template", check=about("base")):
        RewardModelling().fitted(base, lambda: iter([Row(PAIRS[0], "")]))


def test_the_recipe_trains_a_reward_model(tmp_path: Path) -> None:
    recipe = Path(__file__).parents[2] / "recipes/reward.yaml"
    base = base_folder("llama", tmp_path / "base")
    (base / "chat_template.jinja").write_text(TEMPLATE)
    data = write_rows(tmp_path / "pairs.jsonl", PAIRS * 3)
    given_ = {"base": base, "data": data, "output": tmp_path / "made", "run": tmp_path / "run"}
    overrides = [f"{key}={json.dumps(str(value))}" for key, value in given_.items()]
    result = train(read_recipe(recipe, [*overrides, "max_length=32", "steps=2", "validation=0.3"]))
    assert {"loss", "accuracy", "margin"} <= set(result.values)
    assert load(result.folder).kind == "reward"
