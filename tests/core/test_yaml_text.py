"""YAML of settings: what is read of it, and that no text takes long or is our fault."""

from __future__ import annotations

import time

import pytest

from lmstack.core import FormatError, InputError, check_whole, yaml_text
from lmstack.core.yaml_text import parse_yaml


def test_only_what_settings_need_means_more_than_text() -> None:
    text = "a: 010\nb: no\nc: 1e-4\nd: 2024-01-01\ne: ~\nf: true\ng: .5"
    found = parse_yaml(text, "x")
    assert found == {
        **{"a": 10, "b": "no", "c": 1e-4, "d": "2024-01-01", "e": None, "f": True, "g": 0.5}
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\n" * 2_000_000, "it has 10,000,000 characters"),
        ("".join(f"k{n}: 1\n" for n in range(100_000)), "more than 20,000 keys and values"),
        ("? [a, b]\n: 1", "found unhashable key"),
        ("{{a: 1}: 2}", "found unhashable key"),
        ("a: &x [1]\nb: *x", "alias"),
        ("a: 1\na: 2", "stands twice"),
        ("[" * 5_000, "nested too deep"),
    ],
)
def test_what_is_too_large_or_odd_is_an_error_in_words_and_at_once(text: str, words: str) -> None:
    started = time.thread_time()
    with pytest.raises(FormatError) as raised:
        parse_yaml(text, "x")
    assert words in str(raised.value)
    assert time.thread_time() - started < 10


def test_a_number_of_a_million_digits_is_text_that_no_setting_takes() -> None:
    """Python takes time by the square of the digits to read one, and refuses over 4,300."""
    found = parse_yaml(f"steps: {'9' * 1_000_000}", "x")
    assert isinstance(found["steps"], str)
    with pytest.raises(InputError, match="steps is '9999") as raised:
        check_whole("steps", found["steps"], 1, 100)
    assert len(str(raised.value)) < 300


def test_what_is_at_its_limit_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_yaml(f"n: {'9' * 100}", "x") == {"n": 10**100 - 1}
    monkeypatch.setattr(yaml_text, "MAX_VALUES", 5)
    assert parse_yaml("a: 1\nb: 2", "x") == {"a": 1, "b": 2}
    with pytest.raises(FormatError, match="more than 5 keys and values"):
        parse_yaml("a: 1\nb: [2]", "x")
    monkeypatch.setattr(yaml_text, "MAX_CHARS", 4)
    assert parse_yaml("a: 1", "x") == {"a": 1}
    with pytest.raises(FormatError, match="it has 5 characters"):
        parse_yaml("a: 12", "x")
