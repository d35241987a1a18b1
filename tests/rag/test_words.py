"""Which words of a question are names, and which of a text are of one family with them."""

from __future__ import annotations

import pytest

from lmstack.rag.words import (
    covered_share,
    name_words,
)


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("How do I run it on an iPhone?", ["iPhone"]),
        ("Who is Ada Lovelace?", ["Ada", "Lovelace"]),
        ("What does E4 mean, and I say so?", ["E4"]),
        ("HOW DOES THE LAMP WORK?", []),
        ("Lamps?", []),
        ("这是什么？", []),
        ("", []),
    ],
)
def test_names_are_capitals_and_digits(question, names):
    assert name_words(question) == names


@pytest.mark.parametrize(
    ("word", "text", "found"),
    [
        ("accurate", "Accuracy: 2 percent", True),
        ("batteries", "one battery", False),
        ("carry", "It carries coal", False),
        ("cats", "catalogue", False),
        ("import", "important", False),
        ("internal", "international", False),
        ("Leuchtturm".lower(), "des Leuchtturmes", True),
        ("", "text", False),
    ],
)
def test_words_of_one_family_count_and_others_do_not(word, text, found):
    assert covered_share({word: 1.0}, text) == found


def test_phrase_without_spaces_counts_by_its_pairs_of_characters():
    asked = {"图书馆几点开门": 1.0}
    assert covered_share(asked, "图书馆早上九点开门。") == pytest.approx(4 / 6)
    assert covered_share(asked, "今天下雨。") == 0
