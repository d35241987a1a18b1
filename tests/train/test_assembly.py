"""What a recipe stands for: which templates are examined, what a fresh model's config is given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.errors import about

from lmstack.core import InputError
from lmstack.text import VocabularyConfig, train_tokenizer
from lmstack.train import Recipe, assembly
from lmstack.train.assembly import (
    _begun,
    _check_compared,
    _examined,
    _reading,
    _selection,
    data_report,
)
from lmstack.train.data.prepare import DataSelection
from lmstack.train.objectives import objective_named

NAMES = {"objective": "causal", "data": "d.jsonl", "output": "made"}


def recipe(**changes: Any) -> Recipe:
    given = {**NAMES, **changes}
    return Recipe.from_mapping(given if "model" in given else {"base": "b", **given})


def test_only_the_template_of_conversations_is_examined_and_what_is_well_is_not_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    def examine(*given: Any, **named: Any) -> Sequence[Any]:
        asked.append((given, named))
        severities = ("ok", "warning")
        return [SimpleNamespace(severity=s, to_json=lambda s=s: {"is": s}) for s in severities]

    monkeypatch.setattr(assembly, "examine", examine)
    base: Any = SimpleNamespace(
        **{"tokenizer": "tokenizer", "template": "template"},
        generation=SimpleNamespace(eos_ids={3}),
        module=SimpleNamespace(config=SimpleNamespace(vocab_size=9)),
    )
    reading = {"sft": {}, "dpo": {}, "kto": {}, "grpo": {"rewards": ["arithmetic"]}}
    for name, settings in reading.items():
        assert _examined(objective_named(name, settings), base) == [{"is": "warning"}]
    assert asked == [(("tokenizer", "template"), {"eos_ids": {3}, "rows": 9})] * len(reading)
    assert _examined(objective_named("causal", {}), base) == []
    assert len(asked) == len(reading)


@pytest.mark.parametrize(
    ("pad", "end", "ids"),
    [
        (0, 1, {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}),
        (None, 1, {"eos_token_id": 1, "decoder_start_token_id": 1}),
        (None, None, {}),
    ],
)
def test_a_fresh_decoder_begins_with_padding_or_the_end(
    pad: int | None, end: int | None, ids: Mapping[str, int]
) -> None:
    tokenizer: Any = SimpleNamespace(pad_id=pad, eos_id=end)
    assert _begun({"d": 1}, tokenizer) == {**ids, "d": 1, "is_encoder_decoder": True}
    own = {"decoder_start_token_id": 7, "is_encoder_decoder": False}
    assert _begun(own, tokenizer) == {**ids, **own, "is_encoder_decoder": True}


@pytest.mark.parametrize("name", ["patience", "metric"])
def test_what_compares_evaluations_needs_two_examples(name: str) -> None:
    given = recipe(**{name: 3 if name == "patience" else "loss"})
    for held_out, said in ((0, "no example is held out"), (1, "1 example is held out")):
        with pytest.raises(InputError, match=f"^{name} is .*and {said}", check=about(name)):
            _check_compared(given, held_out)
    _check_compared(given, 2)
    _check_compared(recipe(), 0)


def test_rows_are_selected_as_the_recipe_says() -> None:
    given = recipe(validation=0.25, seed=3, strict=True, deduplicate=True)
    assert _selection(given) == DataSelection(("d.jsonl",), 0.25, 3, True, True)
    assert _selection(recipe(validation=0.0)) == DataSelection(("d.jsonl",))


def test_rows_are_read_within_the_models_positions() -> None:
    tokenizer = train_tokenizer(["a"], VocabularyConfig(vocab_size=258))

    def reading(vocab: int, positions: int, types: int = 0) -> Any:
        config = SimpleNamespace(vocab_size=vocab, max_positions=positions, token_types=types)
        base: Any = SimpleNamespace(
            **{"tokenizer": tokenizer, "template": "template"},
            module=SimpleNamespace(config=config),
            generation=SimpleNamespace(decoder_start_id=4),
        )
        return _reading(recipe(max_length=64), base)

    size = tokenizer.vocab_size
    found = reading(size, 100)
    assert (found.max_length, found.decoder_start, found.segments) == (64, 4, False)
    assert (found.tokenizer, found.template) == (tokenizer, "template")
    assert reading(size, 32, types=2).max_length == 32
    with pytest.raises(InputError, match=f"{size} tokens, the model {size - 1}") as error:
        reading(size - 1, 100)
    assert error.value.param == "tokenizer"


def test_the_report_of_data_is_that_of_the_run_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    train_tokenizer(["a b"], VocabularyConfig(vocab_size=258)).save(tmp_path / "tokenizer")
    rows = [{"text": f"number {n}"} for n in range(20)]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"text": 3}])))
    model = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8}
    model |= {"intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    given = recipe(
        **{"model": {**model, "max_position_embeddings": 64}, "tokenizer": "tokenizer"},
        **{"data": str(tmp_path / "d.jsonl"), "validation": 0.2, "max_length": 16},
    )
    told: list[tuple[str, int, int]] = []
    found = data_report(given, told=lambda *each: told.append(each))
    assert (found.rows, found.bad_rows, found.template) == (21, 1, [])
    assert told[-1][1] == told[-1][2] > 0
    assert {path.name for path in tmp_path.iterdir()} <= {"d.jsonl", "tokenizer", "home"}
    with pytest.raises(InputError, match="text is 3"):
        data_report(given.replace(strict=True))
