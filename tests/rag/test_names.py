"""Names and numbers are the same in whatever way they are written, and no others are."""

from __future__ import annotations

import pytest

from lmstack.rag.names import holds_together, joined, name_groups, ordinal_of, spellings


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("What is the code of report 48207?", [("48207",)]),
        ("extension of Maria Keller", [("Maria", "Keller")]),
        ("Maria Keller extension", [("Maria", "Keller")]),
        ("Where is it?", []),
        ("Restart the pump of hall B2", [("B-2",)]),
        ("Is Ed Wood as old as Scott Derrickson?", [("Ed", "Wood"), ("Scott", "Derrickson")]),
        ("minutes of 14 March 2023, please", [("2023-03-14",)]),
        ("minutes of 6 May 2007", [("2007-05-06",)]),
        ("minutes of May 6, 2007", [("2007-05-06",)]),
        ("minutes of 6 May", [("6", "May")]),
        ("minutes of May 2007", [("2007-05",)]),
        ("Falkner, Orla 05/2007 transfer", [("Falkner", "Orla"), ("2007-05",)]),
        ("net total PO 132955", [("PO-132955",)]),
        ("when was claim CLM/2014/048213 paid?", [("2014", "CLM-48213")]),
        ("room of BIO 119", [("BIO-119",)]),
        ("mask of CW-1725 Rev. X", [("CW-1725-X",)]),
        ("mask of CW-1725 in revision A", [("CW-1725-A",)]),
        ("mask of CW-1725 of a lamp", [("CW-1725",)]),
        ("who buried Dr. Orla Falkner?", [("Orla", "Falkner")]),
        ("who buried Mr Falkner?", [("Falkner",)]),
        ("B/L of MSKU 482913", [("MSKU-482913",)]),
        ("how many MWh or m\u00b3 on 6 May 2007?", [("2007-05-06",)]),
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


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("SHIFT REPORT\n\nLed by: Roth, Otto", ("Otto", "Roth")),
        ("CW-1725 Rev. X\nReplaces CW-1725 Rev. Y", ("CW-1725-X",)),
        ("file 048213 of 2014, see CLM/2013/048199", ("2014", "CLM-48213")),
    ],
)
def test_what_is_not_of_the_form_of_a_name_does_not_count_before_it(text, name):
    assert ordinal_of(text, name) == 0


def test_another_one_counts_however_it_is_written():
    assert ordinal_of("CW-1725 Rev. Y\nReplaces CW-1725 Rev. X", ("CW-1725-X",)) == 1
    assert ordinal_of("file 048199 of 2013, see CLM/2014/048213", ("2014", "CLM-48213")) == 1


def test_a_name_is_looked_for_in_all_ways_to_write_it():
    assert spellings("4.1") == [("4.1",), ("v4.1",)]
    assert spellings("v4.1") == [("4.1",), ("v4.1",)]
    assert {("140317",), ("PO140317",), ("0140317",)} < set(spellings("PO-140317"))
    assert spellings("2019-13-04") == [("2019", "13", "04")]
    assert joined("2019-13-04") == [["2019", "13", "04"]]
    # The last digit may stand apart, and be left out of what is asked.
    assert {("482913", "7"), ("4829137",)} < set(spellings("MSKU-4829137"))
    assert ("MSKU4829137",) in spellings("MSKU-482913")
