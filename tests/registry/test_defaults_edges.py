"""What a folder says about its own use, at the limits of what it may say."""

from __future__ import annotations

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from lmstack.core import FormatError, StoreError, UnsupportedError
from lmstack.registry import SamplingDefaults
from lmstack.registry.defaults import (
    LateInteraction,
    generation_defaults,
    labels_of,
    late_interaction,
    pooling_of,
)
from lmstack.text import Tokenizer

SPEC = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"}}
SPEC |= {"normalizer": None, "post_processor": None, "decoder": None}
SPEC |= {"model": {"type": "WordLevel", "vocab": {"</s>": 0, "<unk>": 1}, "unk_token": "<unk>"}}


def tokenizer(**config):
    return Tokenizer.from_json(json.dumps(SPEC), config)


def said(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))
    return path.parent


DRAWN = {"temperature": 0.5, "top_p": 0.75, "min_p": 0.25, "typical_p": 0.5, "top_k": 7}
PENALTIES = {"repetition_penalty": 1.5, "presence_penalty": 0.5, "frequency_penalty": 0.25}


def test_each_setting_is_read_under_its_own_name_and_as_its_own_type(tmp_path):
    stated = {name: str(value) for name, value in {**DRAWN, **PENALTIES}.items()}
    rest = {"no_repeat_ngram_size": 3, "max_new_tokens": 9}
    said(tmp_path / "generation_config.json", {**stated, **rest, "num_beams": 4})
    found = generation_defaults(tmp_path, {}, {}, tokenizer())
    expected = {**DRAWN, **PENALTIES, "no_repeat_ngram_size": 3, "max_tokens": 9}
    assert found.sampling == SamplingDefaults(**expected)
    assert (found.num_beams, found.eos_ids) == (None, frozenset())
    assert found.stated["num_beams"] == 4
    said(tmp_path / "generation_config.json", {**stated, **rest, "do_sample": False})
    found = generation_defaults(tmp_path, {}, {}, tokenizer())
    greedy = {**PENALTIES, "temperature": 0.0, "no_repeat_ngram_size": 3, "max_tokens": 9}
    assert found.sampling == SamplingDefaults(**greedy)
    said(tmp_path / "generation_config.json", {**stated, **rest, "do_sample": None})
    found = generation_defaults(tmp_path, {"is_encoder_decoder": True}, {}, tokenizer())
    assert found.sampling == SamplingDefaults(**{**DRAWN, **PENALTIES, "max_tokens": 9})


def test_each_setting_of_a_gguf_file_is_read_under_llama_cpps_name(tmp_path):
    names = {"temp": 0.5, "top_p": 0.75, "top_k": 7, "min_p": 0.25, "penalty_repeat": 1.5}
    metadata = {f"general.sampling.{name}": value for name, value in names.items()}
    found = generation_defaults(tmp_path, {}, metadata, tokenizer())
    assert found.sampling == SamplingDefaults(
        temperature=0.5, top_p=0.75, top_k=7, min_p=0.25, repetition_penalty=1.5
    )
    assert found.stated == {}
    with pytest.raises(FormatError, match=r"^the GGUF metadata: temperature is 9"):
        generation_defaults(tmp_path, {}, {"general.sampling.temp": 9}, tokenizer())


def test_ends_of_the_text_are_those_of_the_newer_file_or_else_of_the_older(tmp_path):
    config = {"eos_token_id": [3, 4]}
    path = tmp_path / "generation_config.json"
    for stated, ends in (({}, {3, 4}), ({"eos_token_id": 5}, {5}), ({"eos_token_id": None}, set())):
        said(path, stated)
        found = generation_defaults(tmp_path, config, {}, tokenizer())
        assert found.eos_ids == frozenset(ends)
        assert found.stated == stated
    assert generation_defaults(path, config, {}, tokenizer()).eos_ids == {3, 4}
    ended = tokenizer(eos_token="</s>")
    assert generation_defaults(path, {}, {}, ended).eos_ids == {0}


