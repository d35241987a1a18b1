"""The grammar leaves a model no numbers but those of passages, and the reader agrees with it."""

from __future__ import annotations

import functools
import re

import llguidance
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import Grammar
from lmstack.rag.answer.prompting import NONE, ClaimReader, writing_grammar


@functools.cache
def _tokenizer() -> llguidance.LLTokenizer:
    class Bytes:
        """Every byte is a token; 256 ends the text."""

        eos_token_id = 256
        bos_token_id = None
        tokens = (*(bytes([b]) for b in range(256)), b"<|end|>")
        special_token_ids = (256,)

        def __call__(self, text: bytes | str) -> list[int]:
            return list(text if isinstance(text, bytes) else text.encode())

    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(Bytes()))


def _accepts(grammar: Grammar, text: str) -> bool:
    source = llguidance.LLMatcher.grammar_from_lark(grammar.source)
    matcher = llguidance.LLMatcher(_tokenizer(), source)
    assert not matcher.get_error()
    return matcher.try_consume_tokens(list(text.encode())) == len(text.encode()) and (
        matcher.is_accepting() or matcher.is_stopped()
    )


NASTY = (
    'Say "no" \\ to {this} | that / <|im_end|> \u00e9\U0001f600.',
    "%json { } // # comment \\n not a newline.\nAnd a newline.",
)


def test_grammar_knows_only_numbers_of_passages():
    grammar = writing_grammar(3)
    assert _accepts(grammar, "Free words [1]. And more [2][3].")
    assert _accepts(grammar, NONE)
    for wrong in [
        "Free words [4].",
        "Free words [0]",
        "Words without a number.",
        "Words [12].",
        "[",
    ]:
        assert not _accepts(grammar, wrong)


@pytest.mark.parametrize("text", NASTY)
def test_free_text_is_any_text_without_brackets(text):
    assert _accepts(writing_grammar(2), f"{text} [2]")
    assert not _accepts(writing_grammar(2), f"{text} [x] [2]")


@pytest.mark.parametrize("numbers", [1, 9, 10, 100])
def test_the_grammar_ends_at_the_last_passage(numbers):
    grammar = writing_grammar(numbers)
    for number in range(numbers + 3):
        assert _accepts(grammar, f"Words [{number}].") == (1 <= number <= numbers)


def test_claims_are_cut_at_their_numbers():
    reader = ClaimReader(3)
    text = "First thing [1]. Second, longer [2] [3]\nThird [0][9] and the end"
    units = [unit for char in text for unit in reader.feed(char)] + list(reader.end())
    assert [(u.text, u.numbers) for u in units] == [
        ("First thing.", (1,)),
        ("Second, longer", (2, 3)),
        ("Third", ()),
        ("and the end", ()),
    ]


@given(st.text(alphabet="ab [].0123", max_size=60), st.data())
def test_claim_reader_does_not_depend_on_cuts_and_keeps_numbers_real(text, data):
    whole = ClaimReader(2)
    expected = [*whole.feed(text), *whole.end()]
    cut = data.draw(st.integers(0, len(text)))
    parts = ClaimReader(2)
    units = [*parts.feed(text[:cut]), *parts.feed(text[cut:]), *parts.end()]
    assert units == expected
    assert all(number in (1, 2) for unit in units for number in unit.numbers)
    kept = re.sub(r"[^ab]", "", "".join(unit.text for unit in units))
    assert kept == re.sub(r"[^ab]", "", text)
