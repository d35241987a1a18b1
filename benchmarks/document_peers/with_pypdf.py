"""pypdf: plain extraction."""

import itertools
import pathlib

from pypdf import PdfReader
from side import main


def read(path: pathlib.Path, limit: int) -> list[str]:
    return [page.extract_text() for page in itertools.islice(PdfReader(path).pages, limit)]


main(read, lambda path: len(PdfReader(path).pages))
