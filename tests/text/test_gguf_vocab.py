"""GGUF vocabularies: each pre-tokenizer against its known definition, and damaged metadata."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import FormatError, LmstackError, UnsupportedError
from lmstack.text import Tokenizer


def pieces(metadata, text):
    """How the pre-tokenizer cuts ``text``: with every byte a token, read off the backend."""
    tokenizer = Tokenizer.from_gguf(metadata)
    cuts = tokenizer._fast.pre_tokenizer.pre_tokenize_str(text)
    return [text[start:end] for _, (start, end) in cuts]


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("smollm", "ab 123", ["ab", " ", "1", "2", "3"]),
        ("smollm", "x  7", ["x", "  ", "7"]),
        ("gpt-2", "ab 123", ["ab", " 123"]),
        ("gpt-2", "it's", ["it", "'s"]),
        ("gpt-2", "IT'S", ["IT", "'", "S"]),
        ("llama-bpe", "12345", ["123", "45"]),
        ("llama-bpe", "IT'S\n\n x", ["IT", "'S", "\n\n", " x"]),
        ("llama-bpe", "(foo)", ["(foo", ")"]),
        ("qwen2", "12345", ["1", "2", "3", "4", "5"]),
        ("qwen2", "a !\nb", ["a", " !\n", "b"]),
    ],
)
def test_pre_tokenizer_cuts_as_its_model_was_trained(make_byte_level, pre, text, expected):
    assert pieces(make_byte_level(pre), text) == expected


def test_qwen2_composes_accents(make_byte_level):
    tokenizer = Tokenizer.from_gguf(make_byte_level("qwen2"))
    assert tokenizer.encode("e\u0301") == tokenizer.encode("é")


def test_llama3_takes_a_whole_word_of_the_vocabulary_without_merges(make_byte_level):
    metadata = make_byte_level("llama-bpe")
    metadata["tokenizer.ggml.tokens"].append("xyz")
    metadata["tokenizer.ggml.token_type"].append(1)
    tokenizer = Tokenizer.from_gguf(metadata)
    assert tokenizer.encode("xyz", add_special_tokens=False) == [tokenizer.id_of("xyz")]


def test_sentencepiece_joins_the_best_score_first(sentencepiece):
    ids = sentencepiece.encode("hello", add_special_tokens=False)
    assert [sentencepiece.token(i) for i in ids] == ["▁hello"]


def test_sentencepiece_adds_its_start_token_by_default(sentencepiece):
    assert sentencepiece.adds_bos


def test_sentencepiece_spells_unknown_characters_in_bytes(sentencepiece):
    ids = sentencepiece.encode("é", add_special_tokens=False)
    assert [sentencepiece.token_bytes(i) for i in ids] == [b" ", b"\xc3", b"\xa9"]


def test_user_defined_tokens_are_matched_but_are_no_control_tokens(make_byte_level):
    metadata = make_byte_level()
    metadata["tokenizer.ggml.tokens"].append("<tool>")
    metadata["tokenizer.ggml.token_type"].append(4)
    tokenizer = Tokenizer.from_gguf(metadata)
    index = tokenizer.id_of("<tool>")
    assert tokenizer.encode("<tool>") == [index]
    assert index not in tokenizer.special_ids
    assert tokenizer.token_bytes(index) == b"<tool>"


@pytest.mark.parametrize(("key", "value", "message"), [
    ("model", "rwkv", "rwkv"),
    ("model", None, "None"),
    ("pre", "smolm", "smollm"),
    ("pre", None, "None"),
])  # fmt: skip
def test_unknown_kinds_are_refused_by_name(make_byte_level, key, value, message):
    with pytest.raises(UnsupportedError, match=message):
        Tokenizer.from_gguf(make_byte_level(**{f"tokenizer.ggml.{key}": value}))


@pytest.mark.parametrize(("key", "value"), [
    ("tokens", None),
    ("tokens", []),
    ("tokens", "text"),
    ("merges", None),
    ("merges", ["a"]),
    ("merges", ["q q"]),
    ("token_type", [1]),
    ("eos_token_id", 10**6),
    ("bos_token_id", -1),
])  # fmt: skip
def test_damaged_metadata_is_a_format_error(make_byte_level, key, value):
    with pytest.raises(FormatError):
        Tokenizer.from_gguf(make_byte_level(**{f"tokenizer.ggml.{key}": value}))


def test_missing_scores_are_a_format_error(make_sentencepiece):
    with pytest.raises(FormatError, match="0 scores"):
        Tokenizer.from_gguf(make_sentencepiece(**{"tokenizer.ggml.scores": []}))


KEYS = [
    *["model", "pre", "tokens", "token_type", "merges", "scores", "add_bos_token"],
    *["bos_token_id", "eos_token_id", "unknown_token_id", "add_space_prefix"],
]
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=60)
@given(key=st.sampled_from(KEYS), value=values)
@pytest.mark.parametrize("kind", ["make_byte_level", "make_sentencepiece"])
def test_metadata_of_any_type_is_an_error_of_ours(request, kind, key, value):
    make = request.getfixturevalue(kind)
    with contextlib.suppress(LmstackError):
        Tokenizer.from_gguf(make(**{f"tokenizer.ggml.{key}": value}))
