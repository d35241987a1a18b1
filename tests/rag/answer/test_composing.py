"""The answer's text while it grows: only our own numbers stand in brackets."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from lmstack.rag.answer.composing import Composer


def said(pieces: list[str]) -> str:
    composer = Composer()
    events = [composer.say(piece) for piece in pieces]
    list(composer.end_sentence("", [], support=1, supported=True))
    shown = "".join(event.text for event in events)
    assert composer.text.startswith(shown)
    return composer.text


@given(st.lists(st.text(alphabet="[]12 a", max_size=6), max_size=6))
def test_a_number_in_brackets_that_a_document_holds_is_no_citation_however_it_is_cut(
    pieces: list[str],
) -> None:
    text = said(pieces)
    assert not re.search(r"\[\s*\d+\s*\]", text)
    assert len(text) == len("".join(pieces))
    assert text.translate(str.maketrans("()", "[]")) == "".join(pieces)


def test_other_brackets_stay() -> None:
    assert said(["list[int] and [9", "9] and a[i]", " ["]) == "list[int] and (99) and a[i] ["