def test_each_setting_of_an_encoder_decoder_is_read_under_its_own_name(tmp_path):
    stated = {
        "decoder_start_token_id": [[3], 4], "forced_bos_token_id": 4, "forced_eos_token_id": 5,
        "bad_words_ids": [[6, 7], [8]], "num_beams": 2, "length_penalty": 1.5, "min_length": 10,
        "early_stopping": "never", "no_repeat_ngram_size": 9, "max_length": 11,
    }  # fmt: skip
    said(tmp_path / "generation_config.json", stated)
    config = {"is_encoder_decoder": True, "decoder_start_token_id": 12, "num_beams": 13}
    found = generation_defaults(tmp_path, config, {}, tokenizer())
    assert (found.decoder_start_id, found.forced_bos_id, found.forced_eos_id) == (3, 4, 5)
    assert (found.bad_words, found.num_beams, found.length_penalty) == (((6, 7), (8,)), 2, 1.5)
    assert (found.early_stopping, found.no_repeat_ngram_size) == ("never", 9)
    assert (found.min_length, found.max_length) == (10, 11)
    said(tmp_path / "generation_config.json", {"forced_bos_token_id": [], "bad_words_ids": None})
    found = generation_defaults(tmp_path, config, {}, tokenizer())
    assert (found.decoder_start_id, found.forced_bos_id, found.bad_words) == (12, None, ())
    for stopping in (None, True, False):
        said(tmp_path / "generation_config.json", {"early_stopping": stopping})
        found = generation_defaults(tmp_path, config, {}, tokenizer())
        assert found.early_stopping is stopping


@pytest.mark.parametrize("count", [1, (1 << 20) - 1])
def test_labels_are_at_least_one_and_no_more_than_a_million(tmp_path, count):
    labels = labels_of({"num_labels": count}, tmp_path)
    assert (len(labels), labels[0]) == (count, "LABEL_0")
    with pytest.raises(FormatError, match=f"^{tmp_path}: num_labels is {1 << 20}"):
        labels_of({"num_labels": 1 << 20}, tmp_path)
    with pytest.raises(FormatError, match=rf"^{tmp_path}: id2label is {{'1': 'a'}}, not names"):
        labels_of({"id2label": {"1": "a"}, "num_labels": 3}, tmp_path)


def staged(tmp_path, *stages):
    listed = [{"idx": i, "path": place, "type": kind} for i, (kind, place) in enumerate(stages)]
    return said(tmp_path / "modules.json", listed[::-1])


@pytest.mark.parametrize(
    ("named", "mode"),
    [
        ({"pooling_mode": name}, mode)
        for mode, names in {
            "cls": ("cls", "cls_token"),
            "mean": ("mean", "mean_tokens"),
            "max": ("max", "max_tokens"),
            "mean_sqrt_len": ("mean_sqrt_len", "mean_sqrt_len_tokens"),
            "last": ("last", "lasttoken"),
        }.items()
        for name in names
    ]
    + [
        ({"pooling_mode_mean_sqrt_len_tokens": True, "pooling_mode_cls_token": False}, None),
        ({"pooling_mode_max_tokens": True, "pooling_mode": 3}, "max"),
    ],
)
def test_a_mode_of_pooling_may_have_its_new_name_or_its_old_one(tmp_path, named, mode):
    staged(tmp_path, ("x.Transformer", ""), ("x.Pooling", "a"))
    said(tmp_path / "a" / "config.json", named)
    assert pooling_of(tmp_path, tokenizer()).mode == (mode or "mean_sqrt_len")


def test_pooling_that_is_none_names_its_folder_and_what_it_asks_for(tmp_path):
    staged(tmp_path, ("x.Pooling", "a"))
    for stated, shown in (
        ({"pooling_mode": "weird"}, "'weird'"),
        ({}, "None"),
        ({"pooling_mode_cls_token": 1, "pooling_mode_lasttoken": 1}, r"\['cls', 'last'\]"),
    ):
        said(tmp_path / "a" / "config.json", stated)
        with pytest.raises(UnsupportedError, match=f"^{tmp_path}/a asks for the pooling {shown}"):
            pooling_of(tmp_path, tokenizer())
    staged(tmp_path, ("x.Transformer", ""), ("x.Other", "a"))
    with pytest.raises(UnsupportedError, match=f"^{tmp_path} has a stage 'Other'"):
        pooling_of(tmp_path, tokenizer())


