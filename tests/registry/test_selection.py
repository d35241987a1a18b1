"""Which files of a package or repository are one model."""

from __future__ import annotations

import pytest

from lmstack.core import FormatError, InputError
from lmstack.registry.selection import select
from lmstack.registry.sources import local


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


@pytest.mark.parametrize(
    ("names", "part", "files", "left"),
    [
        # Settings of the folder alone, of each kind, and nothing of another's.
        (
            ["a/m.safetensors", "a/x.txt", "a/x.jinja", "a/x.model", "a/README.md", "a/x.py",
             "x.json", "b/x.json", "a/b/x.json", "a/onnx/x.json"],
            "",
            {"a/m.safetensors": "m.safetensors", "a/x.txt": "x.txt", "a/x.jinja": "x.jinja"}
            | {"a/x.model": "x.model", "a/README.md": "README.md"},
            (),
        ),
        # Stages keep their folder, and are of that model alone.
        (
            ["a/m.safetensors", "a/1_P/x.json", "a/2_D/x.txt", "a/2_D/m.safetensors",
             "a/2_D/x.md", "a/1P/x.json", "b/3_D/x.json", "a/1_P/2_D/x.json"],
            "",
            {"a/m.safetensors": "m.safetensors", "a/1_P/x.json": "1_P/x.json"}
            | {"a/2_D/x.txt": "2_D/x.txt", "a/2_D/m.safetensors": "2_D/m.safetensors"},
            (),
        ),
        # Safetensors before GGUF, in one folder; a copy for another program is none.
        (
            ["m.gguf", "m.safetensors", "consolidated.safetensors", "b.pth", "a.joblib"],
            "",
            {"m.safetensors": "m.safetensors"},
            ("a.joblib", "b.pth", "consolidated.safetensors", "m.gguf"),
        ),
        # A file that is named, by its name or its path, with what lies beside it.
        (
            ["a/m.gguf", "a/n.gguf", "a/x.json", "b/m.gguf", "m.safetensors"],
            "a/m.gguf",
            {"a/m.gguf": "m.gguf", "a/x.json": "x.json"},
            ("a/n.gguf",),
        ),
        (["a/m.gguf", "b/n.gguf"], "n.gguf", {"b/n.gguf": "n.gguf"}, ()),
        (["a/b/m.gguf", "c/m.gguf"], "a/b", {"a/b/m.gguf": "m.gguf"}, ()),
        (["a/b/m.gguf", "c/m.gguf"], "b", {"a/b/m.gguf": "m.gguf"}, ()),
        # Graphs: what lies beside them and above them.
        (
            ["a/onnx/model.onnx", "a/onnx/x.txt", "a/x.json", "x.json", "a/onnx/q.onnx",
             "a/b.bin", "b/y.json"],
            "",
            {"a/onnx/model.onnx": "model.onnx", "a/onnx/x.txt": "x.txt", "a/x.json": "x.json"},
            ("a/onnx/q.onnx",),
        ),
        (["a/q.onnx", "a/x.json"], "", {"a/q.onnx": "q.onnx", "a/x.json": "x.json"}, ()),
        (["a/b/q.onnx", "c/q.onnx"], "a/b", {"a/b/q.onnx": "q.onnx"}, ()),
        (["a/b/q.onnx", "c/r.onnx"], "a/b/q.onnx", {"a/b/q.onnx": "q.onnx"}, ()),
        (["a/onnx/q.onnx", "b/r.onnx"], "a", {"a/onnx/q.onnx": "q.onnx"}, ()),
    ],
)  # fmt: skip
def test_one_model_is_its_weights_and_what_belongs_to_them(names, part, files, left):
    chosen = select(names, part, "hf:a/b")
    assert (chosen.files, chosen.left_out) == (files, left)


@pytest.mark.parametrize(
    ("names", "part", "said", "choices"),
    [
        (["a/m.gguf", "b/m.gguf"], "", "has 2 folders with weights", "a b"),
        (["a/m.gguf", "b/n.gguf"], "c", "has 0 parts with that name 'c'", "a b m.gguf n.gguf"),
        (["a/c/m.gguf", "b/c/n.gguf"], "c", "has 2 parts with", "a/c b/c m.gguf n.gguf"),
        (["m.gguf", "n.gguf"], "", "has 2 GGUF files", "m.gguf n.gguf"),
        (["a/q.onnx", "b/q.onnx"], "", "has 2 folders with ONNX files", "a b"),
        (["a/q.onnx", "b/q.onnx"], "c", "has 0 folders with ONNX files 'c'", "a b"),
        (["a/q.onnx", "b/q.onnx"], "q.onnx", "has 2 files with that name", "a/q.onnx b/q.onnx"),
        (["a/q.onnx", "a/r.onnx"], "", "has 2 ONNX files", "a/q.onnx a/r.onnx"),
        ([f"{n}/m.gguf" for n in range(9)], "", "has 9 folders", "0 1 2 3 4 5 6 7"),
    ],
)
def test_where_there_are_several_models_the_choices_are_told(names, part, said, choices):
    source = f"hf:a/b#{part}" if part else "hf:a/b"
    with pytest.raises(InputError, match=f"^{source} {said}") as caught:
        select(names, part, source)
    told = ", ".join(f"hf:a/b#{choice}" for choice in choices.split())
    assert caught.value.hint == f"choose one, e.g. {told}"


def test_folders_below_one_with_weights_are_no_other_model(tmp_path):
    for name in ("model.safetensors", "config.json", "checkpoint/model.safetensors"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert local.content(tmp_path) == ["config.json", "model.safetensors"]
    (tmp_path / "model.safetensors").unlink()
    assert local.content(tmp_path) == ["checkpoint/model.safetensors"]
