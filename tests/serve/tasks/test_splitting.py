"""Long texts in pieces: nothing lost, nothing too long, cut where a reader would cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.serve.tasks.rewriting import join, paragraphs, split

TEXT = (
    "Dr. Ada wrote it. She was first!\n\nThe engine was green. It had 2.5 wheels. It ran.\n\n\n"
    "Last words"
)
texts = st.text(st.sampled_from("ab. \n\t!é"), max_size=120) | st.text(max_size=60)


@given(text=texts, limit=st.integers(1, 40))
def test_the_pieces_with_their_gaps_are_the_text(text: str, limit: int) -> None:
    pieces = split(text, lambda part: len(part) <= limit)
    assert join(pieces, [piece.text for piece in pieces]) == text.strip()
    assert all(len(piece.text) <= limit for piece in pieces)
    assert all(piece.text == piece.text.strip() for piece in pieces)


@given(text=texts)
def test_paragraphs_with_their_gaps_are_the_text(text: str) -> None:
    pieces = paragraphs(text)
    assert join(pieces, [piece.text for piece in pieces]) == text.strip()
    assert not any("\n\n" in piece.text for piece in pieces)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (200, [TEXT]),
        (90, [TEXT[:82], "Last words"]),
        (50, [TEXT[:32], "The engine was green. It had 2.5 wheels. It ran.", "Last words"]),
        (
            40,
            [
                *("Dr. Ada wrote it. She was first!", "The engine was green. It had 2.5 wheels."),
                "It ran.\n\n\nLast words",
            ],
        ),
        (
            20,
            [
                *("Dr. Ada wrote it.", "She was first!", "The engine was", "green."),
                *("It had 2.5 wheels.", "It ran.\n\n\nLast words"),
            ],
        ),
    ],
)
def test_paragraphs_go_first_then_sentences_then_words(limit: int, expected: list[str]) -> None:
    pieces = split(TEXT, lambda part: len(part) <= limit)
    assert [piece.text for piece in pieces] == expected


def test_a_word_longer_than_a_piece_is_cut_at_characters() -> None:
    pieces = split("abcdefgh ij", lambda part: len(part) <= 3)
    assert [piece.text for piece in pieces] == ["abc", "def", "gh", "ij"]


def test_results_stand_where_their_pieces_stood() -> None:
    pieces = split(TEXT, lambda part: len(part) <= 50)
    assert join(pieces, ["1", "2", "3"]) == "1\n\n2\n\n\n3"


def test_nothing_but_space_has_no_pieces() -> None:
    assert split(" \n ", lambda part: True) == []
    assert join([], []) == ""


def test_a_long_text_is_measured_in_few_steps() -> None:
    measured = 0

    def fits(part: str) -> bool:
        nonlocal measured
        measured += len(part)
        return len(part) <= 500

    text = "The engine was green and it ran. " * 1500
    split(text, fits)
    assert measured < 20 * len(text)
