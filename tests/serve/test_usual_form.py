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


@given(
    stored=st.sampled_from(get_args(Stored)),
    kind=st.sampled_from(["generate", "embed", "seq2seq"]),
    speed=st.sampled_from(get_args(Speed)),
)
def test_only_what_decodes_4_bits_here_is_rounded(stored: Stored, kind: Kind, speed: Speed) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "problem", lambda: "not built" if speed == "none" else "")
        patch.setattr(forms, "multiplies_lines", lambda: speed == "lines")
        found = forms.form_for(stored, decodes=kind == "generate")
    if speed == "none" or stored == "floats":
        assert found == "bfloat16"
    elif (stored, kind, speed) == ("blocks of 4 bits", "generate", "lines"):
        assert found == "file8"
    else:
        assert found == "file"
