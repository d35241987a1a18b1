"""What every side of `documents.py` shares: `SCRIPT FOLDER PAGES` reads the PDF files of a folder
in the order of their names, at most so many pages of each, and prints one line of JSON: pages,
seconds, characters, and the pages that each file has. Only the standard library is imported."""

from __future__ import annotations

import json
import pathlib
import sys
import time
from collections.abc import Callable

__all__ = ["main"]


def main(
    read: Callable[[pathlib.Path, int], list[str]], count: Callable[[pathlib.Path], int]
) -> None:
    """``read``: texts of the first pages of a file. ``count``: how many it has."""
    folder, limit = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    files = sorted(folder.glob("*.pdf"))
    start = time.perf_counter()
    texts = [read(file, limit) for file in files]
    seconds = time.perf_counter() - start
    result = {
        "pages": sum(map(len, texts)),
        "seconds": seconds,
        "characters": sum(len(text) for pages in texts for text in pages),
        "counts": {file.name: count(file) for file in files},
    }
    print("\n" + json.dumps(result), flush=True)
