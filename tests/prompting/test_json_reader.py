"""JSON while it arrives: every prefix has the value that json.loads would give it, no more."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmstack.core.json_text import MAX_DEPTH, parse_json
from lmstack.prompting.json_reader import JsonReader

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(
    scalars.filter(lambda v: v not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
written = st.builds(
    json.dumps,
    values,
    ensure_ascii=st.booleans(),
    indent=st.sampled_from([None, 0, 2]),
)
# Text that is made of JSON's parts, so that much of it is nearly JSON.
nearly = st.lists(
    st.sampled_from(
        [
            *('{}[]:,"\\ \n'),
            *('"a"', '"b":', "1", "-0", "2.5e3", "1e999", "01", "true", "nul", "null", "NaN", "+"),
            *("\\u00e9", "\\ud83d", "\\ude00", "\\n", "\\x", "\x00", "é", "😀", "\ud83d"),
        ]
    ),
    max_size=12,
).map("".join)


def read(text: str) -> Any:
    reader = JsonReader()
    reader.feed(text)
    return reader.finish()


def oracle(prefix: str) -> tuple[bool, Any]:
    """The value of ``prefix`` by json.loads, with what is open closed and what is not complete
    left out; whether there is any."""
    opened, in_string, is_escaped = [], False, False
    for char in prefix:
        if in_string:
            in_string = is_escaped or char != '"'
            is_escaped = char == "\\" and not is_escaped
        elif char == '"':
            in_string = True
        elif char in "{[":
            opened.append("}" if char == "{" else "]")
        elif char in "}]":
            opened.pop()
    closers = "".join(reversed(opened))
    # A number or a word may go on, unless it is closed in.
    head = prefix if in_string else re.sub(r"[\w.+-]+\Z", "", prefix)
    for end in range(len(head), -1, -1):
        for tail in ('"', "") if in_string else ("",):
            try:
                value = json.loads(head[:end] + tail + closers)
                json.dumps(value, ensure_ascii=False).encode()
                return True, value
            except ValueError:
                continue
    return False, None


@settings(deadline=None)
@given(written)
@example('{"a": "\\ud83d\\ude00", "b": [1, {"c": "\\\\"}], "": {}}')
@example('"\\"\\\\"')
def test_every_prefix_has_the_values_that_are_complete_in_it_and_what_is_open(text: str) -> None:
    reader = JsonReader()
    for end in range(1, len(text) + 1):
        reader.feed(text[end - 1 : end])
        begun, value = oracle(text[:end])
        assert (reader.has_begun, reader.value if begun else None) == (begun, value), text[:end]
    assert reader.finish() == json.loads(text)


@settings(deadline=None)
@given(written, st.lists(st.integers(0, 60), max_size=6))
def test_how_the_text_is_cut_changes_nothing(text: str, cuts: list[int]) -> None:
    reader, bounds = JsonReader(), sorted({0, len(text), *(min(c, len(text)) for c in cuts)})
    for start, end in itertools.pairwise(bounds):
        reader.feed(text[start:end])
    whole = JsonReader()
    whole.feed(text)
    assert reader.value == whole.value
    assert reader.finish() == json.loads(text)


@settings(deadline=None, max_examples=400)
@given(
    st.one_of(
        nearly,
        st.tuples(written, nearly, st.integers(0, 30)).map(
            lambda t: t[0][: t[2]] + t[1] + t[0][t[2] :]
        ),
    )
)
@example('{"a": 1, "a": 2}')
@example('["\\ud83d"]')
@example("[1,]")
@example('{"a":}')
@example("[" * 101 + "]" * 101)
@example("[" * 102 + "]" * 102)
@example("[" * 101 + "1" + "]" * 101)
@example("9" * 5000)
def test_it_refuses_what_is_not_json_and_nothing_else(text: str) -> None:
    try:
        expected = parse_json(text)
    except ValueError:
        with pytest.raises(ValueError):
            read(text)
    else:
        assert read(text) == expected


def test_a_value_so_far_does_not_change_when_the_text_goes_on() -> None:
    reader = JsonReader()
    reader.feed('{"a": [1, {"b": "x')
    before = reader.value
    kept = json.dumps(before)
    reader.feed('y"}, 2], "c": 3}')
    assert json.dumps(before) == kept
    assert reader.has_ended
    assert reader.finish() == {"a": [1, {"b": "xy"}, 2], "c": 3}


def test_an_error_names_the_place_in_all_of_the_text() -> None:
    reader = JsonReader()
    reader.feed('{"a": 1')
    with pytest.raises(ValueError, match="'x' begins no value, at character 14"):
        reader.feed(', "b": x ')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "ends before the value does"),
        ('{"a": "b', "ends before a string does"),
        ('{"a": 1', "ends before the value does"),
        ("tru", "'tru' begins no value"),
        ("1.", "'1.' is not a number"),
        ('"\\u12"', "no escape"),
        ('{"a": 1} x', "stands after the end"),
        ("{1: 2}", "'1' stands where a name has to, at character 1"),
        ('{"a" 1}', "'1' stands where a colon has to, at character 5"),
        ('{"a": 1 "b"}', "'\"' stands in an object where a comma has to, at character 8"),
        ('"a\n"', "a string holds '\\n', which has to be escaped, at character 2"),
        ("[1 2]", "'2' stands in an array where a comma has to, at character 3"),
        ('["ab\ud83d"]', "a string holds half a surrogate pair, at character 4"),
        ("[" * (MAX_DEPTH + 2), "nested too deep"),
    ],
)
def test_what_is_wrong_is_said(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        read(text)


@pytest.mark.parametrize(
    ("code", "char"), [("d7ff", "\ud7ff"), ("e000", "\ue000"), ("dbff\\udfff", "\U0010ffff")]
)
def test_codes_beside_those_of_surrogates_are_characters(code: str, char: str) -> None:
    assert read(f'"\\u{code}"') == char
    with pytest.raises(ValueError, match="half a surrogate pair"):
        read('"\\ud800\\ue000"')


@pytest.mark.parametrize("text", ['"\\udc00', '"\\ud83d\\n', '"\\ud83dx', "nulL", "[1,]", '{"a" 1'])
def test_what_can_only_be_wrong_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError):
        JsonReader().feed(text)


def test_space_may_stand_between_any_two_parts_and_the_text_end_in_it() -> None:
    reader, text = JsonReader(), ' { "a" : [ 1 , "b" ] , "c" : null } '
    for char in text:
        reader.feed(char)
    assert reader.finish() == json.loads(text)


def test_a_number_by_itself_is_whole_only_at_the_end() -> None:
    reader = JsonReader()
    reader.feed("12")
    assert not reader.has_begun
    reader.feed("3")
    assert not reader.has_ended
    assert reader.finish() == 123
