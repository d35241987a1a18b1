"""lmstack: text in reading order with headings, tables and pages. The whole file is read, as
indexing does; pages beyond the limit count, since they were read."""

import pathlib

from side import main

from lmstack.rag import LoadConfig, load_document

CONFIG = LoadConfig(max_file_bytes=2**30)
PAGES: dict[pathlib.Path, int] = {}


def read(path: pathlib.Path, limit: int) -> list[str]:  # noqa: ARG001
    document = load_document(path, CONFIG)
    PAGES[path] = len(document.pages)
    return [document.text[page.start : page.end] for page in document.pages]


main(read, PAGES.__getitem__)
