"""The form that a model is served in unless another is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.conftest import tiny_config

from lmstack.model import Transformer, write_gguf
from lmstack.registry import ModelFolder
from lmstack.registry.card import Card, FileFacts, Kind
from lmstack.registry.weight_cache import Stored, has_blocks, most_of_gguf, most_weights
from lmstack.serve import forms


def gguf(path: Path, kind: str) -> ModelFolder:
    path.mkdir()
    sizes = {"hidden_size": 64, "intermediate_size": 128, "tie_embeddings": True}
    write_gguf(Transformer(tiny_config(**sizes)), path / "m.gguf", kind)
    files: dict[str, FileFacts] = {"m.gguf": {"sha256": "", "size": 1}}
    card = Card("m", "generate", "sha256:" + "0" * 64, "", "", files, "")
    return ModelFolder(path, card)


@pytest.mark.parametrize(
    ("kind", "stored"),
    [("f16", "floats"), ("q8_0", "blocks"), ("q4_0", "blocks of 4 bits")],
)
def test_what_a_file_holds_is_read_once(tmp_path: Path, kind: str, stored: Stored) -> None:
    folder, root = gguf(tmp_path / "model", kind), tmp_path / "home"
    assert folder.gguf is not None
    assert most_of_gguf(folder.gguf) == most_weights(folder, root) == stored
    folder.gguf.write_bytes(b"")
    assert most_weights(folder, root) == stored
    assert has_blocks(folder, root) == (stored != "floats")


Speed = Literal["none", "plain", "lines"]


def patched(patch: pytest.MonkeyPatch, *, bfloat16: bool, memory: int | None = 1000) -> None:
    patch.setattr(forms, "multiplies_bfloat16", lambda: bfloat16)
    patch.setattr(forms, "free_memory", lambda: (0, memory))


@given(
    stored=st.sampled_from(get_args(Stored)),
    kind=st.sampled_from(["generate", "embed", "seq2seq"]),
    speed=st.sampled_from(get_args(Speed)),
)
def test_only_what_decodes_4_bits_here_is_rounded(stored: Stored, kind: Kind, speed: Speed) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patched(patch, bfloat16=True)
        patch.setattr(forms, "problem", lambda: "not built" if speed == "none" else "")
        patch.setattr(forms, "multiplies_lines", lambda: speed == "lines")
        found = forms.form_for(stored, 100, decodes=kind == "generate")
    if speed == "none" or stored == "floats":
        assert found == "bfloat16"
    elif (stored, kind, speed) == ("blocks of 4 bits", "generate", "lines"):
        assert found == "file8"
    else:
        assert found == "file"


@pytest.mark.parametrize(
    ("size", "memory", "device", "found"),
    [
        (500, 1000, "cpu", "float32"),
        (501, 1000, "cpu", "bfloat16"),
        (500, None, "cpu", "bfloat16"),
        (500, 1000, "cuda:0", "bfloat16"),
    ],
)
def test_floats_are_float32_where_the_processor_lacks_bfloat16_and_half_the_memory_holds_them(
    size: int, memory: int | None, device: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched(monkeypatch, bfloat16=False, memory=memory)
    assert forms.form_for("floats", size, decodes=True, device=device) == found
    patched(monkeypatch, bfloat16=True, memory=memory)
    assert forms.form_for("floats", size, decodes=True, device=device) == "bfloat16"


@pytest.mark.parametrize(
    ("parameters", "size", "form"),
    [(125, 0, "float32"), (126, 0, "bfloat16"), (0, 250, "float32"), (0, 251, "bfloat16")],
)
def test_a_folder_that_states_no_parameters_is_measured_by_its_files(
    parameters: int, size: int, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: dict[str, FileFacts] = {"model.safetensors": {"sha256": "", "size": size}}
    card = Card("m", "generate", "", "", "", files, "", parameters=parameters)
    patched(monkeypatch, bfloat16=False)
    assert forms.usual_form(ModelFolder(tmp_path, card)) == form
    said = forms.slow_form(ModelFolder(tmp_path, card), form)
    assert ("m is held in bfloat16" in said) is (form == "bfloat16")


def test_nothing_is_said_of_a_form_that_is_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ModelFolder(tmp_path, Card("m", "generate", "", "", "", {}, ""))
    patched(monkeypatch, bfloat16=True)
    assert forms.slow_form(folder, "bfloat16") == ""
    patched(monkeypatch, bfloat16=False)
    assert forms.slow_form(folder, "bfloat16", "cuda:0") == forms.slow_form(folder, "int8") == ""
