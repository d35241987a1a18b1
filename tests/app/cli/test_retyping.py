"""The command line that was typed, with other options."""

from __future__ import annotations

import shlex

import pytest

from lmstack.app.cli.output import retyped


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("up docs", "lmstack up docs --port 8001"),
        ("up --port 8000 docs", "lmstack up docs --port 8001"),
        ("up docs --port=8000 --also m", "lmstack up docs --also m --port 8001"),
        ("up -- --port", "lmstack up --port 8001 -- --port"),
        ("up docs --port", "lmstack up docs --port 8001"),
    ],
)
def test_an_option_takes_the_place_of_the_one_typed(typed: str, expected: str) -> None:
    assert retyped(shlex.split(typed), setting={"--port": "8001"}) == expected


def test_every_word_is_quoted_as_a_shell_needs_it() -> None:
    words = ["ask", "what's $HOME?", "--docs", "my notes"]
    command = retyped(words)
    assert shlex.split(command) == ["lmstack", *words]


def test_an_option_without_a_value_is_left_out_or_added_once() -> None:
    words = ["run", "ner", "--resume", "--rebuild", "--file", "x", "--", "--rebuild"]
    assert retyped(words, setting={"--resume": None}, without=["--rebuild"]) == (
        "lmstack run ner --file x --resume -- --rebuild"
    )
