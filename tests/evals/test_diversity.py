"""Distinct-n and Self-BLEU by hand and by what they must do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.evals.diversity import cut_alike, distinct, repeated_share, self_bleu, words

texts = st.lists(st.text("abcd", max_size=9).map(list), min_size=2, max_size=5)


def test_words_are_words_and_marks_in_lower_case() -> None:
    assert words("It's 3,5 — Äpfel!") == ("it", "'", "s", "3", ",", "5", "—", "äpfel", "!")


def test_distinct_by_hand() -> None:
    assert distinct([["a", "b", "a", "b"], ["b", "a"]], 2) == 2 / 4
    assert distinct([["a"]], 2) is None
    assert repeated_share(["a", "b", "c", "d", "a", "b", "c", "d"]) == pytest.approx(1 / 5)
    assert repeated_share(["a"]) == 0


def test_self_bleu_by_hand() -> None:
    # Of "a b c d e" against "a b c d f": 4 of 5, 3 of 4, 2 of 3 and 1 of 2 n-grams; as long.
    expected = math.exp(sum(map(math.log, (4 / 5, 3 / 4, 2 / 3, 1 / 2))) / 4)
    assert self_bleu([list("abcde"), list("abcdf")]) == pytest.approx(expected)
    assert self_bleu([["a"]]) is None
    # "a b" is half as long as the other, whose n-grams it has 2 of 4, 1 of 3 and half a match of.
    shorter, longer = math.exp(1 - 4 / 2), (2 / 4 * 1 / 3 * 0.5 / 2 * 0.5) ** (1 / 4)
    assert self_bleu([list("ab"), list("abcd")]) == pytest.approx((shorter + longer) / 2)


@given(texts)
def test_self_bleu_is_one_of_equal_texts_and_never_more(found: list[list[str]]) -> None:
    value = self_bleu(found)
    assert value is not None
    assert 0 <= value <= 1
    assert self_bleu([found[0]] * 3) == pytest.approx(1)


@given(texts)
def test_both_sides_are_cut_to_the_same_lengths(found: list[list[str]]) -> None:
    one, other = cut_alike(found, found[::-1])
    assert sorted(map(len, one)) == sorted(map(len, other))
    assert sorted(map(tuple, one)) == sorted(map(tuple, found))
