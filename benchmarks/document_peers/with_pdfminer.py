"""pdfminer.six, which pdfplumber and many loaders build on: layout analysis at its defaults."""

import pathlib

from pdfminer.high_level import extract_pages
from pdfminer.layout import LTTextContainer
from pdfminer.pdfpage import PDFPage
from side import main


def read(path: pathlib.Path, limit: int) -> list[str]:
    pages = extract_pages(str(path), maxpages=limit)
    return [
        "".join(part.get_text() for part in page if isinstance(part, LTTextContainer))
        for page in pages
    ]


def count(path: pathlib.Path) -> int:
    with open(path, "rb") as file:
        return sum(1 for _ in PDFPage.get_pages(file))


main(read, count)
