"""A local model with a second one that drafts for it."""

from __future__ import annotations

import pytest
from tests.byte_tokens import byte_level
from tests.serve.tiny_models import tiny_decoder

from lmstack.core import InputError
from lmstack.engine import EngineConfig
from lmstack.registry import LoadedModel
from lmstack.serve import LocalModel
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
