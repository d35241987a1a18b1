"""Files that are no models, or only parts of one: each is named, with what to do."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import pytest

import lmstack
from lmstack.app.cli import main
from lmstack.core import LmstackError

BERT = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "vocab_size": 8,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
}


class Bomb:
    """What a pickle may do while it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.write_text, (self.path, "exploded"))


def safetensors(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


FILES = {
    "empty.gguf": (b"", "is empty"),
    "cut.gguf": (b"GGUF" + struct.pack("<IQQ", 3, 1, 2**60), "is not a valid GGUF file"),
    "old.gguf": (b"GGUF" + struct.pack("<IQQ", 99, 0, 0), "GGUF version 99"),
    "ggml.gguf": (b"GGML" + bytes(100), "starts with b'GGML'"),
    "page.gguf": (b"<!DOCTYPE html>404", "is a web page"),
    "lfs.gguf": (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    "model.txt": (b"x", "a file must be .gguf"),
}
WEIGHTS = {
    "huge header": (safetensors(b"{}", 2**62), "not a complete safetensors file"),
    "no JSON": (safetensors(b"not JSON !"), "not a complete safetensors file"),
    "nothing": (b"", "not a complete safetensors file"),
}


def refused(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `inspect` and `pull` say, which is the same; and Python raises nothing else."""
    said = []
    for command in (("model", "inspect"), ("pull",)):
        assert main([*command, str(path)]) == 1
        error = capsys.readouterr().err.splitlines()
        first, second = error[-2:]
        assert first.startswith("error: ")
        assert second.startswith("try:   ")
        said.append(first)
    with pytest.raises(LmstackError):
        lmstack.load(str(path))
    assert said[0] == said[1]
    return said[0]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_model_is_named_with_what_it_is(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, reason = FILES[name]
    path = tmp_path / name
    path.write_bytes(data)
    said = refused(path, capsys)
    assert str(path) in said
    assert reason in said


@pytest.mark.parametrize("name", WEIGHTS)
def test_broken_weights_are_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, reason = WEIGHTS[name]
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps(BERT))
    (tmp_path / "m" / "model.safetensors").write_bytes(data)
    said = refused(tmp_path / "m", capsys)
    assert str(tmp_path / "m" / "model.safetensors") in said
    assert reason in said


def test_a_folder_without_weights_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps(BERT))
    assert f"{tmp_path / 'm'} has no weights" in refused(tmp_path / "m", capsys)


def test_a_pickle_is_never_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps(BERT))
    bomb = pickle.dumps(Bomb(tmp_path / "crater"))
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(bomb)
    assert "pytorch_model.bin, a pickle" in refused(tmp_path / "m", capsys)
    assert not (tmp_path / "crater").exists()


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ("{garbage", "not valid JSON"),
        ("[]", "holds [], not an object"),
        ('{"name": "m"}', "it has no 'files'"),
        ('{"name":"m","kind":"embed","digest":"sha256:0","files":{}}', "its own digest"),
    ],
)
def test_a_broken_card_in_the_store_is_told_by_every_command(
    card: str, reason: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "models" / "m").mkdir(parents=True)
    (home / "models" / "m" / "card.json").write_text(card)
    assert main(["model", "inspect", "m"]) == 1
    assert reason in capsys.readouterr().err
    assert main(["model", "list"]) == 0
    assert f"cannot be used: m: {home / 'models' / 'm' / 'card.json'}" in capsys.readouterr().err
    assert main(["model", "rm", "m"]) == 0
    assert not (home / "models" / "m").exists()
