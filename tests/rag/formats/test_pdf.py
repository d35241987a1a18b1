"""A PDF's text is what a reader reads, page by page, and nothing on it is lost."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from reportlab.lib.utils import ImageReader

from lmstack.rag import LoadConfig
from lmstack.rag.formats.load import ProblemError, parse_document

PROSE = (
    "The lighthouse was lit in 1844 after six years of work on a rock that the sea covers at "
    "high tide. Its tower is forty-eight metres tall and its light is seen at eighteen miles."
)


def lines(canvas, x, y, rows, step=14):
    for row in rows:
        canvas.drawString(x, y, row)
        y -= step


def test_paragraphs_are_whole_and_stand_apart(make):
    document = make.pdf(make.typeset(PROSE, PROSE.replace("lighthouse", "chapel")))
    assert make.texts(document, "paragraph") == [PROSE, PROSE.replace("lighthouse", "chapel")]


def test_every_page_of_the_file_is_a_page_of_the_document(make):
    document = make.pdf(
        make.drawn(
            lambda c: c.drawString(72, 700, "First page."),
            lambda c: None,
            lambda c: c.drawString(72, 700, "Third page."),
        )
    )
    assert [p.number for p in document.pages] == [1, 2, 3]
    shown = [document.text[p.start : p.end] for p in document.pages]
    assert shown == ["First page.", "", "Third page."]
    assert document.fields["pages"] == 3


def test_large_type_is_a_heading_and_its_size_the_level(make):
    document = make.pdf(
        make.typeset(("Heading1", "Lights"), PROSE, ("Heading2", "Skerryvore"), PROSE, PROSE)
    )
    assert [(s.level, s.path) for s in document.sections] == [
        (1, ("Lights",)),
        (2, ("Lights", "Skerryvore")),
    ]
    assert document.title == "A report"


def test_word_cut_at_the_end_of_a_line_is_one_word(make):
    document = make.pdf(
        make.drawn(lambda c: lines(c, 72, 700, ["The light was main-", "tained by two keepers."]))
    )
    assert document.text == "The light was maintained by two keepers."


def test_hyphen_of_a_compound_is_kept_where_words_are_hardly_ever_cut(make):
    rows = [f"Line {n} is long enough to count as one of those that are full" for n in range(80)]
    rows += ["Of these lights the keepers spoke as sea-", "borne ones."]
    assert "sea-borne" in make.pdf(make.drawn(lambda c: lines(c, 72, 800, rows, 9))).text


def test_first_part_of_compounds_keeps_its_hyphen(make):
    rows = ["The tower is forty-", "eight metres tall."]
    assert "forty-eight" in make.pdf(make.drawn(lambda c: lines(c, 72, 700, rows))).text


def test_short_lines_of_a_list_without_marks_stay_lines(make):
    rows = ["A line that goes on as far as the text of this page does go", "", "first", "second"]
    text = make.pdf(make.drawn(lambda c: lines(c, 72, 700, rows))).text
    assert text.endswith("first\nsecond")


@pytest.mark.parametrize("known", ["A well-known rock.", "It is well and known here."])
def test_hyphen_that_the_document_writes_elsewhere_is_kept(make, known):
    document = make.pdf(
        make.drawn(lambda c: lines(c, 72, 700, [known, "", "", "This is a well-", "known light."]))
    )
    assert "This is a well-known light." in document.text


def test_columns_are_read_one_after_the_other(make):
    left = [f"Left column line {n} tells of the sea and" for n in range(8)]
    right = [f"Right column line {n} tells of the land and" for n in range(8)]

    def across(canvas):
        for n in range(8):
            canvas.drawString(60, 700 - 14 * n, left[n])
            canvas.drawString(320, 700 - 14 * n, right[n])

    text = make.pdf(make.drawn(across)).text
    assert text.index("Left column line 7") < text.index("Right column line 0")


def test_row_of_short_cells_without_rules_stays_a_row(make):
    def rows(canvas):
        for n in range(8):
            canvas.drawString(72, 700 - 14 * n, f"Item {n}")
            canvas.drawString(300, 700 - 14 * n, f"{n} EUR")

    assert "Item 3 3 EUR\nItem 4 4 EUR" in make.pdf(make.drawn(rows)).text


def test_lines_written_from_the_bottom_up_are_read_from_the_top(make):
    def upwards(canvas):
        for n in reversed(range(5)):
            canvas.drawString(72, 700 - 14 * n, f"Sentence number {n} stands here and goes on")

    text = make.pdf(make.drawn(upwards)).text
    assert [text.index(f"number {n}") for n in range(5)] == sorted(
        text.index(f"number {n}") for n in range(5)
    )


TABLE = [["Code", "Meaning"], ["E3", "Memory fault"], ["E4", "Low | high"]]


def test_ruled_table_is_one_line_a_row_with_its_header(make):
    document = make.pdf(make.typeset(PROSE, TABLE, PROSE))
    assert make.texts(document, "table") == [
        "| Code | Meaning |\n| E3 | Memory fault |\n| E4 | Low \\| high |"
    ]
    block = next(b for b in document.blocks if b.kind == "table")
    assert block.header is not None
    assert document.text[slice(*block.header)] == "| Code | Meaning |"
    assert [b.kind for b in document.blocks] == ["paragraph", "table", "paragraph"]


def test_cell_with_several_lines_stays_in_its_row(make):
    document = make.pdf(
        make.typeset([["Code", "What to do"], ["E3", "Hold RESET\nfor ten seconds"]])
    )
    assert "| E3 | Hold RESET for ten seconds |" in document.text


def test_each_of_several_tables_stands_in_its_place(make):
    other = [["Name", "Metres"], ["Skerryvore", "48"]]
    document = make.pdf(make.typeset(PROSE, TABLE, PROSE, other, PROSE))
    assert [b.kind for b in document.blocks] == ["paragraph", "table"] * 2 + ["paragraph"]
    assert make.texts(document, "table")[1] == "| Name | Metres |\n| Skerryvore | 48 |"


def test_backgrounds_are_no_rules(make):
    def shaded(canvas):
        canvas.setFillGray(0.9)
        for n in range(4):
            canvas.rect(60, 600 + 30 * n, 200, 30, stroke=0, fill=1)
            canvas.rect(260, 600 + 30 * n, 200, 30, stroke=0, fill=1)
        canvas.setFillGray(0)
        for n in range(4):
            canvas.drawString(70, 610 + 30 * n, f"Left {n}")
            canvas.drawString(270, 610 + 30 * n, f"Right {n}")

    document = make.pdf(make.drawn(shaded))
    assert make.texts(document, "table") == []
    assert "Left 0 Right 0" in document.text


def test_frames_around_parts_of_the_page_are_no_table(make):
    def framed(canvas):
        for n in range(3):
            canvas.rect(60, 200 + 200 * n, 400, 200)
            rows = [f"Part {n} row {k} says something about lights and the sea" for k in range(8)]
            lines(canvas, 70, 380 + 200 * n, rows)
        canvas.line(450, 200, 450, 800)
        canvas.drawString(452, 210, "x")

    assert make.texts(make.pdf(make.drawn(framed)), "table") == []


def test_frame_around_text_is_no_table(make):
    def framed(canvas):
        canvas.rect(60, 650, 300, 80)
        canvas.drawString(72, 700, "Framed words.")

    assert make.texts(make.pdf(make.drawn(framed)), "table") == []


def numbered(page, total=6):
    def draw(canvas):
        canvas.drawString(72, 810, "Yearly report of the Northern Lights")
        lines(canvas, 72, 700, [f"Body of page {page} says something of its own."])
        canvas.drawString(280, 30, f"Page {page} of {total}")

    return draw


def test_header_stands_once_and_page_numbers_nowhere(make):
    text = make.pdf(make.drawn(*(numbered(n) for n in range(1, 7)))).text
    assert text.count("Northern Lights") == 1
    assert "of 6" not in text
    assert all(f"Body of page {n}" in text for n in range(1, 7))


def test_facts_alike_at_the_top_of_pages_are_all_kept(make):
    facts = [f"Tower {n} is {90 - 7 * n} metres tall." for n in range(1, 7)]
    text = make.pdf(make.drawn(*((lambda c, f=f: c.drawString(72, 800, f)) for f in facts))).text
    assert all(fact in text for fact in facts)


def test_sentence_that_goes_on_over_the_page_is_not_parted_by_a_blank_line(make):
    text = make.pdf(
        make.drawn(
            lambda c: c.drawString(72, 100, "The keeper climbed the tower and"),
            lambda c: c.drawString(72, 700, "lit the lamp."),
        )
    ).text
    assert text == "The keeper climbed the tower and\nlit the lamp."


def test_properties_are_fields(make):
    def draw(canvas):
        canvas.setAuthor("Ada Byron")
        canvas.setKeywords("lights, sea")
        canvas.drawString(72, 700, "Words.")

    fields = make.pdf(make.drawn(draw)).fields
    assert fields["author"] == "Ada Byron"
    assert fields["tags"] == ("lights", "sea")
    assert str(fields["date"]).startswith("2000-01-01")


def test_turned_page_is_read_upright(make):
    def turned(canvas):
        canvas.setPageRotation(90)
        canvas.rotate(90)
        lines(canvas, 72, -100, ["Turned words come first,", "then these."])

    assert make.pdf(make.drawn(turned)).text == "Turned words come first, then these."


def picture(canvas):
    file = io.BytesIO()
    Image.new("RGB", (40, 40), "gray").save(file, "PNG")
    file.seek(0)
    canvas.drawImage(ImageReader(file), 50, 50, 500, 700)


def test_scanned_file_is_said_to_be_scanned(make):
    with pytest.raises(ProblemError, match="pictures of 2 pages") as caught:
        make.pdf(make.drawn(picture, picture))
    assert caught.value.kind == "scanned"


def test_scanned_page_among_others_is_named(make):
    document = make.pdf(make.drawn(lambda c: c.drawString(72, 700, "Words."), picture))
    assert document.fields["pages_scanned"] == ("2",)


def test_encrypted_file_is_said_to_be_encrypted(make):
    from reportlab.lib.pdfencrypt import StandardEncryption

    locked = make.drawn(
        lambda c: c.drawString(72, 700, "x"), encrypt=StandardEncryption("secret", strength=128)
    )
    with pytest.raises(ProblemError, match="password") as caught:
        make.pdf(locked)
    assert caught.value.kind == "encrypted"


def test_empty_pages_are_said_to_hold_no_text(make):
    with pytest.raises(ProblemError) as caught:
        make.pdf(make.drawn(lambda c: None))
    assert caught.value.kind == "empty"


def test_too_many_pages_are_refused(make):
    data = make.drawn(*[lambda c: c.drawString(72, 700, "x")] * 4)
    with pytest.raises(ProblemError, match="4 pages, more than the limit of 3"):
        parse_document("a.pdf", data, LoadConfig(max_pages=3))


def test_text_beyond_the_limit_is_refused(make):
    data = make.drawn(*[lambda c: c.drawString(72, 700, "x" * 50)] * 4)
    with pytest.raises(ProblemError, match="more than 120 characters") as caught:
        parse_document("a.pdf", data, LoadConfig(max_text_chars=120))
    assert caught.value.kind == "size"


def test_blocks_and_sections_cover_the_text_in_order(make):
    document = make.pdf(make.typeset(("Heading1", "A"), PROSE, TABLE, None, PROSE))
    position = 0
    for block in document.blocks:
        assert not document.text[position : block.start].strip()
        position = block.end
    assert position == len(document.text) == document.sections[-1].end


def test_characters_beyond_sixteen_bits_and_scripts_that_run_left(make):
    """PDFium gives halves of characters, and Hebrew in the order of its own."""
    from lmstack.rag.formats.lines import gather_lines
    from lmstack.rag.formats.pdfium import PdfPage

    shalom = "\u05e9\u05dc\u05d5\u05dd"
    codes = [0xD83D, 0xDE00, 32, *map(ord, reversed(shalom)), 0xD83D, 0xDC00]
    boxes = [(10.0 * n, 0.0, 10.0 * n + 9, 12.0) for n in range(len(codes))]
    page = PdfPage(1, 600, 800, codes, boxes, [12.0] * len(codes), [])
    (line,) = gather_lines(page, range(7))
    assert line.text == f"{shalom} \U0001f600"
    assert [line.origin[0], line.origin[-1]] == [6, 0]
    assert gather_lines(page, [8])[0:] == []
