"""Which words of a question are names, and which of a text are of one family with them."""

from __future__ import annotations

import pytest

from lmstack.rag.words import (
    covered_share,
    holds_together,
    name_groups,
    name_words,
    ordinal_of,
    spellings,
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


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("What is the code of report 48207?", [("48207",)]),
        ("extension of Maria Keller", [("Maria", "Keller")]),
        ("Maria Keller extension", [("Maria", "Keller")]),
        ("Where is it?", []),
        ("Restart the pump of hall B2", [("B2",)]),
        ("Is Ed Wood as old as Scott Derrickson?", [("Ed", "Wood"), ("Scott", "Derrickson")]),
        ("minutes of 14 March 2023, please", [("2023-03-14",)]),
        ("minutes of 6 May 2007", [("2007-05-06",)]),
        ("minutes of May 6, 2007", [("2007-05-06",)]),
        ("minutes of 6 May", [("6", "May")]),
        ("salary of Jankovic, Karim", [("Jankovic", "Karim")]),
        ("who met Jankovic, Karim and Otto?", [("Jankovic",), ("Karim",), ("Otto",)]),
        ("agent for Olmo Tiles, T-15", [("Olmo", "Tiles"), ("T-15",)]),
        ("Can I Google it? May Otto?", [("Google",), ("Otto",)]),
        ("torque of AX-4471-B and 2004/9466", [("AX-4471-B",), ("2004", "9466")]),
        ("checksum of Orbit 6.3.31?", [("Orbit", "6.3.31")]),
        ("WHAT IS IT IN HALL 7", [("7",)]),
        ("Keller's lamp and Vega's", [("Vega",)]),
        ("", []),
    ],
)
def test_names_and_numbers_that_follow_one_another_are_one(text, groups):
    assert name_groups(text) == groups


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("Team meeting, 14 May 2019", ("2019-05-14",), True),
        ("held on May 14, 2019.", ("2019-05-14",), True),
        ("held on 14 June 2019. The next one is on 3 May 2019", ("2019-05-14",), False),
        ("page 214 of May 2019", ("14", "May"), False),
        ("build of Roster 4.1", ("Roster", "v4.1"), True),
        ("build of Roster v4.1", ("Roster", "4.1"), True),
        ("order 140317", ("PO-140317",), True),
        ("order PO 140317", ("PO-140317",), True),
        ("credit CR-140317", ("PO-140317",), False),
        ("after 312 minutes", ("T-312",), False),
        ("Falkner, Orla", ("Orla", "Falkner"), True),
        ("Orla Moser met Renate Falkner", ("Orla", "Falkner"), False),
        ("type ax 4471/b", ("AX-4471-B",), True),
        ("type AX-4471-BC", ("AX-4471-B",), False),
        ("version 4.1.12", ("4.1.1",), False),
        ("Engstr\u00f6m", ("Engstrom",), True),
    ],
)
def test_the_words_of_a_name_stand_near_one_another_whatever_their_order(text, name, found):
    assert holds_together(text, name) == found


@pytest.mark.parametrize(
    ("name", "ordinal"),
    [
        (("48207",), 0),
        (("48199",), 1),
        (("7",), 0),
        (("2019-05-14",), 0),
        (("2019-05-21",), 1),
        (("Otto", "Roth"), 1),
        (("Roth",), 0),
        (("48200",), None),
    ],
)
def test_names_are_counted_among_those_of_their_form(name, ordinal):
    text = "Report 48207, 14 May 2019. By Ida Vogt. See 48199 of Otto Roth, 21 May 2019, page 7"
    assert ordinal_of(text, name) == ordinal


def test_a_name_is_looked_for_in_all_ways_to_write_it():
    assert spellings("4.1") == [("4.1",), ("v4.1",)]
    assert spellings("v4.1") == [("v4.1",), ("4.1",)]
    assert spellings("PO-140317") == [("PO-140317",), ("140317",)]
    assert spellings("2019-13-04") == [("2019-13-04",)]
    assert spellings("T-312") == [("T-312",)]
