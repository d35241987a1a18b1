"""Whitespace in constrained JSON: what pretty printing needs is allowed, and no more."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.conftest import byte_vocabulary

from lmstack.core import Grammar
from lmstack.engine.constraints.automaton import MAX_INDENT
from lmstack.engine.constraints.grammar import GrammarCompiler, GrammarMatcher

LONGEST = MAX_INDENT + len("\r\n")
LIST = {"type": "array", "items": {"type": "object"}}
GRAMMARS = {
    "json_object": Grammar("json_object"),
    "json_schema": Grammar.json_schema({"type": "object", "properties": {"a": LIST, "b": {}}}),
    "flexible": Grammar.json_schema(
        {"type": "object", "x-guidance": {"whitespace_flexible": True}}
    ),
}

values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text("xyz", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", max_size=2), inner, max_size=3)
    ),
    max_leaves=4,
)
documents = st.dictionaries(st.text("xyz", max_size=2), values, max_size=3)


@cache
def compiler() -> GrammarCompiler:
    return GrammarCompiler(byte_vocabulary(), 1 << 16)


def next_bytes(matcher: GrammarMatcher) -> set[int]:
    mask = matcher.mask(len(byte_vocabulary()))
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little")
    return {int(token) for token in np.flatnonzero(bits) if token < 256}


def whitespace_ahead(matcher: GrammarMatcher, most: int = LONGEST + 1) -> int:
    """The longest run of whitespace that the grammar allows from here on, counted up to ``most``:
    without a bound there is no end to it."""
    if matcher.finished or not most:
        return 0
    ahead = 0
    for byte in next_bytes(matcher) & {*b" \n\r\t"}:
        branch = matcher.fork()
        branch.accept(byte)
        ahead = max(ahead, 1 + whitespace_ahead(branch, most - 1))
        if ahead == most:
            break
    return ahead


@pytest.mark.parametrize("kind", GRAMMARS)
@settings(max_examples=4, deadline=None)
@given(value=documents, indent=st.sampled_from([None, 2, 4]))
def test_no_place_in_a_document_allows_whitespace_without_end(
    kind: str, value: Any, indent: int | None
) -> None:
    matcher = compiler().compile(GRAMMARS[kind])
    text = json.dumps(value, indent=indent)
    for place in range(len(text)):
        outside_a_string = text.count('"', 0, place) % 2 == 0
        after_a_token = place == 0 or not text[place - 1].isspace()
        if outside_a_string and after_a_token:
            assert whitespace_ahead(matcher) <= LONGEST, text[:place]
        matcher.accept(ord(text[place]))
    assert matcher.finished, "whitespace could follow the end"


@pytest.mark.parametrize("kind", GRAMMARS)
@settings(max_examples=30, deadline=None)
@given(value=documents, style=st.sampled_from([{}, {"indent": 2}, {"indent": 4}, {"indent": "\t"}]))
def test_documents_in_the_usual_styles_are_in_the_grammar(
    kind: str, value: Any, style: dict[str, Any]
) -> None:
    for options in (style, {"separators": (",", ":")}):
        data = json.dumps(value, **options).encode()
        assert compiler().compile(GRAMMARS[kind]).admits(data) == len(data)
        windows = data.replace(b"\n", b"\r\n")
        assert compiler().compile(GRAMMARS[kind]).admits(windows) == len(windows)


def test_a_schema_may_turn_whitespace_off_or_state_its_own() -> None:
    def admitted(stated: dict[str, Any], text: bytes) -> bool:
        grammar = Grammar.json_schema({"type": "object", "x-guidance": stated})
        return compiler().compile(grammar).admits(text) == len(text)

    assert not admitted({"whitespace_flexible": False}, b'{ "x":1}')
    assert admitted({"whitespace_flexible": False}, b'{"x":1}')
    assert admitted({"whitespace_pattern": " {1,3}"}, b'{   "x":1}')
    assert not admitted({"whitespace_pattern": " {1,3}"}, b'{\n"x":1}')
