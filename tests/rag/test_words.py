"""Which words of a question are names, and which of a text are of one family with them."""

from __future__ import annotations

import pytest

from lmstack.rag.words import covered_share, name_groups, name_words


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


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("What is the code of report 48207?", [("48207",)]),
        ("extension of Maria Keller", [("Maria", "Keller")]),
        ("Maria Keller extension", [("Maria", "Keller")]),
        ("Where is it?", []),
        ("Restart the pump of hall B2", [("B2",)]),
        ("Is Ed Wood as old as Scott Derrickson?", [("Ed", "Wood"), ("Scott", "Derrickson")]),
        ("minutes of 14 March 2023, please", [("14", "March", "2023")]),
        ("torque of AX-4471-B and 2004/9466", [("AX-4471-B",), ("2004", "9466")]),
        ("checksum of Orbit 6.3.31?", [("Orbit", "6.3.31")]),
        ("WHAT IS IT IN HALL 7", [("7",)]),
        ("Keller's lamp and Vega's", [("Vega",)]),
        ("", []),
    ],
)
def test_names_and_numbers_that_follow_one_another_are_one(text, groups):
    assert name_groups(text) == groups
