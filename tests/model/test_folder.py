"""Hugging Face folders: what is written loads in transformers, what is broken is refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lmstack.core import FormatError, NotFoundError, StoreError, UnsupportedError
from lmstack.model import load_module, read_folder, write_folder


def reload_in_transformers(path):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(path, output_loading_info=True)
    return model.eval(), info


def assert_same_tensors(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": True},
        {"attention_bias": True, "mlp_bias": True},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 5e4, "factor": 2.0}},
    ],
)
def test_a_written_llama_loads_bit_equal_in_transformers(changes, make_llama, tmp_path):
    theirs = make_llama(**changes)
    theirs.save_pretrained(tmp_path / "theirs")
    write_folder(load_module(tmp_path / "theirs"), tmp_path / "ours")
    again, info = reload_in_transformers(tmp_path / "ours")
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert_same_tensors(again.state_dict(), theirs.state_dict())
    ids = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.equal(again(ids).logits, theirs(ids).logits)


def test_a_written_bert_loads_bit_equal_in_transformers(make_bert, tmp_path):
    theirs = make_bert()
    theirs.save_pretrained(tmp_path / "theirs")
    write_folder(load_module(tmp_path / "theirs"), tmp_path / "ours")
    again, info = transformers.AutoModel.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert_same_tensors(again.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("family", ["Qwen2", "Mistral"])
def test_a_folder_names_a_family_that_says_the_same(family, make_llama, randomize, tmp_path):
    kept = {
        k: v
        for k, v in make_llama().config.to_dict().items()
        if k.startswith(("vocab", "hidden_size", "intermediate", "num_", "max_pos"))
    }
    config = getattr(transformers, f"{family}Config")(**kept, sliding_window=None)
    theirs = randomize(getattr(transformers, f"{family}ForCausalLM")(config))
    theirs.save_pretrained(tmp_path / "theirs")
    write_folder(load_module(tmp_path / "theirs"), tmp_path / "ours")
    again, _ = reload_in_transformers(tmp_path / "ours")
    assert_same_tensors(again.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dtype_survives_a_round_trip(dtype, make_llama, tmp_path):
    make_llama().to(dtype).save_pretrained(tmp_path / "theirs")
    module = load_module(tmp_path / "theirs", dtype)
    write_folder(module, tmp_path / "ours")
    _, tensors = read_folder(tmp_path / "ours")
    assert {t.dtype for t in tensors.values()} == {dtype}
    assert_same_tensors(tensors, module.state_dict())
    assert json.loads((tmp_path / "ours/config.json").read_text())["dtype"] == str(dtype)[6:]


def test_extra_keys_reach_config_json(make_llama, tmp_path, reloaded):
    write_folder(reloaded(make_llama()), tmp_path / "ours", {"eos_token_id": 7})
    assert transformers.AutoConfig.from_pretrained(tmp_path / "ours").eos_token_id == 7


def test_shards_are_read_as_one(make_llama, tmp_path):
    make_llama().save_pretrained(tmp_path / "one")
    make_llama().save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    assert_same_tensors(read_folder(tmp_path / "many")[1], read_folder(tmp_path / "one")[1])


def test_names_without_the_prefix_of_the_base_model_are_the_same_model(make_bert, tmp_path):
    """sentence-transformers saves the base model, transformers a model under a head."""
    make_bert().save_pretrained(tmp_path)
    bare = read_folder(tmp_path)[1]
    file = tmp_path / "model.safetensors"
    save_file({f"bert.{k}": v for k, v in load_file(file).items()}, file)
    assert_same_tensors(read_folder(tmp_path)[1], bare)


def test_a_bert_saved_without_its_pooler_has_no_pooled_output(make_bert, tmp_path):
    make_bert().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if "pooler" not in k}, file)
    module = load_module(tmp_path)
    assert module.config.head == "none"
    assert module(torch.tensor([[1, 2]])).pooled is None
    write_folder(module, tmp_path / "again")
    assert_same_tensors(load_file(tmp_path / "again/model.safetensors"), load_file(file))


def test_position_buffers_of_old_files_are_passed_over(make_bert, tmp_path):
    make_bert().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(load_file(file) | {"embeddings.position_ids": torch.arange(40)[None]}, file)
    assert load_module(tmp_path).config.head == "pool"


@pytest.mark.parametrize("equal", [True, False])
def test_a_tied_config_with_an_output_layer_follows_transformers(equal, make_llama, tmp_path):
    """5.x unties when the file holds two different tensors, and ties when they are equal."""
    theirs = make_llama(tie_word_embeddings=True)
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    head = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors | {"lm_head.weight": head if equal else head + 1}, file, {"format": "pt"})
    ours, again = load_module(tmp_path), reload_in_transformers(tmp_path)[0]
    assert ours.config.tie_embeddings is equal
    ids = torch.arange(9)[None]
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, again(ids).logits)


@pytest.fixture
def folder(make_llama, tmp_path):
    make_llama().save_pretrained(tmp_path)
    return tmp_path


def edit(folder, **changes) -> None:
    file = folder / "config.json"
    values = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in values.items() if v != "absent"}))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model_type": "gpt_bigcode"}, UnsupportedError, "'gpt_bigcode'"),
        ({"model_type": "absent"}, FormatError, "model_type"),
        ({"architectures": ["LlamaForQuestionAnswering"]}, UnsupportedError, "QuestionAns"),
        ({"architectures": 3}, FormatError, "architectures"),
        ({"hidden_size": "absent"}, FormatError, "hidden_size"),
        ({"hidden_size": "48"}, FormatError, "hidden_size is '48'"),
        ({"hidden_size": 49}, FormatError, "its config says"),
        ({"num_hidden_layers": 10**9}, FormatError, "num_layers"),
        ({"num_hidden_layers": 10**30}, FormatError, "num_layers"),
        ({"num_hidden_layers": 2}, FormatError, "no place for"),
        ({"num_attention_heads": 0}, FormatError, "num_heads"),
        ({"num_key_value_heads": 4}, FormatError, "not a multiple"),
        ({"rms_norm_eps": "small"}, FormatError, "rms_norm_eps"),
        ({"rms_norm_eps": float("nan")}, FormatError, "rms_norm_eps"),
        ({"attention_bias": True}, FormatError, "no tensor"),
        ({"hidden_act": "xielu"}, UnsupportedError, "'xielu'"),
        ({"rope_parameters": {"rope_type": "axial", "factor": 2.0}}, UnsupportedError, "'axial'"),
        ({"rope_parameters": {"rope_type": "linear"}}, FormatError, "factor"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 0}}, FormatError, "factor is 0"),
        ({"rope_parameters": [1]}, FormatError, "rope_parameters"),
        ({"partial_rotary_factor": 0.5}, UnsupportedError, "partial"),
        ({"quantization_config": {"quant_method": "gptq"}}, UnsupportedError, "quantized"),
    ],
)
def test_a_config_that_is_wrong_or_beyond_us_is_named(changes, error, message, folder):
    edit(folder, **changes)
    with pytest.raises(error, match=message) as raised:
        load_module(folder)
    assert "config.json" in raised.value.message or str(folder) in raised.value.message


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, '"\\ud800', "{'a': 1}"], ids=range(7)
)
def test_a_config_that_is_not_a_json_object_is_refused(text, folder):
    (folder / "config.json").write_text(text)
    with pytest.raises(FormatError, match=r"config\.json"):
        load_module(folder)


def test_a_config_that_is_not_text_is_refused(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match=r"config\.json"):
        load_module(folder)


@pytest.mark.parametrize("cut", [0, 4, 100, 5000, -1])
def test_a_truncated_weight_file_is_refused(cut, folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(FormatError, match=r"model\.safetensors"):
        load_module(folder)


def test_an_absurd_header_length_is_refused(folder):
    (folder / "model.safetensors").write_bytes(b"\xff" * 7 + b"\x7f" + bytes(100))
    with pytest.raises(FormatError, match=r"model\.safetensors"):
        load_module(folder)


def test_weights_of_whole_numbers_are_refused(folder):
    file = folder / "model.safetensors"
    save_file({k: v.to(torch.int8) for k, v in load_file(file).items()}, file)
    with pytest.raises(UnsupportedError, match="I8"):
        load_module(folder)


def test_a_weight_without_a_place_is_named_not_dropped(folder):
    file = folder / "model.safetensors"
    save_file(load_file(file) | {"model.layers.0.self_attn.q_norm.weight": torch.ones(8)}, file)
    with pytest.raises(FormatError, match="q_norm"):
        load_module(folder)


def test_pickled_weights_are_refused_with_a_way_out(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsupportedError, match="save_pretrained"):
        load_module(folder)


def test_an_index_cannot_point_outside_its_folder(folder):
    shutil.copy(folder / "model.safetensors", folder.parent / "outside.safetensors")
    index = {"weight_map": {"model.norm.weight": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FormatError, match="outside"):
        load_module(folder)


def test_a_missing_shard_is_named(folder):
    index = {"weight_map": {"model.norm.weight": "model-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(NotFoundError, match=r"model-1\.safetensors"):
        load_module(folder)


def test_a_folder_without_a_model_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match=r"config\.json"):
        load_module(tmp_path)
    with pytest.raises(NotFoundError, match="does not exist"):
        load_module(tmp_path / "none")


def test_a_path_that_no_system_takes_is_a_store_error():
    with pytest.raises(StoreError, match="too long"):
        load_module("x" * 5000)


def test_a_folder_named_like_a_gguf_file_is_refused(tmp_path):
    (tmp_path / "m.gguf").mkdir()
    with pytest.raises((StoreError, NotFoundError)):
        load_module(tmp_path)
    with pytest.raises(NotFoundError):
        load_module(tmp_path / "m.gguf")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(FormatError, match=r"\.gguf"):
        load_module(tmp_path / "model.bin")


def test_weights_can_only_be_of_a_floating_dtype(folder):
    with pytest.raises(UnsupportedError, match="int8"):
        load_module(folder, torch.int8)


def test_a_folder_that_cannot_be_written_is_a_store_error(folder, tmp_path):
    module = load_module(folder)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StoreError, match="taken"):
        write_folder(module, tmp_path / "taken")


def test_writing_leaves_no_other_files(folder, tmp_path):
    write_folder(load_module(folder), tmp_path / "ours")
    assert {p.name for p in (tmp_path / "ours").iterdir()} == {"config.json", "model.safetensors"}
