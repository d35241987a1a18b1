"""Small vocabularies: byte-level BPE as a GGUF file states it, WordPiece as tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from lmstack.text import Tokenizer
from lmstack.text.detokenizer import byte_letters

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("h e", "l l", "he ll", "hell o", "Ġ w", "o r", "i m", "e n", "en d", "< |", "| >")


def byte_level_metadata(pre: str = "smollm", **changes: Any) -> dict[str, Any]:
    """GGUF metadata of a vocabulary with all bytes, a few merges and three control tokens."""
    letters = sorted(byte_letters(), key=byte_letters().__getitem__)
    tokens = [*CONTROL, *letters, *(merge.replace(" ", "") for merge in MERGES)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * len(CONTROL) + [1] * (len(tokens) - len(CONTROL)),
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        **changes,
    }


def sentencepiece_metadata(**changes: Any) -> dict[str, Any]:
    """GGUF metadata of a SentencePiece BPE with all bytes and a few pieces."""
    control = ["<unk>", "<s>", "</s>"]
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    pieces = ["▁", "h", "e", "l", "o", "he", "ll", "hell", "hello", "▁hello", "w", "▁w"]
    scores = [0.0] * 259 + [-20.0, -21, -22, -23, -24, -1, -2, -3, -4, -5, -25, -6]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*control, *bytes_, *pieces],
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(pieces),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **changes,
    }


def wordpiece_json(**changes: Any) -> str:
    """tokenizer.json of a small BERT vocabulary, with padding and truncation left on."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "##s", "n", "'", "t", ".", "do"]
    added = [
        {
            "id": index,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, name in enumerate(names[:4])
    ]
    ends = {name: {"id": name, "ids": [i], "tokens": [name]} for i, name in enumerate(names)}
    single = [
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    ]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0},
            "padding": {
                "strategy": {"Fixed": 16},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "[PAD]",
            },
            "added_tokens": added,
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "strip_accents": None,
                "lowercase": True,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": single,
                "pair": pair,
                "special_tokens": {name: ends[name] for name in ("[CLS]", "[SEP]")},
            },
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": {name: index for index, name in enumerate(names)},
            },
            **changes,
        }
    )


@pytest.fixture(scope="session")
def byte_level() -> Tokenizer:
    return Tokenizer.from_gguf(byte_level_metadata())


@pytest.fixture(scope="session")
def sentencepiece() -> Tokenizer:
    return Tokenizer.from_gguf(sentencepiece_metadata())


@pytest.fixture(scope="session")
def wordpiece() -> Tokenizer:
    return Tokenizer.from_json(wordpiece_json(), {"unk_token": "[UNK]", "pad_token": "[PAD]"})


@pytest.fixture(scope="session")
def make_byte_level() -> Callable[..., dict[str, Any]]:
    return byte_level_metadata


@pytest.fixture(scope="session")
def make_sentencepiece() -> Callable[..., dict[str, Any]]:
    return sentencepiece_metadata


@pytest.fixture(scope="session")
def make_wordpiece() -> Callable[..., str]:
    return wordpiece_json
