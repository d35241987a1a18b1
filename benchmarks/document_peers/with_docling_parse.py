"""docling-parse: the PDF reader of docling, without docling's layout models."""

import pathlib

from docling_core.types.doc.page import TextCellUnit
from docling_parse.pdf_parser import DoclingPdfParser
from side import main


def read(path: pathlib.Path, limit: int) -> list[str]:
    document = DoclingPdfParser().load(path_or_stream=str(path))
    texts = []
    for number, page in document.iterate_pages():
        if number > limit:
            break
        cells = page.iterate_cells(unit_type=TextCellUnit.LINE)
        texts.append("\n".join(cell.text for cell in cells))
    return texts


def count(path: pathlib.Path) -> int:
    return DoclingPdfParser().load(path_or_stream=str(path)).number_of_pages()


main(read, count)
