"""Which files of a package or repository are one model."""

from __future__ import annotations

import pytest

from lmstack.core import FormatError, InputError
from lmstack.registry.selection import select


def test_the_one_folder_with_weights_is_flattened():
    chosen = select(
        ["pkg/__init__.py", "pkg/m/config.json", "pkg/m/model.safetensors", "pkg/x.json"],
        "",
        "pypi:pkg==1",
    )
    assert chosen.files == {
        "pkg/m/config.json": "config.json",
        "pkg/m/model.safetensors": "model.safetensors",
    }


def test_stages_of_sentence_transformers_keep_their_folders():
    chosen = select(
        ["model.safetensors", "1_Pooling/config.json", "2_Dense/model.safetensors", "onnx/x.json"],
        "",
        "hf:a/b",
    )
    assert set(chosen.files.values()) == {
        "model.safetensors",
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
    }


def test_code_and_other_formats_are_never_taken():
    names = ["model.safetensors", "modeling_x.py", "run.sh", "pytorch_model.bin", "model.onnx"]
    chosen = select(names, "", "hf:a/b")
    assert list(chosen.files) == ["model.safetensors"]
    assert chosen.left_out == ("pytorch_model.bin",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "m.pkl", "m.pth"])
def test_pickle_alone_is_refused_with_the_way_to_convert(name):
    with pytest.raises(FormatError, match="pickle") as caught:
        select(["config.json", name], "", "hf:a/b")
    assert "save_pretrained" in caught.value.hint


def test_several_models_must_be_chosen_from():
    names = ["p/add/model.safetensors", "p/sub/model.safetensors"]
    with pytest.raises(InputError, match="2 folders") as caught:
        select(names, "", "pypi:p==1")
    assert "pypi:p==1#p/add" in caught.value.hint
    assert select(names, "sub", "pypi:p==1#sub").files == {
        "p/sub/model.safetensors": "model.safetensors"
    }
    with pytest.raises(InputError):
        select(names, "mul", "pypi:p==1#mul")


def test_several_gguf_files_must_be_chosen_from():
    names = ["a.Q4.gguf", "a.Q8.gguf", "config.json"]
    with pytest.raises(InputError, match="2 GGUF files"):
        select(names, "", "hf:a/b")
    assert set(select(names, "a.Q8.gguf", "hf:a/b#a.Q8.gguf").files) == {"a.Q8.gguf", "config.json"}


def test_shards_come_together():
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = "model.safetensors.index.json"
    assert set(select([*names, index], "", "hf:a/b").files) == {*names, index}


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/model.safetensors", "a\\b.safetensors", "C:x.gguf"]
)
def test_paths_that_lead_outside_are_not_seen(name):
    with pytest.raises(FormatError, match="no weights"):
        select([name], "", "pypi:p==1")
