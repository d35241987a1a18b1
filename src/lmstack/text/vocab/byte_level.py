"""Byte-level BPE as the JSON of ``tokenizer.json``, from tokens that are bytes with a rank.

Shared by tiktoken and tekken files. A text is first cut by a regular expression, then each piece
is looked up whole and, if it is not a token, merged from its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lmstack.text.detokenizer import byte_letters
from lmstack.text.vocab.merges import merges_of
from lmstack.text.vocab.tokenizer_json import added_token, bpe_model, tokenizer_json

__all__ = ["byte_level_json", "letters", "library_pattern", "split_step"]

_LETTERS = {value: letter for letter, value in byte_letters().items()}
# The library's engine reads `{1,3}+` as a repeated group; possessive is what tiktoken means.
_POSSESSIVE = re.compile(r"(\\[pP]\{\w+\}|\\.|\[(?:\\.|[^\]\\])*\]|[^\\\])])(\{\d+(?:,\d*)?\})\+")


def letters(data: bytes) -> str:
    """Bytes as GPT-2's printable letters."""
    return data.decode("latin-1").translate(_LETTERS)


def library_pattern(pattern: str) -> str:
    """tiktoken's ``pattern`` as the library reads it."""
    return _POSSESSIVE.sub(r"(?>\1\2)", pattern)


def split_step(pattern: str) -> dict[str, Any]:
    """A pre-tokenizer that cuts where ``pattern`` matches; what is between matches stays."""
    return {
        "type": "Split",
        "pattern": {"Regex": library_pattern(pattern)},
        "behavior": "Isolated",
        "invert": False,
    }


def byte_level_json(
    ranks: Mapping[bytes, int],
    pattern: str,
    special: Mapping[str, int],
    *,
    normalizer: Mapping[str, Any] | None = None,
    first_id: int = 0,
) -> dict[str, Any]:
    """``ranks``: id of each token, which is its rank too, before ``first_id`` is added."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    vocabulary = {letters(token): rank + first_id for token, rank in ranks.items()}
    # In the vocabulary as well: the library numbers added tokens without gaps otherwise.
    vocabulary |= {name: index for name, index in special.items() if name not in vocabulary}
    merges = ((letters(left), letters(right)) for left, right in merges_of(ranks))
    return tokenizer_json(
        bpe_model(vocabulary, merges, whole=True),
        [added_token(index, name) for name, index in sorted(special.items(), key=lambda i: i[1])],
        normalizer=normalizer,
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [split_step(pattern), {**level, "use_regex": False}],
        },
        decoder={**level, "use_regex": True},
    )
