"""Drafts by look-up against a plain search of the whole text, and what is believed of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.engine.speculative.acceptance import Acceptance
from lmstack.engine.speculative.ngram import LONGEST, MAX_COMPARED, SHORTEST, PromptLookup


def searched(text: list[int]) -> tuple[int, int]:
    """How many tokens agree at the best earlier place, and the place; (0, 0) for none."""
    best, where, seen = 0, 0, 0
    for place in range(len(text) - 1, SHORTEST - 1, -1):
        length = 0
        while length < min(LONGEST, place) and text[place - 1 - length] == text[-1 - length]:
            length += 1
        if length >= SHORTEST:
            seen += 1
            if length > best:
                best, where = length, place
            if seen == MAX_COMPARED:
                break
    return best, where


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 60), st.integers(0, 12))
def test_finds_the_longest_of_the_latest_places_however_the_text_grew(
    text: list[int], num_given: int, num_source: int
) -> None:
    source, tokens = text[:num_source], text[num_source:]
    num_given = min(num_given, len(tokens))
    lookup, hits = PromptLookup(source), Acceptance()
    for end in sorted({num_given, (num_given + len(tokens)) // 2, len(tokens)}):
        lookup.extend(tokens[:end], num_given, hits)
        if not end:
            continue
        length, place = searched(source + tokens[:end])
        assert lookup.length == length
        if length:
            assert lookup.follows(1) == ((source + tokens)[place],)


def test_a_text_that_goes_round_is_drafted_round_and_round() -> None:
    lookup = PromptLookup()
    lookup.extend([7, 1, 2, 3, 1, 2, 3], 7, Acceptance())
    assert lookup.follows(8) == (1, 2, 3, 1, 2, 3, 1, 2)


def test_nothing_is_drafted_where_nothing_repeats() -> None:
    lookup = PromptLookup()
    lookup.extend([1, 2, 3, 4, 5, 1], 6, Acceptance())
    assert lookup.follows(4) == ()


def test_an_encoders_input_is_looked_up_too() -> None:
    lookup = PromptLookup([10, 11, 12, 13])
    lookup.extend([0, 10, 11], 1, Acceptance())
    assert lookup.follows(2) == (12, 13)


def test_hits_are_counted_even_while_nothing_is_computed_ahead() -> None:
    hits, lookup = Acceptance(memory=1e9), PromptLookup()
    right = [1, 2, 3, 4, 5, 6] * 20
    lookup.extend(right, 6, hits)
    assert hits.rate(LONGEST) > 0.9
    misses, lookup = Acceptance(memory=1e9), PromptLookup()
    wrong = [t for i in range(40) for t in (1, 2, 3 + i)]
    lookup.extend(wrong, 6, misses)
    assert misses.rate(2) < 0.1


def test_what_is_not_known_of_a_sequence_is_taken_from_the_others() -> None:
    others = Acceptance(memory=256)
    first = Acceptance(others)
    for _ in range(200):
        first.observe(5, False)
    assert others.rate(5) < 0.1
    assert Acceptance(others).rate(5) == pytest.approx(others.rate(5))


def test_a_sequence_that_begins_to_repeat_itself_is_soon_believed() -> None:
    own = Acceptance(Acceptance(memory=256))
    for _ in range(200):
        own.observe(5, False)
    for _ in range(30):
        own.observe(5, True)
    assert own.rate(5) > 0.5
