"""Where on its pages a span of a PDF's text stands, and what the pages look like.

Both come from the extraction that made the text, so that offsets agree exactly: the characters
under the boxes of a span are those of the span. Call in a worker process, or be ready to wait
for the lock of `pdfium`. Covers PDF only: other formats have no pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmstack.core import InputError
from lmstack.rag.documents import Box, LoadConfig, Page, PageBoxes
from lmstack.rag.formats.layout import lines_and_tables
from lmstack.rag.formats.lines import Line, in_reading_order
from lmstack.rag.formats.pdf import compose, extract
from lmstack.rag.formats.pdfium import Pdf, PdfPage, open_pdf, read_page, render

__all__ = ["page_boxes", "render_page"]

MAX_WIDTH_PX, MAX_PIXELS = 4_000, 20_000_000
# More pages than this are no passage that anyone looks at.
MAX_BOXED_PAGES = 50
_JOINING = " \n|"


def page_boxes(
    data: bytes,
    start: int,
    end: int,
    *,
    text: str | None = None,
    pages: Sequence[Page] = (),
    config: LoadConfig | None = None,
) -> list[PageBoxes]:
    """The boxes of ``text[start:end]`` for each page that it touches.

    With the document's ``text`` and ``pages`` only those pages are read; without, or where they
    are not those of ``data`` after all, the whole file is.
    """
    config = config or LoadConfig()
    if not 0 <= start <= end:
        raise InputError(f"{start}:{end} is no span", hint="give 0 <= start <= end")
    if text is not None and pages:
        with open_pdf(data, config) as pdf:
            known = _known(pdf, start, end, text, pages, config)
        if known is not None:
            return known
    composed = compose(extract(data, config, trace=True))
    result: list[PageBoxes] = []
    with open_pdf(data, config) as pdf:
        for page, origin in zip(composed.pages, composed.origins, strict=True):
            if page.start < end and start < page.end and len(result) < MAX_BOXED_PAGES:
                sheet = read_page(pdf, page.number, config.max_text_chars, config)
                if sheet is not None:
                    result.append(_boxed(sheet, page, origin, start, end))
    return result


def render_page(
    data: bytes, number: int, width_px: int = 1_200, config: LoadConfig | None = None
) -> bytes:
    """Page ``number`` (from 1) as a PNG, ``width_px`` wide or less: pictures are bounded."""
    with open_pdf(data, config or LoadConfig()) as pdf:
        if not 1 <= number <= pdf.count:
            raise InputError(
                f"there is no page {number}", hint=f"pages are 1 to {pdf.count}", param="page"
            )
        return render(pdf, number, max(min(width_px, MAX_WIDTH_PX), 16), MAX_PIXELS)


def _known(
    pdf: Pdf, start: int, end: int, text: str, pages: Sequence[Page], config: LoadConfig
) -> list[PageBoxes] | None:
    """The boxes from the pages of the span alone; None if the text does not fit them."""
    result: list[PageBoxes] = []
    for page in pages:
        if page.start >= end or start >= page.end or len(result) >= MAX_BOXED_PAGES:
            continue
        sheet = read_page(pdf, page.number, config.max_text_chars, config)
        if sheet is None:
            return None
        origin = _align(sheet, text[page.start : page.end])
        if origin is None:
            return None
        result.append(_boxed(sheet, page, origin, start, end))
    return result


def _align(sheet: PdfPage, text: str) -> list[int] | None:
    """For each character of ``text`` the one of the page it was made from, or -1.

    Which lines were left out and which hyphens taken out was decided over the whole file; here
    it is read off the text. None unless every character finds its place.
    """
    origin = [-1] * len(text)
    at = 0
    for line in _flat(in_reading_order(lines_and_tables(sheet))):
        while at < len(text) and text[at] in _JOINING and line.text[:1] != text[at]:
            at += 1
        found = _match(line, text, at)
        if found is not None:
            end, places = found
            for place, index in places:
                origin[place] = index
            at = end
    rest = text[at:].replace("\\", "")
    if rest.strip(_JOINING):
        return None
    return origin


def _flat(lines: Sequence[Line]) -> Iterator[Line]:
    for line in lines:
        if line.cells is None:
            yield line
        for row in line.cells or ():
            for cell in row:
                yield from _flat(cell)


def _match(line: Line, text: str, at: int) -> tuple[int, list[tuple[int, int]]] | None:
    """``line`` as it stands at ``text[at:]``: where it ends, and the place of each character."""
    places: list[tuple[int, int]] = []
    for number, (character, index) in enumerate(zip(line.text, line.origin, strict=True)):
        if text.startswith("\\|", at) and character == "|":
            at += 1
        if at < len(text) and text[at] == character:
            places.append((at, index))
            at += 1
        elif not (number and number == len(line.text) - 1 and character in "-\u2010"):
            return None
    return at, places


def _boxed(sheet: PdfPage, page: Page, origin: Sequence[int], start: int, end: int) -> PageBoxes:
    span = origin[max(start - page.start, 0) : max(end - page.start, 0)]
    boxes: list[Box] = []
    last: Box | None = None
    for index in dict.fromkeys(i for i in span if i >= 0):
        if sheet.codes[index] <= 32 and sheet.codes[index] != 2:
            continue
        box = sheet.boxes[index]
        if last is not None and _goes_on(last, box):
            a = boxes[-1]
            boxes[-1] = (min(a[0], box[0]), min(a[1], box[1]), max(a[2], box[2]), max(a[3], box[3]))
        else:
            boxes.append(box)
        last = box
    return PageBoxes(sheet.number, sheet.width, sheet.height, tuple(boxes))


def _goes_on(a: Box, b: Box) -> bool:
    """Whether ``b`` follows ``a`` on one line."""
    height = min(a[3] - a[1], b[3] - b[1])
    overlap = min(a[3], b[3]) - max(a[1], b[1])
    return overlap > 0.5 * height and -height < b[0] - a[2] < 2 * height
