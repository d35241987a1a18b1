"""A word is the same with the letters that people type instead of its own."""

from __future__ import annotations

import re

import pytest

from lmstack.rag.transliteration import pattern_of_word, plain_letters, transliterations


@pytest.mark.parametrize(
    ("typed", "posted"),
    [
        ("mueller", "muller"),
        ("muller", "mueller"),
        ("Voss", "vo\u00df"),
        ("soerensen", "s\u00f8rensen"),
        ("wlodek", "w\u0142odek"),
    ],
)
def test_a_word_is_looked_for_as_it_may_be_written(typed, posted):
    assert posted in transliterations(typed)
    assert re.fullmatch(pattern_of_word(typed), posted, re.IGNORECASE)


def test_a_short_word_means_something_else_with_another_letter():
    assert transliterations("Poe") == ["Poe"]
    assert not re.fullmatch(pattern_of_word("Poe"), "Po", re.IGNORECASE)


def test_a_long_word_has_a_bounded_number_of_ways():
    ways = transliterations("ao" * 40)
    assert ways[0] == "ao" * 40
    assert len(ways) < 60


def test_signs_of_a_pattern_stand_for_themselves():
    assert not re.fullmatch(pattern_of_word("b.nk"), "benk")


def test_plain_letters_are_those_of_english():
    assert plain_letters("Gro\u00df") == "gross"
    assert plain_letters("Goethe") == "gothe"
