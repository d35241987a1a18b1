"""A fresh head on a base: what is kept, what is saved, and that transformers reads the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from tests.errors import about
from tests.oracles import peft
from tests.train.bases import BASES, base_folder, recipe_for, write_rows

import lmstack
from lmstack.core import InputError, UnsupportedError
from lmstack.model import LoraConfig, add_adapter, load_module, save_adapter
from lmstack.registry import Store, load
from lmstack.train import read_recipe, train
from lmstack.train.heads import adapted, with_head_for
from lmstack.train.objectives.sequence_classification import SequenceClassification

ROWS = [
    {"text": text, "label": label}
    for text, label in (
        ("ada works in london", "person"),
        ("acme corp is green", "firm"),
        ("who wrote the engine", "question"),
        ("the fields are green", "place"),
    )
    * 3
]
TEXTS = ["ada wrote it", "the first engine program was in paris and london"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", ROWS)


@pytest.mark.parametrize("name", BASES)
def test_the_result_has_equal_logits_in_transformers(name: str, tmp_path: Path, data: Path) -> None:
    base = base_folder(name, tmp_path / "base")
    result = train(read_recipe(recipe_for(tmp_path, base, "sequence-classification", data)))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(result.folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(result.folder)
    loaded = load(result.folder)
    assert loaded.kind == "classify"
    assert type(theirs).__name__ == f"{BASES[name][2]}ForSequenceClassification"
    assert loaded.labels == ("firm", "person", "place", "question")
    assert theirs.config.id2label == dict(enumerate(loaded.labels))
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    with torch.no_grad():
        expected = theirs(**batch).logits
        found = loaded.module(batch["input_ids"], batch["attention_mask"]).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert float(expected.std()) > 0


@pytest.mark.parametrize("name", BASES)
def test_the_body_of_the_base_is_kept_where_nothing_is_learned(
    name: str, tmp_path: Path, data: Path
) -> None:
    base = base_folder(name, tmp_path / "base")
    recipe = recipe_for(tmp_path, base, "sequence-classification", data, lr=1e-12)
    made, before = load_module(train(read_recipe(recipe)).folder), load_module(base)
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    with torch.no_grad():
        after, old = made(ids).last_hidden_state, before(ids).last_hidden_state
    torch.testing.assert_close(after, old, rtol=0, atol=1e-5)


def test_a_pooler_of_the_base_goes_into_the_classifier(tmp_path: Path, data: Path) -> None:
    base = base_folder("bert", tmp_path / "base")
    recipe = recipe_for(tmp_path, base, "sequence-classification", data, lr=1e-12)
    made, before = load_module(train(read_recipe(recipe)).folder), load_module(base)
    assert made.transform is not None
    assert before.transform is not None
    torch.testing.assert_close(made.transform.weight, before.transform.weight)


def test_a_fresh_head_has_the_spread_that_the_family_states(tmp_path: Path, data: Path) -> None:
    base = base_folder("roberta", tmp_path / "base", hidden_size=64, initializer_range=0.05)
    recipe = recipe_for(tmp_path, base, "sequence-classification", data, lr=1e-12)
    transform = load_module(train(read_recipe(recipe)).folder).transform
    assert transform is not None
    assert float(transform.weight.detach().std()) == pytest.approx(0.05, rel=0.05)
    assert transform.bias is not None
    assert float(transform.bias.detach().abs().max()) < 1e-9


def test_the_head_of_a_classifier_of_the_same_labels_goes_on(tmp_path: Path, data: Path) -> None:
    base = base_folder("bert", tmp_path / "base")
    first = train(read_recipe(recipe_for(tmp_path, base, "sequence-classification", data)))
    again = recipe_for(
        tmp_path, first.folder, "sequence-classification", data, lr=1e-12,
        output=str(tmp_path / "again"), run=str(tmp_path / "run2"),
    )  # fmt: skip
    second = train(read_recipe(again))
    old, new = (load_module(r.folder).classifier for r in (first, second))
    assert old is not None
    assert new is not None
    torch.testing.assert_close(new.weight, old.weight)


def test_the_result_runs_as_a_task(tmp_path: Path, data: Path) -> None:
    base = base_folder("bert", tmp_path / "base")
    recipe = recipe_for(tmp_path, base, "sequence-classification", data, steps=60, lr=3e-3)
    folder = train(read_recipe(recipe)).folder
    found = lmstack.task("text-classification", str(folder))("ada works in london")
    assert found.labels[0].label == "person"
    assert Store().resolve(str(folder)).card.kind == "classify"


@pytest.mark.parametrize("name", ["bert without a pooler", "roberta", "llama"])
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")
def test_an_adapter_holds_the_fresh_head_as_peft_reads_it(name: str, tmp_path: Path) -> None:
    folder = base_folder(name, tmp_path / "base")
    objective = SequenceClassification("single_label_classification", ("a", "b", "c"))
    base, fresh = with_head_for(objective, load(folder))
    assert "classifier" in fresh
    ours = base.module
    add_adapter(
        ours, adapted(LoraConfig(r=4, alpha=8), base, fresh), model_type=base.config["model_type"]
    )
    with torch.no_grad():
        for weight in ours.parameters():
            if weight.requires_grad:
                weight.normal_(0, 0.2)
    save_adapter(ours, tmp_path / "adapter")
    made = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    theirs = peft.PeftModel.from_pretrained(made, str(tmp_path / "adapter")).eval()
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    with torch.no_grad():
        expected, found = theirs(ids).logits, ours(ids).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_a_recipe_with_lora_trains_the_fresh_head(tmp_path: Path, data: Path) -> None:
    base = base_folder("roberta", tmp_path / "base")
    lora = {"r": 4, "alpha": 8, "targets": ["query", "value"]}
    recipe = recipe_for(tmp_path, base, "sequence-classification", data, lora=lora)
    folder = train(read_recipe(recipe)).folder
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["modules_to_save"] == ["classifier"]


def test_an_encoder_decoder_is_refused(tmp_path: Path, data: Path) -> None:
    config = transformers.T5Config(
        vocab_size=80, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    base = base_folder("bert", tmp_path / "base")
    transformers.T5ForConditionalGeneration(config).save_pretrained(base)
    with pytest.raises(UnsupportedError, match="encoder-decoder", check=about("base")):
        train(read_recipe(recipe_for(tmp_path, base, "sequence-classification", data)))


def test_one_class_is_no_classification(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [{"text": "a", "label": "one"}] * 4)
    base = base_folder("bert", tmp_path / "base")
    with pytest.raises(InputError, match="the data has 1 classes: one", check=about("data")):
        train(read_recipe(recipe_for(tmp_path, base, "sequence-classification", data)))
