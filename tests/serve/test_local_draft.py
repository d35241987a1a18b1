"""A local model with a second one that drafts for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.byte_tokens import byte_level
from tests.serve.tiny_models import tiny_decoder

from lmstack.core import InputError
from lmstack.engine import EngineConfig
from lmstack.registry import LoadedModel, ModelFolder, Store
from lmstack.registry.card import Card
from lmstack.serve import LocalModel, local
from lmstack.text import Tokenizer


def loaded(seed: int, *special: str) -> LoadedModel:
    own = Tokenizer.from_json(byte_level(*special).to_str(), {"eos_token": special[0]})
    return tiny_decoder(own, name=f"tiny-{seed}", seed=seed, layers=1)


def test_a_draft_changes_no_token_and_is_counted() -> None:
    model, config = loaded(3, "<|end|>"), EngineConfig(num_blocks=100, speculation="always")
    with LocalModel(model, config.replace(speculation="off")) as plain:
        expected = plain.generate("hello", max_tokens=60, temperature=0.7, seed=5)
        assert plain.stats().num_draft_tokens == 0
    with LocalModel(model, config, draft=model) as drafted:
        assert drafted.generate("hello", max_tokens=60, temperature=0.7, seed=5) == expected
        stats = drafted.stats()
    assert 0 < stats.num_accepted_tokens <= stats.num_draft_tokens


def test_a_draft_with_other_tokens_is_refused_before_anything_runs() -> None:
    with pytest.raises(InputError, match="has 258 tokens, the model has 257") as caught:
        LocalModel(loaded(3, "<|end|>"), draft=loaded(4, "<|end|>", "<|more|>"))
    assert caught.value.param == "draft"


@pytest.mark.parametrize("reason", ["native_problem", "has_blocks", "stored_form", None])
def test_a_draft_is_held_in_int8_unless_something_speaks_against_it(
    monkeypatch: pytest.MonkeyPatch, reason: str | None
) -> None:
    """No native ops, or files that are quantized already in one of two ways: each is enough."""
    forms: list[object] = []

    def load_weights(_folder: object, _store: object, weights: object) -> LoadedModel:
        forms.append(weights)
        return loaded(3, "<|end|>")

    for name in ("native_problem", "has_blocks", "stored_form"):
        monkeypatch.setattr(local, name, lambda *_, said=name == reason: said)
    monkeypatch.setattr(local, "load_weights", load_weights)
    card = Card("tiny", "generate", "sha256:0", "", "", {}, "")
    local.load_draft(ModelFolder(Path(), card), None)
    assert forms == [None if reason else "int8"]


def test_a_model_and_its_draft_are_looked_for_in_the_store_that_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[object] = []

    class Shelf(Store):
        def resolve(self, ref: object) -> ModelFolder:
            asked.append((self.root, ref))
            return ModelFolder(Path(), Card(str(ref), "generate", "sha256:0", "", "", {}, ""))

    def load(folder: ModelFolder, store: Store, *_: object, **__: object) -> LoadedModel:
        asked.append((store.root, folder.name))
        return loaded(3, "<|end|>")

    monkeypatch.setattr(local, "load", load)
    store = Shelf(tmp_path)
    with LocalModel.load("large", store=store, draft="small", weights="int8"):
        pass
    assert asked == [(tmp_path, name) for name in ("large", "large", "small", "small")]
