"""What can be quoted: rows with their header, introductions with their code, never a heading."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.rag.answers.pieces import read_pieces

TABLE = """| Code | Meaning | What to do |
|---|---|---|
| E3 | Memory fault | Hold RESET |
| E4 | Regions differ | |
"""


def _shown(text: str, *kinds: str) -> list[str]:
    return [p.shown for p in read_pieces(text) if not kinds or p.kind in kinds]


@settings(deadline=None)
@given(
    st.text(max_size=300)
    | st.text(alphabet="-*#>|`~.!:[]()< \nab1", max_size=200)
    | st.lists(st.sampled_from(["| a | b |", "|--|--|", "```", "So:", "- x.", "<!-- c -->"])).map(
        "\n".join
    )
)
def test_pieces_are_spans_that_do_not_overlap(text):
    position = 0
    for piece in read_pieces(text):
        assert position <= piece.start <= piece.end <= len(text)
        quote = text[piece.start : piece.end]
        assert quote == quote.strip()
        assert "\n" not in piece.shown
        position = piece.end


def test_row_is_read_with_its_header_and_the_header_is_no_answer():
    assert _shown(TABLE) == [
        "Code: E3; Meaning: Memory fault; What to do: Hold RESET",
        "Code: E4; Meaning: Regions differ",
    ]
    row = read_pieces(TABLE)[1]
    assert TABLE[row.start : row.end] == "| E4 | Regions differ | |"


def test_escaped_pipe_does_not_end_a_cell():
    assert _shown("| A | B |\n|---|---|\n| x \\| y | z |\n") == ["A: x \\| y; B: z"]


def test_second_table_has_its_own_header():
    text = "| A |\n|---|\n| 1 |\n\nBetween.\n\n| B |\n|---|\n| 2 |\n"
    assert _shown(text) == ["A: 1", "Between.", "B: 2"]


@pytest.mark.parametrize("introduction", ["Check it with", "Like this:"])
def test_introduction_that_breaks_off_takes_its_code_along(introduction):
    text = f"All is well. {introduction}\n\n```sh\nrun --it\n```\n\nAfter.\n"
    assert _shown(text) == ["All is well.", f"{introduction} `run --it`", "After."]
    whole = read_pieces(text)[1]
    assert text[whole.start : whole.end] == f"{introduction}\n\n```sh\nrun --it"


def test_whole_sentence_before_code_is_quoted_without_it():
    assert _shown("It is quick.\n```\nrun\n```\n", "prose") == ["It is quick."]
    assert _shown("It is quick.\n```\nrun\n```\n", "code") == ["run"]


def test_long_code_stays_apart_from_its_introduction_line_by_line():
    lines = "\n".join(f"step {n} of a long listing that goes on" for n in range(30))
    text = f"Do this:\n```\n{lines}\n```\n"
    assert _shown(text, "prose") == ["Do this:"]
    assert len(_shown(text, "code")) == 30


def test_list_of_links_and_lone_titles_are_told_apart():
    items = "- [Ask](ask.md).\n- Use [that](a.md) in any other case.\n"
    text = f"JOURNAL, FIRST PART\n\nWe left. All was well.\n\n{items}"
    kinds = {p.shown: p.kind for p in read_pieces(text)}
    assert kinds["JOURNAL, FIRST PART"] == "title"
    assert kinds["[Ask](ask.md)."] == "link"
    assert kinds["We left."] == "prose"
    assert kinds["Use [that](a.md) in any other case."] == "prose"


def test_comments_are_not_quoted():
    text = "Fast. <!-- measured: x.py -->\n\n<!-- a\nb -->\nSlow enough.\n"
    assert _shown(text) == ["Fast.", "Slow enough."]


def test_sentence_remembers_the_one_before_and_an_item_its_introduction():
    before = {p.shown: p.before for p in read_pieces("One. It is two.\n\nNeeds:\n\n- a cup.\n")}
    assert before["It is two."] == "One."
    assert before["One."] == ""
    assert before["a cup."] == "Needs:"


def test_megabyte_of_one_kind_is_quick():
    started = time.process_time()
    for text in ("| a " * 200_000, "<!-- " * 100_000, "[a](b) " * 100_000, "```\n" * 100_000):
        read_pieces(text)
    assert time.process_time() - started < 5
