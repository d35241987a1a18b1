"""Which model an adapter adapts, and where it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.errors import about

from lmstack.core import (
    FormatError,
    InputError,
    IntegrityError,
    NotFoundError,
    UnsupportedError,
    shown,
)
from lmstack.registry import Store
from lmstack.registry.adapters import base_name, base_of, lineage_of, read_training

Write = Callable[..., Path]


@pytest.fixture
def adapter(tmp_path: Path) -> Write:
    def write(config: Any, training: Any = None) -> Path:
        folder = tmp_path / "adapter"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps(config))
        if training is not None:
            (folder / "training.json").write_text(json.dumps(training))
        return folder

    return write


def test_the_base_is_named_by_peft_or_else_by_the_run(adapter: Write) -> None:
    run = {"recipe": {"base": "ours"}}
    assert base_name(adapter({"base_model_name_or_path": "theirs"}, run)) == "theirs"
    assert base_name(adapter({"base_model_name_or_path": None}, run)) == "ours"
    assert base_name(adapter({}, run)) == "ours"
    for training in ({"recipe": {}}, {"recipe": {"base": 3}}):
        with pytest.raises(InputError, match="does not say which model", check=about("model")):
            base_name(adapter({}, training))


def test_a_base_that_has_other_weights_than_the_one_trained_beside_is_refused(
    adapter: Write, store: Store, model_folder: Path
) -> None:
    base = store.resolve(model_folder)
    named = {"base_model_name_or_path": str(model_folder)}
    for digest in (base.digest, f"{base.digest}+int8", ""):
        training = {"recipe": {}, "base": {"digest": digest}}
        assert base_of(adapter(named, training), store).digest == base.digest
    assert base_of(adapter(named, {"recipe": {}}), store).path == base.path
    with pytest.raises(IntegrityError, match=rf"beside sha256:{'0' * 12}, and .* is sha256:"):
        base_of(adapter(named, {"recipe": {}, "base": {"digest": f"sha256:{'0' * 64}"}}), store)


def test_a_base_that_is_not_here_is_named(adapter: Write, store: Store) -> None:
    folder = adapter({"base_model_name_or_path": "somebody/model"})
    with pytest.raises(NotFoundError, match="adapts 'somebody/model'", check=about("model")):
        base_of(folder, store)


def test_what_is_no_lineage_is_refused_and_none_is_none(adapter: Write) -> None:
    folder = adapter({})
    assert read_training(folder) is None
    assert lineage_of(folder) is None
    for wrong, why in (([], "list indices"), ({}, "'recipe'"), ({"recipe": 3}, "recipe is no map")):
        with pytest.raises(
            FormatError, match=rf"^{folder}/training\.json is no lineage that lmstack wrote: {why}"
        ):
            read_training(adapter({}, wrong))
    with pytest.raises(FormatError, match=rf"^{folder}/training\.json is no .* wrote: 'base'"):
        lineage_of(adapter({}, {"recipe": {}}))


def test_an_adapter_is_no_model_and_is_told_how_it_becomes_one(
    adapter: Write, store: Store
) -> None:
    folder = adapter({"base_model_name_or_path": "base"})
    for bring in (store.pull, store.resolve):
        with pytest.raises(UnsupportedError, match="is an adapter", check=about("model")) as error:
            bring(str(folder))
        assert error.value.message.startswith(shown(str(folder)))
        assert error.value.hint == (
            f"lmstack model merge {folder} --output NAME makes one of it and its base"
        )
