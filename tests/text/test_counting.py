"""Counting by pieces gives the lengths of the encodings, whatever stands in the text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.text import Tokenizer
from lmstack.text.counting import PieceCounter, counts_by_piece

# Signs, white space of all kinds, marks that join what is before them, characters that become
# signs (the Greek question mark) or words of their own (Chinese), and added tokens.
ALPHABET = [*"ab sn.,-_(['\"\t\n\r\u00a0\u2028\x00\u0301\u037e\u226e\u4e2d\u00e9"]
WORDS = ["hello", "Worlds", "do", "n't", "[SEP]", "[MASK]", "[sep]", "[UNK]"]
TEXTS = st.lists(st.sampled_from([*ALPHABET, *WORDS])).map("".join)


@given(texts=st.lists(st.one_of(TEXTS, st.text()), max_size=4))
def test_counts_are_lengths_of_encodings(wordpiece: Tokenizer, texts: list[str]) -> None:
    assert wordpiece.count(texts) == [len(ids) for ids in wordpiece.encode_ids(texts)]


def test_pieces_are_encoded_once(wordpiece: Tokenizer) -> None:
    asked: list[str] = []

    def encoded(texts: list[str]) -> list[int]:
        asked.extend(texts)
        return [1] * len(texts)

    counter = PieceCounter(encoded, ["[SEP]"])  # type: ignore[arg-type]
    assert counter.count(["os.path", "[SEP] path os"]) == [3, 3]
    assert counter.count(["path.os"]) == [3]
    assert sorted(asked) == [".", "[SEP]", "os", "path"]


def test_long_pieces_are_not_remembered() -> None:
    asked: list[str] = []

    def encoded(texts: list[str]) -> list[int]:
        asked.extend(texts)
        return [7] * len(texts)

    counter = PieceCounter(encoded, [])  # type: ignore[arg-type]
    assert counter.count(["x" * 1000, f"{'x' * 1000} {'x' * 1000}"]) == [7, 14]
    assert counter.count(["x" * 1000]) == [7]
    assert len(asked) == 2


@pytest.mark.parametrize(
    "token",
    [
        {"content": "a-b"},  # begins within what would be a piece
        {"content": "[x]", "normalized": True},
        {"content": "[x]", "single_word": True},
        {"content": "[x]", "lstrip": True},
        {"content": "[x y]"},
    ],
)
def test_pieces_are_not_trusted_where_added_tokens_look_further(make_wordpiece, token) -> None:
    spec = json.loads(make_wordpiece())
    plain = {"normalized": False, "single_word": False, "lstrip": False, "rstrip": False}
    spec["added_tokens"].append({"id": 99, "special": False, **plain, **token})
    assert not counts_by_piece(spec)
