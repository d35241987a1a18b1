"""Drafts of structured text: forced text whole, choices as they were made before."""

from __future__ import annotations

import json

import pytest
from tests.engine.conftest import byte_vocabulary

from lmstack.core import Grammar
from lmstack.engine.constraints.grammar import GrammarCompiler, GrammarMatcher
from lmstack.engine.speculative.acceptance import Acceptance
from lmstack.engine.speculative.successors import FORCED, StructureDrafts

NAMES = ("first", "second", "third", "fourth")
SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "boolean"} for name in NAMES},
    "required": list(NAMES),
    "additionalProperties": False,
}
PROMPT = tuple(b"?")


def matcher() -> GrammarMatcher:
    grammar = Grammar("json_schema", json.dumps(SCHEMA))
    return GrammarCompiler(byte_vocabulary(), 1 << 16).compile(grammar)


class Writing:
    """A text that is written byte by byte, with a draft before each."""

    def __init__(self, least: float = 0.3) -> None:
        self.matcher, self.least = matcher(), least
        self.drafts = StructureDrafts(Acceptance())
        self.tokens = list(PROMPT)

    def draft(self) -> str:
        self.drafts.see(self.tokens, len(PROMPT))
        found, rates = self.drafts.follows(self.matcher, self.tokens, 100, self.least)
        assert len(found) == len(rates)
        return bytes(found).decode()

    def write(self, text: str) -> None:
        """Each token drawn with a draft computed, as the engine does."""
        while text:
            draft = self.draft()
            count = 0
            while count < min(len(draft), len(text) - 1) and draft[count] == text[count]:
                count += 1
            for token in text[: count + 1].encode():
                self.matcher.accept(token)
                self.tokens.append(token)
            text = text[count + 1 :]


def test_forced_text_is_drafted_to_where_there_is_a_choice() -> None:
    writing = Writing()
    writing.write('{"')
    assert writing.draft() == 'first"'


@pytest.mark.parametrize(("colon", "comma"), [(": ", ", "), (":", ","), (" : ", "\n, ")])
def test_what_came_between_is_drafted_with_what_comes_behind_it(colon: str, comma: str) -> None:
    writing = Writing()
    writing.write(f'{{"first"{colon}true{comma}"second"{colon}false{comma}"')
    assert writing.draft().startswith(f'third"{colon}'[: len('third"') + 1])
    writing.write(f'third"{colon}')
    writing.write(f"true{comma}")
    assert writing.draft().startswith('"fourth"')


def test_a_choice_that_changes_is_guessed_less_and_less() -> None:
    writing = Writing()
    styles = (": true, ", ":false,", " :true ,")
    text = "{" + "".join(f'"{n}"{s}' for n, s in zip(NAMES, styles, strict=False))
    writing.write(text)
    sure = Writing()
    sure.write("{" + "".join(f'"{n}": true, ' for n in NAMES[:3]))
    writing.write('"fourth"')
    sure.write('"fourth"')
    assert len(writing.draft()) < len(sure.draft())


def test_nothing_is_guessed_that_is_not_likely_enough() -> None:
    writing = Writing(least=0.999)
    writing.write('{"first": true, "second": false, "')
    assert writing.draft() == 'third"'


def test_no_guess_leaves_the_grammar() -> None:
    """Behind the last value another comma is usual and not allowed."""
    writing = Writing(least=0.0)
    for name in NAMES:
        writing.write(f'"{name}":true,' if name != NAMES[0] else f'{{"{name}":true,')
        if name == NAMES[2]:
            break
    writing.write('"fourth":true')
    draft = writing.draft()
    assert writing.matcher.admits(tuple(draft.encode())) == len(draft)


def test_rates_of_forced_tokens_follow_how_often_they_are_right() -> None:
    writing = Writing()
    writing.write('{"first": true, "second": true, "third": true')
    assert writing.drafts.rates.rate(FORCED) > 0.9
