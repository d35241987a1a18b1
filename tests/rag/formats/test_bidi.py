"""A line is read in the order of its language, whatever the order it was drawn in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.rag.formats.lines import has_right_to_left, reading_order

SHALOM, OLAM, SALAM = (
    "\u05e9\u05dc\u05d5\u05dd",
    "\u05e2\u05d5\u05dc\u05dd",
    "\u0633\u0644\u0627\u0645",
)


def read(drawn):
    """``drawn`` is what stands on the page from left to right."""
    return "".join(
        drawn[n] for n in reading_order(list(drawn), list(map(float, range(len(drawn)))))
    )


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        ("plain (text), 12.", "plain (text), 12."),
        (f"{OLAM[::-1]} {SHALOM[::-1]}", f"{SHALOM} {OLAM}"),
        (f"say {OLAM[::-1]} {SHALOM[::-1]} and go", f"say {SHALOM} {OLAM} and go"),
        (f".{SALAM[::-1]} 1844 {SALAM[::-1]}", f"{SALAM} 1844 {SALAM}."),
        (f"{OLAM[::-1]} PDF {SHALOM[::-1]}", f"{SHALOM} PDF {OLAM}"),
    ],
)
def test_line_is_read_as_it_was_written(drawn, expected):
    assert read(drawn) == expected


@given(st.text("ab \u05d0\u05d1\u0645 1.", min_size=1, max_size=30))
def test_every_character_is_read_once(drawn):
    assert sorted(read(drawn)) == sorted(drawn)


@given(st.text(st.characters(max_codepoint=0x58F), max_size=30))
def test_lines_of_other_scripts_are_left_alone(text):
    assert not has_right_to_left(text)
    assert not text or read(text) == text
