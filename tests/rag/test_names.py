"""Names and numbers are told by how a question writes them."""

from __future__ import annotations

import pytest

from lmstack.rag.names import name_groups


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
        ("Keller, Anna: PIN", [("Keller", "Anna"), ("PIN",)]),
        ("Where Is Keller: PIN", []),
        ("weight on DN 204 817", [("DN-204817",)]),
        ("weight on 204 817 and in room 4 311", [("204817",), ("4", "311")]),
        ("seal of 1WS 33106 H", [("1-WS-33106-H",)]),
        ("call 0441 23 45 67", [("0441-23-45-67",)]),
        ("rent of DE89 3704 0044 0532 0130 00", [("DE-89-3704-0044-0532-0130-00",)]),
        ("badge of KN AB 123 2019", [("KN", "AB-123", "2019")]),
        ("", []),
    ],
)
def test_names_and_numbers_that_follow_one_another_are_one(text, groups):
    assert name_groups(text) == groups


def test_words_that_are_known_as_names_need_no_capital():
    assert name_groups("ferritin of linus d\u00f6ring", {"linus", "doring"}) == [
        ("linus", "doring")
    ]
    assert name_groups("linus ferritin", {"linus"}) == [("linus",)]


def test_of_a_text_of_many_names_the_first_are_taken() -> None:
    in_a_row = name_groups("about " + " ".join(f"word{n}" for n in range(20_000)))
    assert in_a_row == [tuple(f"word-{n}" for n in range(32))]
    apart = name_groups("about " + " and ".join(f"word{n}" for n in range(20_000)))
    assert apart == [(f"word-{n}",) for n in range(64)]


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("fees of E. Lockwood", [("E Lockwood",)]),
        ("the maps of J. R. R. Tolkien", [("J R R Tolkien",)]),
        ("what Anna K. Keller said", [("Anna", "K Keller")]),
        ("what E Lockwood said", [("E", "Lockwood")]),
        ("the AX-4471 rev. C", [("AX-4471-C",)]),
    ],
)
def test_an_initial_goes_with_the_name_behind_it(text: str, groups: list[tuple[str, ...]]) -> None:
    assert name_groups(text) == groups
