"""Batches: padding on both sides, truncation only when asked, masks and offsets that fit."""

from __future__ import annotations

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import InputError
from lmstack.text import Tokenizer, make_batch, pad_batch

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
texts_of = st.lists(any_text | st.sampled_from(["hello world", "", "helloworld <|im_end|>"]))
sides = st.sampled_from(["right", "left"])
multiples = st.sampled_from([1, 2, 8])


@given(texts=texts_of, side=sides, multiple=multiples)
def test_a_row_without_its_padding_is_the_text_encoded_alone(
    byte_level: Tokenizer, texts: list[str], side: str, multiple: int
) -> None:
    batch = make_batch(byte_level, texts, padding=side, multiple_of=multiple)
    assert batch.rows() == [byte_level.encode(text) for text in texts]
    assert batch.lengths == [len(row) for row in batch.rows()]


@given(texts=texts_of, side=sides, multiple=multiples)
def test_padding_is_all_on_the_chosen_side_and_no_wider_than_it_must_be(
    byte_level: Tokenizer, texts: list[str], side: str, multiple: int
) -> None:
    batch = make_batch(byte_level, texts, padding=side, multiple_of=multiple)
    width = batch.input_ids.shape[1]
    assert width % multiple == 0
    assert width - max(batch.lengths, default=0) < multiple
    for mask, ids, length in zip(batch.attention_mask, batch.input_ids, batch.lengths, strict=True):
        expected = np.arange(width) < length
        assert (mask == (expected if side == "right" else expected[::-1])).all()
        assert (ids[mask == 0] == byte_level.pad_id).all()


@given(texts=texts_of, side=sides)
def test_offsets_are_characters_of_the_text_and_zero_at_padding(
    wordpiece: Tokenizer, texts: list[str], side: str
) -> None:
    batch = make_batch(wordpiece, texts, padding=side)
    assert (batch.offsets[batch.attention_mask == 0] == 0).all()
    for text, row, mask in zip(texts, batch.offsets, batch.attention_mask, strict=True):
        real = row[mask == 1]
        assert (real[:, 0] <= real[:, 1]).all()
        assert (real[:, 1] <= len(text)).all()
        assert (np.diff(real[1:-1, 0]) >= 0).all()  # [CLS] and [SEP] stand for nothing


@settings(max_examples=40)
@given(texts=st.lists(any_text, min_size=1, max_size=5), room=st.integers(2, 12), side=sides)
def test_a_cut_text_keeps_its_added_tokens_and_the_end_that_was_not_cut(
    wordpiece: Tokenizer, texts: list[str], room: int, side: str
) -> None:
    batch = make_batch(wordpiece, texts, max_length=room, truncation=side)
    for text, row in zip(texts, batch.rows(), strict=True):
        whole = wordpiece.encode(text)
        inner = whole[1:-1]
        kept = inner[: room - 2] if side == "right" else inner[max(0, len(inner) - room + 2) :]
        assert row == [whole[0], *kept, whole[-1]]
        assert len(row) <= room


def test_a_text_that_is_too_long_is_refused_with_its_place_and_length(
    byte_level: Tokenizer,
) -> None:
    with pytest.raises(InputError, match=r"texts\[1\] has 6 tokens, more than 4"):
        make_batch(byte_level, ["abcd", "abcdef"], max_length=4)
    assert make_batch(byte_level, ["abcd"], max_length=4).lengths == [4]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("cut", ["right", "left"])
def test_ids_masks_and_cuts_equal_those_of_transformers(
    tmp_path, wordpiece: Tokenizer, side: str, cut: str
) -> None:
    wordpiece.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(
        tmp_path, padding_side=side, truncation_side=cut
    )
    texts = ["hello world", "", "hello hellos don't do world.", "ünknown 🙂 hello"]
    expected = theirs(
        texts,
        padding=True,
        truncation=True,
        max_length=8,
        pad_to_multiple_of=4,
        return_tensors="np",
    )
    batch = make_batch(wordpiece, texts, padding=side, truncation=cut, max_length=8, multiple_of=4)
    assert (batch.input_ids == expected["input_ids"]).all()
    assert (batch.attention_mask == expected["attention_mask"]).all()


def test_an_empty_batch_and_empty_texts_have_no_columns(byte_level: Tokenizer) -> None:
    assert make_batch(byte_level, []).input_ids.shape == (0, 0)
    assert make_batch(byte_level, ["", ""]).attention_mask.shape == (2, 0)


def test_a_padding_token_inside_a_text_is_not_taken_for_padding(byte_level: Tokenizer) -> None:
    """The byte-level model pads with its end-of-turn token, as SmolLM2 does."""
    pad = byte_level.pad_id
    batch = make_batch(byte_level, ["hello<|im_end|>", "a"])
    assert batch.rows()[0][-1] == pad
    assert batch.lengths == [2, 1]


def test_a_tokenizer_without_a_padding_token_can_still_be_padded(make_wordpiece) -> None:
    bare = Tokenizer.from_json(make_wordpiece())
    assert bare.pad_id is None
    assert make_batch(bare, ["hello", "hello world"]).attention_mask.tolist() == [
        [1, 1, 1, 0],
        [1, 1, 1, 1],
    ]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"texts": "hello"}, "one text"),
        ({"texts": ["a", 3]}, r"texts\[1\] is 3, not text"),
        ({"texts": ["a\ud800"]}, "half a surrogate"),
        ({"padding": "both"}, "padding is 'both'"),
        ({"truncation": "longest"}, "truncation is 'longest'"),
        ({"multiple_of": 0}, "multiple_of is 0"),
    ],
)
def test_what_cannot_be_done_is_said(byte_level: Tokenizer, changes, named: str) -> None:
    arguments = {"texts": ["a"], **changes}
    with pytest.raises(InputError, match=named):
        make_batch(byte_level, **arguments)


def test_encodings_from_elsewhere_are_padded_the_same_way(wordpiece: Tokenizer) -> None:
    texts = ["hello world", "world"]
    ours = pad_batch(wordpiece.encode_batch(texts), wordpiece.pad_id or 0, padding="left")
    direct = make_batch(wordpiece, texts, padding="left")
    assert (ours.input_ids == direct.input_ids).all()
    assert (ours.offsets == direct.offsets).all()
