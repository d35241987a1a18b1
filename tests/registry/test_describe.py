"""What a folder's files say of the model: its kind, its licence, and whether it is one at all."""

from __future__ import annotations

import hashlib
import json
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from lmstack.core import FormatError, StoreError
from lmstack.registry.describe import ModelFacts, Origin, describe, make_card
from lmstack.registry.sampling_defaults import SamplingDefaults


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
        ("---\nlicense: mit\n---\n\udcff", "mit"),
        ("license: mit\n", ""),
        ("---\nlicense: mit\n", ""),
        ("---\ntags: [a]\n---\nlicense: mit\n", ""),
        ("text\n---\nlicense: mit\n---\n", ""),
        (f"---\ntags: {'a' * 10_000}\nlicense: mit\n---\n", ""),  # no more is read
    ],
)
def test_a_licence_is_what_the_front_matter_states(folder: Path, readme: str, licence: str) -> None:
    said(folder, "config.json")
    (folder / "README.md").write_text(readme, errors="surrogateescape")
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
    assert describe(tmp_path) == ModelFacts("generate", "", 0, "")


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


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("bert", "embed"), ("nomic-bert", "embed"), ("t5", "seq2seq"), ("llama", "generate")],
)
def test_a_gguf_file_is_described_by_its_metadata(
    tmp_path: Path, architecture: str, kind: str
) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", architecture)
    writer.add_license("mit")
    writer.add_tensor("a", np.ones((2, 3), np.float32))
    writer.add_tensor("b", np.ones(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for path in (tmp_path, tmp_path / "m.gguf"):
        assert describe(path) == ModelFacts(kind, architecture, 10, "mit")


def test_weights_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    said(tmp_path, "config.json")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"x")
    with pytest.raises(FormatError, match=f"^{weights} is not a complete safetensors file: "):
        describe(tmp_path)
    save_file({"w": np.ones(2, np.float32)}, weights, {"parameters": "many"})
    with pytest.raises(FormatError, match=f"^{weights} is not a complete .* literal"):
        describe(tmp_path)
    weights.unlink()
    weights.symlink_to(tmp_path / "none")
    with pytest.raises(StoreError, match=f"reading {weights} failed|nothing at '{weights}'"):
        describe(tmp_path)


@pytest.mark.parametrize("place", ["m.onnx", "onnx/m.onnx", "m.pt", ""])
def test_what_has_no_weights_for_us_is_told_the_way(tmp_path: Path, place: str) -> None:
    for name in [place] if place else []:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    way = {".onnx": f"lmstack pull {tmp_path} makes", ".pt": "AutoModel.from_pretrained"}
    with pytest.raises(FormatError, match=f"^{tmp_path}") as caught:
        describe(tmp_path)
    hint = caught.value.hint or ""
    assert way.get(Path(place).suffix, "give the folder that holds them") in hint


def test_parameters_are_those_of_all_files_and_a_card_lists_each_file(folder: Path) -> None:
    said(folder, "config.json", model_type="x", architectures=["XForMaskedLM"])
    (folder / "1_P").mkdir()
    (folder / "1_P" / "x.json").write_text("{}")
    (folder / "card.json").write_text("{}")
    save_file({"v": np.ones(5, np.float32)}, folder / "model-2.safetensors")
    training: Any = object()
    origin = Origin(
        "here", lineage="of mine", notes=("n",), evaluation={"a": 1}, training=training,
        sampling=SamplingDefaults(top_k=3),
    )  # fmt: skip
    before = datetime.now(UTC).replace(microsecond=0)
    card = make_card("m", folder, origin)
    assert (card.name, card.kind, card.architecture, card.parameters) == ("m", "fill-mask", "x", 11)
    assert (card.source, card.lineage, card.notes) == ("here", "of mine", ("n",))
    assert (card.evaluation, card.training, card.sampling.top_k) == ({"a": 1}, training, 3)
    assert before <= datetime.fromisoformat(card.created) <= datetime.now(UTC)
    assert "." not in card.created
    names = ["1_P/x.json", "config.json", "model-2.safetensors", "model.safetensors"]
    assert list(card.files) == names
    assert card.files["1_P/x.json"] == {"sha256": hashlib.sha256(b"{}").hexdigest(), "size": 2}
    assert make_card("m", folder, Origin("here", kind="reward")).kind == "reward"


@pytest.mark.parametrize("names", ["BertModel", 3, [3], ["XForCausalLM", "BertModel"]])
def test_the_first_of_a_list_of_architectures_counts(folder: Path, names: Any) -> None:
    said(folder, "config.json", architectures=names)
    kind = "generate" if isinstance(names, list) and len(names) == 2 else "embed"
    assert describe(folder).kind == kind
