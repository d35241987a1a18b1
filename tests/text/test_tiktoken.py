"""tiktoken and tekken files: what names an encoding, and files that are not what they should be."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import FormatError, InputError, LmstackError, UnsupportedError
from lmstack.text import TiktokenEncoding, Tokenizer
from lmstack.text.vocab.byte_level import library_pattern
from lmstack.text.vocab.tiktoken import ENCODINGS, is_tiktoken, tiktoken_json


def ranks_file(*extra: bytes) -> bytes:
    tokens = [*(bytes([value]) for value in range(256)), *extra]
    return b"".join(b"%s %d\n" % (base64.b64encode(t), r) for r, t in enumerate(tokens))


def test_a_file_that_nobody_knows_needs_its_encoding_named(tmp_path):
    path = tmp_path / "mine.tiktoken"
    path.write_bytes(ranks_file(b"he", b"hel", b"hello"))
    with pytest.raises(UnsupportedError, match="nothing says how it cuts"):
        Tokenizer.from_file(path)
    with pytest.raises(InputError, match="cl100k_bas"):
        Tokenizer.from_file(path, "cl100k_bas")
    tokenizer = Tokenizer.from_file(path, "cl100k_base")
    assert tokenizer.encode("hello") == [258]
    assert tokenizer.eos_id == tokenizer.special_tokens["<|endoftext|>"] == 100_257


def test_pattern_and_control_tokens_can_be_given(tmp_path):
    path = tmp_path / "mine.tiktoken"
    path.write_bytes(ranks_file(b"ab"))
    encoding = TiktokenEncoding(r"\w+|\W", {"<end>": 300}, {"eos_token": "<end>"})
    tokenizer = Tokenizer.from_file(path, encoding)
    assert tokenizer.encode("ab<end>") == [256, 300]
    assert tokenizer.eos_id == 300
    assert tokenizer.decode([300]) == "<end>"


def test_control_token_with_an_ordinary_id_is_refused():
    with pytest.raises(InputError, match="ordinary token"):
        tiktoken_json(ranks_file(), TiktokenEncoding(".", {"<end>": 65}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"IQ== 0\n",
        ranks_file().replace(b" 7\n", b" 8\n"),
        ranks_file() + b"!!! 256\n",
        ranks_file() + b"YWI= x\n",
        ranks_file() + b"YWI=\n",
    ],
)
def test_damaged_ranks_are_a_format_error(data):
    with pytest.raises(FormatError):
        tiktoken_json(data, "r50k_base")


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_are_ranks_or_an_error_of_ours(data):
    assert is_tiktoken(data) in (True, False)
    with contextlib.suppress(LmstackError):
        tiktoken_json(data, "r50k_base")


def test_possessive_counts_become_atomic_groups():
    assert library_pattern(r"\p{N}{1,3}+|a++") == r"(?>\p{N}{1,3})|a++"
    assert library_pattern(r"[^\]a]{2}+x") == r"(?>[^\]a]{2})x"


@pytest.mark.parametrize("name", ENCODINGS)
def test_known_encodings_number_each_control_token_once(name):
    ids = list(ENCODINGS[name].special.values())
    assert len(set(ids)) == len(ids)
    assert set(ENCODINGS[name].roles.values()) <= set(ENCODINGS[name].special)


def tekken(**changes):
    vocabulary = [
        {"rank": r, "token_bytes": base64.b64encode(t).decode(), "token_str": None}
        for r, t in enumerate([*(bytes([v]) for v in range(256)), b"he", b"never"])
    ]
    config = {"pattern": r"\w+|\W", "default_vocab_size": 260, "default_num_special_tokens": 3}
    return {"config": {**config, **changes.pop("config", {})}, "vocab": vocabulary, **changes}


def test_tekken_puts_control_tokens_first_and_cuts_to_its_size(tmp_path):
    path = tmp_path / "tekken.json"
    path.write_text(json.dumps(tekken()))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.vocab_size == 260
    assert tokenizer.special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2}
    assert tokenizer.encode("he") == [3 + 256]
    assert tokenizer.id_of("never") is None


def test_tekken_names_the_places_that_its_list_leaves_out(tmp_path):
    listed = [{"rank": 1, "token_str": "<s>", "is_control": True}]
    (tmp_path / "tekken.json").write_text(json.dumps(tekken(special_tokens=listed)))
    names = Tokenizer.from_folder(tmp_path).special_tokens
    assert names == {"<SPECIAL_0>": 0, "<s>": 1, "<SPECIAL_2>": 2}


@pytest.mark.parametrize(
    "value",
    [
        tekken(config={"default_vocab_size": "x"}),
        tekken(config={"default_num_special_tokens": -1}),
        tekken(special_tokens=[{}]),
        tekken(special_tokens=3),
        tekken() | {"vocab": [{"rank": 5, "token_bytes": "AA=="}]},
        tekken() | {"vocab": [3]},
    ],
)
def test_damaged_tekken_is_a_format_error(tmp_path, value):
    (tmp_path / "tekken.json").write_text(json.dumps(value))
    with pytest.raises(FormatError):
        Tokenizer.from_folder(tmp_path)
