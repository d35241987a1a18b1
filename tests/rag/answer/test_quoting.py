"""A quotation is the document's text around the unit that answers, and grows as it should."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rag.answer.test_units import MARKDOWN
from tests.word_reranker import WordReranker

from lmstack.rag.answer.quoting import RECORD, Passage, choose_quotes, read_passage
from lmstack.rag.documents import Block, Document, Page
from lmstack.rag.retrieve.hybrid import Hit

WORDS = WordReranker().score


class OneDocument:
    """Stands for `HitDocuments`: every hit is of one document, which has no sections."""

    def __init__(
        self,
        text: str,
        format: str = "markdown",
        pages: tuple[Page, ...] = (),
        blocks: tuple[Block, ...] = (),
    ) -> None:
        self.document = Document("a.md", text, format, "", (), blocks, pages)

    def of(self, hit: Hit) -> Document:
        return self.document

    def above(self, hit: Hit) -> str:
        return self.document.text[: hit.start]


def _hit(text: str, start: int = 0, end: int | None = None, page: int | None = None) -> Hit:
    end = len(text) if end is None else end
    ranks = {"dense": 1, "lexical": None}
    return Hit(1, 1.0, "a.md", start, end, text[start:end], page, ranks, 1, 1, "", (), "", 0.5)


def _read(text: str, start: int = 0, end: int | None = None, **options) -> Passage:
    return read_passage(_hit(text, start, end), OneDocument(text, **options))


def _quote(question: str, text: str, room: int = 800):
    (quote,) = choose_quotes(question, [_read(text)], WORDS, room)
    return quote


@settings(deadline=None, max_examples=200)
@given(
    MARKDOWN | st.text(alphabet="ab. \n|-#`", max_size=200),
    st.data(),
    st.integers(0, 40),
    st.integers(1, 200),
    st.sampled_from(["markdown", "code"]),
)
def test_whatever_a_passage_is_its_quotation_is_a_piece_of_it(text, data, seed, room, format):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    passage = _read(text, start, end, format=format)

    def score(_, texts):
        return np.array([zlib.crc32(f"{seed} {each}".encode()) for each in texts], float)

    quotes = choose_quotes("?", [passage], score, room)
    assert len(quotes) == bool(passage.readable)
    for quote in quotes:
        assert start <= quote.start <= quote.focus[0] < quote.focus[1] <= quote.end <= end
        assert quote.quote == text[quote.start : quote.end]
        assert len(quote.quote) <= room or (quote.start, quote.end) == quote.focus
        within = [
            unit for unit in passage.units if quote.start <= passage.offset + unit.start < quote.end
        ]
        assert "heading" not in [unit.kind for unit in within]
        best = max(passage.readable, key=lambda n: _of(passage, n, score))
        focus = passage.units[best]
        assert quote.focus == (passage.offset + focus.start, passage.offset + focus.end)
        assert quote.point == passage.point(focus)


def _of(passage: Passage, n: int, score) -> float:
    return float(score("?", [passage.scored(passage.units[n])])[0])


PARAGRAPHS = (
    "The oil is checked. The oil lamp burns six hours. Then it is filled.\n\n"
    "Lamps stand in the hall. A lamp of oil costs four crowns.\n\nNobody sleeps.\n"
)


def test_a_quotation_grows_to_its_paragraph_first():
    """Though the sentence of another paragraph scores higher than those of its own."""
    question = "oil lamp burns hours"
    quote = _quote(question, PARAGRAPHS, room=70)
    assert quote.quote == "The oil is checked. The oil lamp burns six hours. Then it is filled."
    assert quote.point == "The oil lamp burns six hours."
    assert PARAGRAPHS[slice(*quote.focus)] == quote.point


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        ("The lamp.\n\nThe oil lamp burns.\n\nIt needs oil.\n", "The oil lamp burns."),
        ("Burn:\n\n- oil lamps\n- wicks\n\nEnd.\n", "Burn:\n\n- oil lamps\n- wicks"),
        ("Light oil lamps with\n\n```\nlight\n```\n", "Light oil lamps with\n\n```\nlight"),
        ("Light oil lamps.\n\n```\nlight\n```\n", "Light oil lamps."),
    ],
)
def test_it_grows_within_what_belongs_together(text, quote):
    assert _quote("oil lamps", text, room=800).quote == quote


NEIGHBOURS = "Nobody sleeps now. The oil lamp burns six hours. The lamp has oil."


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        (NEIGHBOURS, "The oil lamp burns six hours. The lamp has oil."),
        (
            "The lamp has oil. The oil lamp burns six hours. Nobody sleeps now.",
            "The lamp has oil. The oil lamp burns six hours.",
        ),
    ],
)
def test_where_there_is_no_room_for_both_the_likelier_neighbour_is_quoted(text, quote):
    assert _quote("oil lamp burns hours", text, room=50).quote == quote


def test_a_quotation_takes_the_room_there_is_and_no_more():
    least = len("The oil lamp burns six hours. The lamp has oil.")
    focus = "The oil lamp burns six hours."
    assert len(_quote("oil lamp burns hours", NEIGHBOURS, room=least).quote) == least
    assert _quote("oil lamp burns hours", NEIGHBOURS, room=least - 1).quote == focus


def test_what_ends_with_a_colon_introduces_no_heading():
    assert _quote("which lamps burn oil", "Burn oil lamps:\n\n# Oil\n\nFill it.\n").quote == (
        "Burn oil lamps:"
    )


def test_a_focus_that_is_longer_than_the_room_is_quoted_whole():
    quote = _quote("oil lamp burns", PARAGRAPHS, room=10)
    assert quote.quote == quote.point == "The oil lamp burns six hours."


def test_no_heading_is_crossed_and_none_is_quoted():
    text = "Lamps burn.\n\n# Oil\n\nFill it.\n\n## Lamps that burn oil\n\nAshes.\n"
    assert _quote("fill", text).quote == "Fill it."
    assert _quote("Lamps that burn oil?", text).quote == "Lamps burn."


def test_a_heading_that_only_the_document_knows_is_none_to_quote():
    text = "Preface.\n\n2. Term\n\nThe term ends in May.\n"
    heading = (Block("heading", 10, 17),)
    passage = _read(text, format="docx", blocks=heading)
    (quote,) = choose_quotes("the term", [passage], WORDS, 800)
    assert quote.quote == "The term ends in May."
    (quote,) = choose_quotes("the term", [_read(text, 10, blocks=heading)], WORDS, 800)
    assert quote.quote == "The term ends in May."


@pytest.mark.parametrize("start", [0, 4])
def test_front_matter_is_read_line_by_line(start):
    matter = "---\na: 1\ntitle: Prices\ndate: 2026-05-01\n---\n"
    text = f"{matter}Valid from May.\n"
    passage = _read(text, start, blocks=(Block("matter", 0, len(matter)),))
    lines = ["a: 1", "title: Prices", "date: 2026-05-01", "Valid from May."]
    assert [passage.point(unit) for unit in passage.units] == lines
    assert [unit.kind for unit in passage.units] == ["line", "line", "line", "sentence"]
    assert all(text[u.start + start : u.end + start] == passage.point(u) for u in passage.units)


def test_a_passage_of_headings_alone_is_read_as_text():
    passage = _read("Open on Mondays", format="pdf", blocks=(Block("heading", 0, 15),))
    assert [unit.kind for unit in passage.units] == ["sentence"]


def test_a_list_is_quoted_with_its_introduction_where_there_is_room():
    text = "It needs:\n\n- a wick.\n- a cup of oil.\n"
    assert _quote("cup of oil", text).shown == "It needs:\n- a wick.\n- a cup of oil."
    assert _quote("cup of oil", text, room=14).shown == "a cup of oil."


ROWS = "".join(f"| F{n} | Fault of kind {n} | Wait |\n" for n in range(60))


def test_the_header_of_a_table_is_found_above_the_passage():
    text = f"| Code | Meaning | Help |\n|---|---|---|\n{ROWS}"
    start = text.index("| F50 ")
    passage = _read(text, start)
    assert passage.point(passage.units[5]) == "Code: F55; Meaning: Fault of kind 55; Help: Wait"
    (quote,) = choose_quotes("Code F55?", [passage], WORDS, 40)
    assert quote.quote == "| F55 | Fault of kind 55 | Wait |"
    assert text[quote.start : quote.end] == quote.quote
    assert quote.shown == "Code: F55; Meaning: Fault of kind 55; Help: Wait"


def test_a_passage_that_begins_within_a_fence_is_read_as_code():
    text = "Run:\n\n```\nlamp --light\n# not a heading\n- lamp --dim\n```\n"
    passage = _read(text, text.index("# not"))
    assert [unit.kind for unit in passage.units] == ["code"]
    assert passage.point(passage.units[0]) == "```\n# not a heading\n- lamp --dim\n```"


def test_a_file_of_code_is_quoted_in_its_lines():
    text = "# Light the lamp.\ndef light(lamp):\n    lamp.on = True\n"
    (quote,) = choose_quotes("light lamp", [_read(text, format="code")], WORDS, 800)
    assert quote.shown == f"```\n{text.rstrip()}\n```"


def test_a_line_of_an_address_is_read_after_the_name_above_it():
    text = "Calder Tools\nPhone 01422\nMonday\n\nPennine Timber\nPhone 01706\nFriday\n"
    assert _quote("pennine phone", text).point == "Phone 01706"
    log = "Pennine\n" + "".join(f"Phone {n} of a long register\n" for n in range(RECORD // 20))
    assert _read(log).scored(_read(log).units[1]) == "Phone 0 of a long register"


def test_a_sentence_is_read_with_the_names_of_its_document_and_a_row_is_not():
    text = (
        "# Invoice 4711\n\nGoods. The total is 9.50.\n\n| Item | Price |\n|---|---|\n| 4711 | 2 |"
    )
    text += "\n| 4712 | 3 |\n"
    passage = _read(text)
    named = replace(passage, hit=replace(passage.hit, own_names=("4711",)))
    found = [named.scored(unit) for unit in named.units if unit.kind != "heading"]
    assert found[:2] == ["4711\nGoods.", "4711\nThe total is 9.50."]
    assert not any("4711" in text for text in found[2:] if "4712" in text)


@pytest.mark.parametrize("text", ["", "***\n", "# Only a heading\n", "…\n\n!!!\n"])
def test_what_says_nothing_is_not_quoted(text):
    assert choose_quotes("?", [_read(text)], WORDS, 800) == []


def test_each_passage_is_quoted_by_its_own_best_unit_and_scores_are_asked_for_once():
    calls = []

    def score(question, texts):
        calls.append(list(texts))
        return WORDS(question, texts)

    passages = [_read("Oil. A lamp of oil."), _read("***"), _read("A lamp. Wicks.")]
    found = choose_quotes("lamp oil", passages, score, 800)
    assert [quote.point for quote in found] == ["A lamp of oil.", "A lamp."]
    assert [quote.score for quote in found] == pytest.approx([1.0, 0.5])
    assert calls == [["Oil.", "A lamp of oil.", "A lamp.", "Wicks."]]


def test_the_page_is_that_of_the_focus():
    text = "Nothing here. " * 3 + "The lamp burns.\n"
    start = text.index("The lamp")
    pages = (Page(1, 0, start), Page(2, start, len(text)))
    (quote,) = choose_quotes("lamp burns", [_read(text, pages=pages)], WORDS, 800)
    assert quote.start == 0
    assert quote.page == 2


@pytest.mark.parametrize(
    "text", ["How old is the lamp? Ten years.", "- How old is the lamp\n- Ten years.\n"]
)
def test_the_question_is_no_answer_to_itself(text):
    assert _quote("How old is the lamp?", text).point == "Ten years."


@pytest.mark.parametrize(
    "text",
    [
        "The lighthouse at Skerryvore was lit. Nobody came.",
        "| Skerryvore | 1844 |\n| Nobody | came |\n",
        "Skerryvore?",
    ],
)
def test_a_statement_that_holds_every_word_searched_for_answers(text):
    assert "Skerryvore" in _quote("skerryvore", text).point
