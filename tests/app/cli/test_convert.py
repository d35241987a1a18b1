"""`lmstack model convert`: there and back, and what it refuses."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from tests.byte_tokens import smollm_bytes

from lmstack.model import load_module, read_gguf
from lmstack.text import Tokenizer


@pytest.fixture
def folder(tmp_path):
    """A tiny LLaMA with a tokenizer and a template."""
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    smollm_bytes().save(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    return tmp_path / "model"


def test_a_folder_becomes_a_file_that_becomes_a_folder(run, folder, tmp_path):
    file, back = tmp_path / "m.gguf", tmp_path / "back"
    made = run(
        "model", "convert", str(folder), "--to", "gguf", "--out", str(file), "--quantize", "f32"
    )
    assert made.code == 0, made.err
    again = run("model", "convert", str(file), "--to", "hf", "--out", str(back), "--json")
    assert again.code == 0, again.err
    assert again.json["format"] == "hf"
    model = transformers.AutoModelForCausalLM.from_pretrained(back)
    original = transformers.AutoModelForCausalLM.from_pretrained(folder)
    for name, tensor in original.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    text = "the 12 thin"
    assert Tokenizer.from_folder(back).encode(text) == Tokenizer.from_folder(folder).encode(text)
    template = (back / "chat_template.jinja").read_text()
    assert template == (folder / "chat_template.jinja").read_text()


def test_matrices_are_8_bits_wide_unless_asked(run, folder, tmp_path):
    file = tmp_path / "m.gguf"
    made = run("model", "convert", str(folder), "--to", "gguf", "--out", str(file), "--json")
    assert made.json == {
        "path": str(file), "format": "gguf", "kind": "q8_0", "size": file.stat().st_size,
    }  # fmt: skip
    with read_gguf(file) as found:
        assert found.tensors["blk.0.ffn_up.weight"].kind.name == "Q8_0"
        assert found.metadata["tokenizer.chat_template"] == "{{ messages[0]['content'] }}"


def test_weights_of_a_folder_may_be_narrow(run, folder, tmp_path):
    made = run(
        "model",
        "convert",
        str(folder),
        "--to",
        "hf",
        "--out",
        str(tmp_path / "out"),
        "--dtype",
        "bfloat16",
    )
    assert made.code == 0, made.err
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert load_module(tmp_path / "out").config == load_module(folder).config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "gguf", "--dtype", "float16"], "--dtype is for --to hf"),
        (["--to", "hf", "--quantize", "f16"], "--quantize is for --to gguf"),
        (["--to", "onnx"], "onnx"),
        (["--to", "gguf", "--quantize", "q5_k"], "q5_k"),
    ],
)
def test_options_that_do_not_fit_are_refused(run, folder, tmp_path, options, message):
    made = run("model", "convert", str(folder), "--out", str(tmp_path / "out"), *options)
    assert made.code != 0
    assert message in made.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["gguf", "hf"])
def test_nothing_is_written_over(run, folder, tmp_path, to):
    target = tmp_path / "there"
    target.write_text("mine")
    made = run("model", "convert", str(folder), "--to", to, "--out", str(target))
    assert made.code == 1
    assert "is there already" in made.err
    assert target.read_text() == "mine"


def test_what_llama_cpp_has_no_place_for_says_so(run, folder, tmp_path):
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"silu"', '"relu"'))
    made = run("model", "convert", str(folder), "--to", "gguf", "--out", str(tmp_path / "m.gguf"))
    assert made.code == 1
    assert "no architecture of GGUF" in made.err
    assert "--to hf" in made.err
