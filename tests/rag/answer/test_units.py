"""What can be quoted: rows with their header, records by lines, code in its lines."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.rag.answer.units import MAX_CODE, read_units, shown

TABLE = """| Code | Meaning | What to do |
|---|---|---|
| E3 | Memory fault | Hold RESET |
| E4 | Regions differ | |
"""
WRAPPED = """Rain fell on the harbour all night and the boats that
lay there were full of water by the time that the
sun rose. Nobody had come to bail them out, and the
harbour master was asleep.
"""
MARKDOWN = st.lists(
    st.sampled_from(
        [
            *(
                "| a | b |",
                "|--|--|",
                "```",
                "~~~",
                "So:",
                "- x.",
                "  y z.",
                "<!-- c -->",
                "",
                "# H",
            ),
            *("> | a |", "One. Two.", "Key: value", "図書館。", "1. a", "---"),
        ]
    )
).map("\n".join)


def _texts(text: str, *kinds: str) -> list[str]:
    return [text[u.start : u.end] for u in read_units(text) if not kinds or u.kind in kinds]


def _kinds(text: str) -> list[str]:
    return [unit.kind for unit in read_units(text)]


def _shown_each(text: str) -> list[str]:
    return [shown(text, [unit]) for unit in read_units(text)]


@settings(deadline=None)
@given(
    st.text(max_size=300) | st.text(alphabet="-*#>|`~.!:[]()< \nab1", max_size=200) | MARKDOWN,
    st.booleans(),
)
def test_units_are_spans_in_order_without_space_around_them(text, by_lines):
    position = block = 0
    for unit in read_units(text, by_lines=by_lines):
        assert position <= unit.start < unit.end <= len(text)
        quote = text[unit.start : unit.end]
        assert quote.rstrip() == quote
        assert unit.kind == "code" or quote.lstrip() == quote
        assert unit.block >= block
        if unit.header is not None:
            assert unit.header[0] < unit.header[1] <= unit.start
        position, block = unit.end, unit.block


@settings(deadline=None)
@given(MARKDOWN)
def test_no_word_is_lost(text):
    """Beside those of comments."""
    told = "".join(_texts(text))
    for word in ("One", "Two", "Key", "value", "図書館", "So"):
        assert told.count(word) == text.count(word)


def test_a_paragraph_is_a_block_of_sentences_whatever_its_lines():
    text = "One is. Two is\nhere.\n\nThree.\n"
    units = read_units(text)
    assert [(text[u.start : u.end], u.block) for u in units] == [
        ("One is.", 1),
        ("Two is\nhere.", 1),
        ("Three.", 2),
    ]
    assert shown(text, units) == "One is. Two is here.\nThree."


def test_an_item_is_a_block_of_its_own_without_its_marker():
    text = "Needs:\n\n- a cup.\n- a spoon\n  of tin. Really.\n\n1. Stir.\n"
    units = read_units(text)
    assert _kinds(text) == ["sentence", "item", "item", "item", "item"]
    assert [text[u.start : u.end] for u in units][1:] == [
        *("a cup.", "a spoon\n  of tin.", "Really.", "Stir.")
    ]
    assert len({u.block for u in units}) == 4
    assert shown(text, units) == "Needs:\n- a cup.\n- a spoon of tin. Really.\n1. Stir."
    assert shown(text, units[1:2]) == "a cup."


def test_rows_are_read_with_the_names_of_their_columns():
    assert _shown_each(TABLE) == [
        "Code | Meaning | What to do",
        "Code: E3; Meaning: Memory fault; What to do: Hold RESET",
        "Code: E4; Meaning: Regions differ",
    ]
    units = read_units(TABLE)
    assert {unit.block for unit in units} == {1}
    assert [unit.header for unit in units] == [None, (0, 32), (0, 32)]
    whole = shown(TABLE, units)
    assert whole.startswith(
        "- Code: E3; Meaning: Memory fault; What to do: Hold RESET\n- Code: E4;"
    )


def test_a_row_of_two_cells_is_a_name_and_its_value():
    text = "| Code | Meaning |\n|:--|--:|\n| E3 | Wick too long |\n"
    assert _shown_each(text)[1] == "E3: Wick too long"


def test_an_empty_cell_does_not_make_a_value_of_the_next_column():
    text = "| Year | Guests | Fee |\n|---|---|---|\n| 2019 | | 55 |\n"
    assert _shown_each(text)[1] == "Year: 2019; Fee: 55"


def test_rows_without_a_ruling_line_have_a_header_too():
    """As tables of PDF, HTML and Word files are extracted."""
    assert _shown_each("| Part | Cost | Shop |\n| Wick | 3 | A |\n")[1] == (
        "Part: Wick; Cost: 3; Shop: A"
    )


def test_an_escaped_bar_does_not_end_a_cell():
    assert _shown_each("| A | B | C |\n|---|---|---|\n| x \\| y | z | w |\n")[1] == (
        "A: x \\| y; B: z; C: w"
    )


@pytest.mark.parametrize("between", ["\nBetween.\n\n", "\n", "\n---\n\n", "---\n\n"])
def test_the_next_table_has_a_header_of_its_own(between):
    text = f"| A | B | C |\n|---|---|---|\n| 1 | 2 | 3 |\n{between}| D | E | F |\n| 4 | 5 | 6 |\n"
    rows = [line for line in _shown_each(text) if line != "Between."]
    assert rows == ["A | B | C", "A: 1; B: 2; C: 3", "D | E | F", "D: 4; E: 5; F: 6"]


def test_a_table_in_a_quotation_keeps_its_header():
    text = "> | A | B | C |\n> |---|---|---|\n> | 1 | 2 | 3 |\n"
    assert _shown_each(text)[1] == "A: 1; B: 2; C: 3"


@pytest.mark.parametrize(
    "text",
    [
        "Anna Berg\nMill Lane 4\nOslo\n",
        "10:02 INFO start\n10:03 WARN disk is full\n10:04 INFO stop\n",
        "Host: a\nPort: 8000\n",
        "Calder Tool Care\nUnit 4, Mytholm Works, Hebden Bridge\n01422 555 0147\nservice@calder\n",
        "Weber & Sohn\nHinges, runners, queen excluders\nIndustriestraße 9, Reutlingen\n+49 71\n",
        "9 A b\n10 A short line of a log\n11 C\n12 D\n13 A line of a log that says more\n",
        "氏名:山田\n住所:東京都港区南青山\n電話:なし\n勤務先:図書館\n",
    ],
)
def test_records_are_units_line_by_line(text):
    assert set(_kinds(text)) == {"line"}
    assert _texts(text) == text.splitlines()


@pytest.mark.parametrize(
    "text",
    [
        *(WRAPPED, WRAPPED.replace("\n", " "), "The port is 8000\nunless you say so.\n"),
        *("One line.\n", "The port is 8000.\nIt can be changed.\n", "“A is.”\n“B is!”\n“C?”\n"),
    ],
)
def test_running_text_is_cut_into_sentences_and_not_into_lines(text):
    assert set(_kinds(text)) == {"sentence"}


def test_records_are_shown_a_line_each_and_one_alone_without_a_mark():
    text = "Anna Berg\nMill Lane 4\nOslo\n"
    units = read_units(text)
    assert shown(text, units) == "- Anna Berg\n- Mill Lane 4\n- Oslo"
    assert shown(text, units[:1]) == "Anna Berg"


def test_a_paragraph_with_a_sentence_on_each_line_is_shown_as_a_paragraph():
    text = "The port is 8000.\nIt can be changed.\nAsk Anna.\n"
    assert shown(text, read_units(text)) == "The port is 8000. It can be changed. Ask Anna."


def test_an_empty_line_parts_two_records():
    text = "Anna Berg\nMill Lane 4\n\nBo Dahl\nHill 2\n\nBoth are members.\n"
    expected = "- Anna Berg\n- Mill Lane 4\n\n- Bo Dahl\n- Hill 2\nBoth are members."
    assert shown(text, read_units(text)) == expected


@pytest.mark.parametrize("fence", ["```", "~~~", "````"])
def test_a_fence_is_one_unit_and_is_shown_in_its_lines(fence):
    code = "if ready:\n    run --it\n\nrun --that"
    text = f"Run it:\n\n{fence}sh\n{code}\n{fence}\n\nAfter.\n"
    assert _texts(text, "code") == [code]
    assert shown(text, read_units(text)) == f"Run it:\n```\n{code}\n```\nAfter."


def test_code_keeps_the_indentation_of_its_first_line_and_a_line_alone_has_none():
    text = "```\n    a = 1\n    b = 2\n```\n"
    assert _texts(text) == ["    a = 1\n    b = 2"]
    assert _shown_each("```\n  run --it\n```\n") == ["run --it"]


def test_two_fences_are_two_units():
    assert _texts("```\na\n```\n```\nb\n```\n") == ["a", "b"]


def test_long_code_is_read_line_by_line_in_one_block():
    lines = [f"step {n} of a long listing that goes on" for n in range(MAX_CODE // 40 + 2)]
    text = "```\n" + "\n".join(lines) + "\n```\n"
    units = read_units(text)
    assert [text[u.start : u.end] for u in units] == lines
    assert len({u.block for u in units}) == 1
    assert shown(text, units[1:3]) == f"```\n{lines[1]}\n{lines[2]}\n```"


def test_code_that_empty_lines_part_is_shown_as_one():
    text = "a = 1\n\n    b = 2\n    c = 3\n\nd = 4\n"
    units = read_units(text, by_lines=True)
    assert shown(text, units) == "```\na = 1\n\n    b = 2\n    c = 3\n\nd = 4\n```"


def test_steps_keep_their_numbers_and_one_alone_has_none():
    text = "Do this:\n\n1. Look.\n2. Write. Wait.\n10) [ ] Go.\n- Rest.\n"
    units = read_units(text)
    assert shown(text, units) == "Do this:\n1. Look.\n2. Write. Wait.\n10) Go.\n- Rest."
    assert shown(text, units[1:2]) == "Look."


def test_files_of_code_are_read_by_lines_and_blocks_end_at_empty_lines():
    text = "# not a heading\ndef a():\n    return '| x |'\n\n\ndef b():\n    return 2\n"
    units = read_units(text, by_lines=True)
    assert {unit.kind for unit in units} == {"code"}
    assert [(text[u.start : u.end], u.block) for u in units] == [
        ("# not a heading", 0),
        ("def a():", 0),
        ("    return '| x |'", 0),
        ("def b():", 1),
        ("    return 2", 1),
    ]


def test_comments_are_not_quoted():
    text = "Fast. <!-- measured: x.py -->\n\n<!-- a\nb -->\nSlow enough.\n"
    assert _texts(text) == ["Fast.", "Slow enough."]
    within = "It is <!-- nearly --> done.\n"
    assert _shown_each(within) == ["It is done."]


def test_headings_are_units_of_their_own_kind():
    text = "# Lamps\nThey burn.\n\n## *Oil*\n\nFill it.\n"
    assert list(zip(_kinds(text), _texts(text), strict=True)) == [
        ("heading", "Lamps"),
        ("sentence", "They burn."),
        ("heading", "*Oil*"),
        ("sentence", "Fill it."),
    ]


def test_japanese_paragraphs_are_running_text():
    line = "図書館は毎朝九時に開き、夕方の六時に閉まります。月曜日と祝日は休館日です。本の貸出"
    text = f"{line}\nは二週間で、五冊まで借りられます。\n\n駐車場はありません。\n"
    units = read_units(text)
    assert {u.kind for u in units} == {"sentence"}
    assert [u.block for u in units][-1] == 2
    assert text[units[-1].start : units[-1].end] == "駐車場はありません。"
