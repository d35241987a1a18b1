"""JSON in what a model wrote: the closed one, and never half of one."""

from __future__ import annotations

import contextlib
import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.prompting.embedded_json import json_texts

OBJECT = '{"name": "Alice", "tags": ["a}", "]b", "\\"{"]}'


@pytest.mark.parametrize(
    "text",
    [
        OBJECT,
        f"\n {OBJECT}\n",
        f"```json\n{OBJECT}\n```",
        f"Here you are:\n```\n{OBJECT}\n```\nIs that {{right}}?",
        f"Sure! {OBJECT} I hope that helps.",
        f"The {{name}} is in [1, 2: {{x]}} as follows. {OBJECT}",
        f'```python\nprint("no")\n```\nand {OBJECT}',
    ],
)
def test_the_object_is_found(text: str) -> None:
    assert json.loads(json_texts(text)[0]) == json.loads(OBJECT)


def test_a_block_of_code_inside_a_string_ends_nothing() -> None:
    inner = json.dumps({"code": "```py\nx = {}\n```"})
    assert json_texts(f"```json\n{inner}\n```")[0] == inner


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": {"b": 1}', "the object that begins at character 0 is not closed"),
        ('```json\n{"a": {"b": 1}, "c', "the object that begins at character 8 is not closed"),
        ('[{"a": 1}, {"a": 2', "the array that begins at character 0 is not closed"),
        ('{"a": [1}, {"b": 2}]', "the object that begins at character 0 is closed by }"),
        ('so: {"a": {"b": 1}, oops}', "double quotes"),
        ('{"a": 1, "a": 2}', "the name 'a' is twice in an object"),
        ("I do not know.", "Expecting value"),
        ("", "Expecting value"),
    ],
)
def test_nothing_inside_of_what_is_open_or_wrong_is_taken(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        json_texts(text)


def test_several_are_told_in_order_so_that_a_schema_can_choose() -> None:
    assert json_texts('As [1] says, {"a": 1} or {"a": 2}.') == ["[1]", '{"a": 1}', '{"a": 2}']


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict | list))


@settings(deadline=None)
@given(values, st.integers(0, 200))
def test_a_beginning_of_an_object_is_never_taken_for_one(value: object, cut: int) -> None:
    text = json.dumps(value)
    head = text[: min(cut, len(text) - 1)]
    with pytest.raises(ValueError):
        json_texts(head)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000,
        '{"a":' * 20_000,
        "{}" * 5_000 + "{",
        "{]" * 20_000,
        " " * 200_000,
        "```\n" * 50_000,
    ],
)
def test_brackets_without_end_take_no_time(text: str) -> None:
    start = time.process_time()
    with contextlib.suppress(ValueError):
        json_texts(text)
    assert time.process_time() - start < 2
