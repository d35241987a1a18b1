"""What a folder says about its own use, in the spellings that checkpoints have."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
import torch
from safetensors.torch import save_file

from lmstack.core import FormatError, InputError, UnsupportedError
from lmstack.registry import SamplingDefaults
from lmstack.registry.defaults import (
    GenerationDefaults,
    LateInteraction,
    Pooling,
    generation_defaults,
    labels_of,
    late_interaction,
    pooling_of,
)
from lmstack.registry.describe import describe
from lmstack.registry.saving import write_settings
from lmstack.registry.selection import select
from lmstack.text import Tokenizer

WORDS = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3}
SPEC = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"}}
SPEC |= {"normalizer": None, "post_processor": None, "decoder": None}
SPEC |= {"model": {"type": "WordLevel", "vocab": WORDS, "unk_token": "<unk>"}}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_json(json.dumps(SPEC), {"eos_token": "</s>", "unk_token": "<unk>"})


# Generation.

MARIAN = {
    "is_encoder_decoder": True, "decoder_start_token_id": 9, "eos_token_id": 0, "num_beams": 6,
    "bad_words_ids": [[9]], "forced_eos_token_id": 0, "max_length": 512, "temperature": 0.3,
}  # fmt: skip
BART = {"is_encoder_decoder": True, "decoder_start_token_id": 2, "eos_token_id": 2}
BART |= {"forced_bos_token_id": 0, "forced_eos_token_id": [2], "early_stopping": True}
BART |= {"length_penalty": 2.0, "no_repeat_ngram_size": 3, "min_length": 56}


def test_older_encoder_decoder_keeps_its_settings_in_its_config(tokenizer, tmp_path):
    found = generation_defaults(tmp_path, MARIAN, {}, tokenizer)
    assert (found.decoder_start_id, found.forced_bos_id, found.forced_eos_id) == (9, None, 0)
    assert (found.bad_words, found.num_beams, found.max_length) == (((9,),), 6, 512)
    assert found.eos_ids == {0, 1}
    # What transformers wrote into every config.json, chosen or not, is nobody's advice.
    assert found.sampling == SamplingDefaults()


def test_newer_encoder_decoder_has_a_file_of_its_own(tokenizer, tmp_path):
    (tmp_path / "generation_config.json").write_text(json.dumps(BART))
    found = generation_defaults(tmp_path, {"is_encoder_decoder": True}, {}, tokenizer)
    assert (found.decoder_start_id, found.forced_bos_id, found.forced_eos_id) == (2, 0, 2)
    assert (found.length_penalty, found.early_stopping, found.min_length) == (2.0, True, 56)
    assert found.no_repeat_ngram_size == 3


def test_decoder_start_is_looked_for_where_transformers_looks(tokenizer, tmp_path):
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 1}')
    config = {"is_encoder_decoder": True, "bos_token_id": 5}
    assert generation_defaults(tmp_path, config, {}, tokenizer).decoder_start_id == 5
    config |= {"decoder_start_token_id": 7}
    assert generation_defaults(tmp_path, config, {}, tokenizer).decoder_start_id == 7


@pytest.mark.parametrize(
    ("config", "start"),
    [
        ({"model_type": "t5", "pad_token_id": 3}, 3),
        ({"model_type": "t5"}, 0),
        ({"model_type": "mt5", "pad_token_id": 3}, 0),
        ({"model_type": "bart", "bos_token_id": 0, "pad_token_id": 1}, 2),
        ({"model_type": "mbart", "bos_token_id": 4, "pad_token_id": 1}, 4),
        ({"model_type": "pegasus", "pad_token_id": 1}, 0),
    ],
)
def test_a_decoder_whose_start_is_not_stated_begins_as_its_family(
    tokenizer, tmp_path, config, start
):
    found = generation_defaults(tmp_path, config | {"is_encoder_decoder": True}, {}, tokenizer)
    assert found.decoder_start_id == start


def test_settings_that_are_not_ours_are_written_back(tokenizer, tmp_path):
    stated = {"temperature": 0.3, "watermarking_config": {"bias": 2.5}, "eos_token_id": 1}
    stated |= {"_from_model_config": True, "transformers_version": "5.0.0", "num_beams": 2}
    (tmp_path / "generation_config.json").write_text(json.dumps(stated))
    found = generation_defaults(tmp_path, {}, {}, tokenizer)
    write_settings(tmp_path, found, None, None, 8)
    assert json.loads((tmp_path / "generation_config.json").read_text()) == stated
    changed = dataclasses.replace(found, sampling=SamplingDefaults(temperature=0.9))
    write_settings(tmp_path, changed, None, None, 8)
    again = json.loads((tmp_path / "generation_config.json").read_text())
    assert again == stated | {"temperature": 0.9}


def test_settings_of_an_encoder_decoder_are_not_a_decoders(tokenizer, tmp_path):
    found = generation_defaults(tmp_path, {"num_beams": 4, "bos_token_id": 5}, {}, tokenizer)
    assert (found.num_beams, found.decoder_start_id) == (None, None)


@pytest.mark.parametrize(
    "wrong", [{"bad_words_ids": 3}, {"num_beams": "x"}, {"early_stopping": "sometimes"}]
)
def test_damaged_settings_name_their_file(tokenizer, tmp_path, wrong):
    with pytest.raises(FormatError, match=re.escape("config.json")):
        generation_defaults(tmp_path, MARIAN | wrong, {}, tokenizer)


@pytest.mark.parametrize("key", ["eos", "eot", "eom"])
def test_each_end_that_a_gguf_file_names_ends_a_turn(tokenizer, tmp_path, key):
    metadata = {f"tokenizer.ggml.{key}_token_id": 7}
    assert generation_defaults(tmp_path, {}, metadata, tokenizer).eos_ids == {1, 7}


ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<|eom_id|>")


@pytest.mark.parametrize("end", ENDS)
def test_a_control_token_that_ends_turns_ends_them_whatever_the_files_say(tmp_path, end):
    added = {"id": 4, "content": end, "special": True, "normalized": False}
    added |= {"single_word": False, "lstrip": False, "rstrip": False}
    ended = Tokenizer.from_json(json.dumps(SPEC | {"added_tokens": [added]}), {"eos_token": "</s>"})
    found = generation_defaults(tmp_path, {"eos_token_id": 3}, {}, ended)
    assert found.eos_ids == {1, 3, 4}


# Labels.


def test_labels_are_in_the_order_of_their_numbers(tmp_path):
    named = {str(i): f"L{i}" for i in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)}
    assert labels_of({"id2label": named}, tmp_path) == tuple(f"L{i}" for i in range(11))


def test_labels_without_names_are_called_as_transformers_calls_them(tmp_path):
    assert labels_of({}, tmp_path) == ("LABEL_0", "LABEL_1")
    assert labels_of({"num_labels": 3}, tmp_path)[2] == "LABEL_2"


@pytest.mark.parametrize(
    "config",
    [{"id2label": v} for v in ({}, {"1": "a"}, {"x": "a"}, ["a"], 3)]
    + [{"num_labels": v} for v in (0, -1, True, "3", 1 << 30)],
)
def test_damaged_labels_are_a_format_error(tmp_path, config):
    with pytest.raises(FormatError):
        labels_of(config, tmp_path)


# Late interaction.


@pytest.fixture
def colbert(tmp_path):
    def write(settings, *stages):
        (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(settings))
        listed = [{"idx": i, "path": p, "type": t} for i, (p, t) in enumerate(stages)]
        (tmp_path / "modules.json").write_text(json.dumps(listed))
        return tmp_path

    return write


TRANSFORMER, DENSE = ("", "st.Transformer"), ("1_Dense", "pylate.models.Dense.Dense")


def test_settings_of_late_interaction_are_pylates(colbert):
    settings = {"query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": 48}
    settings |= {"document_length": 300, "skiplist_words": ["!", "."]}
    found = late_interaction(colbert(settings, TRANSFORMER))
    assert (found.query_marker, found.document_marker) == ("[Q]", "[D]")
    assert (found.query_length, found.document_length) == (48, 300)
    assert (found.expands_queries, found.attends_to_expansion) == (True, False)
    assert (found.skipped, found.projection) == (("!", "."), None)


def test_projection_is_read(colbert, tmp_path):
    folder = colbert({"query_length": 32}, TRANSFORMER, DENSE)
    (folder / "1_Dense").mkdir()
    weight = torch.randn(3, 5)
    save_file({"linear.weight": weight}, folder / "1_Dense" / "model.safetensors")
    identity = "torch.nn.modules.linear.Identity"
    (folder / "1_Dense" / "config.json").write_text(json.dumps({"activation_function": identity}))
    assert torch.equal(late_interaction(folder).projection, weight)
    (folder / "1_Dense" / "config.json").write_text('{"activation_function": "torch.nn.Tanh"}')
    with pytest.raises(UnsupportedError, match="Tanh"):
        late_interaction(folder)


def test_stage_that_late_interaction_has_no_place_for_is_refused(colbert):
    with pytest.raises(UnsupportedError, match="Pooling"):
        late_interaction(colbert({"query_length": 32}, TRANSFORMER, ("1", "x.Pooling")))


@pytest.mark.parametrize("wrong", [{"query_length": 0}, {"document_length": "x"}])
def test_damaged_lengths_are_a_format_error(colbert, wrong):
    with pytest.raises(FormatError):
        late_interaction(colbert({"query_length": 32} | wrong, TRANSFORMER))


# Written again.


@pytest.mark.parametrize("stated", [MARIAN, BART])
def test_generation_settings_are_read_as_they_were_written(tokenizer, tmp_path, stated):
    before = generation_defaults(tmp_path, stated, {}, tokenizer)
    write_settings(tmp_path, before, None, None, 8)
    after = generation_defaults(tmp_path, {"is_encoder_decoder": True}, {}, tokenizer)
    assert after == before


SAMPLED = [
    {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.05},
    {"temperature": 0.0, "frequency_penalty": 0.2},
    {"max_tokens": 512, "no_repeat_ngram_size": 4},
]


@pytest.mark.parametrize("stated", SAMPLED)
def test_sampling_is_read_as_it_was_written(tokenizer, tmp_path, stated):
    sampling = SamplingDefaults(**stated)
    before = GenerationDefaults(frozenset({1}), sampling)
    write_settings(tmp_path, before, None, None, 8)
    assert generation_defaults(tmp_path, {}, {}, tokenizer).sampling == sampling


def test_a_model_that_does_not_sample_is_greedy(tokenizer, tmp_path):
    path = tmp_path / "generation_config.json"
    path.write_text('{"do_sample": false, "temperature": 0.7, "top_k": 50, "max_new_tokens": 30}')
    found = generation_defaults(tmp_path, {}, {}, tokenizer).sampling
    assert found == SamplingDefaults(temperature=0.0, max_tokens=30)


def test_a_gguf_file_may_say_how_to_sample(tokenizer, tmp_path):
    metadata = {"general.sampling.temp": 0.7, "general.sampling.penalty_repeat": 1.1}
    found = generation_defaults(tmp_path, {}, metadata, tokenizer).sampling
    assert found == SamplingDefaults(temperature=0.7, repetition_penalty=1.1)


def test_a_stated_temperature_out_of_range_names_file_and_value(tokenizer, tmp_path):
    (tmp_path / "generation_config.json").write_text('{"temperature": 7}')
    with pytest.raises(FormatError, match=r"generation_config.json: temperature is 7"):
        generation_defaults(tmp_path, {}, {}, tokenizer)


@pytest.mark.parametrize("mode", ["cls", "mean", "max", "mean_sqrt_len", "last"])
@pytest.mark.parametrize("normalize", [True, False])
def test_pooling_is_read_as_it_was_written(tokenizer, tmp_path, mode, normalize):
    pooling = Pooling(mode, normalize, 77, {"query": "find: "})
    write_settings(tmp_path, GenerationDefaults(frozenset()), pooling, None, 8)
    assert pooling_of(tmp_path, tokenizer) == pooling


@pytest.mark.parametrize(
    ("stated", "own", "limit"), [(None, 512, 512), (77, 512, 77), (None, 1e30, None)]
)
def test_the_longest_text_is_that_of_the_folder_or_of_the_tokenizer(tmp_path, stated, own, limit):
    if stated is not None:
        (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": stated}))
    (tmp_path / "modules.json").write_text("[]")
    limited = Tokenizer.from_json(json.dumps(SPEC), {"model_max_length": own})
    assert pooling_of(tmp_path, limited).max_length == limit


@pytest.mark.parametrize("markers", [("[Q]", None), (None, "[D]")])
@pytest.mark.parametrize("flags", [(False, True), (True, False)])
def test_late_interaction_is_read_as_it_was_written(tmp_path, markers, flags):
    weight = torch.randn(3, 5)
    late = LateInteraction(*markers, 40, 99, *flags, ("!",), weight)
    write_settings(tmp_path, GenerationDefaults(frozenset()), None, late, 5)
    found = late_interaction(tmp_path)
    assert torch.equal(found.projection, weight)
    plain = {"projection": None}
    assert dataclasses.replace(found, **plain) == dataclasses.replace(late, **plain)


def test_what_is_written_has_the_names_that_sentence_transformers_and_pylate_read(tmp_path):
    def written(name):
        return json.loads((tmp_path / name).read_text())

    own = GenerationDefaults(frozenset())
    write_settings(tmp_path, own, Pooling("cls", True, 77, {"query": "find: "}), None, 8)
    types = ("Transformer", "Pooling", "Normalize")
    paths = ("", "1_Pooling", "2_Normalize")
    assert written("modules.json") == [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(zip(paths, types, strict=True))
    ]
    pooling = written("1_Pooling/config.json")
    assert pooling.pop("word_embedding_dimension") == 8
    assert [name for name, chosen in pooling.items() if chosen] == ["pooling_mode_cls_token"]
    assert len(pooling) == 5
    assert written("sentence_bert_config.json") == {"max_seq_length": 77}
    assert written("config_sentence_transformers.json") == {"prompts": {"query": "find: "}}

    late = LateInteraction("[Q]", "[D]", 40, 99, False, True, ("!",), torch.randn(3, 5))
    write_settings(tmp_path, own, None, late, 5)
    assert [each["path"] for each in written("modules.json")] == ["", "1_Dense"]
    assert written("1_Dense/config.json") == {
        "in_features": 5,
        "out_features": 3,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    assert written("config_sentence_transformers.json") == {
        "query_prefix": "[Q]",
        "document_prefix": "[D]",
        "query_length": 40,
        "document_length": 99,
        "do_query_expansion": False,
        "attend_to_expansion_tokens": True,
        "skiplist_words": ["!"],
    }


def test_nothing_is_written_where_nothing_is_said(tmp_path):
    write_settings(tmp_path, GenerationDefaults(frozenset({1})), None, None, 8)
    assert list(tmp_path.iterdir()) == []


# Kinds.


@pytest.fixture
def kind_of(tmp_path, make_safetensors):
    def kind(architecture, **config):
        (tmp_path / "model.safetensors").write_bytes(make_safetensors())
        values = {"model_type": "x", "architectures": [architecture]} | config
        (tmp_path / "config.json").write_text(json.dumps(values))
        return describe(tmp_path).kind

    kind.folder = tmp_path
    return kind


@pytest.mark.parametrize(
    ("architecture", "config", "kind"),
    [
        ("LlamaForCausalLM", {}, "generate"),
        ("GPT2LMHeadModel", {}, "generate"),
        ("T5ForConditionalGeneration", {"is_encoder_decoder": True}, "seq2seq"),
        ("T5ForConditionalGeneration", {"model_type": "t5"}, "seq2seq"),
        ("T5WithLMHeadModel", {}, "seq2seq"),
        ("MarianMTModel", {}, "seq2seq"),
        ("ElectraForPreTraining", {}, "embed"),
        ("Gemma3ForConditionalGeneration", {"model_type": "gemma3"}, "generate"),
        ("BertModel", {}, "embed"),
        ("AlbertForMaskedLM", {}, "fill-mask"),
        ("BertForPreTraining", {}, "fill-mask"),
        ("BertForTokenClassification", {}, "token-classify"),
        ("BertForQuestionAnswering", {}, "question-answering"),
        ("BertForSequenceClassification", {}, "classify"),
        ("BertForSequenceClassification", {"num_labels": 1}, "rerank"),
        ("BertForSequenceClassification", {"id2label": {"0": "x"}}, "rerank"),
        ("BertForSequenceClassification", {"id2label": {"0": "x", "1": "y"}}, "classify"),
    ],
)
def test_kind_follows_from_the_architecture(kind_of, architecture, config, kind):
    assert kind_of(architecture, **config) == kind


def test_modules_file_makes_an_embedder_of_a_decoder_and_nothing_of_a_classifier(kind_of):
    (kind_of.folder / "modules.json").write_text("[]")
    assert kind_of("Qwen3ForCausalLM") == "embed"
    assert kind_of("BertForTokenClassification") == "token-classify"
    (kind_of.folder / "config_sentence_transformers.json").write_text('{"query_length": 32}')
    assert kind_of("BertModel") == "late-interaction"


# Exports among other files.


def test_export_is_taken_only_where_there_is_nothing_else():
    names = ["config.json", "model.safetensors", "onnx/model.onnx"]
    assert set(select(names, "", "hf:a/b").files) == {"config.json", "model.safetensors"}
    chosen = select(["config.json", "onnx/model.onnx", "onnx/model_q4.onnx"], "", "hf:a/b")
    assert chosen.files == {"config.json": "config.json", "onnx/model.onnx": "model.onnx"}
    assert chosen.left_out == ("onnx/model_q4.onnx",)


def test_one_export_of_many_can_be_chosen():
    names = ["config.json", "onnx/model.onnx", "onnx/model_q4.onnx"]
    chosen = select(names, "model_q4.onnx", "hf:a/b#model_q4.onnx")
    assert set(chosen.files.values()) == {"config.json", "model_q4.onnx"}
    names = ["p/a/model.onnx", "p/b/model.onnx", "p/b/vocab.txt"]
    with pytest.raises(InputError, match="2 folders"):
        select(names, "", "pypi:p==1")
    assert set(select(names, "b", "pypi:p==1#b").files) == {"p/b/model.onnx", "p/b/vocab.txt"}


@pytest.mark.parametrize("names", [("encoder", "decoder"), ("encoder_model", "decoder_model")])
def test_encoder_and_decoder_are_taken_together(names):
    files = [f"{name}.onnx" for name in names]
    chosen = select([*files, "decoder_with_past_model.onnx", "config.json"], "", "hf:a/b")
    assert set(chosen.files) == {*files, "config.json"}
