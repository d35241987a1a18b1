"""Which file of a folder is read, what its companions add, and what belongs to no vocabulary."""

from __future__ import annotations

import contextlib
import json

import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.nasty import NASTY
from tests.text.spm import model_bytes

from lmstack.core import FormatError, LmstackError, NotFoundError, UnsupportedError
from lmstack.text import Tokenizer
from lmstack.text.detokenizer import byte_letters

PIECES = [
    *(("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("▁", -4.0, 1), ("a", -3.0, 1)),
    *(("b", -3.0, 1), ("ab", -1.0, 1), ("▁ab", -0.5, 1)),
]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##s", "hé"]


def write(folder, name, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")


def spm(folder, name="tokenizer.model", config=None, kind=2):
    (folder / name).write_bytes(model_bytes(PIECES, {3: kind}))
    if config is not None:
        write(folder, "tokenizer_config.json", config)
    return Tokenizer.from_folder(folder)


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model", "spm.model", "other.spm"])
def test_sentencepiece_is_found_under_its_usual_names(tmp_path, name):
    assert spm(tmp_path, name).encode("ab") == [7]


def test_tokenizer_json_comes_first(tmp_path, make_wordpiece):
    write(tmp_path, "tokenizer.json", make_wordpiece())
    assert spm(tmp_path).id_of("hello") == 4


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [7]),
        ({"tokenizer_class": "LlamaTokenizer"}, [1, 7]),
        ({"tokenizer_class": "LlamaTokenizerFast", "add_eos_token": True}, [1, 7, 2]),
        ({"tokenizer_class": "LlamaTokenizer", "add_bos_token": False}, [7]),
        ({"tokenizer_class": "T5Tokenizer", "extra_ids": 2}, [7, 2]),
    ],
)
def test_the_class_says_what_is_added_around_a_text(tmp_path, config, expected):
    assert spm(tmp_path, config=config).encode("ab") == expected


def test_t5_has_its_sentinels_after_the_pieces(tmp_path):
    tokenizer = spm(tmp_path, config={"tokenizer_class": "T5Tokenizer", "extra_ids": 2}, kind=1)
    assert tokenizer.encode("<extra_id_0>", add_special_tokens=False) == [9]
    assert tokenizer.encode("<extra_id_1>", add_special_tokens=False) == [8]


@pytest.mark.parametrize("name", ["XLMRobertaTokenizer", "MarianTokenizer", "PegasusTokenizerFast"])
def test_classes_that_renumber_are_refused_instead_of_giving_other_ids(tmp_path, name):
    with pytest.raises(UnsupportedError, match="numbers its tokens otherwise"):
        spm(tmp_path, config={"tokenizer_class": name})


def test_added_tokens_of_both_kinds_of_companion_have_their_ids(tmp_path):
    write(tmp_path, "added_tokens.json", {"<mask>": 8})
    listed = {"10": {"content": "<tool>", "special": False}, "8": {"content": "<mask>"}}
    tokenizer = spm(tmp_path, config={"added_tokens_decoder": listed, "mask_token": "<mask>"})
    assert tokenizer.encode("<mask>") == [8]
    assert tokenizer.encode("<tool>") == [10]
    assert 10 not in tokenizer.special_ids
    assert tokenizer.name_of("mask_token") == "<mask>"
    tokenizer.save(tmp_path / "saved")
    assert Tokenizer.from_folder(tmp_path / "saved").encode("ab<tool>") == [7, 10]


def test_added_token_with_another_tokens_id_is_a_format_error(tmp_path):
    write(tmp_path, "added_tokens.json", {"<mask>": 4})
    with pytest.raises(FormatError, match="belong together"):
        spm(tmp_path)


@pytest.mark.parametrize(
    ("config", "text", "expected"),
    [
        ({}, "Hello worlds", [2, 5, 6, 7, 3]),
        ({"do_lower_case": False}, "Hello worlds", [2, 1, 6, 7, 3]),
        ({"strip_accents": False}, "hé", [2, 8, 3]),
        ({"unk_token": "hello"}, "zzz", [2, 5, 3]),
    ],
)
def test_wordpiece_follows_its_configuration(tmp_path, config, text, expected):
    write(tmp_path, "vocab.txt", "\r\n".join(WORDS) + "\r\n")
    write(tmp_path, "tokenizer_config.json", config)
    assert Tokenizer.from_folder(tmp_path).encode(text) == expected