@pytest.mark.parametrize(
    ("limit", "read"),
    [(1, 1), (0, None), (-1, None), (999_999_999, 999_999_999), (10**9, None), ("9", None),
     (9.5, 9)],
)  # fmt: skip
def test_a_longest_text_is_a_number_that_a_text_can_have(tmp_path, limit, read):
    staged(tmp_path)
    said(tmp_path / "sentence_bert_config.json", {"max_seq_length": limit})
    assert pooling_of(tmp_path, tokenizer(model_max_length=5)).max_length == read
    said(tmp_path / "sentence_bert_config.json", {})
    assert pooling_of(tmp_path, tokenizer(model_max_length=5)).max_length == 5
    assert pooling_of(tmp_path, tokenizer()).max_length is None


@pytest.mark.parametrize("prompts", [None, [], "query", {"query": "q: ", "passage": 3}])
def test_prompts_are_a_table_or_none(tmp_path, prompts):
    staged(tmp_path)
    said(tmp_path / "config_sentence_transformers.json", {"prompts": prompts})
    found = pooling_of(tmp_path, tokenizer())
    table = {"query": "q: ", "passage": "3"} if isinstance(prompts, dict) else {}
    assert found.prompts == table
    assert found.prompt("query") == table.get("query", "")
    assert found.prompt("passage") == table.get("passage", "")


@pytest.mark.parametrize(
    ("modules", "what"),
    [
        ([{"idx": 0, "type": "T", "path": "/etc"}], "points outside the model: '/etc'"),
        ([{"idx": 0, "type": "T", "path": "a/../b"}], "points outside the model: 'a/../b'"),
        ([{"idx": 0, "type": "T"}], "does not list stages"),
        ([{"type": "T", "path": ""}, {"type": "T", "path": ""}], "does not list stages"),
    ],
)
def test_a_list_of_stages_that_is_none_is_named(tmp_path, modules, what):
    path = tmp_path / "modules.json"
    said(path, modules)
    with pytest.raises(FormatError, match=f"^{path} {what}"):
        pooling_of(tmp_path, tokenizer())
    path.write_text("{")
    with pytest.raises(FormatError, match=f"^{path} does not list stages"):
        pooling_of(tmp_path, tokenizer())


def late(tmp_path, **stated):
    said(tmp_path / "config_sentence_transformers.json", stated)
    return late_interaction(tmp_path)


def test_late_interaction_that_says_nothing_is_pylates(tmp_path):
    expected = LateInteraction(None, None, 32, 180, True, False, (), None)
    assert late(tmp_path) == expected
    assert late(tmp_path, query_prefix=" ", skiplist_words=None, document_prefix="") == expected
    given = {"attend_to_expansion_tokens": 1, "do_query_expansion": 0, "skiplist_words": [3]}
    assert late(tmp_path, **given) == LateInteraction(
        None, None, 32, 180, False, True, ("3",), None
    )


@pytest.mark.parametrize("key", ["query_length", "document_length"])
def test_a_text_of_late_interaction_has_room_for_its_marks_and_an_end(tmp_path, key):
    for length in (3, 1 << 20):
        assert getattr(late(tmp_path, **{key: length}), key) == length
    for length in (2, (1 << 20) + 1, True, 4.0):
        with pytest.raises(
            FormatError, match=f"settings of {tmp_path} cannot be used: {key} is {length}"
        ):
            late(tmp_path, **{key: length})


def test_a_projection_is_one_matrix_that_can_be_read(tmp_path):
    staged(tmp_path, ("x.Transformer", ""), ("x.Dense", "d"))
    said(tmp_path / "d" / "config.json", {})
    weights = tmp_path / "d" / "model.safetensors"
    with pytest.raises(StoreError, match=f"{weights}"):
        late(tmp_path)
    weights.write_bytes(b"x")
    with pytest.raises(FormatError, match=f"^{tmp_path}/d has no usable weights: "):
        late(tmp_path)
    matrix = {"linear.weight": torch.ones(2, 3)}
    save_file(matrix | {"linear.bias": torch.ones(2)}, weights)
    named = re.escape("(linear.bias, linear.weight, Identity)")
    with pytest.raises(UnsupportedError, match=f"^{tmp_path}/d is not one matrix {named}"):
        late(tmp_path)
    save_file(matrix, weights)
    assert late(tmp_path).projection.shape == (2, 3)
    staged(tmp_path, ("x.Dense", "d"), ("x.Dense", "d"))
    with pytest.raises(UnsupportedError, match=f"^{tmp_path} has a stage 'Dense'"):
        late(tmp_path)
