"""A reader by name: a model of the store, or an adapter that is merged when it is first used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny_cross_encoder import save_cross_encoder

from lmstack.app.wiring.retrieval import reader_folder
from lmstack.core import FormatError, LmstackError, NotFoundError, UnsupportedError
from lmstack.model import LoraConfig, add_adapter, load_adapter, save_adapter
from lmstack.rag.answer.confidence import SharedNorm, calibration_of
from lmstack.registry import Store, load
from lmstack.serve.tasks import LocalReranker

PAIR = ("what colour is the gate", ["the gate is red", "the wall"])


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    save_cross_encoder(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """One that changes scores, and what its run wrote beside it."""
    loaded = load(base)
    add_adapter(loaded.module, LoraConfig(r=2, alpha=8))
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in loaded.module.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.3)
    folder = tmp_path / "mine"
    save_adapter(loaded.module, folder)
    objective = {"name": "reader", "temperature": 3.0, "null_score": 2.0}
    facts = {"recipe": {"base": str(base), "objective": objective}, "values": {"accuracy": 0.5}}
    (folder / "training.json").write_text(json.dumps(facts))
    return folder


def test_an_adapter_is_merged_once_and_scores_as_beside_its_base(base: Path, adapter: Path) -> None:
    first = reader_folder(str(adapter))
    loaded = load(base)
    plain = LocalReranker(loaded).score(*PAIR)
    load_adapter(loaded.module, adapter)
    beside = LocalReranker(loaded).score(*PAIR)
    merged = LocalReranker.load(first).score(*PAIR)
    np.testing.assert_allclose(merged, beside, rtol=1e-4)
    assert not np.allclose(merged, plain, rtol=1e-2)
    again = reader_folder(str(adapter))
    assert (again.path, again.digest) == (first.path, first.digest)
    assert [each.name for each in Store().models()] == [first.name]


def test_its_card_says_where_it_comes_from_and_its_scores_what_they_mean(adapter: Path) -> None:
    folder = reader_folder(str(adapter))
    assert folder.card.evaluation["values"] == {"accuracy": 0.5}
    assert folder.card.lineage.endswith("with the adapter mine")
    assert calibration_of(LocalReranker.load(folder).info) == SharedNorm(3.0, 2.0)


def test_another_adapter_of_the_same_name_is_another_reader(adapter: Path) -> None:
    before = reader_folder(str(adapter))
    weights = adapter / "adapter_model.safetensors"
    loaded = load(json.loads((adapter / "training.json").read_text())["recipe"]["base"])
    load_adapter(loaded.module, adapter, trainable=True)
    with torch.no_grad():
        for weight in loaded.module.parameters():
            if weight.requires_grad:
                weight.mul_(2)
    weights.unlink()
    save_adapter(loaded.module, adapter)
    assert reader_folder(str(adapter)).digest != before.digest


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("adapter_config.json", lambda values: values | {"lora_alpha": 4}),
        ("training.json", lambda values: values | {"values": {"accuracy": 0.6}}),
    ],
)
def test_the_same_weights_under_other_settings_are_another_reader(
    adapter: Path, file: str, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    before = reader_folder(str(adapter))
    path = adapter / file
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    after = reader_folder(str(adapter))
    assert after.name != before.name
    assert [each.name for each in Store().models()] == sorted([before.name, after.name])


@pytest.mark.parametrize("text", [None, "{broken", "{}", '{"recipe": {"base": null}}'])
def test_an_adapter_that_does_not_name_its_base_says_so(adapter: Path, text: str | None) -> None:
    (adapter / "training.json").unlink()
    if text is not None:
        (adapter / "training.json").write_text(text)
    with pytest.raises(FormatError, match=r"adapts|no lineage"):
        reader_folder(str(adapter))


def test_what_is_no_reader_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        reader_folder("nobody")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    with pytest.raises(LmstackError) as error:
        reader_folder(str(base))
    assert isinstance(error.value, UnsupportedError)
