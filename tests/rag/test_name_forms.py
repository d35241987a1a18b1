"""Names and numbers are the same in whatever way they are written, and no others are."""

from __future__ import annotations

import pytest

from lmstack.rag.name_forms import (
    holds_together,
    joined,
    says_enough,
    spellings,
)


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
        ("file 048213 of 2014", ("2014", "CLM-48213"), True),
        ("claim no. 2014-48213", ("2014", "CLM-48213"), True),
        ("box MSKU 482913-7", ("MSKU-482913",), True),
        ("box MSKU4829137", ("MSKU-482913",), True),
        ("box MSKU 482913 7", ("MSKU-4829137",), True),
        ("box HLXU 482913-7", ("MSKU-482913",), False),
        ("# CW-1725\n\nIndex X", ("CW-1725-X",), True),
        ("CW-1725 Rev. Y", ("CW-1725-X",), False),
        ("held on 2007-05-14", ("2007-05",), False),
        ("payroll 5/2007", ("2007-05",), True),
        ("Advisory for Roster\n\nFixed in: 4.1", ("Roster", "4.1"), True),
        ("Falkner and Orla Moser", ("Orla", "Falkner"), False),
        ("Orla K. Falkner", ("Orla", "Falkner"), True),
        ("Engstr\u00f6m", ("Engstrom",), True),
        ("note DN 204 817", ("204817",), True),
        ("note DN 204\u00a0817", ("DN-204817",), True),
        ("note DN-204.817", ("dn-204817",), True),
        ("note DN204817", ("204817",), True),
        ("note 204817", ("DN-204817",), True),
        ("note DN 1204 817", ("204817",), False),
        ("note DN 204 8175", ("204817",), False),
        ("pages 204, 817", ("204817",), False),
        ("phone 0441/234567", ("0441-23-45-67",), True),
        ("ticket T-015", ("T-15",), True),
        ("contract 2021/0042", ("2021", "0042"), True),
        ("contract INV-2023-00417", ("INV-2023-417",), True),
        ("on 5 May 2007", ("5",), False),
        ("build of Orbit 2.0.1", ("2.0",), False),
        ("build of Orbit 1.2.0", ("2.0",), False),
        ("build of Orbit 2.0.", ("2.0",), True),
        ("plate KN-RW 870", ("KNRW-870",), True),
        ("serial 7ZH-44530-L", ("7-zh-44530-l",), True),
        ("serial 7ZH44530L", ("7-ZH-44530-L",), True),
        ("serial 7ZH-44530-K", ("7-zh-44530-l",), False),
        ("on 26.04.21", ("2021-04-26",), True),
        ("on 26 April 2021", ("26.4.21",), True),
        ("version 26.4.21", ("26.4.21",), True),
        ("Kr\u00fcger, J\u00f6rg", ("Joerg", "Krueger"), True),
        ("Kr\u00fcger, J\u00f6rg", ("jorg", "kruger"), True),
        ("Krueger, Joerg", ("Jorg", "Kruger"), True),
        ("S\u00f8ren Vo\u00df", ("Soeren", "Voss"), True),
        ("Kr\u00fcger, J\u00f6rg", ("Jorg", "Kriger"), False),
        ("# PHA-006: Hand washing\n\nVersion 2.3", ("PHA-006", "2.3"), True),
        ("# PHA-006: Hand washing\n\nVersion 2.4", ("PHA-006", "2.3"), False),
    ],
)
def test_the_words_of_a_name_stand_near_one_another_whatever_their_order(text, name, found):
    assert holds_together(text, name) == found


def test_a_name_is_looked_for_in_all_ways_to_write_it():
    assert spellings("4.1") == [("4.1",), ("v4.1",)]
    assert spellings("v4.1") == [("4.1",), ("v4.1",)]
    assert {("140317",), ("PO140317",), ("0140317",)} < set(spellings("PO-140317"))
    assert spellings("2019-13-04")[:2] == [("2019", "13", "04"), ("2019", "13", "4")]
    assert joined("2019-13-04") == [["2019", "13", "04"]]
    assert joined("DN-204817") == [["DN", "204817"], ["204817"]]
    assert joined("2019-05-14") == joined("4.1") == joined("Orla") == []
    assert {("mueller",), ("muller",)} <= set(spellings("mueller"))
    # The last digit may stand apart, and be left out of what is asked.
    assert {("482913", "7"), ("4829137",)} < set(spellings("MSKU-4829137"))
    assert ("MSKU4829137",) in spellings("MSKU-482913")


def test_an_identifier_of_five_signs_says_enough():
    assert [
        name for name in ("LAB-093", "48207", "T-15", "4.1.12", "Orla") if says_enough(name)
    ] == [
        "LAB-093",
        "48207",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("of Ella Lockwood", True),
        ("Lockwood, Ella", True),
        ("E. Lockwood", True),
        ("E Lockwood", True),
        ("Noah Lockwood", False),
        ("noel Lockwood", False),
        ("Ella and Noah Lockwood", False),
        ("Ella Lockwoods", False),
    ],
)
def test_an_initial_is_that_of_the_first_name(text: str, found: bool) -> None:
    assert holds_together(text, ("E Lockwood",)) == found
    assert ("lockwood",) in spellings("E Lockwood")
    assert holds_together("J.R.R. Tolkien", ("J R R Tolkien",))
    assert not holds_together("J. Tolkien", ("J R R Tolkien",))


@pytest.mark.parametrize(
    ("text", "eighth", "eight"),
    [
        ("8th edition", True, True),
        ("edition 8", False, True),
        ("18th edition", False, False),
        ("8 therapies", False, True),
        ("8the", False, False),
    ],
)
def test_a_number_may_be_an_ordinal_and_an_ordinal_is_one(
    text: str, eighth: bool, eight: bool
) -> None:
    assert holds_together(text, ("8-th",)) == eighth
    assert holds_together(text, ("8",)) == eight


def test_an_ordinal_is_looked_up_as_one_word() -> None:
    assert spellings("8-th") == [("8th",)]
    assert joined("8-th") == []
    words = {number: spellings(number)[-1] for number in ("1", "2", "3", "4", "11", "12", "21")}
    assert [word for (word,) in words.values()] == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "21st",
    ]
    assert all("th" not in word for way in spellings("121") for word in way)


def test_a_day_with_slashes_that_may_be_two_is_held_as_either() -> None:
    for day in ("2024-07-08", "2024-08-07"):
        assert holds_together("due 08/07/2024", (day,))
        assert holds_together("due 8/7/2024", (day,))
    assert not holds_together("due 08/07/2024", ("2024-08-08",))
    assert not holds_together("08/07/2024 to 23/07/2024", ("2024-08-07",))
