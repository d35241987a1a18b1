"""What is known of models that lmstack pulls, and of those trained from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmstack.registry import ModelFolder, Store
from lmstack.registry.sources.known import KNOWN, known_of, traits_of
from lmstack.registry.sources.pinned import Traits

NAME = "all-minilm-l6-v2"


@pytest.fixture
def folder(store: Store, model_folder: Path) -> ModelFolder:
    return store.resolve(model_folder)


def made(folder: ModelFolder, **card: Any) -> ModelFolder:
    return replace(folder, card=replace(folder.card, **card))


def test_a_model_is_known_by_its_name_and_source_together(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    traits = Traits(("de",), 0.25, (2.0, 3.0), reacts=True)
    known = replace(KNOWN[NAME], traits=traits)
    monkeypatch.setitem(KNOWN, NAME, known)  # type: ignore[misc]
    assert known_of(folder) is None
    assert known_of(made(folder, name=NAME)) is None
    ours = made(folder, name=NAME, source=known.source)
    assert known_of(ours) is known
    assert traits_of(ours) == traits
    assert traits.info("a", None).reacts
    trained = made(ours, name="mine", evaluation={"recipe": {"base": NAME, "objective": "x"}})
    assert traits_of(trained) == replace(traits, shared_norm=None)


@pytest.mark.parametrize(
    ("objective", "norm"),
    [
        ("reader", (1.0, 0.0)),
        ({"name": "reader"}, (1.0, 0.0)),
        ({"name": "reader", "temperature": 2, "null_score": 3}, (2.0, 3.0)),
        ({"name": "sft", "temperature": 2}, None),
        ("sft", None),
    ],
)
def test_a_reader_that_was_trained_here_has_the_scores_of_its_objective(
    folder: ModelFolder, objective: object, norm: tuple[float, float] | None
) -> None:
    trained = made(folder, evaluation={"recipe": {"base": "none", "objective": objective}})
    assert traits_of(trained) == Traits(shared_norm=norm)
    assert traits_of(made(folder, evaluation={"recipe": "x"})) == Traits()
