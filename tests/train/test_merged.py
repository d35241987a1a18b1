"""Adapters that score, tag or embed, merged with their heads when they are first used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.oracles import peft
from tests.train.bases import base_folder, recipe_for, write_rows
from tests.train.test_reward import PAIRS, TEMPLATE

from lmstack.app.wiring.retrieval import embedder_named
from lmstack.app.wiring.tasks import load_also, open_task
from lmstack.app.wiring.training import reward_for
from lmstack.core import Message, UnsupportedError
from lmstack.model import load_adapter
from lmstack.registry import Store, load
from lmstack.serve.embedder import LocalEmbedder
from lmstack.train import read_recipe, train
from lmstack.train.merged import model_named
from lmstack.train.rollouts.protocol import RolloutSample


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    base = base_folder("llama", tmp_path / "base")
    (base / "chat_template.jinja").write_text(TEMPLATE)
    data = write_rows(tmp_path / "pairs.jsonl", PAIRS * 3)
    more = {"lora": {"r": 4}, "lr": 0.05, "steps": 6, "validation": 0}
    return train(read_recipe(recipe_for(tmp_path, base, "reward", data, **more))).folder


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")
def test_it_scores_as_in_peft_as_a_task_and_as_a_reward(adapter: Path, tmp_path: Path) -> None:
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "base", num_labels=1
    )
    theirs = peft.PeftModel.from_pretrained(plain, str(adapter)).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "base")
    expected, items, samples = [], [], []
    for row in PAIRS:
        turns = [("user", row["prompt"]), ("assistant", row["chosen"])]
        items.append({"messages": [{"role": r, "content": c} for r, c in turns]})
        ids = tokenizer.apply_chat_template(items[-1]["messages"], return_tensors="pt")
        with torch.no_grad():
            expected.append(float(theirs(ids["input_ids"]).logits))
        prompt = (Message("user", row["prompt"]),)
        samples.append(RolloutSample(prompt, (), (), (), row["chosen"], "stop"))
    with open_task("reward", str(adapter), {}) as task:
        found = [each.score for each in task(items)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert len({round(each, 3) for each in found}) == len(found)
    reward = reward_for("reward-model", {"model": str(adapter)})
    np.testing.assert_allclose(reward.score(samples), expected, rtol=0, atol=1e-4)
    assert [(each.name, each.kind) for each in Store().models()] == [
        (model_named(str(adapter)), "reward")
    ]


def test_an_adapter_of_another_objective_is_refused(adapter: Path) -> None:
    facts = json.loads((adapter / "training.json").read_text())
    facts["recipe"]["objective"] = "sft"
    (adapter / "training.json").write_text(json.dumps(facts))
    with pytest.raises(UnsupportedError, match="was trained for 'sft': it writes, beside its base"):
        model_named(str(adapter))
    assert model_named("a-name") == "a-name"


CLASSES = ("complaint", "praise")
LABELLED = [{"text": "my money back", "label": "complaint"}, {"text": "good", "label": "praise"}]
TAGGED = [{"tokens": ["the", "red", "gate"], "tags": ["O", "B-COLOUR", "O"]}]
SEARCHES = [{"query": f"the {x}", "positive": f"a {x}"} for x in ("gate", "wall", "road", "tree")]


@pytest.mark.parametrize(
    ("objective", "rows", "task"),
    [("sequence-classification", LABELLED, "classify"), ("token-classification", TAGGED, "ner")],
)
def test_a_fresh_head_and_its_labels_come_with_the_adapter(
    objective: str, rows: list[Any], task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    base = base_folder("bert", tmp_path / "base")
    data = write_rows(tmp_path / "rows.jsonl", rows * 8)
    changes = {"lr": 0.02, "steps": 30, "validation": 0, "lora": {"r": 4}}
    made = train(read_recipe(recipe_for(tmp_path, base, objective, data, **changes))).folder
    if task == "classify":
        with open_task(task, str(made), {}) as run:
            found = [each.label for each in run([row["text"] for row in rows])]
        assert found == [row["label"] for row in rows]
        also = load_also([str(made)])
        assert list(also.classifiers) == [model_named(str(made))]
        also.close()
    else:
        with open_task(task, str(made), {}) as run:
            (found,) = run(["the red gate"])
        assert [(each.label, each.word) for each in found.entities] == [("COLOUR", "red")]


def test_an_adapter_of_an_embedder_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    base = base_folder("bert", tmp_path / "base")
    data = write_rows(tmp_path / "rows.jsonl", SEARCHES)
    changes = {"lr": 0.02, "steps": 10, "validation": 0, "lora": {"r": 4}}
    made = train(read_recipe(recipe_for(tmp_path, base, "contrastive", data, **changes))).folder
    found = embedder_named(f"{made},weights=float32").embed(["the gate", "a wall"], "query")
    loaded = load(base)
    before = LocalEmbedder(loaded).embed(["the gate", "a wall"], "query")
    load_adapter(loaded.module, made)
    beside = LocalEmbedder(loaded).embed(["the gate", "a wall"], "query")
    np.testing.assert_allclose(found, beside, rtol=0, atol=1e-5)
    assert not np.allclose(found, before, rtol=0, atol=1e-2)
