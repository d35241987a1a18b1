"""Rankings of bm25s as its README sets it up: English stop words, a stemmer, its default scores.

    python with_bm25s.py INPUT.json FOLDER DEPTH

Prints a list of document numbers a query.
"""

from __future__ import annotations

import json
import pathlib
import sys

import bm25s
import Stemmer


def main() -> None:
    source, depth = pathlib.Path(sys.argv[1]), int(sys.argv[3])
    texts = json.loads(source.read_text("utf-8"))
    stemmer = Stemmer.Stemmer("english")
    tokens = bm25s.tokenize(
        texts["documents"], stopwords="en", stemmer=stemmer, show_progress=False
    )
    retriever = bm25s.BM25()
    retriever.index(tokens, show_progress=False)
    asked = bm25s.tokenize(texts["queries"], stemmer=stemmer, show_progress=False)
    found, _ = retriever.retrieve(asked, k=depth, show_progress=False)
    print(json.dumps([[int(each) for each in row] for row in found]))


if __name__ == "__main__":
    main()
