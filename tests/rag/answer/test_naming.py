"""Whether a document that was found is the one that a question names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lmstack.rag.names import name_groups
from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.look_alikes import names_another, names_lacking


@pytest.mark.parametrize(
    ("question", "names", "other"),
    [
        ("code of report 48207?", {"48207": 8.0}, False),
        ("code of report 48207?", {"48207": -8.0}, True),
        # What nearly every passage holds names nothing.
        ("code of report 48207?", {"48207": -2.0}, False),
        ("phone of Maria Keller?", {"Maria": 4.0, "Keller": 4.0}, False),
        ("phone of Maria Keller?", {"Maria": -4.0, "Keller": 4.0}, True),
        # A comparison: neither document holds both.
        ("is Derrickson older than Wood?", {"Derrickson": 6.0, "Wood": -7.0}, False),
        ("code of 48207 in Berlin?", {"48207": -9.0, "Berlin": 3.0}, True),
        ("where is the code?", {}, False),
        # Of a conversation only what is asked now counts.
        ("and of 48208?", {"48207": -9.0, "48208": 9.0}, False),
    ],
)
def test_a_document_is_another_than_the_one_asked_for_by_what_it_lacks(question, names, other):
    assert names_another(name_groups(question), names) == other


class _Nothing:
    def of(self, hit: Hit) -> None:
        return None


def test_a_noun_with_a_capital_is_no_name_where_all_have_one():
    names = {"Frist": -8.0}
    hit = Hit(1, 1.0, "a", 0, 1, "t", None, {}, 1, 1, "", (), "", None, None, 0.0, names)
    question = "Wie lang ist die Frist?"
    assert names_lacking(question, [hit], _Nothing()) == [("Frist",)]
    assert names_lacking(question, [hit], _Nothing(), capitals=False) == [()]


def _hits(texts: list[str], names: list[dict[str, float]]) -> list[Hit]:
    return [
        Hit(1, 1.0, f"{n}", 0, 1, text, None, {}, n, n, "", (), "", None, None, 0.0, held)
        for n, (text, held) in enumerate(zip(texts, names, strict=True))
    ]


def test_of_look_alikes_one_name_does_not_make_up_for_another():
    """Of two tickets one has the number and one the customer that are asked for."""
    said = "Ticket {} of {}. The router was faulty and has been exchanged."
    texts = [said.format("T-430", "Casa Verde"), said.format("T-431", "Olmo Tiles")]
    held = {"T-430": 6.0, "Olmo": -4.0, "Tiles": -4.0}, {"T-430": -6.0, "Olmo": 4.0, "Tiles": 4.0}
    question = "What was faulty in ticket T-430 of Olmo Tiles?"
    hits = _hits(texts, list(held))
    assert names_lacking(question, hits, _Nothing()) == [("Olmo", "Tiles"), ("T-430",)]
    # Where only one of them is found, nothing says that another like it is there.
    assert names_lacking(question, hits[:1], _Nothing()) == [()]


def test_of_look_alikes_a_common_day_tells_apart_as_part_of_a_date():
    texts = [f"The board met on {day} May 2019. The budget was set." for day in (3, 14)]
    names = [{"2019-05-03": 6.0}, {"2019-05-03": -6.0}]
    lacking = names_lacking("budget of 3 May 2019?", _hits(texts, names), _Nothing())
    assert lacking == [(), ("2019-05-03",)]


def test_look_alikes_count_that_were_found_but_are_not_read():
    """A second sheet of its kind may stand further down."""
    texts = [
        "The valve of Kiel weighs 3 kg.",
        "The valve of Kiel weighs 4 kg.",
        "Pump 4711 is off.",
    ]
    hits = _hits(texts, [{"4711": -6.0}, {"4711": -6.0}, {"4711": 6.0}])
    question = "What does 4711 of Kiel weigh?"
    held = [replace(hit, names=dict(hit.names) | {"Kiel": 6.0}) for hit in hits]
    assert names_lacking(question, held[:1], _Nothing()) == [()]
    assert names_lacking(question, held[:1], _Nothing(), held) == [("4711",)]
