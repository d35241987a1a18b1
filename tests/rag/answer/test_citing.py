"""What is written is cut into sentences, whichever way it comes, and numbers stay real."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.rag.answer.support import WrittenSentence
from lmstack.rag.answer.writing import SentenceReader


def _read(text: str, *cuts: int, passages: int = 3) -> list[WrittenSentence]:
    reader = SentenceReader(passages)
    places = [0, *sorted(cuts), len(text)]
    parts = [text[a:b] for a, b in itertools.pairwise(places)]
    return [*(written for part in parts for written in reader.feed(part)), *reader.end()]


def test_numbers_belong_to_the_sentence_before_them():
    text = "First thing [1]. Dr. Ada paid 3.5 pounds. [2] [3]\nThird [0][9] and the end"
    for every in (1, len(text)):
        found = _read(text, *range(0, len(text), every))
        assert found == [
            WrittenSentence("First thing.", (1,)),
            WrittenSentence("Dr. Ada paid 3.5 pounds.", (2, 3)),
            WrittenSentence("Third and the end", (), "\n"),
        ]


def test_a_sentence_is_complete_once_a_word_follows_it():
    reader = SentenceReader(1)
    assert list(reader.feed("It sails. [1] ")) == []
    assert [written.text for written in reader.feed("The ")] == ["It sails."]
    assert [written.text for written in reader.feed("crew rests.\n")] == ["The crew rests."]
    assert list(reader.end()) == []


@pytest.mark.parametrize("mark", ["- ", "3. ", "## ", "> "])
def test_items_and_headings_keep_their_marks_and_are_judged_without(mark):
    (one, other) = _read(f"{mark}Open the valve.\n{mark}Close it [2].\n")
    assert (one.text, one.said) == (f"{mark}Open the valve.", "Open the valve.")
    assert (other.said, other.numbers, other.apart) == ("Close it.", (2,), "\n")


def test_a_block_of_code_is_one_piece_and_keeps_its_brackets():
    code = "```py\nx = [1]\n\ny = x. Then z\n```"
    found = _read(f"Run this:\n\n{code}\nThat is all.")
    assert [written.text for written in found] == ["Run this:", code, "That is all."]
    # One that is never closed is still said.
    assert [written.text for written in _read(code[:-4])] == [code[:-4].rstrip()]


@given(st.text(alphabet="ab [].0123\n`-", max_size=60), st.data())
def test_it_does_not_matter_how_the_text_comes(text, data):
    expected = _read(text, passages=2)
    cut = data.draw(st.integers(0, len(text)))
    assert _read(text, cut, passages=2) == expected
    assert all(number in (1, 2) for written in expected for number in written.numbers)
    kept = "".join(re.sub(r"[^ab]", "", written.text) for written in expected)
    assert kept == re.sub(r"[^ab]", "", text)
