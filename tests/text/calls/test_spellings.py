"""Calls in other spellings than the template's: which are read, and that all else stays text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.text.calls.spellings import SpelledCall, SpelledReader

ARGUMENTS = '{"city": "Oslo"}'
CALL = f'{{"name": "weather", "arguments": {ARGUMENTS}}}'
WRAPPED = f'{{"type": "function", "function": {CALL}}}'
FOUND = SpelledCall("weather", ARGUMENTS)


def fits(name: str, arguments: Mapping[str, Any]) -> bool:
    if name == "now":
        return not arguments
    return arguments.keys() == {"city"} and isinstance(arguments["city"], str)


def read(*pieces: str) -> tuple[str, list[SpelledCall]]:
    one = SpelledReader(["weather", "now"], fits)
    parts = [part for piece in pieces for part in one.push(piece)] + one.push("", final=True)
    text = "".join(part for part in parts if isinstance(part, str))
    return text, [part for part in parts if isinstance(part, SpelledCall)]


SPELLINGS = [
    CALL,
    f"\n {CALL}\n",
    f"[{CALL}]",
    WRAPPED,
    CALL.replace("arguments", "parameters"),
    CALL.replace(ARGUMENTS, json.dumps(ARGUMENTS)),
    f'{{"arguments": {ARGUMENTS}, "name": "weather"}}',
    f'{{"type": "function", "name": "weather", "parameters": {ARGUMENTS}}}',
    json.dumps(json.loads(CALL), indent=2),
    f"{{{CALL}}}",
    f"{{{CALL}}}}}",
    f"```json\n{CALL}\n```",
    f"```json\n{{{CALL}}}}}\n```",
    f"```\n{CALL}\n```",
    f"```tool_call\n{CALL}\n```",
    f"```json {CALL}```",
    f"```json\n[\n{WRAPPED}\n]\n```",
    f"```json\n{CALL}",
    f"```json\n{CALL}\n``",
    f"<tool_call>\n{CALL}\n</tool_call>",
    f"<tool_call>{CALL}",
    f"<tools>\n{CALL}\n</tools>",
    f"[TOOL_CALLS] [{CALL}]",
    f"[TOOL_CALLS]{CALL}",
    f"<|python_tag|>{CALL}",
    f"<function=weather>{ARGUMENTS}</function>",
    f"<function=weather>\n{ARGUMENTS}",
]


@pytest.mark.parametrize("answer", SPELLINGS)
def test_a_call_in_a_usual_spelling_is_read_however_it_is_cut(answer: str) -> None:
    assert read(answer) == ("", [FOUND])
    assert read(*answer) == ("", [FOUND])


@pytest.mark.parametrize("answer", SPELLINGS[11:])
def test_text_around_a_block_stays_with_the_white_space_of_the_call_gone(answer: str) -> None:
    assert read(f"Let me look.\n\n{answer}") == ("Let me look.", [FOUND])
    if answer.endswith(("\n```", ">", "]", "}```")):
        assert read(f"{answer}\n\nThat is it.\n") == ("\n\nThat is it.\n", [FOUND])


def test_several_calls_keep_their_order() -> None:
    now = '{"name": "now", "arguments": {}}'
    both = [FOUND, SpelledCall("now", "{}")]
    for answer in (
        f"[{CALL}, {now}]",
        f"{CALL}\n{now}",
        f"```json\n{CALL}\n{now}\n```",
        f"```json\n{CALL}\n```\n\n```json\n{now}\n```\n",
        f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{now}\n</tool_call>",
    ):
        assert read(answer) == read(*answer) == ("", both)


TEXTS = [
    "",
    " \n",
    "It is cold in Oslo.\n",
    f"Write {CALL} to call it.",
    f"{CALL} calls it.",
    CALL.replace("weather", "rm"),
    CALL.replace('"Oslo"', "5"),
    CALL.replace('"city"', '"town"'),
    CALL.replace('"name"', '"name": "now", "name"'),
    CALL.replace(ARGUMENTS, "5"),
    CALL.replace(ARGUMENTS, '"Oslo"'),
    CALL.replace("{", "{ " * 200),
    CALL[:-1],
    CALL[:-1] + ', "description": "The weather"}',
    '{"name": "weather"}',
    f'[{CALL}, {{"name": "rm", "arguments": {{}}}}]',
    "[]",
    "{}",
    '["name"]',
    "[1] says so.",
    f"```python\n{CALL}\n```",
    f"```python\nx = 1\n```\n{CALL}\n```",
    f"For example:\n\n```json\n{CALL.replace('weather', 'your_tool')}\n```\n\nIs that clear?",
    f"```json\n{CALL}\nand more\n```",
    '```json\n{"name": "weather", "arguments": {"city": "a\n```\n',
    f"Inline ```json\n{CALL}\n```",
    "```json\n```",
    "```json",
    "a `` b ``` c",
    "<tool_call>",
    f"<tool_call>\n{CALL}\n</tools>",
    "<tools> and <function=weather",
    f"<function=rm>{ARGUMENTS}</function>",
    f"<function=weather>{ARGUMENTS} </tool_call>",
    "[TOOL_CALLS] nothing",
    "[TOOL_CALLS] []",
    "<|python_tag|>print(1)",
]


@pytest.mark.parametrize("answer", TEXTS)
def test_what_is_no_call_of_a_tool_stays_text_to_the_byte(answer: str) -> None:
    assert read(answer) == (answer, [])
    assert read(*answer) == (answer, [])


def pieces_of(text: str, cuts: Sequence[int]) -> list[str]:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(places)]


MIXED = st.lists(
    st.sampled_from([*SPELLINGS, *TEXTS, "```", "\n", " ", "{", "[", "`", "<", "so", CALL[:20]]),
    max_size=5,
).map("".join)


@given(MIXED, st.lists(st.integers(0, 400), max_size=8))
def test_no_cut_of_the_stream_changes_what_is_read(answer: str, cuts: list[int]) -> None:
    assert read(*pieces_of(answer, cuts)) == read(*answer) == read(answer)


@given(st.lists(st.sampled_from([*TEXTS, "```", "\n", "{", "<", '"', "é"]), max_size=6))
def test_text_without_a_call_is_unchanged(texts: list[str]) -> None:
    answer = "".join(texts)
    text, calls = read(*answer)
    if not calls:
        assert text == answer


def test_only_what_may_become_a_call_is_held_back() -> None:
    one = SpelledReader(["weather"], fits)
    assert one.push("Let me see") == ["Let me see"]
    assert one.push(".\n\n``") == ["."]
    assert one.push("`js") == []
    assert one.push('on\n{"users": ') == ["\n\n```json", '\n{"users": ']
    assert one.push("[]}") == ["[]}"]
    one = SpelledReader(["weather"], fits)
    assert one.push('{"name": "we') == []
    assert one.push("st") == ['{"name": "west']
    one = SpelledReader(["weather"], fits)
    assert one.push("```py") == ["```py"]


def test_a_block_that_never_ends_is_let_out() -> None:
    one = SpelledReader(["weather"], fits)
    begun = CALL[:-3]
    assert one.push(begun) == []
    assert one.push("x" * (1 << 16)) == [begun + "x" * (1 << 16)]
