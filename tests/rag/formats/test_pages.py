"""What lies under the boxes of a span is the span: no more, no less."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lmstack.core import InputError
from lmstack.rag import LoadConfig
from lmstack.rag.formats.pages import page_boxes, render_page
from lmstack.rag.formats.pdfium import open_pdf, read_page

PROSE = (
    "The lighthouse was lit in 1844 after six years of work on a rock that the sea covers at "
    "high tide. Its tower is forty-eight metres tall and its light is seen at eighteen miles."
)
TABLE = [["Code", "Meaning"], ["E3", "Memory fault"], ["E4", "Low | high\nand more"]]


@pytest.fixture(scope="module")
def report(make):
    """(bytes, document) of five pages: headings, prose, a table, cut words, page numbers."""

    def page(number):
        def draw(canvas):
            canvas.drawString(72, 815, "Yearly report")
            canvas.setFont("Helvetica-Bold", 18)
            canvas.drawString(72, 740, f"Part {number}")
            canvas.setFont("Times-Roman", 11)
            rows = ["The keepers of the light main-", "tained its well-", "known lamp all night",
                    "long, and wrote down", f"storm {number} in the book."]  # fmt: skip
            for n, row in enumerate(rows):
                canvas.drawString(72, 700 - 14 * n, row)
            canvas.drawString(290, 25, str(number))

        return draw

    import pypdfium2

    merged = pypdfium2.PdfDocument.new()
    for data in (make.drawn(*map(page, range(1, 5))), make.typeset(PROSE, TABLE, PROSE)):
        merged.import_pages(pypdfium2.PdfDocument(data))
    file = io.BytesIO()
    merged.save(file)
    return file.getvalue(), make.pdf(file.getvalue())


def under(data, boxes):
    """The characters, white space left out, whose middles lie in the boxes of each page."""
    config = LoadConfig()
    found = []
    with open_pdf(data, config) as pdf:
        for boxed in boxes:
            page = read_page(pdf, boxed.number, 100_000, config)
            for code, (x0, y0, x1, y1) in zip(page.codes, page.boxes, strict=True):
                x, y = (x0 + x1) / 2, (y0 + y1) / 2
                inside = any(a <= x <= c and b <= y <= d for a, b, c, d in boxed.boxes)
                if inside and code not in (10, 13, 32):
                    found.append("-" if code == 2 else chr(code))
    return "".join(found)


def inked(text, start, end):
    """What of a span was drawn: not its joints, nor the bars of tables."""
    return [
        c
        for n, c in enumerate(text[start:end], start)
        if not c.isspace() and c != "\\" and (c != "|" or text[n - 1] == "\\")
    ]


@pytest.mark.parametrize("known", [False, True])
@given(st.data())
@settings(max_examples=40, deadline=None)
def test_text_under_the_boxes_of_a_span_is_the_span(report, known, data):
    source, document = report
    start = data.draw(st.integers(0, len(document.text) - 1))
    end = data.draw(st.integers(start, min(start + 300, len(document.text))))
    hints = {"text": document.text, "pages": document.pages} if known else {}
    boxes = page_boxes(source, start, end, **hints)
    assert sorted(under(source, boxes)) == sorted(inked(document.text, start, end))


def test_known_text_gives_the_boxes_of_the_whole_extraction(report):
    source, document = report
    whole = page_boxes(source, 0, len(document.text))
    assert whole == page_boxes(
        source, 0, len(document.text), text=document.text, pages=document.pages
    )


def test_text_of_another_version_is_not_trusted(report):
    source, document = report
    stale = document.text.replace("storm", "Storm")
    assert page_boxes(source, 0, 90, text=stale, pages=document.pages) == page_boxes(source, 0, 90)


def test_boxes_lie_on_their_page_in_reading_order(report):
    source, document = report
    start = document.text.index("The keepers")
    (boxed,) = page_boxes(source, start, document.text.index("in the book."))
    assert len(boxed.boxes) == 5
    tops = [box[1] for box in boxed.boxes]
    assert tops == sorted(tops)
    assert all(
        0 <= a < c <= boxed.width and 0 <= b < d <= boxed.height for a, b, c, d in boxed.boxes
    )


def test_turned_page_has_boxes_where_it_shows_the_text(make):
    def turned(canvas):
        canvas.setPageRotation(90)
        canvas.rotate(90)
        canvas.drawString(72, -100, "Turned words.")

    source = make.drawn(turned)
    (boxed,) = page_boxes(source, 0, 13)
    (box,) = boxed.boxes
    assert (round(box[0]), 80 < box[1] < 100, box[2] - box[0] > 50) == (72, True, True)
    picture = Image.open(io.BytesIO(render_page(source, 1, 1190))).convert("L")
    scale = picture.width / boxed.width
    dark = picture.point(lambda value: 255 * (value < 128)).getbbox()
    assert dark is not None
    for mine, seen in zip(box, dark, strict=True):
        assert abs(mine * scale - seen) < 6


def test_picture_has_the_width_asked_for_and_the_shape_of_the_page(report):
    picture = Image.open(io.BytesIO(render_page(report[0], 1, 500)))
    assert picture.size == (500, 707)
    assert picture.mode == "RGB"


def test_picture_of_an_endless_page_is_bounded(make):
    from reportlab.pdfgen.canvas import Canvas

    file = io.BytesIO()
    canvas = Canvas(file, pagesize=(10, 14_000), pageCompression=0)
    canvas.drawString(1, 1, "x")
    canvas.save()
    picture = Image.open(io.BytesIO(render_page(file.getvalue(), 1, 4_000)))
    assert picture.width * picture.height <= 20_000_000


def test_page_that_is_not_there_is_named(report):
    with pytest.raises(InputError, match="no page 9") as caught:
        render_page(report[0], 9)
    assert caught.value.hint == "pages are 1 to 5"
