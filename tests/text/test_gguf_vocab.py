"""GGUF vocabularies: each pre-tokenizer against its known definition, and damaged metadata."""

from __future__ import annotations

import contextlib
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.nasty import NASTY

from lmstack.core import FormatError, LmstackError, UnsupportedError
from lmstack.text import Tokenizer
from lmstack.text.vocab.gguf_pre import PRE_TOKENIZERS


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


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("qwen35", "क्षि 12", ["क्षि", " ", "1", "2"]),
        ("qwen2", "क्षि", ["क", "\u094dष", "\u093f"]),
        ("gpt-4o", "HelloWorld's 1234/\n", ["Hello", "World's", " ", "123", "4", "/\n"]),
        ("tekken", "HelloWorld's 12", ["Hello", "World", "'s", " ", "1", "2"]),
        ("deepseek-v3", "ab12345 日本", ["ab", "123", "45", " ", "日本"]),
        ("deepseek-coder", "ab 12\n!", ["ab", " ", "1", "2", "\n", "!"]),
        ("falcon", "it's 1234!?", ["it", "'", "s", " ", "123", "4", "!?"]),
        ("default", "a+1234", ["a", "+", "123", "4"]),
        ("viking", "ab, 12", ["ab", ",", " ", "1", "2"]),
        ("bailingmoe", "a12\n b", ["a", "1", "2", "\n", " b"]),
        ("seed-coder", "a !\nb", ["a", " !", "\n", "b"]),
        ("dbrx", "12345", ["123", "45"]),
    ],
)
def test_newer_pre_tokenizers_cut_as_their_models_were_trained(
    make_byte_level, pre, text, expected
):
    assert pieces(make_byte_level(pre), text) == expected


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_no_pre_tokenizer_loses_a_character(make_byte_level, name):
    tokenizer = Tokenizer.from_gguf(make_byte_level(name))
    for text in NASTY.values():
        kept = unicodedata.normalize("NFC", text) if PRE_TOKENIZERS[name].composes else text
        ids = tokenizer.encode(text, special=False, add_special_tokens=False)
        assert tokenizer.decode(ids) == kept


def test_wordpiece_marks_are_turned_around():
    metadata = {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": [
            *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "▁token", "ize", "▁it", "▁!"),
        ],
        "tokenizer.ggml.token_type": [3, 3, 3, 3, 3, 1, 1, 1, 1],
        **{
            f"tokenizer.ggml.{key}_token_id": value
            for key, value in (
                ("padding", 0),
                ("unknown", 1),
                ("cls", 2),
                ("seperator", 3),
                ("mask", 4),
            )
        },
    }
    tokenizer = Tokenizer.from_gguf(metadata)
    assert tokenizer.encode("Tokenize IT!") == [2, 5, 6, 7, 8, 3]
    assert tokenizer.encode("unseen") == [2, 1, 3]
    assert tokenizer.decode([5, 6, 7]) == "tokenize it"
    assert tokenizer.unk_id == 1


def test_unigram_takes_the_best_path_and_frames_it():
    metadata = {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.tokens": ["<pad>", "</s>", "<unk>", "▁", "a", "b", "ab", "▁a", "[PAD1]"],
        "tokenizer.ggml.scores": [0.0, 0.0, 0.0, -2.0, -3.0, -3.0, -4.0, -4.5, -1000.0],
        "tokenizer.ggml.token_type": [3, 3, 2, 1, 1, 1, 1, 1, 5],
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 2,
        "tokenizer.ggml.remove_extra_whitespaces": True,
    }
    tokenizer = Tokenizer.from_gguf(metadata)
    assert tokenizer.encode("  ab  a ") == [3, 6, 7, 1]
    assert tokenizer.encode("a日本") == [7, 2, 1]


def test_gemma4_merges_characters_and_keeps_runs_of_lines():
    tokens = ["<unk>", "<bos>", "▁", "a", "b", "ab", "▁ab", "\n", "\n\n"]
    tokens += [f"<0x{value:02X}>" for value in range(256)]
    metadata = {
        "tokenizer.ggml.model": "gemma4",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3] + [1] * 7 + [6] * 256,
        "tokenizer.ggml.merges": ["a b", "▁ ab", "\n \n"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 0,
    }
    tokenizer = Tokenizer.from_gguf(metadata)
    assert tokenizer.encode(" ab\n\nb") == [1, 6, 8, 4]
    assert tokenizer.decode(tokenizer.encode("é ab\n", add_special_tokens=False)) == "é ab\n"


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
