"""What a folder's files say of the model: its kind, its licence, and whether it is one at all."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lmstack.core import FormatError
from lmstack.registry.describe import Facts, Origin, describe, make_card


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file({"w": np.ones((2, 3), np.float32)}, tmp_path / "model.safetensors")
    return tmp_path


def said(folder: Path, name: str, **values: Any) -> None:
    (folder / name).write_text(json.dumps(values))


@pytest.mark.parametrize("names", [[""], [], None, "BertForMaskedLM"])
def test_a_folder_that_names_no_architecture_embeds(folder: Path, names: Any) -> None:
    said(folder, "config.json", architectures=names, model_type="x")
    found = describe(folder)
    assert (found.kind, found.architecture, found.parameters) == ("embed", "x", 6)
    said(folder, "config.json")
    assert (describe(folder).kind, describe(folder).architecture) == ("embed", "")


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"num_labels": 1}, "rerank"),
        ({"num_labels": 2}, "classify"),
        ({"id2label": {"0": "a"}, "num_labels": 2}, "rerank"),
        ({"id2label": {"0": "a", "1": "b"}, "num_labels": 1}, "classify"),
        ({"id2label": ["a"], "num_labels": 1}, "rerank"),
    ],
)
def test_one_label_is_a_score(folder: Path, settings: dict[str, Any], kind: str) -> None:
    names = ["BertForSequenceClassification"]
    said(folder, "config.json", architectures=names, **settings)
    assert describe(folder).kind == kind


@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_score_of_conversations_is_a_reward(folder: Path, where: str) -> None:
    stated = {"architectures": ["LlamaForSequenceClassification"], "num_labels": 1}
    said(folder, "config.json", **stated)
    said(folder, "tokenizer_config.json", chat_template="")
    assert describe(folder).kind == "rerank"
    said(folder, where, chat_template="x")
    assert describe(folder).kind == "reward"
    said(folder, "config.json", sentence_transformers={}, **stated)
    assert describe(folder).kind == "rerank"


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"model_type": "gemma3"}, "generate"),
        ({"model_type": "gemma3", "is_encoder_decoder": False}, "generate"),
        ({"model_type": "t5", "is_encoder_decoder": False}, "seq2seq"),
        ({"model_type": "gemma3", "is_encoder_decoder": True}, "seq2seq"),
    ],
)
def test_a_model_of_images_that_calls_itself_so_is_no_encoder_decoder(
    folder: Path, settings: dict[str, Any], kind: str
) -> None:
    said(folder, "config.json", architectures=["XForConditionalGeneration"], **settings)
    assert describe(folder).kind == kind


@pytest.mark.parametrize("architecture", ["BertModel", "LlamaForCausalLM"])
def test_stages_of_sentence_transformers_embed(folder: Path, architecture: str) -> None:
    said(folder, "config.json", architectures=[architecture])
    (folder / "modules.json").write_text("[]")
    assert describe(folder).kind == "embed"
    said(folder, "config_sentence_transformers.json", prompts={})
    assert describe(folder).kind == "embed"
    said(folder, "config_sentence_transformers.json", query_length=32)
    assert describe(folder).kind == "late-interaction"
    said(folder, "config.json", architectures=["BertForMaskedLM"])
    assert describe(folder).kind == "fill-mask"


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        ("---\nlicense: 'mit'\n---\ntext", "mit"),
        ('---\ntags: [a]\nlicense:  "apache-2.0" \n---\n', "apache-2.0"),
        ("license: mit\n", ""),
        ("---\nlicense: mit\n", ""),
        ("---\ntags: [a]\n---\nlicense: mit\n", ""),
        ("text\n---\nlicense: mit\n---\n", ""),
    ],
)
def test_a_licence_is_what_the_front_matter_states(folder: Path, readme: str, licence: str) -> None:
    said(folder, "config.json")
    (folder / "README.md").write_text(readme)
    assert describe(folder).licence == licence


@pytest.mark.parametrize(
    ("package", "weights", "licence"),
    [
        ("", "", "mit (stated by the model's files)"),
        ("MIT", "", "MIT (stated by the package and by the model's files)"),
        ("BSD", "", "BSD (stated by the package); mit (stated by the model's files)"),
        ("BSD", "own", "own"),
    ],
)
def test_a_card_says_who_states_the_licence(
    folder: Path, package: str, weights: str, licence: str
) -> None:
    said(folder, "config.json")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    card = make_card("m", folder, Origin("here", package, weights_licence=weights))
    assert card.licence == licence
    (folder / "README.md").unlink()
    assert make_card("m", folder, Origin("here")).licence == ""


def test_a_gguf_file_that_says_nothing_of_itself_is_described_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, 0))
    assert describe(tmp_path) == Facts("generate", "", 0, "")


def test_an_adapter_and_what_is_no_model_are_told(folder: Path) -> None:
    said(folder, "adapter_config.json")
    found = describe(folder)
    assert (found.kind, found.architecture, found.parameters) == ("adapter", "lora", 6)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    assert describe(folder).licence == "mit"
    (folder / "model.safetensors").unlink()
    for name, message in (
        ("x.pkl", "has its weights in x.pkl, a pickle"),
        ("m.onnx", "m.onnx is ONNX"),
        ("a.gguf", None),
        ("b.gguf", "has several GGUF files: a.gguf, b.gguf"),
    ):
        if message is None:
            (folder / name).touch()
            continue
        (folder / name).touch()
        with pytest.raises(FormatError, match=message):
            describe(folder)


def test_weights_that_share_bytes_state_how_many_they_are(tmp_path: Path) -> None:
    said(tmp_path, "config.json")
    tensors = {"w": np.ones((2, 3), np.float32)}
    save_file(tensors, tmp_path / "model.safetensors", {"parameters": "7"})
    assert describe(tmp_path).parameters == 7
