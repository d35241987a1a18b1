"""Lineage in cards: written, read, checked, and kept when a folder moves."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import FormatError
from lmstack.model import Transformer, TransformerConfig, write_folder
from lmstack.registry import Store
from lmstack.registry.card import CARD
from lmstack.registry.describe import Origin
from lmstack.registry.lineage import Ancestor, DataFacts, Training

FIRST = Training(
    objective="causal",
    base=None,
    recipe={"objective": "causal", "lr": 1e-4, "data": ["corpus"]},
    fingerprint="ab" * 32,
    data=(DataFacts(name="corpus.txt", size=1234, sha256="cd" * 32),),
    code="lmstack 0.1, git 0123456789ab",
    metrics={"loss": 3.25},
    steps=100,
    tokens=51200,
    trainable=10_000_000,
    finished="2026-11-29T03:00:00+00:00",
    seconds=600.0,
)
SECOND = dataclasses.replace(
    FIRST,
    objective="sft",
    base=Ancestor("my-base", "sha256:" + "ef" * 32, "trained by lmstack", "", "", FIRST),
    models={"teacher": "sha256:" + "12" * 32},
)
CONFIG = TransformerConfig(
    vocab_size=20,
    hidden_size=16,
    intermediate_size=16,
    num_layers=1,
    num_heads=2,
    num_kv_heads=2,
    head_dim=8,
    max_positions=32,
)


def made(store: Store, ref: str, training: Training):
    def fill(staged: Path) -> Origin:
        write_folder(Transformer(CONFIG), staged)
        return Origin("trained here", training=training, kind="generate")

    return store.add(ref, fill)


def test_a_card_gives_back_the_whole_tree(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    made(store, "my-chat", SECOND)
    card = store.resolve("my-chat").card
    assert card.training == SECOND
    assert [base.name for base in card.training.ancestors()] == ["my-base"]
    assert card.training.base.training == FIRST


def test_ancestors_are_all_the_bases_down_to_fresh_weights_or_a_model_of_others() -> None:
    digest = "sha256:" + "ef" * 32
    third = dataclasses.replace(FIRST, base=Ancestor("my-chat", digest, training=SECOND))
    assert [base.name for base in third.ancestors()] == ["my-chat", "my-base"]
    tuned = dataclasses.replace(FIRST, base=Ancestor("theirs", digest))
    assert [base.name for base in tuned.ancestors()] == ["theirs"]
    assert list(FIRST.ancestors()) == []


def test_a_lineage_from_before_other_models_were_named_is_read() -> None:
    values = FIRST.to_json()
    del values["models"]
    assert Training.from_json(values) == FIRST
    with pytest.raises(TypeError, match="teacher is 3"):
        Training.from_json({**values, "models": {"teacher": 3}})


def test_a_folder_that_is_carried_to_another_machine_keeps_its_lineage(tmp_path: Path) -> None:
    folder = made(Store(tmp_path / "here"), str(tmp_path / "my-chat"), SECOND).path
    there = Store(tmp_path / "there")
    pulled = there.pull(folder)
    assert pulled.card.training == SECOND
    assert pulled.card.kind == "generate"
    assert there.resolve(folder).card.training == SECOND


def test_a_card_without_training_says_nothing_of_it(tmp_path: Path) -> None:
    write_folder(Transformer(CONFIG), tmp_path / "model")
    card = Store(tmp_path / "home").pull(tmp_path / "model").card
    assert card.training is None
    assert "training" not in card.to_json()


texts = st.text(max_size=20)
trainings: st.SearchStrategy[Training] = st.deferred(
    lambda: st.builds(
        Training,
        objective=texts,
        base=st.none()
        | st.builds(Ancestor, texts, texts, texts, texts, texts, st.none() | trainings),
        recipe=st.dictionaries(texts, st.integers() | texts | st.none() | st.booleans()),
        fingerprint=texts,
        data=st.lists(
            st.fixed_dictionaries({"name": texts, "size": st.integers(0, 1 << 50), "sha256": texts})
        ).map(tuple),
        code=texts,
        metrics=st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False)),
        steps=st.integers(0, 1 << 50),
        tokens=st.integers(0, 1 << 50),
        trainable=st.integers(0, 1 << 50),
        finished=texts,
        seconds=st.floats(0, 1e9),
    )
)


@given(trainings)
def test_any_lineage_survives_json(training: Training) -> None:
    assert Training.from_json(json.loads(json.dumps(training.to_json()))) == training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": -1}, "steps is -1, not a count"),
        ({"steps": True}, "not a count"),
        ({"tokens": 1.5}, "tokens is 1.5, not a count"),
        ({"trainable": "1"}, "trainable is '1', not a count"),
        ({"seconds": True}, "seconds is True, not a number"),
        ({"finished": 3}, "finished is 3, not text"),
        ({"fingerprint": 3}, "fingerprint is 3, not text"),
        ({"metrics": []}, r"metrics is \[\], not an object"),
        ({"models": []}, r"models is \[\], not an object"),
        ({"recipe_sha256": None}, "recipe_sha256 is None, not text"),
        ({"data": [{"name": "a", "size": 1, "sha256": 2}]}, "sha256 is 2, not text"),
        ({"base": {"name": "a", "digest": "", "source": ""}}, "it has no 'licence'"),
        ({"base": 3}, "the base is 3, not an object"),
        ({"metrics": {"loss": "low"}}, "loss is 'low', not a number"),
        ({"recipe": {"lr": 1}}, "the recipe is not the one"),
        ({"code": None}, "code is None, not text"),
        ({"data": [{"name": "a"}]}, "it has no 'size'"),
    ],
)
def test_a_damaged_lineage_is_an_error_of_its_card(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    store = Store(tmp_path / "home")
    path = made(store, "my-chat", SECOND).path / CARD
    values = json.loads(path.read_text())
    values["training"] |= change
    path.write_text(json.dumps(values))
    with pytest.raises(FormatError, match=message):
        store.resolve("my-chat")


def test_a_lineage_without_end_is_refused() -> None:
    values = SECOND.to_json()
    for _ in range(100):
        values["base"] = {**copy.copy(values["base"]), "training": copy.copy(values)}
    with pytest.raises(ValueError, match="more than 64 trainings"):
        Training.from_json(values)


@pytest.mark.parametrize("below", [64, 65])
def test_a_lineage_may_be_as_deep_as_it_says(below: int) -> None:
    values = FIRST.to_json()
    for _ in range(below):
        values = {**FIRST.to_json(), "base": {**SECOND.to_json()["base"], "training": values}}
    if below == 64:
        assert len(list(Training.from_json(values).ancestors())) == 64
        return
    with pytest.raises(ValueError, match="more than 64 trainings"):
        Training.from_json(values)


def test_the_hash_of_a_recipe_does_not_depend_on_the_order_of_its_keys() -> None:
    turned = dataclasses.replace(FIRST, recipe=dict(reversed(list(FIRST.recipe.items()))))
    assert turned.recipe_sha256 == FIRST.recipe_sha256
