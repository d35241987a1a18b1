"""`lmstack model quantize`: what it keeps, what it writes into the card, and when it refuses."""

from __future__ import annotations

import json
import shutil
from importlib import resources

import pytest
import torch
import transformers
from tests.byte_tokens import smollm_bytes

import lmstack
from lmstack.app.inspect import quality
from lmstack.model import QuantizedLinear, build_module, load_module, write_gguf
from lmstack.model.loading import read_weights
from lmstack.model.quant.smoothquant import calibration_text
from lmstack.registry import Store, load
from lmstack.text import Tokenizer

TEXT = "Fellow citizens, the state of the union is strong. We go on. " * 12


@pytest.fixture(autouse=True)
def short_text(monkeypatch):
    monkeypatch.setattr(quality, "text", lambda: TEXT)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny LLaMA with a tokenizer of bytes."""
    folder = tmp_path_factory.mktemp("made") / "tiny"
    config = transformers.LlamaConfig(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=2, bos_token_id=1, eos_token_id=2, max_position_embeddings=640,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    smollm_bytes().save(folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "tiny")


def test_what_was_measured_is_in_the_card_of_what_was_kept(run, folder, home):
    ran = run("model", "quantize", str(folder), "--to", "int8", "--json")
    assert ran.code == 0, ran.err
    kept = Store().resolve("tiny-int8")
    original = Store().resolve(folder)
    assert kept.card.evaluation == {k: ran.json[k] for k in kept.card.evaluation}
    assert kept.card.lineage == f"int8 of tiny, {original.digest}"
    assert kept.card.parameters == original.card.parameters
    assert (ran.json["digest"], ran.json["within_limit"]) == (kept.digest, True)
    assert 0 < ran.json["kl_divergence"] < 0.01
    assert 0 < ran.json["weights_bytes"] < original.card.size / 3


def test_what_was_kept_is_served_as_it_was_measured(run, folder):
    assert run("model", "quantize", str(folder), "--to", "q4", "-o", "small", "--force").code == 0
    served = load("small")
    assert (served.form, served.digest) == ("q4", Store().resolve("small").digest)
    assert isinstance(served.module.blocks[0].mlp.up, QuantizedLinear)
    ids = load(str(folder)).tokenizer.encode(calibration_text())
    whole = build_module(*read_weights(folder, "q4", ids))
    for key, tensor in whole.state_dict().items():
        assert torch.equal(served.module.state_dict()[key], tensor), key
    with lmstack.load("small") as model:
        assert model.generate("the", max_tokens=3, temperature=0.0) is not None


def test_past_the_limit_nothing_is_kept_unless_forced(run, folder, home, monkeypatch):
    monkeypatch.setitem(quality.LIMITS, "q4", -1.0)
    ran = run("model", "quantize", str(folder), "--to", "q4")
    assert ran.code == 1
    assert "limit" in ran.err
    assert "--force" in ran.err
    assert not (home / "models" / "tiny-q4").exists()
    forced = run("model", "quantize", str(folder), "--to", "q4", "--force", "--json")
    assert (forced.code, forced.json["within_limit"]) == (0, False)
    assert Store().resolve("tiny-q4").card.evaluation["within_limit"] is False


def test_a_folder_outside_the_store_is_usable_where_it_is(run, folder, tmp_path):
    place = tmp_path / "out" / "mine"
    ran = run("model", "quantize", str(folder), "--to", "int8", "-o", str(place))
    assert ran.code == 0, ran.err
    assert json.loads((place / "card.json").read_text())["evaluation"]["form"] == "int8"
    assert load(place).form == "int8"
    assert not list((tmp_path / "home" / "packed").glob("*"))  # no second copy


def test_the_blocks_of_a_file_cost_a_rounding_of_activations_at_most(run, folder, tmp_path):
    write_gguf(load_module(folder), tmp_path / "m.gguf", "q8_0", _vocabulary(folder))
    ran = run(
        "model", "quantize", str(tmp_path / "m.gguf"), "--to", "file", "--json", "-o", "m-file"
    )
    assert ran.code == 0, ran.err
    assert abs(ran.json["perplexity_change"]) < 0.001
    assert ran.json["kl_divergence"] < 0.001


def _vocabulary(folder):
    from lmstack.text.gguf_writing import gguf_metadata

    return gguf_metadata(Tokenizer.from_folder(folder), None)


def test_another_form_of_a_form_is_refused(run, folder):
    assert run("model", "quantize", str(folder), "--to", "int8", "-o", "once").code == 0
    again = run("model", "quantize", "once", "--to", "q4")
    assert again.code == 1
    assert "original" in again.err
    with pytest.raises(lmstack.LmstackError, match="int8"):
        load("once", weights="q4")


def test_a_form_becomes_floats_when_they_are_asked_for(run, folder, tmp_path):
    assert run("model", "quantize", str(folder), "--to", "int8", "-o", "once").code == 0
    floats, held = load("once", weights="float32"), load("once")
    assert torch.equal(floats.module.table.weight, held.module.table.weight)
    assert floats.digest == f"{held.digest}+float32"
    back = run("model", "convert", "once", "--to", "hf", "-o", str(tmp_path / "back"))
    assert back.code == 0, back.err
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back") is not None


def test_a_name_that_is_taken_is_not_overwritten(run, folder, home):
    assert run("model", "quantize", str(folder), "--to", "int8").code == 0
    ran = run("model", "quantize", str(folder), "--to", "int8")
    assert ran.code == 1
    assert "model rm tiny-int8" in ran.err


def test_transformers_finds_no_weights_rather_than_wrong_ones(run, folder, home):
    assert run("model", "quantize", str(folder), "--to", "int8").code == 0
    with pytest.raises(OSError, match="no file named"):
        transformers.AutoModelForCausalLM.from_pretrained(home / "models" / "tiny-int8")


def test_an_encoder_is_measured_by_its_vectors(run, folder, tmp_path):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, tmp_path / "bert" / name)
    ran = run("model", "quantize", str(tmp_path / "bert"), "--to", "int8", "--json")
    assert ran.code == 0, ran.err
    assert 0.999 < ran.json["lowest_cosine"] <= ran.json["mean_cosine"] <= 1.0


def test_passages_are_the_whole_text_cut_at_sentences():
    parts = quality.passages()
    assert len(parts) > 1
    assert all(part.endswith(".") for part in parts)
    assert " ".join(parts).split() == TEXT.split()


def test_the_text_ships_with_the_package():
    whole = (resources.files("lmstack.app.inspect") / "text" / "quality.txt").read_text(
        encoding="utf-8"
    )
    assert len(whole) > 19_000
    assert whole.isascii()