def test_cased_wordpiece_is_seen_by_its_capitals(tmp_path):
    write(tmp_path, "vocab.txt", "\n".join([*WORDS, "Hello"]))
    assert Tokenizer.from_folder(tmp_path).encode("Hello") == [2, 9, 3]


def test_wordpiece_equals_berts_own_tokenizer(tmp_path):
    write(tmp_path, "vocab.txt", "\n".join([*WORDS, *map(chr, range(97, 123)), "日", "é", "."]))
    ours = Tokenizer.from_folder(tmp_path)
    theirs = transformers.BertTokenizer(vocab=str(tmp_path / "vocab.txt"))
    for text in NASTY.values():
        assert ours.encode(text) == theirs(text).input_ids


def test_wordpiece_without_unknown_is_a_format_error(tmp_path):
    write(tmp_path, "vocab.txt", "hello\nworld")
    with pytest.raises(FormatError, match="unknown words"):
        Tokenizer.from_folder(tmp_path)


def byte_level(folder, **config):
    letters = list(byte_letters())
    end = config.pop("end", "<|endoftext|>")
    names = [*letters, "he", "hel", "Ġhe", end, "<s>", "</s>", "<pad>", "<mask>", "<unk>"]
    write(folder, "vocab.json", {name: index for index, name in enumerate(names)})
    write(folder, "merges.txt", "#version: 0.2\nh e\nhe l\nĠ he\n")
    write(folder, "tokenizer_config.json", config)
    return Tokenizer.from_folder(folder)


def test_vocab_json_with_merges_is_gpt2s(tmp_path):
    ours = byte_level(tmp_path)
    library = tokenizers.ByteLevelBPETokenizer(
        str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")
    )
    for text in NASTY.values():
        assert ours.encode(text, special=False) == library.encode(text).ids
    assert ours.token(ours.eos_id) == "<|endoftext|>"


def test_roberta_frames_texts_and_its_mask_takes_the_space(tmp_path):
    tokenizer = byte_level(tmp_path, tokenizer_class="RobertaTokenizer")
    first, last, mask = (tokenizer.id_of(name) for name in ("<s>", "</s>", "<mask>"))
    assert tokenizer.encode("hel <mask>") == [first, tokenizer.id_of("hel"), mask, last]


def test_qwen2_cuts_digits_one_by_one(tmp_path):
    tokenizer = byte_level(tmp_path, tokenizer_class="Qwen2Tokenizer")
    assert tokenizer.encode("e\u0301") == tokenizer.encode("é")


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("vocab.json", {"a": 0}, UnsupportedError),
        ("vocab.json", {"a</w>": 0, "b</w>": 1}, UnsupportedError),
        ("vocab.json", [], FormatError),
        ("merges.txt", "a b c\n", FormatError),
        ("tokenizer.model", "neither one nor the other", FormatError),
        ("vocab.txt", "", FormatError),
    ],
)
def test_file_that_is_not_what_its_name_says(tmp_path, name, content, error):
    if name == "merges.txt" or "</w>" in str(content):
        write(tmp_path, "vocab.json", {"a": 0})
        write(tmp_path, "merges.txt", "a b c\n")
    write(tmp_path, name, content)
    with pytest.raises(error):
        Tokenizer.from_folder(tmp_path)


def test_missing_file_and_empty_folder_say_what_is_looked_for(tmp_path):
    with pytest.raises(NotFoundError, match="there is no file"):
        Tokenizer.from_file(tmp_path / "nothing.model")
    with pytest.raises(NotFoundError, match="spiece"):
        Tokenizer.from_folder(tmp_path)


def test_folder_named_in_the_configuration_does_not_lead_outside(tmp_path, make_wordpiece):
    (tmp_path / "secret.model").write_bytes(model_bytes(PIECES, {3: 2}))
    inside = tmp_path / "model"
    inside.mkdir()
    write(inside, "tokenizer.json", make_wordpiece())
    write(inside, "tokenizer_config.json", {"lmstack_vocabulary": "../secret.model"})
    assert Tokenizer.from_folder(inside).id_of("hello") == 4


NAMES = ["tokenizer.model", "vocab.txt", "vocab.json", "x.tiktoken", "tekken.json"]


@settings(max_examples=120, deadline=None)
@given(name=st.sampled_from(NAMES), data=st.binary(max_size=120))
def test_any_bytes_under_any_name_are_read_or_refused(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("any")
    (folder / name).write_bytes(data)
    with contextlib.suppress(LmstackError):
        Tokenizer.from_folder(folder).encode("a b")
